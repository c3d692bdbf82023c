"""What adaptation leaves behind: a network and one linear layer on new classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hf_free.data.decoding import WHITE, Color
from hf_free.data.images import Images
from hf_free.errors import LearnerError
from hf_free.learner.backbone_kinds import Access
from hf_free.learner.embedder import Embedder
from hf_free.learner.format import (
    CLASSIFIER_CONFIG,
    CLASSIFIER_WEIGHTS,
    FILES,
    WEIGHT_FILES,
    check_tensors,
    plain_tensors,
    read_json,
    read_tensor_header,
    read_tensors,
    refuse_stranger,
)
from hf_free.learner.heads import LinearClassifier, scores
from hf_free.learner.one_step import (
    FINGERPRINTS,
    find_file,
    fingerprint,
    fingerprints_of,
    learners_part,
    replaced_in_one_step,
)
from hf_free.learner.persistence import find_learner, rebuild, write_files
from hf_free.learner.pooled_files import copy_teacher_files

Label = str | int

CLASSIFIER_FORMAT = 1


def index_labels(labels: Any, count: int) -> tuple[list[Label], Tensor]:
    """Turn support labels of any values into classes and indices.

    Args:
        labels: str, int or bool labels, numpy's and torch's numbers among them, as a list, tensor, array, or a pandas
            series or categorical.
        count: Number of support pictures.

    Returns:
        The classes as plain str, int or bool, sorted (in order of appearance where types mix), and each picture's
        index (count,).

    Raises:
        LearnerError: a wrong number of labels, labels of another type, or fewer than two classes.
    """
    if isinstance(labels, str | bytes):
        raise LearnerError(f"the labels are one text, {labels[:50]!r}", allowed="one label per picture, as a list")
    given = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    if not isinstance(given, list) or len(given) != count:
        number = len(given) if isinstance(given, list) else 1
        raise LearnerError(f"{count} support pictures and {number} labels", allowed="one label per picture")
    values = [_plain_label(value) for value in given]
    classes = list(dict.fromkeys(values))
    kinds = {type(value) for value in values}
    if {bool, int} <= kinds:  # True equals 1, so that two classes would become one
        raise LearnerError("labels of the types bool and int", allowed="labels of one type", action="convert them")
    if len(classes) < 2:
        raise LearnerError(
            f"all {count} support pictures have the label {classes[0]!r}" if classes else "no labels",
            allowed="at least two classes",
            action="add pictures of another class",
        )
    if len(kinds) == 1:
        classes.sort()
    positions = {value: index for index, value in enumerate(classes)}
    return classes, torch.tensor([positions[value] for value in values])


def _plain_label(value: Any) -> Label:
    """A label as a plain str, int or bool; numpy's numbers and texts and tensors of one number give theirs.

    Raises:
        LearnerError: another type, a missing label, or several numbers.
    """
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str | int):
        return str(value) if isinstance(value, str) else value
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value):
        raise LearnerError("a picture has no label", allowed="one label per picture", action="leave that picture out")
    raise LearnerError(
        f"label {str(value)[:50]!r} of type {type(value).__name__}",
        allowed="str, int or bool labels, one per picture",
        action="convert them, e.g. [str(label) for label in labels]",
    )


class FewShotClassifier:
    """A classifier of new classes: an embedder and one linear layer.

    Made by `MetaLearner.adapt`. It shares the learner's network unless adaptation changed it, so training the
    learner further changes its answers; `save` keeps everything needed to predict.

    Attributes:
        embedder: The network.
        weight: (N, D) of the linear layer on the embedder's normalised features.
        bias: (N,) of it.
        classes: The N labels, as given to `adapt`.
        record: The learner's provenance, saved with it.
        background: What transparent pictures are laid on, as given to `adapt`.
    """

    def __init__(
        self,
        embedder: Embedder,
        weight: Tensor,
        bias: Tensor,
        classes: Sequence[Label],
        *,
        record: Mapping[str, Any] | None = None,
        background: Color = WHITE,
    ) -> None:
        self.embedder, self.weight, self.bias, self.classes = embedder, weight, bias, list(classes)
        self.record, self.background = {} if record is None else record, background

    def predict_proba(self, images: Images, *, batch_size: int = 256) -> Tensor:
        """Probability of each class: pictures of any kind (see `MetaLearner.adapt`) -> (B, N) on the CPU.

        Args:
            images: The pictures.
            batch_size: Pictures a pass; a learner with transductive BatchNorm sees all at once instead.
        """
        embeddings = self.embedder.embed(images, batch_size=batch_size, background=self.background)
        classifier = LinearClassifier(self.weight[None], self.bias[None])
        return scores(classifier, embeddings[None])[0].softmax(-1).cpu()

    def predict(self, images: Images, *, batch_size: int = 256) -> list[Label]:
        """The likeliest class of each picture, as the label that was given to `adapt`."""
        best = self.predict_proba(images, batch_size=batch_size).argmax(-1)
        return [self.classes[index] for index in best.tolist()]

    def save(self, folder: str | Path) -> Path:
        """Write the learner, the linear layer and the classes into a folder, readable by `load`.

        Over an older classifier or learner this is one step: a process killed at any moment leaves the old one or
        the new one.
        """
        folder = Path(folder)
        copy_teacher_files(self.embedder.backbone, folder)
        with replaced_in_one_step(folder, (CLASSIFIER_CONFIG, *FILES, CLASSIFIER_WEIGHTS)) as fresh:
            named = write_files(self.embedder, self.record, fresh)
            tensors = plain_tensors({"weight": self.weight, "bias": self.bias})
            save_file(tensors, fresh / CLASSIFIER_WEIGHTS)
            named[CLASSIFIER_WEIGHTS] = fingerprint(fresh / CLASSIFIER_WEIGHTS)
            content = {
                "format_version": CLASSIFIER_FORMAT,
                "classes": self.classes,
                "background": list(self.background),
                FINGERPRINTS: named,
            }
            text = json.dumps(content, indent=2, ensure_ascii=False)
            (fresh / CLASSIFIER_CONFIG).write_text(text, encoding="utf-8")
        return folder

    @classmethod
    def load(cls, folder: str | Path, *, device: str | torch.device = "cpu") -> FewShotClassifier:
        """Read what `save` wrote, as strictly as `MetaLearner.from_pretrained` reads a learner.

        Raises:
            LearnerError: a missing, damaged or foreign file, a value that is not allowed, or a newer format.
        """
        folder, source = Path(folder), str(folder)
        if not (folder / CLASSIFIER_CONFIG).exists():
            raise LearnerError(
                f"{folder} holds no adapted classifier: it has no {CLASSIFIER_CONFIG}",
                allowed=f"a folder written by FewShotClassifier.save, with {CLASSIFIER_CONFIG}, {CLASSIFIER_WEIGHTS}",
            )
        content = read_json(folder / CLASSIFIER_CONFIG, source)
        classes, named = _checked_classifier(content, source)
        background = _checked_background(content, source)
        path, is_named = find_file(folder, CLASSIFIER_WEIGHTS, (named or {}).get(CLASSIFIER_WEIGHTS))
        header = read_tensor_header(path, source)
        weights = None if named is None else learners_part(named)
        embedder, record = rebuild(find_learner(folder, source, weights), Embedder, Access(device=device))
        shape = (len(classes), embedder.feature_dim)
        blank = {"weight": torch.empty(shape, device="meta"), "bias": torch.empty(shape[0], device="meta")}
        check_tensors(header, blank, source, CLASSIFIER_WEIGHTS)
        refuse_stranger(source, CLASSIFIER_WEIGHTS, is_named, CLASSIFIER_CONFIG)
        tensors = read_tensors(path, source)
        embedder = embedder.eval().to(device)
        weight, bias = (tensors[name].to(device, torch.float32) for name in ("weight", "bias"))
        return cls(embedder, weight, bias, classes, record=record, background=background)


def _checked_classifier(content: dict[str, Any], source: str) -> tuple[list[Label], dict[str, str] | None]:
    """The classes and the files that a classifier.json names."""
    version, classes = content.get("format_version"), content.get("classes")
    if type(version) is not int or version != CLASSIFIER_FORMAT:
        raise LearnerError(
            f"{source} is in classifier format {version!r:.80}",
            allowed=f"format {CLASSIFIER_FORMAT}",
            action="install a newer hf-free",
        )
    known: list[Label] = classes if isinstance(classes, list) else []
    if len(known) < 2 or not all(type(name) in (str, int) for name in known) or len(set(known)) < len(known):
        raise LearnerError(
            f"{source}: classes of {CLASSIFIER_CONFIG} is {classes!r:.80}",
            allowed="two or more different texts or whole numbers",
            action="save the classifier again",
        )
    try:
        return known, fingerprints_of(content, (*WEIGHT_FILES, CLASSIFIER_WEIGHTS))
    except ValueError as error:
        raise LearnerError(f"{source}: {CLASSIFIER_CONFIG}: {error}", action="save the classifier again") from None


def _checked_background(content: dict[str, Any], source: str) -> Color:
    """The background that a classifier.json names; files of older versions name none, and mean white."""
    color = content.get("background", list(WHITE))
    if isinstance(color, list) and len(color) == 3 and all(type(part) is int and 0 <= part <= 255 for part in color):
        return color[0], color[1], color[2]
    raise LearnerError(
        f"{source}: background of {CLASSIFIER_CONFIG} is {color!r:.80}",
        allowed="a list of three whole numbers from 0 to 255",
        action="save the classifier again",
    )
