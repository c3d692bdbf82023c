"""A teacher: a frozen classifier that knows its own input size, channels and normalization."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from hf_free.backbones.base import BUILD_ERRORS
from hf_free.data.resizing import resize
from hf_free.errors import HfFreeError, TeacherError
from hf_free.provenance.teacher_record import TeacherRecord
from hf_free.runtime.device import MAX_DEVIATION, Precision, deviation, is_out_of_memory
from hf_free.runtime.text import others_words
from hf_free.teachers.folding import fold_batchnorm, own_bytes

fx.wrap("reduce_logits")  # both look at what they get: a trace (hf_free.teachers.folding) takes each as one operation
fx.wrap("reduce_features")

_LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray, ITU-R BT.601, as Pillow's `convert("L")`."""


MAX_FOLDING = 0.001
"""Relative difference allowed between a folded network's answers and the network's own in fp32; measured: 0.000001."""


MIN_CHUNK, CHUNK_PIXELS = 16, 64 * 32 * 32
"""Fewest images that a CPU takes at once, and how many pixels they may have. A Conv-4 takes half the time for 512
images in parts of 64, and 7 or 19 % more than that in parts of 32 or 128 (docs/experiments)."""


class OutputError(TeacherError):
    """What a network gives is not what a classifier gives."""


class TeacherOutput(NamedTuple):
    """What a teacher says about a batch of images."""

    logits: Tensor
    """(batch, num_classes)."""
    features: Tensor
    """(batch, num_features), the classifier's input."""


class Teacher(nn.Module):
    """A frozen classifier for images in [0, 1] of any size, with 1 or 3 channels.

    The network is not a registered submodule: whatever contains a teacher can be trained, put into training mode,
    optimized or saved without touching the teacher's weights. It still follows `.to(device)`. Weights of less than 32
    bits stay as they are in memory; computations use 32 bits (or autocast's type).

    Args:
        network: A timm classifier; it is frozen and put into eval mode.
        record: What is known about it.
    """

    record: TeacherRecord
    mean: Tensor
    std: Tensor
    luminance: Tensor
    chosen_classes: Tensor | None

    def __init__(self, network: nn.Module, record: TeacherRecord) -> None:
        super().__init__()
        self.record = record
        # A tuple hides the network from nn.Module's registration.
        self._unregistered = (_frozen(network), Answers(network))
        self._folded: tuple[nn.Module, ...] | None = None  # hidden as well; empty where folding did not help
        self.has_answered = False
        weights = next((t for _, t in _state(network)), None)  # some networks hold theirs as buffers only
        device = torch.device("cpu") if weights is None else weights.device
        for name, values in (("mean", record.mean), ("std", record.std), ("luminance", _LUMINANCE)):
            self.register_buffer(name, torch.tensor(values, device=device).view(1, -1, 1, 1), persistent=False)
        chosen = None if record.classes is None else torch.tensor(record.classes, device=device)
        self.register_buffer("chosen_classes", chosen, persistent=False)
        super().train(False)

    def extra_repr(self) -> str:
        """What `repr` shows: which teacher, of what architecture, and how many classes."""
        record = self.record
        return f"{record.reference!r}, {record.architecture}, {record.num_classes} classes"

    @property
    def network(self) -> nn.Module:
        """The frozen timm network; takes normalized images of `record.input_size`."""
        return self._unregistered[0]

    @property
    def device(self) -> torch.device:
        """Where the teacher computes."""
        return self.mean.device

    @property
    def _answers(self) -> Answers:
        return self._unregistered[1]

    def train(self, mode: bool = True) -> Teacher:
        """Stay in eval mode, whatever a parent module asks for."""
        return super().train(False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Teacher:
        # nn.Module's way of .to(device): the hidden network has to follow.
        super()._apply(fn, recurse)
        self.network._apply(fn)
        self._folded = None
        return self

    def prepare(self, images: Tensor) -> Tensor:
        """Turn images in [0, 1] into the network's input: channels matched, resized, normalized; differentiable.

        Args:
            images: Float tensor (batch, 1 or 3, H, W).

        Returns:
            (batch, *record.input_size).

        Raises:
            ValueError: a tensor of another shape or type.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.is_floating_point():
            raise ValueError(f"images {tuple(images.shape)} {images.dtype}; allowed: float (batch, 1 or 3, H, W)")
        channels, height, width = self.record.input_size
        if channels == 1 and images.shape[1] == 3:
            images = (images * self.luminance).sum(1, keepdim=True)
        images = resize(images, (height, width), self.record.interpolation)
        if channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> TeacherOutput:
        """Logits and features of images in [0, 1]; without gradients a CPU takes few at once, as for `labels`."""
        if torch.is_grad_enabled() or self.device.type != "cpu":
            features, logits = self._ask(images, "both")
        else:
            parts = [self._ask(part, "both") for part in self._in_chunks(images)]
            features, logits = (torch.cat(part) for part in zip(*parts, strict=True))
        return TeacherOutput(self._choose(logits), features)

    def logits(self, images: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images in [0, 1]."""
        return self._choose(self._ask(images, "logits"))

    def labels(self, images: Tensor) -> Tensor:
        """`logits`, by the folded copy if there is one: for answers without gradients.

        A CPU takes few images at once, so that what one layer gives is still in its cache for the next.
        """
        if self.device.type != "cpu":
            return self._label(images)
        return torch.cat([self._label(part) for part in self._in_chunks(images)])

    def _in_chunks(self, images: Tensor) -> Sequence[Tensor]:
        _, height, width = self.record.input_size
        return images.split(max(MIN_CHUNK, CHUNK_PIXELS // (height * width)))

    def _label(self, images: Tensor) -> Tensor:
        if not self._folded:
            return self.logits(images)
        exact = torch.autocast(self.device.type, enabled=False) if self.record.fp32_only else nullcontext()
        with self.failing_by_name(), exact:
            prepared = self.prepare(images.float() if self.record.fp32_only else images)
            return self._choose(reduce_logits(self._folded[0](prepared)))

    @torch.no_grad()
    def fold(self, precision: Precision) -> None:
        """Make a copy for `labels` that is faster, see `hf_free.teachers.folding`.

        Its answers about four noise images are compared with the network's; where they differ by more than rounding,
        or no copy can be made, the network itself is used.

        Args:
            precision: The precision that it will be asked in.
        """
        self._folded = ()
        folded = None if self._answers.is_low_precision else fold_batchnorm(self.network)
        if folded is None:
            return
        if precision.channels_last:
            folded = folded.to(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(0)
        images = torch.rand((4, *self.record.input_size), generator=generator).to(self.device)
        exact = Precision(None)
        with exact.autocast(self.device):
            expected = self.logits(images)
        self._folded = (folded,)
        precisions = [exact] if self.record.fp32_only or precision.dtype is None else [exact, precision]
        for chosen, most in zip(precisions, (MAX_FOLDING, MAX_DEVIATION), strict=False):
            with chosen.autocast(self.device):
                found = self.labels(precision.layout(images))
            if not deviation(found, expected) <= most:  # NaN is no answer either
                self._folded = ()

    @torch.no_grad()
    def faster(self) -> Teacher:
        """A teacher with the same answers up to rounding, in fp32 and without gradients: by a folded copy of the
        network that gives logits and features at once. Itself where there is none, or where it answers otherwise.

        It pays from some hundred pictures on.
        """
        folded = None if self._answers.is_low_precision else fold_batchnorm(_Both(self._answers).eval())
        if folded is None:
            return self
        other = copy.copy(self)
        other._unregistered = (
            self.network,
            _FoldedAnswers(self.network, folded.to(memory_format=torch.channels_last)),
        )
        images = torch.rand((4, *self.record.input_size), generator=torch.Generator().manual_seed(0)).to(self.device)
        with Precision(None).autocast(self.device):
            pairs = zip(other(images), self(images), strict=True)
            is_same = all(deviation(found, expected) <= MAX_FOLDING for found, expected in pairs)
        return other if is_same else self

    @property
    def is_tried(self) -> bool:
        """Whether a folded copy was made, or found to be of no use."""
        return self._folded is not None

    @property
    def folded_bytes(self) -> int:
        """Memory of the folded copy."""
        return own_bytes(self._folded[0], self.network) if self._folded else 0

    def features(self, images: Tensor) -> Tensor:
        """The classifier's input (batch, num_features) of images in [0, 1]."""
        return self._ask(images, "features")

    def batchnorm_layers(self) -> list[nn.Module]:
        """The BatchNorm layers that hold running statistics, in the network's order."""
        return batchnorm_layers(self.network)

    def _ask(self, images: Tensor, what: str) -> Any:
        with self.failing_by_name():
            if not self.record.fp32_only:
                return self._answers.ask(self.prepare(images), what)
            with torch.autocast(self.device.type, enabled=False):
                return self._answers.ask(self.prepare(images.float()), what)

    @contextmanager
    def failing_by_name(self) -> Iterator[None]:
        """Within the block a network that fails, forward or on the way back, is an error that names the teacher:
        networks of one's own may raise anything, also what ends the process, and later than at the first picture.

        Raises:
            TeacherError: it fails otherwise than for a lack of memory; before it is known to answer, otherwise than
                what loading it knows how to say.
        """
        try:
            yield
        except OutputError as error:
            given = f"{self.record.reference} gives {error.given}"
            raise TeacherError(given, allowed=error.allowed, action=error.action) from None
        except HfFreeError:
            raise
        except (Exception, SystemExit) as error:
            if is_out_of_memory(error) or (not self.has_answered and isinstance(error, BUILD_ERRORS)):
                raise
            raise TeacherError(
                f"{self.record.reference} fails when it is asked: {others_words(error)}",
                allowed="networks that answer about every batch of pictures",
                action="correct its code, where it is your own, or leave it out",
            ) from error

    def _choose(self, logits: Tensor) -> Tensor:
        return logits if self.chosen_classes is None else logits[:, self.chosen_classes]


class Answers(nn.Module):
    """A network's logits and features behind one `forward`, computed in 32 bits whatever the weights' type.

    Args:
        network: Has timm's `forward_features` and `forward_head`.
    """

    network: Any

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.is_low_precision = any(t.is_floating_point() and t.itemsize < 4 for t in _tensors(network))

    def ask(self, x: Tensor, what: str) -> Any:
        """`logits`, `features`, or `both` as (features, logits), of the network's own input."""
        if not self.is_low_precision:
            return self(x, what)
        state = {name: t.float() if t.is_floating_point() else t for name, t in _state(self)}
        return torch.func.functional_call(self, state, (x, what))

    def forward(self, x: Tensor, what: str) -> Any:
        """See `ask`, which calls this with 32-bit weights."""
        if what == "logits":
            return reduce_logits(self.network(x))
        maps = self.network.forward_features(x)
        features = reduce_features(self.network.forward_head(maps, pre_logits=True))
        return features if what == "features" else (features, reduce_logits(self.network.forward_head(maps)))


class _Both(nn.Module):
    """Features and logits as the one output of a network, as `fold_batchnorm` takes it."""

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(features, logits) of the network's own input."""
        features, logits = self.answers(x, "both")
        return features, logits


class _FoldedAnswers(Answers):
    """Answers by a folded copy of a network.

    Args:
        network: The network itself.
        folded: Gives its features and logits at once.
    """

    def __init__(self, network: nn.Module, folded: nn.Module) -> None:
        super().__init__(network)
        self.folded = folded

    def forward(self, x: Tensor, what: str) -> Any:
        """See `Answers`."""
        features, logits = self.folded(x)
        return {"logits": logits, "features": features, "both": (features, logits)}[what]


def _frozen(network: nn.Module) -> nn.Module:
    """A network in eval mode, without gradients, its convolutions channels-last, which those of CPUs and GPUs prefer
    (4 times faster on a CPU). One that is all this already, such as a copy, is looked through once."""
    tensors = list(_tensors(network))
    if not all(t.is_contiguous(memory_format=torch.channels_last) for t in tensors if t.ndim == 4):
        network = network.to(memory_format=torch.channels_last)
        tensors = list(_tensors(network))
    if any(tensor.requires_grad for tensor in tensors):
        network.requires_grad_(False)
    return network.eval() if any(module.training for module in network.modules()) else network


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """All parameters and buffers; those that two modules share come twice."""
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            yield from (tensor for tensor in held.values() if tensor is not None)


def reduce_logits(output: object) -> Tensor:
    """Reduce a network's output to one tensor of logits: several heads (distilled models) are averaged.

    Args:
        output: Logits, several of them in a tuple, list or mapping, or a mapping with the key `logits`.

    Raises:
        OutputError: an output that is not (batch, classes), or several of them.
    """
    logits = output if isinstance(output, Tensor) else _mean_of(output)
    if not logits.is_floating_point():
        raise OutputError(
            f"an output of {logits.dtype}",
            allowed="logits: floating-point numbers",
            action="use an image classifier; the scores before any rounding, of real numbers",
        )
    if logits.ndim != 2:
        raise OutputError(
            f"an output of shape {tuple(logits.shape)}",
            allowed="logits of shape (batch, classes), or a tuple of those",
            action="use an image classifier",
        )
    return logits


def reduce_features(output: object) -> Tensor:
    """Features (batch, num_features) of what a network gives before its classifier; those of several heads are
    averaged."""
    return (output if isinstance(output, Tensor) else _mean_of(output)).flatten(1)


def _mean_of(outputs: object) -> Tensor:
    if isinstance(outputs, Mapping):  # as transformers name them, else one head per key
        outputs = [outputs["logits"]] if "logits" in outputs else list(outputs.values())
    if not isinstance(outputs, Sequence) or not outputs or not all(isinstance(t, Tensor) for t in outputs):
        raise OutputError(
            f"an output of type {type(outputs).__name__}", allowed="a tensor, or a tuple, list or mapping of tensors"
        )
    if len({t.shape for t in outputs}) > 1:
        shapes = ", ".join(str(tuple(t.shape)) for t in outputs)
        raise OutputError(f"several outputs of different shapes: {shapes}", allowed="outputs of one shape")
    return torch.stack(list(outputs)).mean(0)


def batchnorm_layers(network: nn.Module) -> list[nn.Module]:
    """The BatchNorm layers of a network that hold running statistics."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [m for m in network.modules() if isinstance(m, kinds) and m.running_mean is not None]


def normalization_census(network: nn.Module) -> dict[str, int]:
    """Count a network's normalization layers by type, e.g. `{"BatchNorm2d": 4}`.

    A layer counts if its type's name holds "Norm" (timm's variants, GroupNorm, EvoNorm among them) and it owns
    weights or statistics itself, or is one of PyTorch's weightless forms.
    """
    torch_kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.LocalResponseNorm)
    census: Counter[str] = Counter()
    for module in network.modules():
        name = type(module).__name__
        owns_tensors = bool(module._parameters or module._buffers)
        if isinstance(module, torch_kinds) or ("norm" in name.lower() and owns_tensors):
            census[name] += 1
    return dict(sorted(census.items()))


def weight_bytes(network: nn.Module) -> int:
    """Memory of a network's parameters and buffers, in bytes."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in _state(network))


def _state(network: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters and buffers, those left out of `state_dict` included."""
    return [*network.named_parameters(), *network.named_buffers()]
