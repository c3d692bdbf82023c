"""What the tests of publishing share."""

from __future__ import annotations

import pytest

from hf_free.provenance.learner_record import LearnerRecord
from hf_free.publishing.card import write_card


@pytest.fixture
def card(tmp_path):
    """Text of the card that a record gives in an empty folder."""

    def written(source):
        return write_card(tmp_path / "learner", LearnerRecord.from_dict(source)).read_text(encoding="utf-8")

    return written
