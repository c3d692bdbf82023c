"""Errors a user can meet: what was given, what is allowed, what to do next."""

from __future__ import annotations

import pytest

from hf_free.errors import HfFreeError, HubError, MissingFilesError, TeacherError, UnfitTeacherError


@pytest.mark.parametrize(
    ("allowed", "action", "text"),
    [
        ("", "", "a thing"),
        ("others", "", "a thing\n  allowed: others"),
        ("", "do that", "a thing\n  to do:   do that"),
        ("others", "do that", "a thing\n  allowed: others\n  to do:   do that"),
    ],
)
def test_an_error_says_given_allowed_and_what_to_do(allowed, action, text):
    error = HfFreeError("a thing", allowed=allowed, action=action)
    assert str(error) == text
    assert (error.given, error.allowed, error.action) == ("a thing", allowed, action)


def test_kinds_can_be_caught_by_what_they_are_about():
    assert issubclass(MissingFilesError, HubError)
    assert issubclass(UnfitTeacherError, TeacherError)
