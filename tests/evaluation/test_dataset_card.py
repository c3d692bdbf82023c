"""What the card of a data set names lies in it, or nothing is opened."""

from __future__ import annotations

import pytest

from hf_free.errors import DatasetError
from hf_free.evaluation.dataset_card import CARDS, check_cards, is_inside


@pytest.mark.parametrize("path", ["a.parquet", "data/*.parquet", "./x", "data/**", "a..b/c", "[0-9]/x"])
def test_paths_of_its_own(path):
    assert is_inside(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/x",
        "../x",
        "a/../../x",
        "~/x",
        "http://h/x",
        "hf://datasets/a/b",
        "zip://a::b.zip",
        "C:x",
        "\\\\h\\x",
        "..\\x",
    ],
)
def test_paths_elsewhere(path):
    assert not is_inside(path)


@pytest.mark.parametrize(
    "entry",
    [
        "data_files: /etc/passwd",
        "data_files: [a.parquet, ../x.csv]",
        "data_files: [{split: train, path: 'http://127.0.0.1:9/x.parquet'}]",
        "data_files: {train: ['hf://datasets/me/private/x.parquet']}",
        "data_dir: ../..",
    ],
)
def test_what_names_files_elsewhere_is_refused(tmp_path, entry):
    for name, text in zip(CARDS, ("---\n{}\n---\n", "{}\n"), strict=True):
        (tmp_path / name).write_text(text.format(f"configs:\n- config_name: a\n  data_files: a.csv\n- {entry}"))
        with pytest.raises(DatasetError, match="none of its own files\n  allowed: paths inside"):
            check_cards(tmp_path, "the set")
        (tmp_path / name).write_text("---\nlicense: mit\n---\n" if name == CARDS[0] else "license: mit\n")
        check_cards(tmp_path, "the set")


def test_a_byte_order_mark_hides_no_block(tmp_path):
    """`datasets` passes over one, too."""
    (tmp_path / CARDS[0]).write_bytes(b"\xef\xbb\xbf---\nconfigs:\n- data_files: /etc/passwd\n---\n")
    with pytest.raises(DatasetError, match="none of its own files"):
        check_cards(tmp_path, "the set")


@pytest.mark.parametrize("data", [b"---\na: [1\n---\n", b"---\n\xff\n---\n"])
def test_a_card_that_cannot_be_read_is_one_message(tmp_path, data):
    (tmp_path / CARDS[0]).write_bytes(data)
    with pytest.raises(DatasetError, match=r"the card README\.md of the set cannot be read: it is no"):
        check_cards(tmp_path, "the set")


def test_anchors_are_looked_at_once(tmp_path):
    shared = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))
    text = f"---\nx:\n  a0: &a0 [x.csv]\n{shared}configs:\n- config_name: a\n  data_files: *a29\n---\n"
    (tmp_path / CARDS[0]).write_text(text)
    check_cards(tmp_path, "the set")
