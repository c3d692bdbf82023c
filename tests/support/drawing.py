"""The pictures that a run draws of itself: in the tests it draws them only where somebody looks at them.

Drawing takes as long as all else in a run of six steps. Runs in forks likewise: `Forks.run` has a word for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from replacing import replace_everywhere

import hf_free.training.bookkeeping
import hf_free.training.finishing  # noqa: F401  (both know the functions by name, so they are loaded before these go)
from hf_free.reporting.heterogeneity import draw_heterogeneity
from hf_free.reporting.recovered import draw_pictures


@contextmanager
def without_drawing() -> Iterator[None]:
    """Runs in this process draw nothing."""
    with pytest.MonkeyPatch.context() as patch:
        replace_everywhere(patch, "hf_free.reporting.recovered.draw_pictures", lambda *_: None)
        replace_everywhere(patch, "hf_free.reporting.heterogeneity.draw_heterogeneity", lambda *_, **__: None)
        yield


@contextmanager
def with_drawing() -> Iterator[None]:
    """Within `without_drawing`: runs in this process draw."""
    with pytest.MonkeyPatch.context() as patch:
        replace_everywhere(patch, "hf_free.reporting.recovered.draw_pictures", draw_pictures)
        replace_everywhere(patch, "hf_free.reporting.heterogeneity.draw_heterogeneity", draw_heterogeneity)
        yield
