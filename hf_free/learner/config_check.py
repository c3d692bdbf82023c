"""What a learner's `config.json` may say, and what is refused.

A repository is written by a stranger: nothing in its configuration may name a file or an address, reach timm's loader,
or ask for more memory than its weights take. Only fields read here go on to the network.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from hf_free.backbones.conv4 import FILTERS
from hf_free.backbones.model_args import check_model_args
from hf_free.config.sections import LearnerConfig
from hf_free.config.tree import FreeConfig
from hf_free.data.images import VIEWS
from hf_free.errors import ConfigError, LearnerError, TeacherError
from hf_free.learner.batchnorm import BatchNormMode
from hf_free.learner.embedding import EmbeddingSpec
from hf_free.learner.format import CONFIG, FORMAT_VERSION, way_from_teacher
from hf_free.learner.inputs import InputSettings
from hf_free.learner.pooled_backbone import KIND
from hf_free.learner.values import MAX_WIDTH, demand, is_list_of, real, whole
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import Json, JsonView
from hf_free.runtime.given import short_form

MAX_VIEWS = 8
MAX_COLOR = 1000.0
"""Largest mean and deviation of a channel, as for teachers."""
MAX_TEXT = 1000

INCLUDED = "teachers_included"
"""Whether the files of a pooled learner's teachers lie in its folder."""

_CONFIG_KEYS = ("backbone", "image_size", "channels", "head")
_REQUIRED = (*_CONFIG_KEYS, "views", "batchnorm", "feature_dim", *EmbeddingSpec.REQUIRED_KEYS)
_CALIBRATION = "calibration_steps"
_OPTIONAL = ("init_from", _CALIBRATION, INCLUDED, *EmbeddingSpec.OPTIONAL_KEYS)


@dataclass(frozen=True)
class LearnerSpec:
    """The checked contents of a learner's config.json; see `Embedder` for the meaning of the fields."""

    config: LearnerConfig
    record: LearnerRecord
    inputs: InputSettings
    mean: tuple[float, ...]
    std: tuple[float, ...]
    feature_dim: int
    embedding: EmbeddingSpec
    model_args: Json
    is_included: bool = False


def check_learner_config(content: JsonView, source: str) -> LearnerSpec:
    """Check a parsed config.json.

    Args:
        content: The file's.
        source: The learner's name, for errors.

    Raises:
        LearnerError: it is no learner's, of a newer format, incomplete, or has a value that is not allowed.
    """
    block = _block(content, source)
    described, cfg = block["learner"], content["pretrained_cfg"]
    config = _learner_config(described, source)
    embedding = EmbeddingSpec.read(described, source)
    record = _record(block, embedding.sizes, source)
    is_included = _check_pooled(described, embedding, record, source)
    views, batchnorm = _views(described["views"], source), _batchnorm(described["batchnorm"], source)
    mean, std = (_per_channel(cfg, key, config.channels, source) for key in ("mean", "std"))
    return LearnerSpec(
        config=config,
        record=record,
        inputs=InputSettings(views, mean, std, batchnorm),
        mean=mean,
        std=std,
        feature_dim=_number(described, "feature_dim", 1, MAX_WIDTH, source),
        embedding=embedding,
        model_args={} if embedding.pooled else learner_model_args(content.get("model_args"), config.backbone, source),
        is_included=is_included,
    )


def _block(content: JsonView, source: str) -> Json:
    """The `hf_free` block, with all that has to be there."""
    block = content.get("hf_free")
    if not isinstance(block, dict):
        raise LearnerError(
            f"{source} is not an hf-free learner: its {CONFIG} has no hf_free block",
            allowed="a learner made by hf-free train or MetaLearner.save_pretrained",
            action=way_from_teacher(source),
        )
    version = block.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise LearnerError(
            f"{source} is in learner format {short_form(version)}",
            allowed=f"format {FORMAT_VERSION}",
            action=way_out_of_format(version, FORMAT_VERSION),
        )
    described, cfg = block.get("learner"), content.get("pretrained_cfg")
    for name, part in (("hf_free.learner", described), ("pretrained_cfg", cfg)):
        if part is not None and not isinstance(part, dict):
            raise LearnerError(f"{source}: {name} of {CONFIG} is {short_form(part)}", allowed="a JSON object")
    missing = [key for key in _REQUIRED if key not in (described or {})]
    missing += [f"pretrained_cfg.{key}" for key in ("mean", "std") if key not in (cfg or {})]
    if missing:
        raise LearnerError(
            f"{source}: {CONFIG} is incomplete, missing {', '.join(sorted(missing))}",
            action="save or push the learner again",
        )
    unknown = sorted(cast("Json", described).keys() - {*_REQUIRED, *_OPTIONAL})
    if unknown:
        names = ", ".join(key[:60] for key in unknown[:4])
        raise LearnerError(
            f"{source}: {CONFIG} describes a learner with {names}, which is not known here",
            allowed=", ".join((*_REQUIRED, *_OPTIONAL)),
            action="install a newer hf-free",
        )
    return block


def way_out_of_format(found: object, known: int) -> str:
    """What to do about a format that is not the known one: only a greater number is a later hf-free's."""
    is_later = type(found) is int and found > known
    return "install a newer hf-free" if is_later else "save it again, or restore it from a copy"


def _learner_config(described: JsonView, source: str) -> LearnerConfig:
    """Backbone, picture size, channels, head; `init_from` says where it once came from, and is never followed."""
    values = {key: described[key] for key in _CONFIG_KEYS}
    for key in ("image_size", "channels"):
        demand(type(values[key]) is int, source, key, values[key], "a whole number")
    start = described.get("init_from")
    demand(start is None or _is_text(start), source, "init_from", start, "a short text, or null")
    if described.get("pooled") is None:
        check_architecture(values["backbone"], source)
    values |= {"views": list(_views(described["views"], source)), "init_from": start}
    if _CALIBRATION in described:
        values[_CALIBRATION] = described[_CALIBRATION]
    try:
        return FreeConfig.from_dict({"learner": values}).learner
    except ConfigError as error:
        raise LearnerError(
            f"{source}: {CONFIG}: {error.given[:300]}",
            allowed=error.allowed,
            action="save or push the learner again",
        ) from None


def _check_pooled(described: JsonView, embedding: EmbeddingSpec, record: LearnerRecord, source: str) -> bool:
    """Whether a learner has its pooled teachers' files with it; what it says of them fits together."""
    included = described.get(INCLUDED, False)
    demand(isinstance(included, bool), source, INCLUDED, included, "true or false")
    if embedding.pooled is None:
        demand(not included, source, INCLUDED, included, f"false without {KIND}")
        return False
    demand(described["backbone"] == KIND, source, "backbone", described["backbone"], f"{KIND!r} beside {KIND}")
    teachers, count = len(record.teachers), len(embedding.pooled.features)
    demand(teachers == count, source, "teachers", teachers, f"{count}, as {KIND} has sizes")
    return included


def check_architecture(name: object, source: str) -> None:
    """Refuse a backbone of a config.json that is not the plain name of a registered network.

    Raises:
        LearnerError: with names that are like it.
    """
    if not _is_registered(name):
        raise _unknown(name, f"{source}: {CONFIG} names the backbone {short_form(name)}, which ", " does not know")


def check_backbone_name(name: str) -> None:
    """Refuse a backbone that is not the plain name of a registered network, with a tag of timm's or without.

    timm would take sources and paths too: configurations of strangers, under names that nobody could open later.

    Raises:
        LearnerError: with names that are like it.
    """
    if not _is_registered(name):
        raise _unknown(name, "", f" knows no backbone {short_form(name)}")


def _is_registered(name: object) -> bool:
    if not isinstance(name, str):
        return False
    if name in FILTERS:
        return True  # seconds before timm is imported

    import timm

    import hf_free.backbones.register  # noqa: F401  registers our other networks with timm

    if re.fullmatch(r"\w{1,100}(\.\w{1,100})?", name, re.ASCII) is None or not timm.is_model(name.split(".")[0]):
        return False
    try:
        return "." not in name or timm.get_pretrained_cfg(name) is not None
    except RuntimeError:  # no tag of that network
        return False


def _unknown(name: object, before: str, after: str) -> LearnerError:
    """The error for a backbone that nobody has registered: what is said before and after timm's version."""
    import timm

    text = name[:100] if isinstance(name, str) else ""
    architecture, dot, _ = text.partition(".")
    tags = timm.list_pretrained(f"{architecture}.*") if dot and re.fullmatch(r"\w+", architecture, re.ASCII) else []
    close = tags[:3] or difflib.get_close_matches(text.rpartition("/")[2], timm.list_models(), n=3)
    return LearnerError(
        f"{before}timm {timm.__version__}{after}",
        allowed=f"a name of timm.list_models(){'; close: ' + ', '.join(close) if close else ''}",
        action="update timm, or give the file that registers your network: --import my_networks.py",
    )


def is_own_network(backbone: str) -> bool:
    """Whether a registered network is neither timm's nor ours but a file's that the user imported."""
    if backbone in FILTERS:
        return False

    import timm

    module = timm.models.model_entrypoint(backbone.split(".")[0]).__module__
    return module.split(".")[0] not in ("timm", "hf_free")


def learner_model_args(arguments: object, backbone: str, source: str) -> Json:
    """Check `model_args`: as those of a teacher, and for a network of the user's own also numbers and words.

    Raises:
        LearnerError: a name or a value that is not allowed.
    """
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise LearnerError(f"{source}: model_args is {short_form(arguments)}", allowed="a JSON object")
    checked: Json = {}
    for key, value in arguments.items():
        try:
            checked |= check_model_args({key: value}, source)
        except TeacherError as error:
            if is_own_network(backbone) and key not in _steering() and re.fullmatch(r"[a-z]\w{0,40}", key):
                demand(_is_plain(value), source, f"model_args.{key}", value, "numbers, or a word")
                checked[key] = tuple(value) if isinstance(value, list) else value
                continue
            raise LearnerError(
                error.given, allowed=error.allowed, action="save the learner again without this argument"
            ) from None
    return checked


def _steering() -> set[str]:
    """What timm's own functions take: names that say what is loaded, and from where."""
    import timm
    from timm.models import build_model_with_cfg

    functions: list[Callable[..., Any]] = [timm.create_model, build_model_with_cfg]
    return {name for function in functions for name in inspect.signature(function).parameters}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return len(value) <= 256 and all(real(0, MAX_WIDTH)(item) for item in value)
    if isinstance(value, str):
        return re.fullmatch(r"\w{0,40}", value, re.ASCII) is not None
    return isinstance(value, bool) or real(-MAX_WIDTH, MAX_WIDTH)(value)


def _views(views: Any, source: str) -> tuple[str, ...]:
    good = is_list_of(views, lambda name: isinstance(name, str) and name in VIEWS) and 0 < len(views) <= MAX_VIEWS
    demand(good, source, "views", views, f"one to {MAX_VIEWS} of {', '.join(VIEWS)}")
    return tuple(views)


def _batchnorm(mode: object, source: str) -> BatchNormMode:
    modes = get_args(BatchNormMode)
    demand(isinstance(mode, str) and mode in modes, source, "batchnorm", mode, ", ".join(modes))
    return cast("BatchNormMode", mode)


def _number(described: JsonView, key: str, low: int, high: int, source: str) -> int:
    value = described[key]
    demand(whole(low, high)(value), source, key, value, f"a whole number from {low} to {high}")
    return cast("int", value)


def _per_channel(cfg: JsonView, key: str, channels: int, source: str) -> tuple[float, ...]:
    values = cfg[key]
    low = math.ulp(0.0) if key == "std" else -MAX_COLOR
    good = is_list_of(values, real(low, MAX_COLOR)) and len(values) == channels
    rule = f"{channels} number(s){' above 0' if key == 'std' else ''}, at most {MAX_COLOR:g}"
    demand(good, source, f"pretrained_cfg.{key}", values, rule)
    return tuple(map(float, values))


_TEACHER_KINDS: dict[str, tuple[type, ...]] = {
    "reference": (str,),
    "repo_id": (str,),
    "commit": (str,),
    "architecture": (str,),
    "license": (str,),
    "sha256": (dict,),
    "classes": (list,),
    "label_names": (list,),
    "label_descriptions": (list,),
    "normalization": (dict,),
    "notes": (list,),
    "input_size": (list,),
    "num_classes": (int,),
    "private": (bool,),
}
"""What a teacher's entry of the record holds under these names, or null."""

_TEACHER_LISTS: dict[str, Callable[[object], bool]] = {
    "classes": whole(0, MAX_WIDTH),
    "input_size": whole(1, MAX_WIDTH),
    "label_names": lambda value: isinstance(value, str),
    "label_descriptions": lambda value: isinstance(value, str),
    "notes": lambda value: isinstance(value, str),
}
"""What each value of these lists is."""

_RESULT_KINDS: dict[str, tuple[type, ...]] = {"dataset": (str,), "split": (str,), "warnings": (list,), "rows": (list,)}
"""What a report among the record's results holds under these names, or null."""

_COUNTS = ("n_way", "k_shot", "n_query", "episodes")
_SECTIONS = ("five", "memory", "bell", "learner", "trainer", "hub")

_RECORD_KINDS: dict[str, tuple[type, ...]] = {
    "teachers": (list,),
    "skipped": (list,),
    "results": (list,),
    "left_out": (dict,),
    "licenses": (dict,),
    "config": (dict,),
    "recovered": (dict,),
    "training": (dict,),
    "method": (dict,),
    "versions": (dict,),
    "answer_outputs": (list,),
    "teachers_before": (int,),
    "data_free": (bool,),
    "init_from": (str,),
    "repo_id": (str,),
}
"""What the record holds under these names, or null; values under other names may be anything and are only shown."""


def _record(block: JsonView, sizes: Sequence[int] | None, source: str) -> LearnerRecord:
    """The record: what cards, evaluation and runs that continue the learner read of it has the right kind."""
    record = {key: value for key, value in block.items() if key not in ("format_version", "learner")}
    _check_kinds(record, _RECORD_KINDS, "", source)
    for key in ("teachers", "skipped", "results"):
        for place, entry in enumerate(record.get(key) or ()):
            demand(isinstance(entry, dict), source, f"{key}[{place}]", entry, "a JSON object")
    for key, kinds in (("teachers", _TEACHER_KINDS), ("results", _RESULT_KINDS)):
        for place, entry in enumerate(record.get(key) or ()):
            _check_kinds(entry, kinds, f"{key}[{place}].", source)
    for place, entry in enumerate(record.get("teachers") or ()):
        for key, rule in _TEACHER_LISTS.items():
            values = entry.get(key)
            good = values is None or is_list_of(values, rule)
            demand(
                good, source, f"teachers[{place}].{key}", values, "a list of whole numbers or of texts, as its kind is"
            )
    for place, report in enumerate(record.get("results") or ()):
        for row in report.get("rows") or ():
            good = isinstance(row, dict) and isinstance(row.get("method"), str)
            good = good and all(whole(1, MAX_WIDTH)(row.get(key)) for key in _COUNTS)
            demand(good, source, f"results[{place}].rows", row, f"method, {', '.join(_COUNTS)} in each row")
    config = record.get("config") or {}
    sections: dict[str, tuple[type, ...]] = dict.fromkeys(_SECTIONS, (dict,))
    _check_kinds(config, {**sections, "models": (list,)}, "config.", source)
    for name, key in (("bell", "n_way"), ("five", "max_classes")):
        _check_kinds(config.get(name) or {}, {key: (int,)}, f"config.{name}.", source)
    outputs = record.get("answer_outputs") or []
    fits = all(chosen is None or is_list_of(chosen, whole(0, MAX_WIDTH)) for chosen in outputs)
    if fits and sizes is not None and outputs:
        fits = len(outputs) == len(sizes)
        fits = fits and all(c is None or len(c) == size for c, size in zip(outputs, sizes, strict=True))
    demand(fits, source, "answer_outputs", outputs, "for each of answer_sizes null or as many outputs")
    return LearnerRecord.from_dict(record)


def _check_kinds(values: JsonView, kinds: Mapping[str, tuple[type, ...]], where: str, source: str) -> None:
    for key, allowed in kinds.items():
        value = values.get(key)
        good = value is None or (isinstance(value, allowed) and (bool in allowed or not isinstance(value, bool)))
        names = {list: "a list", dict: "a JSON object", str: "a text", int: "a whole number", bool: "true or false"}
        demand(good, source, f"{where}{key}", value, " or ".join(names[kind] for kind in allowed))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT and value.isprintable()
