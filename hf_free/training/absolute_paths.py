"""Paths of a run's configuration as absolute ones, so that the run can be resumed from any folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import replace

from hf_free.config.tree import FreeConfig
from hf_free.runtime.given import from_home
from hf_free.teachers.reference import existing_path

_ENTRY = re.compile(r"(?P<path>.+\.ya?ml)(?P<rest>#[\w.-]+)", re.IGNORECASE)
_WITH_CONFIGURATION = re.compile(r"(?P<path>[./~].*)(?P<rest>:[^:/\\]+)")


def absolute_config(config: FreeConfig) -> FreeConfig:
    """The configuration with every path of this computer absolute: teachers, lists of them, imports, data, cache.

    Relative ones are relative to the current folder. Names of the Hub, and paths that lead nowhere, stay as they are.
    """
    learner, trainer, hub = config.learner, config.trainer, config.hub
    return replace(
        config,
        models=absolute_texts(config.models),
        imports=[_absolute(path) for path in config.imports],
        learner=replace(learner, init_from=_absolute_text(learner.init_from)),
        trainer=replace(trainer, validation_dataset=_absolute_text(trainer.validation_dataset)),
        memory=replace(config.memory, pictures=_absolute_text(config.memory.pictures)),
        hub=replace(hub, cache_dir=None if hub.cache_dir is None else _absolute(hub.cache_dir)),
    )


def absolute_texts(texts: Iterable[str]) -> list[str]:
    """Teachers' texts, with absolute paths for those that name something on this computer."""
    return [_absolute_text(text) or text for text in texts]


def _absolute_text(text: str | None) -> str | None:
    if not text:
        return text
    if existing_path(text) is not None:
        return _absolute(text)
    for pattern in (_ENTRY, _WITH_CONFIGURATION):  # an entry of a YAML list; one configuration of a data set
        match = pattern.fullmatch(text)
        if match and existing_path(match["path"]) is not None:
            return _absolute(match["path"]) + match["rest"]
    return text


def _absolute(path: str) -> str:
    return os.path.abspath(from_home(path))
