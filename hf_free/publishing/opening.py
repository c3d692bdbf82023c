"""Whether others can open a pooled learner that is published: it is nothing without its teachers."""

from __future__ import annotations

from hf_free.errors import HubError
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.runtime.text import listed


def check_can_be_opened(record: LearnerRecord) -> None:
    """Refuse to publish a pooled learner whose teachers others could not have, or would have to be named and are not.

    Args:
        record: Its full record (`MetaLearner.full_record`), before anything is left out of it.

    Raises:
        HubError: with the teachers.
    """
    if not record.is_pooled or record.learner.teachers_included:
        return
    own = [teacher.reference for teacher in record.teachers if teacher.is_in_memory]
    if own:
        raise HubError(
            f"a pooled learner of networks in memory cannot be published: {listed(own)}",
            allowed="teachers that are on the Hub, or whose files lie with the learner",
            action="write each with save_teacher, and pool their folders with include_weights=True",
        )
    local = [teacher.reference for teacher in record.teachers if teacher.repo_id is None]
    if local:
        raise HubError(
            f"a pooled learner fetches its teachers, and {listed(local)} "
            + ("is a folder" if len(local) == 1 else "are folders"),
            allowed="teachers that are on the Hub, or whose files lie with the learner",
            action="push them first, or pool with --include-weights",
        )
    hidden = [teacher.reference for teacher in record.teachers if teacher.is_hidden]
    if hidden and not record.publication.name_private_teachers:
        raise HubError(
            f"a pooled learner names its teachers, and some are private or gated: {listed(hidden)}",
            allowed="naming them: whoever loads the learner needs access to them",
            action="--set hub.name_private_teachers=true",
        )
