"""Methods side by side, as a YAML file lists them: read, checked, and laid out as cells.

    minutes: 0.5                 # of training, the same for every cell
    episodes: 100
    seeds: [0]
    methods:                     # the rows; the name is free
      default: {}                # names a method by itself
      paper: {inversion: [five, generator]}     # two rows: "paper, five" and "paper, generator"
      pixels: {method: default, inversion: pixels, set: [five.inner_steps=50]}
      pooled: {kind: pool}       # what needs no training has a kind of its own
    scenarios:
      SS: {teachers: [{zoo: cifar_fs_conv4, count: 20}], data: [cifar_fs]}

A key or value that cannot be used is refused when the file is read, before anything is computed.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass as checked

from hf_free import FreeConfig
from hf_free.config.recipes import RECIPES
from hf_free.errors import ConfigError
from hf_free.evaluation.evaluate import BATCHNORM
from hf_free.learner.transductive import TRANSDUCTIVE

Kind = Literal["train", "pool", "distill", "baselines"]
"""What a row is: a training run, a pooled learner, one network that learned a pooled learner, or all that needs no
learner (the untrained network, the teachers alone, side by side, and their mean)."""

STRICT = ConfigDict(extra="forbid")
EXAMPLE = "examples/benchmark/smoke.yaml has every key"

Count = Annotated[int, Field(ge=1)]


@checked(frozen=True, kw_only=True, config=STRICT)
class Teachers:
    """Some teachers of a scenario: of a folder that is there, or made from a data set where they are missing."""

    count: Annotated[int, Field(ge=1)]
    zoo: str = ""
    """Folder below --zoos."""
    made_from: list[str] = field(default_factory=list)
    """Data sets below --data-root whose training classes they learn, in turn."""
    architectures: list[str] = field(default_factory=lambda: ["conv4_32"])
    epochs: Count = 30
    image_size: Annotated[int, Field(ge=8)] = 32

    @model_validator(mode="after")
    def _one_source(self) -> Teachers:
        if bool(self.zoo) == bool(self.made_from):
            raise ValueError("either zoo, a folder of teachers, or made_from, data sets to make them from")
        return self


@checked(frozen=True, kw_only=True, config=STRICT)
class Scenario:
    """Teachers, and data sets with classes that they never saw."""

    teachers: Annotated[list[Teachers], Field(min_length=1)]
    data: Annotated[list[str], Field(min_length=1)]
    """Data sets below --data-root."""
    methods: list[str] | None = None
    """Rows that are run; all without it."""
    set: list[str] = field(default_factory=list)
    """Settings for all its rows, below those of a row."""


@checked(frozen=True, kw_only=True, config=STRICT)
class Row:
    """A row of the tables."""

    kind: Kind = "train"
    method: str = ""
    """As in `--method`; the row's own name without it."""
    inversion: str | None = None
    """As in `--inversion`; that of the method without it. A list in the file makes a row for each."""
    set: list[str] = field(default_factory=list)
    transductive: list[str] = field(default_factory=list)
    """Further lines whose heads see all queries at once."""
    served: Annotated[int, Field(ge=0)] = 0
    """So many teachers, the first ones, stand behind `hf-free serve` and only answer."""
    port: Annotated[int, Field(ge=1024, le=65_000)] = 8800
    """The first one's; fixed, so that a run that is resumed finds the addresses that it knows."""


@checked(frozen=True, kw_only=True, config=STRICT)
class Plan:
    """The whole file."""

    minutes: Annotated[float, Field(gt=0)]
    methods: Annotated[dict[str, Row], Field(min_length=1)]
    scenarios: Annotated[dict[str, Scenario], Field(min_length=1)]
    shots: list[Literal[1, 5]] = field(default_factory=lambda: [1, 5])
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = field(default_factory=lambda: [0])
    episodes: Annotated[int, Field(ge=2)] = 600
    curve_episodes: Annotated[int, Field(ge=0)] = 0
    """Episodes of each point of accuracy against time; 0 draws no curves."""
    split: str = "validation"
    learner_per_shot: bool = False
    """Whether methods that train on episodes make a learner for each number of shots, as their papers do."""


@dataclass(frozen=True)
class Cell:
    """What is computed by itself, and kept in a file of its own."""

    row: str
    scenario: str
    seed: int
    shots: tuple[int, ...]
    """Measured with; one alone where the learner is trained for it."""
    is_per_shot: bool = False
    """Whether its learner is trained on episodes of that many shots."""

    @property
    def name(self) -> str:
        """Told apart from all others of its plan."""
        return f"{self.scenario} {self.row} seed {self.seed}" + (f" {self.shots[0]}-shot" if self.is_per_shot else "")


def read_plan(path: Path) -> Plan:
    """Read the YAML file and check it whole, each cell's configuration too.

    Raises:
        ConfigError: a file that cannot be read, an unknown key, an impossible value.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", action=f"give a YAML file; {EXAMPLE}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}", action="mend the file at the line named") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}", allowed="a mapping of keys", action=EXAMPLE)
    try:
        plan = TypeAdapter(Plan).validate_python(_with_rows(values))
    except ValidationError as error:
        raise _explained(path, error) from None
    _check_names(path, plan)
    for cell in cells_of(plan):
        try:
            config_of(plan, cell)
        except ConfigError as error:
            where = f"{path}: methods.{cell.row} in scenarios.{cell.scenario}: "
            raise ConfigError(where + error.given, allowed=error.allowed, action=error.action) from None
    return plan


def cells_of(plan: Plan) -> list[Cell]:
    """All cells, seed by seed, so that a run that is stopped has as much as possible of the first ones."""
    return list(_cells(plan))


def _cells(plan: Plan) -> Iterator[Cell]:
    for seed, (name, scenario) in itertools.product(plan.seeds, plan.scenarios.items()):
        for row in scenario.methods or plan.methods:
            if plan.methods[row].kind == "baselines" and seed != plan.seeds[0]:
                continue  # nothing in it is drawn but one untrained network
            shots = tuple(plan.shots)
            whole = Cell(row, name, seed, shots)
            if plan.learner_per_shot and len(shots) > 1 and _trains_on_episodes(plan, whole):
                yield from (Cell(row, name, seed, (shot,), is_per_shot=True) for shot in shots)
            else:
                yield whole


def _trains_on_episodes(plan: Plan, cell: Cell) -> bool:
    """Whether the number of shots makes another learner: not where it predicts the teachers' answers."""
    return plan.methods[cell.row].kind == "train" and not config_of(plan, cell).bell.distills


def config_of(plan: Plan, cell: Cell, models: tuple[str, ...] = (), device: str = "auto") -> FreeConfig:
    """The configuration of a cell's run; rows that are no run read learner, FIVE and BELL from it.

    Args:
        plan: The file.
        cell: One of its cells.
        models: The teachers.
        device: Where to compute.

    Raises:
        ConfigError: settings that do not exist or do not go together.
    """
    row, scenario = plan.methods[cell.row], plan.scenarios[cell.scenario]
    values: dict[str, object] = {
        "method": _method_of(cell.row, row),
        "models": list(models),
        "seed": cell.seed,
        "trainer": {"max_minutes": plan.minutes, "device": device},
    }
    if row.inversion is not None:
        values["inversion"] = row.inversion
    if cell.is_per_shot:
        values["bell"] = {"k_shot": cell.shots[0]}
    return FreeConfig.load(values=values, assignments=[*scenario.set, *row.set])


def settings_of(plan: Plan, cell: Cell) -> dict[str, Any]:
    """All that decides a cell's figures: cells with the same settings are the same, wherever their teachers lie."""
    row, scenario = plan.methods[cell.row], plan.scenarios[cell.scenario]
    return {
        "cell": asdict(cell),
        "row": asdict(row),
        "teachers": [asdict(teachers) for teachers in scenario.teachers],
        "data": list(scenario.data),
        "config": config_of(plan, cell).to_dict(),
        "measured": {"split": plan.split, "episodes": plan.episodes, "curve_episodes": plan.curve_episodes},
    }


def _method_of(name: str, row: Row) -> str:
    return row.method or (name if row.kind == "train" else "default")


def _with_rows(values: Mapping[str, object]) -> dict[str, object]:
    """Rows written short, in full: `default:` with nothing behind it has no settings, and one with a list of
    inversions is a row for each."""
    rows = values.get("methods")
    if not isinstance(rows, Mapping):
        return dict(values)
    full: dict[str, object] = {}
    names: dict[object, list[str]] = {}
    for name, row in rows.items():
        ways = row.get("inversion") if isinstance(row, Mapping) else None
        if isinstance(row, Mapping) and isinstance(ways, list) and ways:
            names[name] = [f"{name}, {way}" for way in ways]
            whole = {"method": name, **row}
            full |= {f"{name}, {way}": {**whole, "inversion": way} for way in ways}
        else:
            full[name] = {} if row is None else row
    full = {name: _flat(row) for name, row in full.items()}
    return {**values, "methods": full, **_in_scenarios(values, names)}


def _flat(row: object) -> object:
    """A row whose `set` holds another row's list, as YAML's `*name` puts it there, has its entries."""
    given = row.get("set") if isinstance(row, Mapping) else None
    if not isinstance(row, Mapping) or not isinstance(given, list):
        return row
    flat = [one for part in given for one in (part if isinstance(part, list) else [part])]
    return {**row, "set": flat}


def _in_scenarios(values: Mapping[str, object], names: Mapping[object, list[str]]) -> dict[str, object]:
    """Scenarios whose `methods` name a row with several inversions: all of these."""
    scenarios = values.get("scenarios")
    if not names or not isinstance(scenarios, Mapping):
        return {}
    named = {}
    for place, scenario in scenarios.items():
        chosen = scenario.get("methods") if isinstance(scenario, Mapping) else None
        if isinstance(chosen, list):
            chosen = [one for name in map(str, chosen) for one in names.get(name, [name])]
            scenario = {**scenario, "methods": chosen}
        named[place] = scenario
    return {"scenarios": named}


def _check_names(path: Path, plan: Plan) -> None:
    for name, scenario in plan.scenarios.items():
        for row in scenario.methods or ():
            if row not in plan.methods:
                raise ConfigError(
                    f"{path}: scenarios.{name}.methods has {row!r}",
                    allowed=f"rows of methods: {', '.join(plan.methods)}",
                    action="name one of them, or add it to methods",
                )
    for name, entry in plan.methods.items():
        method = _method_of(name, entry)
        if method not in RECIPES:
            raise ConfigError(
                f"{path}: methods.{name} means the method {method!r}",
                allowed=", ".join(RECIPES),
                action=f"say which one a row of another name is, e.g. {name}: {{method: default}}",
            )
        for head in entry.transductive:
            if head not in (*TRANSDUCTIVE, BATCHNORM):
                raise ConfigError(
                    f"{path}: methods.{name}.transductive has {head!r}",
                    allowed=", ".join((*TRANSDUCTIVE, BATCHNORM)),
                    action="name some of them, or leave the key out",
                )


def _explained(path: Path, error: ValidationError) -> ConfigError:
    """What pydantic found, a line per key: the value, the rule, and the way out."""
    given, allowed = [], []
    for found in error.errors():
        place = ".".join(str(part) for part in found["loc"] if part != "[key]")
        if found["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            known = _keys_at(found["loc"])
            close = difflib.get_close_matches(str(found["loc"][-1]), known, n=1, cutoff=0.5)
            given.append(f"unknown key {place!r}")
            allowed.append(f"did you mean {close[0]!r}?" if close else f"keys there: {', '.join(known)}")
        elif found["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            given.append(f"{place} is missing")
            allowed.append(f"{place} is needed")
        else:
            given.append(f"{place} = {found['input']!r} cannot be used")
            allowed.append(found["msg"].removeprefix("Value error, "))
    rule = "; ".join(dict.fromkeys(allowed))
    return ConfigError("\n".join(f"{path}: {line}" for line in given), allowed=rule, action=f"mend it; {EXAMPLE}")


def _keys_at(place: tuple[int | str, ...]) -> list[str]:
    """The keys that there are where an unknown one stands."""
    kinds = {"methods": Row, "scenarios": Scenario}
    found: Any = Plan if len(place) == 1 else kinds.get(str(place[0]), Plan)
    found = Teachers if "teachers" in place[:-1] else found
    assert is_dataclass(found)
    return [entry.name for entry in fields(found)]
