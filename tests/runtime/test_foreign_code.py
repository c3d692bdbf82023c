"""What foreign code raises becomes an error of ours."""

from __future__ import annotations

import pytest

from hf_free.errors import RunError, TeacherError
from hf_free.runtime.foreign_code import told


@pytest.mark.parametrize("error", [ZeroDivisionError("by zero"), SystemExit(3), TypeError("no")])
def test_anything_that_is_raised_is_told(error):
    with (
        pytest.raises(TeacherError, match="it fails") as told_of,
        told(lambda raised: TeacherError(f"it fails {raised}")),
    ):
        raise error
    assert told_of.value.__cause__ is error


@pytest.mark.parametrize("error", [RunError("ours"), MemoryError(), KeyboardInterrupt()])
def test_what_is_ours_a_lack_of_memory_and_ctrl_c_stay(error):
    with pytest.raises(type(error)), told(lambda raised: TeacherError("it fails")):
        raise error
