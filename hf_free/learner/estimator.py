"""A scikit-learn estimator: pictures and a learner, or features alone, with fit, predict and predict_proba."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from hf_free.learner.heads import LinearClassifier, get_head, scores
from hf_free.learner.meta_learner import MetaLearner
from hf_free.runtime.given import short_form

Array = NDArray[np.generic]


class FewShotEstimator(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A few-shot classifier with scikit-learn's interface.

    With a learner, X are pictures of any kind that `MetaLearner.adapt` takes. Without one, X are features (S, D), such
    as those of any network; they are scaled to length 1 and the head is fitted to them.

    Args:
        learner: A `MetaLearner`, its Hub id or folder; None takes features.
        head: Name of the head that features get, see `hf_free.learner.heads.HEADS`; a learner has its own.

    Attributes:
        classes_: The classes, sorted.

    Example:
        >>> FewShotEstimator("me/few-shot").fit(pictures, labels).predict(new)  # doctest: +SKIP
    """

    def __init__(self, learner: MetaLearner | str | None = None, head: str = "ridge") -> None:
        self.learner, self.head = learner, head

    def fit(self, X: object, y: object) -> Self:
        """Adapt to labeled pictures or features; what was learned before is forgotten.

        Raises:
            ValueError: lengths that differ, no rows, one class, or labels that name no classes.
            LearnerError: pictures that cannot be used.
        """
        rows, labels = self._checked(X, y, reset=True)
        return self._adapt(rows, labels)

    def partial_fit(self, X: object, y: object, classes: object = None) -> Self:
        """Adapt to these rows beside those of before, as `fit` with all of them would.

        Args:
            X: More pictures or features.
            y: Their labels, of new classes too.
            classes: Not needed, since classes may come at any time; scikit-learn's callers give it.
        """
        if not hasattr(self, "classes_"):
            return self.fit(X, y)
        rows, labels = self._checked(X, y, reset=False)
        if self.learner is None:
            return self._adapt(np.concatenate([self.rows_, rows]), np.concatenate([self.labels_, labels]))
        return self._adapt([*self.rows_, *rows], np.concatenate([self.labels_, labels]))

    def predict_proba(self, X: Any) -> Array:
        """Probability of each class of `classes_`, (B, N)."""
        check_is_fitted(self)
        if self.learner is not None:
            return np.asarray(self.classifier_.predict_proba(X).double().numpy())
        rows = validate_data(self, X, reset=False, dtype=np.float64)
        classifier = LinearClassifier(*self.layer_)
        return np.asarray(
            scores(classifier, torch.from_numpy(np.ascontiguousarray(rows))[None])[0].softmax(-1).numpy()
        )

    def predict(self, X: object) -> Array:
        """The most likely class of each row."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _checked(self, X: Any, y: object, *, reset: bool) -> tuple[Any, Array]:
        if self.learner is None:
            rows, labels = validate_data(self, X, y, reset=reset, dtype=np.float64)
        elif isinstance(X, str) or not isinstance(X, Iterable):
            raise ValueError(f"X={short_form(X)}; a learner takes a list or an array of pictures")
        else:
            rows, labels = list(X), np.asarray(y)
        check_classification_targets(labels)
        return rows, np.asarray(labels)

    def _adapt(self, rows: Any, labels: Array) -> Self:
        classes = unique_labels(labels)
        if len(classes) < 2:
            raise ValueError(f"{len(classes)} class in y; a classifier needs at least two classes")
        if self.learner is None:
            self.layer_ = self._layer(torch.tensor(rows), np.searchsorted(classes, labels), len(classes))
        else:
            learner = (
                self.learner if isinstance(self.learner, MetaLearner) else MetaLearner.from_pretrained(self.learner)
            )
            self.classifier_ = learner.adapt(rows, np.searchsorted(classes, labels).tolist())
        self.classes_, self.rows_, self.labels_ = classes, rows, labels
        return self

    def _layer(self, rows: Tensor, labels: Array, n_way: int) -> tuple[Tensor, Tensor]:
        """Weight (1, N, D) and bias (1, N), the same whatever the order of the rows."""
        order = sorted(range(len(rows)), key=lambda row: (labels[row], rows[row].numpy().tobytes()))
        weight, bias = get_head(self.head)(rows[order][None], torch.as_tensor(labels[order])[None], n_way)
        return weight, bias
