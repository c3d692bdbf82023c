"""A sweep over timm: one small model per module is put through everything that a run asks of a teacher.

A module is a file of `timm.models`, a family of architectures. Of each, the smallest classifier is built with random
weights, written in Hub layout, and loaded as a stranger's repository would be; then it answers, is inverted for one
step, and a learner learns one step from it. A failure names a family that hf-free cannot use, with the reason.
"""

from __future__ import annotations

import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, get_args

import timm
import torch
from safetensors import SafetensorError
from timm.models import PretrainedCfg
from torch import nn

import hf_free.backbones.register  # noqa: F401  (registers Conv-4 and the small ResNets)
from hf_free.backbones.base import BUILD_ERRORS
from hf_free.backbones.model_args import ModelArgs
from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig
from hf_free.data.logits import LogitLayout
from hf_free.data.procedural.dead_leaves import dead_leaves
from hf_free.errors import HfFreeError, TeacherError
from hf_free.inversion.five import Five
from hf_free.inversion.task import RecoveredTask
from hf_free.learner.embedding import Embedding
from hf_free.learner.meta_learner import MetaLearner
from hf_free.memory.bank import TaskMemory
from hf_free.metalearning.base import Moment
from hf_free.metalearning.distill import Distiller
from hf_free.provenance.reading import Json, check_types
from hf_free.runtime.device import Precision
from hf_free.runtime.text import others_words
from hf_free.teachers.loader import load_teacher
from hf_free.teachers.pool import TeacherPool
from hf_free.teachers.reference import TeacherReference
from hf_free.teachers.saving import save_teacher
from hf_free.teachers.soft_labels import label, teacher_sources
from hf_free.teachers.teacher import Teacher, batchnorm_layers, reduce_logits

CLASSES = 2
"""Classes of the networks that are built; enough for a head, few enough for one step in a second."""

MAX_PARAMETERS = 30_000_000
"""Parameters above which a module's smallest model is reduced."""

MAX_SIDE, SMALLER_SIDE = 512, 224
"""Height or width above which a network is built for smaller pictures, and what it is then built for."""

CHOOSING = "choose"
"""Key under which a row holds the seconds that finding a module's smallest model took: all of its models are built
once."""
STEPS = ("build", "load", "logits", "features", "census", "five", "bell")
"""What each model is taken through, in order."""

REDUCTIONS: tuple[ModelArgs, ...] = (
    {"depth": 2},
    {"depth": 2, "embed_dim": 192, "num_heads": 3},
    {"channel_multiplier": 0.5},
    {"layers": (1, 1, 1, 1)},
    {"depths": (1, 1, 1, 1)},
)
"""Arguments that make a large model small, tried in this order; the first that suffices is used."""

_PICTURE = 32
"""Height and width of the recovered pictures; a teacher enlarges them to its own."""

Outcome = Literal["passed", "failed", "no classifier"]
_SWEEP_ERRORS = (*BUILD_ERRORS, ImportError, MemoryError, OSError, SafetensorError)
"""Also those of an optional library, a machine that is too small, and a full disk."""


@dataclass(frozen=True)
class SweepRow:
    """What became of one module."""

    module: str
    model: str | None
    """timm's name of the model taken; None where the module has no classifier."""
    outcome: Outcome
    reason: str = ""
    """Why it did not pass, with the step."""
    parameters: int = 0
    input_size: tuple[int, ...] = ()
    model_args: ModelArgs = field(default_factory=dict)
    """What reduces a model that is too large."""
    normalization: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock seconds of each step of `STEPS` that was reached; in a sweep of `CHOOSING` too."""

    def to_dict(self) -> Json:
        """The row as plain JSON types."""
        return {**asdict(self), "input_size": list(self.input_size)}

    @classmethod
    def from_dict(cls, values: Json) -> SweepRow:
        """Read `to_dict`'s form back.

        Raises:
            TypeError: a value of another type, or a key that is none.
            ValueError: an outcome that is none, or a number that no sweep writes.
        """
        size = values["input_size"]
        plain = {**values, "input_size": tuple(size) if isinstance(size, list) else size}
        check_types(cls, {key: value for key, value in plain.items() if key not in ("outcome", "model_args")})
        row = cls(**{**plain, "model_args": dict(values["model_args"])})
        numbers = (row.parameters, *row.input_size, *row.normalization.values(), *row.seconds.values())
        if row.outcome not in get_args(Outcome) or not all(0 <= number < 2**63 for number in numbers):
            raise ValueError("no sweep writes this")
        return row


@dataclass(frozen=True)
class Candidate:
    """A model to take through the steps, counted but not yet built."""

    model: str
    parameters: int
    model_args: ModelArgs = field(default_factory=dict)


@dataclass
class _Seen:
    """What is known of a model so far."""

    input_size: tuple[int, ...] = ()
    normalization: dict[str, int] = field(default_factory=dict)


def sweep(
    modules: Sequence[str], *, max_parameters: int = MAX_PARAMETERS, begin: Callable[[str], None] | None = None
) -> Iterator[SweepRow]:
    """Put the smallest classifier of each module through all steps; each row is given as soon as it is done.

    Args:
        modules: Names from `list_modules`.
        max_parameters: Parameters above which a model is reduced.
        begin: Called with each module's name before it is tried.
    """
    for module in modules:
        if begin is not None:
            begin(module)
        start = time.perf_counter()
        candidate = smallest_classifier(module, max_parameters=max_parameters)
        chosen = {CHOOSING: round(time.perf_counter() - start, 3)}
        if candidate is None:
            yield SweepRow(module, None, "no classifier", "timm builds no classifier of it", seconds=chosen)
        else:
            row = try_model(candidate, module, input_size=_smaller_pictures(candidate.model))
            yield replace(row, seconds={**chosen, **row.seconds})
        gc.collect()  # networks hold reference cycles; the next one may need the room


def list_modules() -> list[str]:
    """The modules that timm knows, hf-free's own networks among them."""
    own = {"conv4", "resnet_small"}
    return [*(name for name in timm.list_modules() if name not in own), *sorted(own)]


def smallest_classifier(module: str, *, max_parameters: int = MAX_PARAMETERS) -> Candidate | None:
    """The classifier with the fewest parameters in a module of timm; its `test_*` models do not count.

    Networks are built on the meta device, which has neither memory nor random numbers.

    Args:
        module: A name of `list_modules`.
        max_parameters: Above it the model is reduced, as far as one of `REDUCTIONS` does so.
    """
    names = [name for name in timm.list_models(module=module) if not name.startswith("test_")]
    counted = [(count, name) for name in names if (count := _count(name)) is not None]
    if not counted:
        return None
    parameters, name = min(counted)
    if parameters > max_parameters:
        for arguments in REDUCTIONS:
            reduced = _count(name, arguments)
            if reduced is not None and reduced <= max_parameters:
                return Candidate(name, reduced, arguments)
    return Candidate(name, parameters)


def try_model(candidate: Candidate, module: str = "", *, input_size: tuple[int, int, int] | None = None) -> SweepRow:
    """Take one model through `STEPS`.

    Args:
        candidate: The model to try.
        module: Its module, for the row.
        input_size: (channels, height, width) to build it for; None takes timm's own.
    """
    seconds: dict[str, float] = {}
    seen = _Seen()
    try:
        with (
            torch.random.fork_rng(devices=[]),
            warnings.catch_warnings(),
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        ):
            warnings.simplefilter("ignore")  # timm's deprecations do not concern the sweep
            torch.manual_seed(0)
            _take_through(candidate, folder, input_size, seconds, seen)
    except (HfFreeError, *_SWEEP_ERRORS) as error:
        step = STEPS[min(len(seconds), len(STEPS)) - 1]
        reason = error.given if isinstance(error, HfFreeError) else others_words(error)
        return SweepRow(
            module,
            candidate.model,
            "failed",
            f"{step}: {' '.join(reason.split())[:300]}",
            candidate.parameters,
            model_args=candidate.model_args,
            seconds=seconds,
            input_size=seen.input_size,
            normalization=seen.normalization,
        )
    return SweepRow(
        module,
        candidate.model,
        "passed",
        parameters=candidate.parameters,
        model_args=candidate.model_args,
        seconds=seconds,
        input_size=seen.input_size,
        normalization=seen.normalization,
    )


def _take_through(
    candidate: Candidate,
    folder: str,
    input_size: tuple[int, int, int] | None,
    seconds: dict[str, float],
    seen: _Seen,
) -> None:
    """Do all steps; `seconds` and `seen` are filled on the way, so that a failure leaves what came before it."""
    with _timed("build", seconds):
        _write(candidate, folder, input_size)
    with _timed("load", seconds):
        teacher = load_teacher(TeacherReference(folder, is_local=True))
        seen.input_size = teacher.record.input_size
    images = torch.rand(3, *teacher.record.input_size)
    with torch.no_grad():
        with _timed("logits", seconds):
            _expect(teacher.logits(images), (3, CLASSES), "logits")
        with _timed("features", seconds):
            _expect(teacher.features(images), (3, teacher.record.num_features), "features")
    with _timed("census", seconds):
        seen.normalization = dict(teacher.record.normalization)
        _check_census(teacher)
    with _timed("five", seconds):
        task = _invert(teacher)
    with _timed("bell", seconds):
        _learn(teacher, task)


def _write(candidate: Candidate, folder: str, input_size: tuple[int, int, int] | None) -> None:
    """Build the network with random weights and a head that distinguishes, and write it in Hub layout."""
    arguments, cfg = dict(candidate.model_args), {}
    if input_size is not None:
        arguments["in_chans"], cfg["input_size"] = input_size[0], input_size
        if _default(candidate.model, "fixed_input_size"):
            arguments["img_size"] = input_size[1]
    network: Any = timm.create_model(candidate.model, num_classes=CLASSES, **arguments).eval()
    _liven(network, input_size or network.pretrained_cfg["input_size"])
    save_teacher(network, folder, extra_cfg=cfg, model_args=arguments or None)


def _liven(network: Any, input_size: Sequence[int]) -> None:
    """Give a new network BatchNorm statistics of drawn pictures and a head that distinguishes, as a trained one has.

    Signals fade or explode in a deep network whose statistics are still 0 and 1, or those of noise, whose neighboring
    pixels have nothing in common; and many heads start at zero.
    """
    heads = network.get_classifier()
    heads = [head for head in (heads if isinstance(heads, tuple | list) else (heads,)) if isinstance(head, nn.Module)]
    weights = [parameter for head in heads for parameter in head.parameters()]
    for weight in weights:
        nn.init.normal_(weight, std=0.5)
    channels, height, width = input_size
    generator = torch.Generator().manual_seed(0)
    pictures = dead_leaves(4, max(height, width), generator=generator)[:, :channels, :height, :width]
    pictures = (pictures - pictures.mean()) / pictures.std()  # as any teacher's own normalization leaves them
    layers: list[Any] = list(batchnorm_layers(network))
    kept = [layer.momentum for layer in layers]
    with torch.no_grad():
        for layer in layers:
            layer.train().momentum = 1.0
        spread = reduce_logits(network(pictures)).square().mean().sqrt()
        for weight in weights:
            weight /= spread.clamp_min(1)  # answers of order one, as trained networks give
    for layer, momentum in zip(layers, kept, strict=True):
        layer.momentum = momentum
    network.eval()


def _invert(teacher: Teacher) -> RecoveredTask:
    """One inner step of FIVE and its outer update."""
    # no pull toward a canvas: the gradient is to come through the network
    config = FiveConfig(inner_steps=1, images_per_class=2, latent_dim=16, width=8, canvas_distance=0.0)
    five = Five(config, image_size=_PICTURE, channels=teacher.record.input_size[0])
    before = [p.clone() for p in five.generator.parameters()]
    tasks, terms = five.step([(0, teacher)])
    if not terms:
        raise TeacherError("the gradient through the network is not finite")
    if teacher.batchnorm_layers() and "batchnorm" not in terms:
        raise TeacherError("the statistics of its BatchNorm layers cannot be collected")
    if all(torch.equal(old, new) for old, new in zip(before, five.generator.parameters(), strict=True)):
        raise TeacherError("no gradient reaches the generator")
    return tasks[0]


def _learn(teacher: Teacher, task: RecoveredTask) -> None:
    """One update of the default BELL on the recovered pictures."""
    pool = TeacherPool.from_teachers([teacher])
    layout = LogitLayout.of([CLASSES])
    memory = TaskMemory(len(task.images), sizes=layout.sizes)
    memory.add_task(task, label(teacher_sources(pool, layout), task.images, layout, Precision()))
    if not memory.said().values.isfinite().all():
        raise TeacherError("its answers about recovered pictures are not finite in 16 bits")
    channels: Any = teacher.record.input_size[0]
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=_PICTURE, channels=channels))
    learner.embedding = Embedding(nn.Linear(learner.backbone_dim, layout.width), layout.sizes)
    bell = Distiller(learner, layout, BellConfig(updates_per_step=1, batch_size=8), Precision())
    loss = bell.step([task], memory, Moment())["answers"]
    if not 0 < loss < float("inf"):
        raise TeacherError(f"a learner's loss on its answers is {loss}")


def _check_census(teacher: Teacher) -> None:
    """Refuse a census that misses BatchNorm layers which FIVE would use."""
    counted = sum(number for name, number in teacher.record.normalization.items() if "BatchNorm" in name)
    if counted < len(teacher.batchnorm_layers()):
        found = len(teacher.batchnorm_layers())
        raise TeacherError(f"its census counts {counted} BatchNorm layers, {found} hold statistics")


def _expect(output: torch.Tensor, shape: tuple[int, int], what: str) -> None:
    if tuple(output.shape) != shape or not torch.isfinite(output).all():
        raise TeacherError(f"{what} are {tuple(output.shape)}, or not finite", allowed=f"finite numbers {shape}")


def _smaller_pictures(name: str) -> tuple[int, int, int] | None:
    """A smaller input for networks of very large pictures (1024 pixels in SAM); None for timm's own."""
    size = _default(name, "input_size")
    return (size[0], SMALLER_SIDE, SMALLER_SIDE) if size is not None and max(size[1:]) > MAX_SIDE else None


def _default(name: str, key: str) -> Any:
    """A field of timm's configuration of an architecture."""
    return (timm.get_pretrained_cfg(name) or PretrainedCfg()).to_dict().get(key)


def _count(name: str, arguments: ModelArgs | None = None) -> int | None:
    """Parameters of a classifier; None for a network without a classifier, or one that timm cannot build so."""
    try:
        with warnings.catch_warnings(), torch.device("meta"), torch.no_grad():
            warnings.simplefilter("ignore")
            network = timm.create_model(name, num_classes=CLASSES, **(arguments or {}))
    except _SWEEP_ERRORS:
        return None
    is_classifier = getattr(network, "num_classes", 0) == CLASSES and hasattr(network, "get_classifier")
    return sum(p.numel() for p in network.parameters()) if is_classifier else None


@contextmanager
def _timed(step: str, seconds: dict[str, float]) -> Iterator[None]:
    """Note a step's time, even where it fails: the last key is the step that was under way."""
    start = time.perf_counter()
    seconds[step] = 0.0
    try:
        yield
    finally:
        seconds[step] = round(time.perf_counter() - start, 2)
