"""What adaptation leaves behind: a network, one linear layer on new classes, and what it was shown.

It stands on an embedder; the learner that it was adapted from is not needed to predict, to add classes or to publish.
How it is saved is in `hf_free.learner.classifier_files`.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hf_free.data.decoding import WHITE, Color, parse_color
from hf_free.data.images import Images, as_batch
from hf_free.errors import HfFreeError, LearnerError
from hf_free.learner.adapting import as_before, check_features, fit, needs_pictures, support_rows
from hf_free.learner.backbone_kinds import Access
from hf_free.learner.classifier_check import check_classifier
from hf_free.learner.classifier_files import ClassifierParts, read_classifier, write_classifier
from hf_free.learner.embedder import Embedder
from hf_free.learner.format import CLASSIFIER_CONFIG, CLASSIFIER_WEIGHTS, FILES, SUPPORT
from hf_free.learner.heads import LinearClassifier, get_head, head_on_features, scores
from hf_free.learner.labels import Label, plain_label, plain_labels
from hf_free.learner.persistence import Origin, fetch_files, full_record, given_source
from hf_free.learner.rejection import FALSE_REJECTIONS, Rejection, confidence, threshold_for
from hf_free.learner.support import SupportSet
from hf_free.learner.transductive import get_transductive
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.runtime.device import choose_device
from hf_free.runtime.given import (
    check_cache_dir,
    check_flags,
    check_kind,
    check_texts,
    given_path,
    whole_number,
)
from hf_free.runtime.notebook import cell_html
from hf_free.runtime.saved_kind import CLASSIFIER, check_kind_stays


class Answers(NamedTuple):
    """What a classifier says of pictures, on the CPU."""

    probabilities: Tensor
    """(B, N) of each class; rows sum to 1."""
    confidence: Tensor
    """(B,) what the threshold is compared with."""


class FewShotClassifier:
    """A classifier of new classes that can be changed, saved, loaded and published.

    Made by `MetaLearner.adapt`. It shares the learner's network unless adaptation changed it, so training the
    learner further changes its answers; `save_pretrained` keeps everything needed.

    Attributes:
        embedder: The network.
        weight: (N, D) of the linear layer on the embedder's normalized features.
        bias: (N,) of it.
        classes: The N labels, as given to `adapt`: numbers first, then texts, each sorted. Other names may be put in
            their places; the support's pictures are of the new names then.
        support: The pictures or features it was adapted to; None where they are not known.
        rejection: When `predict` says None; None: it always names a class.
        transductive: Name of a head of `hf_free.learner.transductive` with which the pictures of one call help each
            other; None answers each alone.
        background: What transparent pictures are laid on, as given to `adapt`.
        origin: The learner's repository on the Hub; None for a learner of this computer.
        record: The learner's provenance, saved with it.

    Example:
        >>> classifier = learner.adapt(pictures, ["cat", "cat", "dog"])  # doctest: +SKIP
        >>> classifier.add_class("bird", more_pictures)  # doctest: +SKIP
        >>> classifier.save_pretrained("pets")  # doctest: +SKIP
        >>> FewShotClassifier.from_pretrained("pets").predict(new_pictures)  # doctest: +SKIP
    """

    def __init__(self, parts: ClassifierParts, start: Embedder | None = None) -> None:
        """Put a classifier together.

        Args:
            parts: What it is made of.
            start: The network before adaptation, to adapt anew from; None: the classifier cannot be changed.
        """
        self.embedder, self.weight, self.bias = parts.embedder, parts.weight, parts.bias
        self.classes, self.support = list(parts.classes), parts.support
        self._rejection, self.transductive = parts.rejection, parts.transductive
        self.background, self.origin, self.record = parts.background, parts.origin, parts.record
        self._start, self._batchnorm = start, parts.batchnorm
        self._lock = threading.RLock()

    @property
    def rejection(self) -> Rejection | None:
        """When `predict` says None; None: it always names a class."""
        return self._rejection

    @rejection.setter
    def rejection(self, value: Rejection | None) -> None:
        """Set it by hand.

        Raises:
            LearnerError: what is none.
        """
        check_kind(value, "rejection", Rejection, allowed="Rejection(threshold), or None", error=LearnerError)
        self._rejection = value

    @classmethod
    def adapted(
        cls,
        network: Embedder,
        images: Tensor,
        labels: Sequence[Label],
        *,
        background: Color = WHITE,
        transductive: str | None = None,
        record: LearnerRecord | None = None,
        origin: Origin | None = None,
    ) -> FewShotClassifier:
        """Adapt a network to prepared pictures; what `MetaLearner.adapt` calls.

        Args:
            network: It stays as it is, and is shared.
            images: (S, C, H, W) in [0, 1], of its size.
            labels: One per picture.
            background: What transparent pictures were laid on.
            transductive: Name of a transductive head.
            record: The learner's provenance.
            origin: The learner's repository.

        Raises:
            LearnerError: fewer than two classes, or an unknown transductive head.
        """
        if transductive is not None:
            get_transductive(transductive)
        support = SupportSet.of(support_rows(network, images), labels)
        done = fit(network, support)
        parts = ClassifierParts(
            done.network,
            done.weight,
            done.bias,
            support.classes,
            support,
            batchnorm=network.batchnorm,
            background=background,
            transductive=transductive,
            origin=origin,
            record=record or LearnerRecord(),
        )
        return cls(parts, network)

    def __getstate__(self) -> dict[str, object]:
        """What is pickled, and copied: all but the lock."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=threading.RLock())

    def _as_it_is(self) -> FewShotClassifier:
        """A copy that shares all its parts: what answers a question, while other threads may change the classes."""
        with self._lock:
            return copy.copy(self)

    def __repr__(self) -> str:
        try:
            check_classifier(self)
        except HfFreeError as error:  # it is what one looks at to see what is wrong
            return f"FewShotClassifier({error.given})"
        shown = "" if self.support is None else f", {len(self.support)} support pictures"
        return f"FewShotClassifier({len(self.classes)} classes: {_some(self.classes)}{shown})"

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return cell_html("FewShotClassifier", self._facts)

    def _facts(self) -> list[tuple[str, str]]:
        counts = [] if self.support is None else self.support.labels.bincount(minlength=len(self.classes)).tolist()
        shown = [f"{label} ({count})" for label, count in zip(self.classes, counts, strict=False)] or self.classes
        facts = [("Classes", str(len(self.classes))), ("Named (support pictures)", _some(shown))]
        if self.rejection is not None:
            facts.append(("None of these", f"below a confidence of {self.rejection.threshold:.3f}"))
        if self.transductive is not None:
            facts.append(("Pictures of one call", f"help each other: {self.transductive}"))
        if self.origin is not None and not self.origin.private:
            facts.append(("Learner", f"{self.origin.repo_id}, commit {self.origin.commit[:8]}"))
        config = self.embedder.config
        size = f"{config.channels}×{config.image_size}×{config.image_size}"
        return [*facts, ("Backbone", config.backbone), ("Input", size), ("Adapts by", config.head)]

    def embed(self, images: Images, *, batch_size: int = 256) -> Tensor:
        """Features (B, D) of pictures, for `answers`; a transductive network has to be given all at once."""
        check_classifier(self)
        return self.embedder.embed(images, batch_size=batch_size, background=self.background)

    def answers(self, features: Tensor) -> Answers:
        """Probabilities and confidence of pictures whose features (B, D) `embed` gave, all of them at once.

        Raises:
            LearnerError: features of another size, that are no 32-bit floats, NaN or infinite; or a transductive head
                and a classifier whose support is not known.
        """
        check_classifier(self)
        width = self.weight.shape[1]
        fits = isinstance(features, Tensor) and features.ndim == 2 and features.shape[1] == width
        if not fits or features.dtype != self.weight.dtype:
            is_tensor = isinstance(features, Tensor)
            kind = f"{features.dtype}, {tuple(features.shape)}" if is_tensor else type(features).__name__
            raise LearnerError(
                f"features that are {kind}",
                allowed=f"a tensor ({self.weight.dtype}) of shape (pictures, {width})",
                action="give what `embed` returns",
            )
        check_features(features)
        logits = scores(LinearClassifier(self.weight[None], self.bias[None]), features[None])[0]
        if self.transductive is None:
            probabilities = logits.softmax(-1)
        else:
            shown = self._known_support()
            support, query = self.embedder.embedding.weigh(self._support_features()[None], features[None])
            labels = shown.labels.to(features.device)[None]
            head = get_transductive(self.transductive)
            fitted = get_head(head_on_features(self.embedder.config.head))
            probabilities = head(support, labels, query, len(self.classes), fitted)[0]
        return Answers(probabilities.cpu(), confidence(logits).cpu())

    def predict_proba(self, images: Images, *, batch_size: int = 256) -> Tensor:
        """Probability of each class: pictures of any kind (see `MetaLearner.adapt`) -> (B, N) on the CPU.

        Args:
            images: The pictures.
            batch_size: Pictures per pass; a learner with transductive BatchNorm sees all at once instead.
        """
        fixed = self._as_it_is()
        return fixed.answers(fixed.embed(images, batch_size=batch_size)).probabilities

    def predict(self, images: Images, *, batch_size: int = 256) -> list[Label | None]:
        """The most likely class of each picture, as the label that was given to `adapt`.

        After `calibrate_rejection`, None stands for a picture of no known class.
        """
        fixed = self._as_it_is()
        return fixed.labels_of(fixed.answers(fixed.embed(images, batch_size=batch_size)))

    def labels_of(self, answers: Answers) -> list[Label | None]:
        """The label of each picture of some answers; None for those that are rejected."""
        best: list[Label | None] = [self.classes[index] for index in answers.probabilities.argmax(-1).tolist()]
        if self.rejection is None:
            return best
        known = (answers.confidence >= self.rejection.threshold).tolist()
        return [label if is_known else None for label, is_known in zip(best, known, strict=True)]

    def top_k(self, images: Images, k: int = 5, *, batch_size: int = 256) -> list[list[tuple[Label, float]]]:
        """The k most likely classes of each picture, the most likely first, with their probabilities.

        Args:
            images: The pictures.
            k: How many; all where there are fewer.
            batch_size: See `predict_proba`.

        Raises:
            LearnerError: k below 1.
        """
        k, fixed = whole_number(k, "k", least=1, error=LearnerError), self._as_it_is()
        return fixed.likeliest(fixed.predict_proba(images, batch_size=batch_size), k)

    def likeliest(self, probabilities: Tensor, k: int) -> list[list[tuple[Label, float]]]:
        """`top_k` of probabilities (B, N)."""
        values, places = probabilities.topk(min(k, len(self.classes)), sorted=True)
        rows = zip(places.tolist(), values.tolist(), strict=True)
        return [[(self.classes[i], value) for i, value in zip(*row, strict=True)] for row in rows]

    def add_class(self, name: Label, images: Images) -> None:
        """Learn one more class from its pictures; the answers are those of adapting to all pictures at once.

        Raises:
            LearnerError: a class that is there already, or a classifier that cannot be changed.
        """
        name = plain_label(name)
        with self._lock:
            if self._holds(name):
                raise LearnerError(
                    f"there is a class {name!r} already",
                    allowed="a new name",
                    action="add_examples gives it more pictures",
                )
            self._add(name, images)

    def add_examples(self, name: Label, images: Images) -> None:
        """Give a class more pictures.

        Raises:
            LearnerError: no such class, or a classifier that cannot be changed.
        """
        name = plain_label(name)
        with self._lock:
            self._demand_class(name, "add_class learns a new one")
            self._add(name, images)

    def remove_class(self, name: Label) -> None:
        """Forget a class with all its pictures.

        Raises:
            LearnerError: no such class, one class would be left, or a classifier that cannot be changed.
        """
        name = plain_label(name)
        with self._lock:
            self._demand_class(name, "")
            self._adapt_anew(self._changeable()[1].without(name))

    def calibrate_rejection(self, false_rejections: float = FALSE_REJECTIONS) -> Rejection:
        """Let `predict` say None for pictures of no known class, from a threshold that the support gives.

        Each support picture is left out once and classified from the others; the threshold is set so that the given
        share of them falls below it. Later changes of the classes calibrate it anew. With `rejection = None` a class
        is always named again; `rejection = Rejection(0.5)` sets a threshold by hand.

        Args:
            false_rejections: Share of pictures of known classes that may be rejected, above 0 and below 1. More means
                fewer strangers that are taken for a known class.

        Raises:
            LearnerError: a share that is none, or no class with two pictures.
        """
        with self._lock:
            shown, network = self._known_support(), self.embedder
            head = get_head(head_on_features(network.config.head))
            features, labels = self._support_features(), shown.labels.to(network.device)
            threshold = threshold_for(network.embedding, head, features, labels, false_rejections)
            self.rejection = found = Rejection(threshold, false_rejections)
            return found

    def save_pretrained(self, folder: str | Path, *, with_pictures: bool = False) -> Path:
        """Write the learner, the linear layer, the classes and the support's features, readable by `from_pretrained`.

        Over an older classifier this is one step: a process killed at any moment leaves the old one or
        the new one.

        Args:
            folder: Made where it is missing; its other files stay as they are.
            with_pictures: Whether to keep support pictures where they are needed to change the classes (BatchNorm
                statistics of the support or the batch); else features are kept in their place, and the loaded
                classifier can predict, but cannot be changed.

        Raises:
            ConfigError: what is no path or no truth value.
            LearnerError: the folder holds a learner alone, a run or another model.
            StorageError: they cannot be written there.
        """
        check_flags(with_pictures=with_pictures)
        keeps = with_pictures and self.embedder.config.head != "maml"  # of which none can be adapted anew once loaded
        place = given_path(folder, "folder", for_weights=True)
        check_kind_stays(place, CLASSIFIER, error=LearnerError)
        write_classifier(self._parts(keeps), place)
        return place

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        device: str | torch.device = "cpu",
    ) -> FewShotClassifier:
        """Load a classifier from the Hub or a folder, as strictly as `MetaLearner.from_pretrained` loads a learner.

        Args:
            name: Hub id `org/name`, or a local folder (an existing folder wins).
            revision: Branch, tag or commit of the Hub repository.
            token: Access token; by default the one that `hf auth login` stored.
            cache_dir: Folder of the download cache.
            local_files_only: Whether to use the cache alone.
            device: Device to put the network on; `auto` takes a GPU where there is one.

        Raises:
            ConfigError: a device that this machine does not have.
            LearnerError: a missing, damaged or foreign file, a value that is not allowed, or a newer format.
            HubError: a repository that cannot be fetched.
        """
        check_flags(local_files_only=local_files_only)
        check_texts(revision=revision, token=token)
        check_cache_dir(cache_dir)
        source, device = given_source(name), choose_device(device)
        fetched = fetch_files(
            source,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            required=(*FILES, CLASSIFIER_CONFIG, CLASSIFIER_WEIGHTS),
            optional=(SUPPORT,),
        )
        access = Access(token, cache_dir, local_files_only, device, is_strange=fetched.origin is not None)
        parts = read_classifier(fetched.folder, source, access)
        return cls(parts, as_before(parts.embedder, parts.batchnorm))

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = False,
        commit_message: str | None = None,
        create_pr: bool = False,
        revision: str | None = None,
        replace_card: bool = False,
        with_pictures: bool = False,
    ) -> str:
        """Publish the classifier in a repository of its own, with a card. Features of the support pictures are
        published too.

        A card that is there already stays, unless `replace_card` says otherwise: it may have been edited by hand.

        Args:
            repo_id: `org/name`, created if it does not exist.
            token: Access token with the write role.
            private: Whether to create it private.
            commit_message: Title of the commit; None for one that names hf-free.
            create_pr: Whether to open a pull request instead.
            revision: Branch to commit to; None for main.
            replace_card: See above.
            with_pictures: See `save_pretrained`; the pictures are published then.

        Returns:
            The address of the repository, or of the pull request.

        Raises:
            HubError: an upload that fails.
        """
        from hf_free.hub.upload import CLASSIFIER_MESSAGE
        from hf_free.publishing.classifier_card import write_classifier_card
        from hf_free.publishing.opening import check_can_be_opened
        from hf_free.publishing.push import check_push, push_made

        def make(folder: Path) -> None:
            self.save_pretrained(folder, with_pictures=with_pictures)
            write_classifier_card(folder, repo_id=repo_id)

        check_push(
            repo_id,
            token=token,
            revision=revision,
            commit_message=commit_message,
            private=private,
            create_pr=create_pr,
            replace_card=replace_card,
            with_pictures=with_pictures,
        )
        check_can_be_opened(full_record(self.embedder, self.record))
        return push_made(
            make,
            repo_id,
            token=token,
            private=private,
            commit_message=commit_message or CLASSIFIER_MESSAGE,
            create_pr=create_pr,
            revision=revision,
            replace_card=replace_card,
        )

    def _parts(self, with_pictures: bool) -> ClassifierParts:
        with self._lock:
            support = None if self.support is None else self._known_support()
            if support is not None and support.holds_pictures and not with_pictures:
                support = replace(support, rows=self._support_features().cpu())
            return ClassifierParts(
                self.embedder,
                self.weight,
                self.bias,
                self._plain_classes(),
                support,
                batchnorm=self._batchnorm,
                background=parse_color(self.background),
                rejection=self.rejection,
                transductive=self.transductive,
                origin=self.origin,
                record=self.record,
            )

    def _support_features(self) -> Tensor:
        """(S, D) on the network's device, in the support's order."""
        rows = self._known_support().rows.to(self.embedder.device)
        return self.embedder.embed(rows) if rows.ndim == 4 else rows

    def _plain_classes(self) -> tuple[Label, ...]:
        check_classifier(self)
        return tuple(plain_labels(self.classes, len(self.weight)))

    def _known_support(self) -> SupportSet:
        """The support set, its classes named as they are now."""
        if self.support is None:
            raise LearnerError(
                "this classifier was saved without its support, by an older version of hf-free",
                allowed="classifiers that know what they were shown",
                action="adapt the learner again",
            )
        return replace(self.support, classes=self._plain_classes())

    def _changeable(self) -> tuple[Embedder, SupportSet]:
        """The network and the support to adapt anew from."""
        support = self._known_support()
        if self._start is None or (needs_pictures(self._start) and not support.holds_pictures):
            is_maml = self.embedder.config.head == "maml"
            raise LearnerError(
                "this classifier cannot be changed: "
                + ("its head maml changed the network" if is_maml else "its support pictures were not saved"),
                allowed="a classifier that was not loaded" if is_maml else "save_pretrained(..., with_pictures=True)",
                action="adapt the learner again, with all pictures",
            )
        return self._start, support

    def _add(self, name: Label, images: Images) -> None:
        start, support = self._changeable()
        batch = as_batch(images, start.preprocessing, background=self.background).to(start.device)
        self._adapt_anew(support.with_rows(support_rows(start, batch), name))

    def _adapt_anew(self, support: SupportSet) -> None:
        """Fit everything to another support set; the threshold too, if it was calibrated."""
        start, _ = self._changeable()
        done = fit(start, support)
        parts = replace(
            self._parts(with_pictures=True),
            embedder=done.network,
            weight=done.weight,
            bias=done.bias,
            classes=support.classes,
            support=support,
        )
        changed = FewShotClassifier(parts, start)
        if self.rejection is not None and self.rejection.false_rejections is not None:
            changed.calibrate_rejection(self.rejection.false_rejections)
        self.embedder, self.weight, self.bias = changed.embedder, changed.weight, changed.bias
        self.classes, self.support, self.rejection = changed.classes, support, changed.rejection

    def _holds(self, name: Label) -> bool:
        return any(known == name and type(known) is type(name) for known in self._plain_classes())

    def _demand_class(self, name: Label, action: str) -> None:
        if not self._holds(name):
            raise LearnerError(f"there is no class {name!r}", allowed=_some(self._plain_classes()), action=action)


def _some(labels: Sequence[Label]) -> str:
    listed = ", ".join(str(label)[:50] for label in labels[:10])
    return listed + (", ..." if len(labels) > 10 else "")
