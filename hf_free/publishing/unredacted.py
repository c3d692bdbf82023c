"""The record that a run keeps on its own computer, beside its learner: unlike the learner's own, it hides nothing."""

from __future__ import annotations

from pathlib import Path

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.provenance.reading import object_of
from hf_free.runtime.saved_json import read_saved

RUN_RECORD = "record.json"
"""Its file, in the run's folder."""


def unredacted(location: str | Path, published: LearnerRecord) -> LearnerRecord:
    """The run's own record of a learner where the run lies on this computer, else the learner's.

    Args:
        location: A run's folder, the folder of its learner, or anything else that a learner was read from.
        published: The learner's own record, in which private teachers may have no name.

    Raises:
        RunError: a run's record that is not JSON.
    """
    folder = Path(location)
    if not folder.is_dir():
        return published
    for path in (folder / RUN_RECORD, folder.absolute().parent / RUN_RECORD):
        if path.is_file():
            content = read_saved(path, action="delete it, or restore it from a copy")
            return LearnerRecord.from_dict(object_of(content))
    return published
