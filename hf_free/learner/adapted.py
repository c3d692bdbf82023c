"""What adaptation leaves behind: `AdaptedClassifier`, and the two ways in which a backbone itself adapts."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hf_free.learner import LearnerError
from hf_free.learner.decoding import WHITE, Color, parse_color
from hf_free.learner.heads import LinearClassifier, fit_nearest_mean, scores
from hf_free.learner.images import Images

if TYPE_CHECKING:
    from hf_free.learner.meta_learner import MetaLearner

Label = str | int
CLASSIFIER_CONFIG, CLASSIFIER_WEIGHTS = "classifier.json", "classifier.safetensors"
CLASSIFIER_FORMAT = 1

MAML_STEPS, MAML_LR = 5, 0.01
"""Inner SGD steps and rate, as in FREE's replay (MAML, Finn et al. 2017)."""


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Put a module in eval mode without gradients for a while; every submodule's own mode comes back."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def batchnorm_layers(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers, timm's variants with a built-in activation among them."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Answers given in this block pass gradients on to the pictures only, not to the weights."""
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)


@contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let BatchNorm normalise with the statistics of the batch, for a while, and leave its running ones untouched."""
    kept = [(layer, layer.training, layer.track_running_stats) for layer in batchnorm_layers(module)]
    for layer, _, _ in kept:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, training, tracks in kept:
            layer.training, layer.track_running_stats = training, tracks


class Adaptable(Protocol):
    """What adaptation needs: a learner, or copies of one side by side (`hf_free.learner.stacked`)."""

    backbone: nn.Module

    def features(self, images: Tensor) -> Tensor:
        """Embed pictures; differentiable."""

    def prepare_features(self, features: Tensor) -> Tensor:
        """Features as heads expect them."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""


def with_support_statistics(learner: MetaLearner, images: Tensor) -> MetaLearner:
    """Copy the learner and set the copy's BatchNorm statistics to those of the support pictures alone.

    Args:
        images: Prepared support pictures (S, C, H, W) in [0, 1], S >= 2.
    """
    adapted = copy.deepcopy(learner)
    adapted.batchnorm = "running"  # the copy's running statistics are the support's from here on
    take_statistics(adapted, images)
    return adapted


def take_statistics(network: Adaptable, images: Tensor) -> None:
    """Set a network's BatchNorm statistics to those of the support pictures alone; queries never enter: inductive.

    Layer by layer, each one's input already normalised by the layers before it.
    """
    with evaluation_mode(network.backbone):
        for layer in batchnorm_layers(network.backbone):
            layer.training, layer.momentum = True, 1.0
        network.features(images)


def fine_tune(
    learner: MetaLearner, images: Tensor, labels: Tensor, n_way: int, steps: int = MAML_STEPS, lr: float = MAML_LR
) -> tuple[MetaLearner, LinearClassifier]:
    """Adapt a copy of the whole network by plain SGD on the support set (MAML's inner loop).

    Args:
        learner: Stays as it is.
        images: Prepared support pictures (S, C, H, W) in [0, 1].
        labels: (S,), 0..n_way-1.
        n_way: Number of classes.
        steps: Gradient steps.
        lr: Their rate.

    Returns:
        The adapted copy and its classifier, weight (1, N, D).
    """
    adapted = copy.deepcopy(learner).eval()
    transductive = learner.batchnorm == "transductive"
    return adapted, descend(adapted, images, labels[None], n_way, steps, lr, transductive=transductive)


def descend(
    network: Adaptable,
    images: Tensor,
    labels: Tensor,
    n_way: int,
    steps: int = MAML_STEPS,
    lr: float = MAML_LR,
    *,
    transductive: bool,
) -> LinearClassifier:
    """`fine_tune` the network itself, or each of its E copies on an episode of its own.

    The head starts at the nearest class means (Proto-MAML, Triantafillou et al. 2020), so that any trained backbone
    can serve. BatchNorm keeps its statistics; a transductive learner's takes those of the support pictures, anew in
    every step, as FREE published it.

    Args:
        network: In eval mode; its weights change.
        images: Prepared support pictures, as its `features` takes them.
        labels: (E, S), 0..n_way-1.
        n_way: Number of classes.
        steps: Gradient steps.
        lr: Their rate.
        transductive: Whether the network's BatchNorm uses the statistics of a batch.

    Returns:
        The classifiers, weight (E, N, D).
    """

    def support_features() -> Tensor:
        return network.prepare_features(network.features(images)).reshape(*labels.shape, -1)

    with batch_statistics(network.backbone) if transductive else nullcontext():
        with torch.no_grad():
            weight, bias = fit_nearest_mean(support_features(), labels, n_way)
        parameters = [weight, bias, *network.parameters()]
        for parameter in parameters:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            for _ in range(steps):
                logits = scores(LinearClassifier(weight, bias), support_features())  # (E, S, N)
                losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / labels.shape[1]
                gradients = torch.autograd.grad(losses, parameters, allow_unused=True)  # each copy's is its own
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        if gradient is not None:
                            parameter -= lr * gradient
    for parameter in parameters:
        parameter.requires_grad_(False)
    return LinearClassifier(weight, bias)


def index_labels(labels: Any, count: int) -> tuple[list[Label], Tensor]:
    """Turn support labels of any values into classes and indices.

    Args:
        labels: str or int labels as a list, tensor or array.
        count: Number of support pictures.

    Returns:
        The classes, sorted (in order of appearance where str and int mix), and each picture's index (count,).

    Raises:
        LearnerError: a wrong number of labels, labels of another type, or fewer than two classes.
    """
    values = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if len(values) != count:
        raise LearnerError(f"{count} support pictures and {len(values)} labels", allowed="one label a picture")
    for value in values:
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            raise LearnerError(f"label {value!r} of type {type(value).__name__}", allowed="str or int labels")
    classes = list(dict.fromkeys(values))
    if len(classes) < 2:
        raise LearnerError(
            f"all {count} support pictures have the label {classes[0]!r}",
            allowed="at least two classes",
            action="add pictures of another class",
        )
    if len({type(value) for value in classes}) == 1:
        classes.sort()
    positions = {value: index for index, value in enumerate(classes)}
    return classes, torch.tensor([positions[value] for value in values])


class AdaptedClassifier:
    """A classifier of new classes: a learner's network and one linear layer.

    Made by `MetaLearner.adapt`. It shares the learner's network unless adaptation changed it, so training the
    learner further changes its answers; `save` keeps everything needed to predict.

    Attributes:
        learner: The network.
        weight: (N, D) of the linear layer on the learner's normalised features.
        bias: (N,) of it.
        classes: The N labels, as given to `adapt`.
        background: What transparent pictures are laid on, as given to `adapt`.
    """

    def __init__(
        self,
        learner: MetaLearner,
        weight: Tensor,
        bias: Tensor,
        classes: Sequence[Label],
        *,
        background: Color = WHITE,
    ) -> None:
        self.learner, self.weight, self.bias, self.classes = learner, weight, bias, list(classes)
        self.background = background

    def predict_proba(self, images: Images, *, batch_size: int = 256) -> Tensor:
        """Probability of each class: pictures of any kind (see `MetaLearner.adapt`) -> (B, N) on the CPU.

        Args:
            images: The pictures.
            batch_size: Pictures a pass; a learner with transductive BatchNorm sees all at once instead.
        """
        embeddings = self.learner.embed(images, batch_size=batch_size, background=self.background)
        classifier = LinearClassifier(self.weight[None], self.bias[None])
        return scores(classifier, embeddings[None])[0].softmax(-1).cpu()

    def predict(self, images: Images, *, batch_size: int = 256) -> list[Label]:
        """The likeliest class of each picture, as the label that was given to `adapt`."""
        best = self.predict_proba(images, batch_size=batch_size).argmax(-1)
        return [self.classes[index] for index in best.tolist()]

    def save(self, folder: str | Path) -> Path:
        """Write the learner, the linear layer and the classes into a folder, readable by `load`."""
        folder = Path(folder)
        self.learner.save_pretrained(folder)
        tensors = {"weight": self.weight.detach().cpu().contiguous(), "bias": self.bias.detach().cpu().contiguous()}
        save_file(tensors, folder / CLASSIFIER_WEIGHTS)
        content = {
            "format_version": CLASSIFIER_FORMAT,
            "classes": self.classes,
            "background": list(self.background),
        }
        (folder / CLASSIFIER_CONFIG).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> AdaptedClassifier:
        """Read what `save` wrote.

        Raises:
            LearnerError: a missing or damaged file, or a newer format.
        """
        from hf_free.learner.meta_learner import MetaLearner  # imports this module

        folder = Path(folder)
        try:
            content = json.loads((folder / CLASSIFIER_CONFIG).read_text(encoding="utf-8"))
            tensors = load_file(folder / CLASSIFIER_WEIGHTS, device=str(device))
            version, classes = content["format_version"], content["classes"]
            weight, bias = tensors["weight"], tensors["bias"]
            background = parse_color(content.get("background", WHITE))
        except LearnerError:
            raise
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise LearnerError(
                f"{folder} holds no adapted classifier: {type(error).__name__}: {error}",
                allowed=f"a folder written by AdaptedClassifier.save, with {CLASSIFIER_CONFIG}, {CLASSIFIER_WEIGHTS}",
            ) from None
        if version != CLASSIFIER_FORMAT:
            raise LearnerError(
                f"{folder} is in classifier format {version!r}",
                allowed=f"format {CLASSIFIER_FORMAT}",
                action="install a newer hf-free",
            )
        learner = MetaLearner.from_pretrained(folder, map_location=device)
        if weight.shape != (len(classes), learner.feature_dim) or bias.shape != (len(classes),):
            raise LearnerError(
                f"{folder / CLASSIFIER_WEIGHTS} has weight {tuple(weight.shape)} and bias {tuple(bias.shape)}",
                allowed=f"({len(classes)}, {learner.feature_dim}) and ({len(classes)},)",
            )
        return cls(learner, weight, bias, classes, background=background)
