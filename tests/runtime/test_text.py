"""Numbers with units, ranges, lists and printable lines."""

from __future__ import annotations

import pytest

from hf_free.errors import ConfigError
from hf_free.runtime.text import (
    alike,
    count_text,
    decimal_size_text,
    figure_text,
    format_classes,
    listed,
    one_line,
    others_words,
    parse_bytes,
    printable,
    size_text,
    with_prefix,
)
from hf_free.teachers.reference import parse_classes


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (930, "930"), (999, "999"), (1000, "1 k"), (27_312, "27.3 k"), (999_600, "1 M"), (1.21e6, "1.21 M")],
)
def test_counts_have_three_digits_and_a_prefix(number, text):
    assert count_text(number) == text


@pytest.mark.parametrize(("size", "text"), [(930, "0.93 kB"), (45_800_000, "45.8 MB"), (2.5e12, "2.5 TB")])
def test_decimal_sizes(size, text):
    assert decimal_size_text(size) == text


def test_the_last_unit_takes_what_is_left():
    assert with_prefix(5_000_000, ("a", "b")) == "5e+03b"


@pytest.mark.parametrize(
    ("size", "text"), [(12, "12 B"), (1023, "1023 B"), (1024, "1 KiB"), (100_000, "97.66 KiB"), (4 * 2**30, "4 GiB")]
)
def test_binary_sizes_are_read_back(size, text):
    assert size_text(size) == text
    assert parse_bytes(text) == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "size"), [("4GiB", 4 * 2**30), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), (77, 77), ("12 B", 12)]
)
def test_amounts_of_memory_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "much", "0", "-1GB", "1 PB", "0.2", "9" * 400, "9" * 5000, "1." + "0" * 400])
def test_what_is_no_amount_of_memory_is_refused_by_its_flag(text):
    with pytest.raises(ConfigError, match="not an amount of memory") as caught:
        parse_bytes(text, flag="--memory")
    assert "--memory 4GiB" in caught.value.action


def test_a_number_beyond_all_memory_is_refused_without_its_digits():
    with pytest.raises(ConfigError, match=r"'more than 2\*\*64 bytes' is not an amount"):
        parse_bytes(10**5000)


@pytest.mark.parametrize(
    ("classes", "text"), [((3,), "3"), ((0, 1), "0,1"), ((0, 1, 2, 3, 4), "0-4"), ((7, 3, 4, 5), "7,3-5")]
)
def test_classes_are_printed_as_they_are_read(classes, text):
    assert format_classes(classes) == text
    assert parse_classes(text) == classes


def test_long_lists_are_cut_and_counted():
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"


def test_a_strangers_text_does_nothing_to_a_terminal():
    dangerous = "cat\x1b[31m\u202edog\nbird\x00"
    assert printable(dangerous) == "cat\ufffd[31m\ufffddog\ufffdbird\ufffd"
    assert printable(dangerous, keep="\n").splitlines() == ["cat\ufffd[31m\ufffddog", "bird\ufffd"]
    assert printable(dangerous, instead="") == "cat[31mdogbird"
    assert one_line("  cat \t\x1b dog\r\n ") == "cat dog"
    assert one_line(7) == "7"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.342, "0.34"), (-12.0, "-12.00"), (99_999, "99999.00"), (2.31e10, "2.3e+10"), (-6.6e19, "-6.6e+19")],
)
def test_figures_of_sick_teachers_can_be_read(value, text):
    assert figure_text(value) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("no such layer"), "ValueError: no such layer"),
        (KeyError("x\n\x1b[2Jy"), "KeyError: 'x\\n\\x1b[2Jy'"),
        (ValueError("a\x1b[2J\n  b"), "ValueError: a [2J b"),
        (RuntimeError("mat1 and mat2 (2x3) cannot\nException raised from mm at /src/x.cpp:1"), "(2x3) cannot"),
        (RuntimeError("[/src/gloo/pair.cc:545] Read error [::1]:9: gone"), "RuntimeError: Read error [::1]:9: gone"),
        (OSError("Traceback (most recent call last):\n  File"), "OSError"),
        (
            TypeError("/opt/my place/lib/torch/nn/linear.py:3 fails, see C:\\users\\me\\x.py"),
            "linear.py:3 fails, see x.py",
        ),
        (OSError("https://host/a/b?signature=secret is gone"), "OSError: https://host/a/b?... is gone"),
        (ValueError("either a/b or 1/2"), "ValueError: either a/b or 1/2"),
        (ValueError(), "ValueError"),
    ],
)
def test_words_of_other_libraries_stand_behind_ours(error, text):
    assert others_words(error).endswith(text)
    assert len(others_words(ValueError("x" * 5000))) < 210


def test_names_that_look_alike_are_found():
    names = ["caf\u00e9", "cafe\u0301", "Cat", "cat", " dog", "dog", "A", "a", "owl"]
    assert alike(names) == [names[0:2], names[2:4], names[4:6]], "of single letters both cases are meant"
