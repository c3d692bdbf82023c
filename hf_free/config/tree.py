"""One validated tree of settings: the Python API, the YAML file and the command line's flags are views of it.

Every leaf is documented by the string below it, checked on construction, and refused with the value, the rule
and the way out. `FreeConfig.from_dict` and `from_yaml` read it, `to_yaml` writes it.
"""

from __future__ import annotations

import difflib
import logging
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, field, fields, is_dataclass
from functools import reduce
from pathlib import Path, PurePath
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, ErrorDetails, PydanticCustomError

from hf_free.config.init_from import InitFrom
from hf_free.config.reading import merge, merge_given
from hf_free.config.recipes import INVERSIONS, RECIPES, Defect, inversion_values, recipe_values
from hf_free.config.sections import (
    GIVEN,
    STRICT,
    BellConfig,
    FiveConfig,
    HubConfig,
    LearnerConfig,
    MemoryConfig,
    QueriesConfig,
    TrainerConfig,
    as_list,
    as_wanted,
)
from hf_free.config.yaml_reading import MOST_LEVELS, MOST_VALUES, BeyondUseError, Written, is_null, meant, read_written
from hf_free.errors import ConfigError
from hf_free.provenance.reading import Json
from hf_free.provenance.renamed import with_new_names
from hf_free.runtime.given import check_kind, given_path, short_form

logger = logging.getLogger(__name__)

_FLAGS = frozenset(
    {"method", "inversion", "seed", "learner.backbone", "learner.image_size", "trainer.steps", "trainer.max_minutes"}
    | {"trainer.device", "trainer.mixed_precision", "trainer.memory", "hub.teacher_memory", "hub.license"}
)
"""Keys that `hf-free train` has a flag for, of the same name."""
MOST_BYTES = 2**26
"""Most bytes of a YAML file: a hundred thousand teachers take ten million."""
LONGEST_NAME = 100
"""Letters beyond which an unknown key is compared with no known one: that takes a tenth of a second per 100,000."""


def check_sections(given: Mapping[str, tuple[object, type]]) -> None:
    """Refuse arguments that are no configuration, such as a dict or a file's name.

    Args:
        given: By the argument's name, what was given and what it has to be.

    Raises:
        ConfigError: with the way to one.
    """
    for name, (value, kind) in given.items():
        if not isinstance(value, kind):
            way = f"hf_free.FreeConfig.from_dict({{...}}){'' if kind is FreeConfig else f'.{name}'}"
            raise ConfigError(f"{name} of type {type(value).__name__}", allowed=kind.__name__, action=way)


def _known_method(name: object) -> object:
    return _one_of(RECIPES, name)


def _known_inversion(name: object) -> object:
    return None if name is None else _one_of(INVERSIONS, name)


def _one_of(known: Mapping[str, object], name: object) -> object:
    """A known name; others may be registered, so that no `Literal` can list them."""
    if not isinstance(name, str) or name not in known:
        *names, last = (f"'{one}'" for one in known)
        raise PydanticCustomError("literal_error", "{rule}", {"rule": f"{', '.join(names)} or {last}"})
    return name


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FreeConfig:
    """Everything a training run is made of.

    `FreeConfig(method="paper", five=FiveConfig(inner_steps=10))` is the paper's recipe with ten inner steps: what is
    given explicitly wins over the recipe, a section's defaults do not.
    """

    method: Annotated[str, BeforeValidator(_known_method)] = "default"
    """`default`, the best we found; `paper`, FREE with its published constants; `released`, its public code; `purer`,
    `tgr` and `bidf-mkd`, its peers."""
    inversion: Annotated[str | None, BeforeValidator(_known_inversion)] = None
    """How teachers are inverted, with the number of steps that goes with it; null leaves it to the method. `five`: one
    generator for all; `generator`: a fresh one for each teacher; `pixels`: none, the pixels themselves;
    `zero-order`: a fresh generator for a black box, by questions alone."""
    models: list[str] = field(default_factory=list)
    """Teachers: Hub ids `org/name[@revision]` or local folders."""
    imports: list[str] = field(default_factory=list)
    """Local Python files of your own that register networks with timm, see docs/guides/own-networks.md."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of everything random."""
    defects: Annotated[list[Defect], BeforeValidator(as_list)] = field(default_factory=list)
    """Single defects of the released code to switch on, for ablation."""
    five: FiveConfig = field(default_factory=FiveConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    bell: BellConfig = field(default_factory=BellConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    queries: QueriesConfig = field(default_factory=QueriesConfig)
    hub: HubConfig = field(default_factory=HubConfig)

    @model_validator(mode="wrap")
    @classmethod
    def _in_our_words(cls, values: object, handler: Callable[[object], FreeConfig]) -> FreeConfig:
        """Refuse what cannot be used as `from_dict` does, however the tree is built."""
        try:
            return handler(values)
        except ValidationError as error:
            raise _explain(error) from None

    @model_validator(mode="before")
    @classmethod
    def _over_recipe(cls, values: object) -> object:
        """Lay what is given over the values of the recipe."""
        given = (values.kwargs or {}) if isinstance(values, ArgsKwargs) else values
        if not isinstance(given, Mapping):
            return values
        given = _with_new_names({key: _given_values(value) for key, value in given.items()})
        if isinstance(given.get("models"), list):
            given["models"] = [str(one) if isinstance(one, PurePath) else one for one in given["models"]]
        name = given.get("method", "default")
        if not isinstance(name, str) or name not in RECIPES:
            return given  # refused later, with the rule
        base, way = recipe_values(name), given.get("inversion")
        if isinstance(way, str) and way in INVERSIONS:
            base = merge(base, inversion_values(way))
        return merge(base, given)

    @property
    def continues_learner(self) -> bool:
        """Whether teachers are added to an existing learner."""
        start = self.learner.init_from
        return start is not None and InitFrom.parse(start).is_learner

    @property
    def least_tasks(self) -> int:
        """Tasks that a run needs: two, or one more for a learner that has learned from others already."""
        return 1 if self.continues_learner else 2

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> FreeConfig:
        """Build the tree from nested mappings, laid over the values of their recipe.

        Raises:
            ConfigError: an unknown key or an impossible value.
        """
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"a configuration of type {type(values).__name__}",
                allowed="a mapping of keys to values",
                action="FreeConfig.from_yaml(FILE) reads a file",
            )
        return TypeAdapter(cls).validate_python(dict(values))

    @classmethod
    def from_yaml(cls, path: str | Path) -> FreeConfig:
        """Read the tree from a YAML file, laid over the values of its recipe."""
        return cls.from_dict(read_yaml_mapping(path))

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        values: Mapping[str, object] | None = None,
        assignments: Iterable[str] = (),
        usual: Mapping[str, object] | None = None,
    ) -> FreeConfig:
        """Lay a YAML file, values and assignments over each other and over their recipe, as `hf-free train` does.

        Args:
            path: A YAML file, as for `--config`.
            values: Nested mappings, in the place of the command line's flags.
            assignments: `section.key=value` texts, as for `--set`.
            usual: Nested mappings that all of these go before: defaults of a verb's own.

        Raises:
            ConfigError: an unknown key, an impossible value, a file that cannot be read.
        """
        for name, mapping in (("values", values), ("usual", usual)):
            check_kind(mapping, name, Mapping, allowed="a mapping of keys to values, or None")
        texts = [] if isinstance(assignments, str) or not isinstance(assignments, Iterable) else list(assignments)
        if (not texts and assignments not in ((), [])) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"assignments={short_form(assignments)}", allowed="a list of texts section.key=value")
        given = read_yaml_mapping(path) if path is not None else {}
        layers = map(_with_new_names, (usual or {}, given, values or {}, parse_assignments(texts)))
        return cls.from_dict(reduce(merge_given, layers))

    def to_dict(self) -> dict[str, Any]:
        """The tree as nested plain dictionaries, every key present; `from_dict` gives back exactly this tree."""
        return asdict(self)

    def to_yaml(self) -> str:
        """The tree as YAML, every key present."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _with_new_names(values: Mapping[str, object]) -> Json:
    """Settings under today's names; those that were given under an old name are logged."""
    renamed, old = with_new_names(values)
    if old:
        names = ", ".join(f"{was} is now {now}" for was, now in old.items())
        logger.warning("settings were renamed, the old names are still read: %s", names)
    return renamed


def known_keys() -> list[str]:
    """All keys of the tree as `section.key`, for messages and completion."""
    keys = []
    for entry in fields(FreeConfig):
        default = getattr(FreeConfig(), entry.name)
        if is_dataclass(default):
            keys += [f"{entry.name}.{inner.name}" for inner in fields(default)]
        else:
            keys.append(entry.name)
    return keys


def _explain(error: ValidationError) -> ConfigError:
    """Rewrite pydantic's errors: one line per wrong key, with the value, the rule and the way out."""
    given, allowed, action = [], [], ""
    for item in error.errors():
        key = ".".join(part for part in item["loc"] if isinstance(part, str))  # an entry of a list: the list's key
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            close = [] if len(key) > LONGEST_NAME else difflib.get_close_matches(key, known_keys(), n=3, cutoff=0.4)
            given.append(f"unknown configuration key {_shown(key)}")
            allowed.append(f"did you mean {', '.join(close)}?" if close else "see docs/reference/configuration.md")
            action = action or "hf-free train --help lists the flags; docs/reference/configuration.md every key"
        elif item["type"] == "value_error":  # a rule of ours over several keys of a section
            given.append(f"the values of {key or 'the configuration'} do not go together")
            allowed.append(item["msg"].removeprefix("Value error, "))
            action = action or f"see docs/reference/configuration.md, section {key}"
        else:
            is_entry = bool(item["loc"]) and isinstance(item["loc"][-1], int)
            value = _shown(item["input"])
            holds = f"{key} holds {value}, which" if is_entry else f"{key} = {value}"
            given.append(f"{holds} cannot be used")
            allowed.append(_rule(item["type"], item["msg"]))
            action = action or _way_to_set(key, _value_that_fits(key, item, is_entry=is_entry), item["type"])
    return ConfigError("\n".join(given), allowed="; ".join(dict.fromkeys(allowed)), action=action)


_PLACEHOLDERS = {"list_type": "'[VALUE, VALUE]'"}
"""What stands for a value in the way out, by pydantic's name of the error."""


def _way_to_set(key: str, value: str, kind: str) -> str:
    """How another value is given: with one that fits, where one is known."""
    flag = f"--{key.rpartition('.')[2].replace('_', '-')}"
    if value:
        return f"give another value, e.g. {f'{flag} {value}' if key in _FLAGS else f'--set {key}={value}'}"
    if kind == "dataclass_type":
        return f"give its values, one by one: --set {key}.KEY=VALUE"
    return f"give another value with {flag if key in _FLAGS else f'--set {key}=' + _PLACEHOLDERS.get(kind, 'VALUE')}"


def _value_that_fits(key: str, item: ErrorDetails, *, is_entry: bool) -> str:
    """The first of the values that are listed, else the default, as they are written; empty where neither is known."""
    listed = _rule(item["type"], item["msg"])
    is_listed = listed.startswith("'")
    value: object = listed.split("'")[1] if is_listed else _default_of(key)
    if is_entry and is_listed:
        value = [value]
    if value is None or value == "" or isinstance(value, dict) or is_dataclass(value):
        return ""
    text = value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return shlex.quote(text.strip().removesuffix("...").strip())


def _default_of(key: str) -> object:
    """The default of `section.key`; None where there is none."""
    found: object = FreeConfig()
    for part in key.split("."):
        found = getattr(found, part, None)
    return list(found) or None if isinstance(found, list | tuple) else found


def _shown(value: object) -> str:
    """A value as it is written, as far as anybody reads it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in thousands of lists
        return f"a {type(value).__name__} beyond showing"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _rule(kind: str, message: str) -> str:
    """What pydantic says a value should be, as words that follow "allowed:"."""
    if kind == "dataclass_type":
        return "a mapping of keys to values"
    rule = message.removeprefix("Input should be ")
    return f"a value {rule}" if rule.startswith(("greater", "less")) else rule


def _given_values(section: object) -> Any:
    """What was given of a section explicitly, as a mapping; anything that is no section stays as it is."""
    return {name: getattr(section, name) for name in getattr(section, GIVEN)} if hasattr(section, GIVEN) else section


def read_yaml_mapping(path: str | Path) -> dict[str, object]:
    """Read a YAML file that holds a mapping; where the tree wants a text, it is the text that was written.

    Raises:
        ConfigError: no such file, broken YAML, or something other than a mapping.
    """
    try:
        with given_path(path, "path").open("rb") as file:  # a pipe will do: --config <(...)
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ConfigError(f"{path} has more than {MOST_BYTES >> 20} MiB", action="give a YAML file of settings")
        values = read_written(data.decode("utf-8-sig"), most_values=MOST_VALUES)
    except OSError as error:
        problem = f"cannot read the configuration {path}: {error.strerror}"
        raise ConfigError(problem, action="give an existing file") from None
    except UnicodeDecodeError:
        problem = f"{path} is not a text file in UTF-8"
        raise ConfigError(problem, allowed="a YAML file", action="save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", action="correct it, or name another file") from None
    if is_null(values):
        return {}
    if not isinstance(values, dict):
        kind = type(meant(values)).__name__
        raise ConfigError(f"{path} holds a {kind}", allowed="a mapping of keys to values")
    return as_wanted(values, FreeConfig)


def parse_assignments(assignments: Iterable[str]) -> dict[str, object]:
    """Turn `section.key=value` texts into nested mappings; values are read as YAML, texts stay as they were written.

    Raises:
        ConfigError: a text without `=` or with an empty key.
    """
    nested: dict[str, Any] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        parts = key.strip().split(".")
        if not separator or not all(parts) or len(parts) > MOST_LEVELS:
            raise ConfigError(
                f"--set {text[:200]!r}", allowed="section.key=value", action="e.g. --set five.inner_steps=5"
            )
        try:
            parsed = Written("") if not value.strip() else read_written(value, most_values=MOST_VALUES)
        except BeyondUseError as error:
            problem = f"--set {key[:80]}=... cannot be used: {error}"
            raise ConfigError(problem, allowed="section.key=value", action="e.g. --set five.inner_steps=5") from None
        except yaml.YAMLError:
            parsed = value
        inner = nested
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"--set {text!r}", allowed=f"{part} whole, or keys of it", action="leave one out")
        inner[parts[-1]] = parsed
    return as_wanted(nested, FreeConfig)


def departures(config: Mapping[str, object]) -> dict[str, object]:
    """Settings of the method, by `section.key`, that differ from those of its recipe.

    The length of a run, its device and what is published are no part of a method and not among them.

    Args:
        config: A tree as `FreeConfig.to_dict` gives it, perhaps of an older hf-free; unknown keys are passed over.
    """
    config, _ = with_new_names(config)
    method = config.get("method")
    if not isinstance(method, str) or method not in RECIPES:
        return {}
    recipe = FreeConfig(method=method).to_dict()
    single = ("inversion", "defects")
    found = {key: config[key] for key in single if config.get(key, recipe[key]) != recipe[key]}
    for section in ("five", "memory", "bell", "learner"):
        given = config.get(section)
        for key, value in given.items() if isinstance(given, Mapping) else ():
            if key in recipe[section] and value != recipe[section][key]:
                found[f"{section}.{key}"] = value
    return found
