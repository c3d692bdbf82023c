"""Whether a run can go on from a checkpoint: what must be unchanged, and what may differ and is logged."""

from __future__ import annotations

from pathlib import Path

from hf_free.config.init_from import InitFrom
from hf_free.config.tree import read_yaml_mapping
from hf_free.errors import ConfigError, RunError
from hf_free.provenance.reading import Json, object_of
from hf_free.provenance.renamed import with_new_names
from hf_free.runtime.text import listed
from hf_free.training.checkpoint_store import WholeCheckpoint
from hf_free.training.manifest import Topology
from hf_free.version import __version__

FIXED = (
    "method",
    "seed",  # the places of the teachers' answers are drawn with it
    "defects",
    "five.latent_dim",
    "five.width",
    "five.conditional",
    "five.canvas",
    "five.max_classes",
    "bell.objective",
    "bell.shard_learner",
    "learner.backbone",
    "learner.image_size",
    "learner.channels",
    "learner.init_from",
)
"""Settings that the files of a checkpoint are made for."""

_ELSEWHERE = frozenset({"models", "imports"})
"""Teachers are compared with the run's note of them; files of the user's own may lie elsewhere."""

_FREE = frozenset(
    {
        "trainer.steps",
        "trainer.max_minutes",
        "trainer.device",
        "trainer.threads",
        "trainer.chains",
        "trainer.memory",
        "trainer.min_steps",
        "trainer.log_every",
        "trainer.log_with",
        "trainer.deterministic",
        "trainer.picture_every",
        "trainer.checkpoint_minutes",
        "trainer.keep_checkpoints",
    }
)
"""How long a run goes on, where, and what it keeps: a user changes them on purpose. So is the section `hub`."""


def check_is_whole(written: Path, chosen: WholeCheckpoint | None) -> None:
    """Refuse a run's configuration that lacks what the run had written into it: lost power, or an editor, has cut it
    short, and the settings that are gone would silently be the default ones.

    Args:
        written: The run's configuration; each has all settings that its hf-free knew.
        chosen: The checkpoint to go on from, which knows them too; None where there is none to compare with.

    Raises:
        RunError: settings are missing.
    """
    if chosen is None:
        return
    try:
        there = _flat(with_new_names(read_yaml_mapping(written))[0])
    except ConfigError:
        there = {}
    known = _flat(with_new_names(chosen.manifest.config)[0])
    sections = dict.fromkeys(key.partition(".")[0] for key in known if key not in there)
    if sections:
        raise RunError(
            f"{written} is damaged: settings are missing of {listed(list(sections))}",
            allowed="the file as the run wrote it",
            action=f"copy the one of the checkpoint: cp {chosen.folder / 'run' / written.name} {written}",
        )


def check_configuration(chosen: WholeCheckpoint, config: Json) -> list[str]:
    """Compare a run's configuration with that of its checkpoint.

    Args:
        chosen: The checkpoint.
        config: The configuration, as `FreeConfig.to_dict` gives it, with absolute paths.

    Returns:
        What differs and may differ, in one line; nothing where nothing differs.

    Raises:
        RunError: a setting of `FIXED` differs.
    """
    before, now = _flat(with_new_names(chosen.manifest.config)[0]), _flat(config)
    start = now.get("learner.init_from")
    if start is not None and InitFrom.parse(start).is_learner:  # which brings its own settings
        now = {
            key: value for key, value in now.items() if key == "learner.init_from" or not key.startswith("learner.")
        }
    differing = [key for key in now if key in before and before[key] != now[key]]
    refused = [key for key in differing if key in FIXED]
    matrix = "bell.matrix_lr"
    if matrix in differing and not (before[matrix] and now[matrix]):  # there are two optimizers or one
        refused.append(matrix)
    if refused:
        shown = "; ".join(f"{key} was {before[key]!r}, now {now[key]!r}" for key in refused)
        raise RunError(
            f"the checkpoint {chosen.folder} is of another configuration: {shown}",
            allowed="the same network, method and seed while a run goes on",
            action="leave these settings out of the command, or train a new run with another --output",
        )
    noted = [key for key in differing if key not in _FREE | _ELSEWHERE and not key.startswith("hub.")]
    if not noted:
        return []
    return ["goes on with other settings: " + "; ".join(f"{key} {before[key]!r} -> {now[key]!r}" for key in noted)]


def check_topology(chosen: WholeCheckpoint, here: Topology) -> list[str]:
    """Compare where a run computes with where its checkpoint was written.

    The number of processes is handled by `hf_free.training.sharing.number_of_chains`.

    Returns:
        In one line, what keeps the run from being the same to the bit; nothing where nothing does.
    """
    before = chosen.manifest.topology
    pairs = [
        ("hf-free", chosen.manifest.version, __version__),
        ("torch", before.torch_version, here.torch_version),
        ("device", before.device, here.device),
        ("threads", before.threads, here.threads),
    ]
    changed = [f"{name} {was} -> {is_now}" for name, was, is_now in pairs if was != is_now]
    return [f"goes on elsewhere ({', '.join(changed)}): not the same to the bit"] if changed else []


def _flat(config: Json) -> Json:
    """A configuration as `section.key` -> value."""
    found: Json = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in object_of(value).items()}
        else:
            found[name] = value
    return found
