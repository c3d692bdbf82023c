"""List flags: rewritten before Typer sees the command line."""

from __future__ import annotations

import io
import os

import pytest

from hf_free.cli.arguments import Grammar, UsageError, expand_list_files, is_flag, read_list, rewrite

GRAMMARS = {
    "train": Grammar(
        lists=frozenset({"--models", "--set"}),
        values=frozenset({"--seed", "--output", "--commit-message"}),
        switches=frozenset({"--overwrite", "--help", "-h"}),
        hint="teachers follow --models",
    ),
    "evaluate": Grammar(
        integer_lists=frozenset({"--k-shot"}), values=frozenset({"--dataset", "--seed"}), positionals=1
    ),
    "inspect": Grammar(values=frozenset({"--token"}), positionals=None),
}


def run(text: str) -> list[str]:
    return rewrite(text.split(), GRAMMARS)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("train --models a", "train --models=a"),
        ("train --models a b", "train --models=a --models=b"),
        ("train --models a b --seed 1", "train --models=a --models=b --seed 1"),
        ("train --seed 1 --models a b", "train --seed 1 --models=a --models=b"),
        ("train --models a b --models c", "train --models=a --models=b --models=c"),
        ("train --models a --models b c --overwrite", "train --models=a --models=b --models=c --overwrite"),
        ("train --models=a --models b c", "train --models=a --models=b --models=c"),
        ("train --models a --overwrite --models b", "train --models=a --overwrite --models=b"),
        ("train --models @list.txt b", "train --models=@list.txt --models=b"),
        ("train --models a a", "train --models=a --models=a"),
        ("train --set a.b=1 c=d --seed 2", "train --set=a.b=1 --set=c=d --seed 2"),
        ("train --set a=-1 b=[1,2]", "train --set=a=-1 --set=b=[1,2]"),
        ("train --set=a=b", "train --set=a=b"),
        ("train --models a -h", "train --models=a -h"),
        ("train --unknown --models a b", "train --unknown --models=a --models=b"),
        ("train --seed=1 --models a b", "train --seed=1 --models=a --models=b"),
        ("train --seed -1 --models a", "train --seed -1 --models=a"),
        ("train --models a -", "train --models=a --models=-"),
    ],
)
def test_values_of_a_list_flag(given, expected):
    assert run(given) == expected.split()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("evaluate --k-shot 1 5 org/m --dataset d", "evaluate --k-shot=1 --k-shot=5 org/m --dataset d"),
        ("evaluate org/m --dataset d --k-shot 1 5", "evaluate org/m --dataset d --k-shot=1 --k-shot=5"),
        ("evaluate --k-shot 1 --k-shot 5 org/m", "evaluate --k-shot=1 --k-shot=5 org/m"),
        ("evaluate --k-shot 5 1 --seed 3 org/m", "evaluate --k-shot=5 --k-shot=1 --seed 3 org/m"),
        ("evaluate --k-shot -1 5 org/m", "evaluate --k-shot=-1 --k-shot=5 org/m"),
        ("evaluate --k-shot many org/m", "evaluate --k-shot=many org/m"),
        ("evaluate --k-shot 1 5 -- 7", "evaluate --k-shot=1 --k-shot=5 -- 7"),
        ("evaluate --dataset d -- -odd-name", "evaluate --dataset d -- -odd-name"),
        ("evaluate ./5 --k-shot 1", "evaluate ./5 --k-shot=1"),
        ("evaluate -5 --k-shot 1", "evaluate -5 --k-shot=1"),
    ],
)
def test_integers_end_where_the_model_begins(given, expected):
    assert run(given) == expected.split()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "--help",
        "--version",
        "unknown --models a b",
        "inspect a b c",
        "inspect a --token t b",
        "inspect -- --odd b",
    ],
)
def test_lines_without_list_flags_stay(text):
    assert run(text) == text.split()


def test_words_after_an_unknown_flag_are_left_to_typer():
    assert run("train --modles a b") == ["train", "--modles", "a", "b"]


def test_global_flags_before_the_verb_stay():
    assert run("--debug train --models a b") == ["--debug", "train", "--models=a", "--models=b"]


def test_the_value_of_a_flag_is_not_read_as_a_positional():
    assert run("evaluate --dataset 5 m --k-shot 1") == ["evaluate", "--dataset", "5", "m", "--k-shot=1"]


def test_a_value_that_looks_like_a_flag_goes_after_an_equals_sign():
    words = ["train", "--commit-message=--models", "--models", "a"]
    assert rewrite(words, GRAMMARS) == ["train", "--commit-message=--models", "--models=a"]


def test_words_with_blanks_stay_whole():
    words = ["train", "--models", "my model", "b", "--commit-message", "two words"]
    assert rewrite(words, GRAMMARS) == [
        "train", "--models=my model", "--models=b", "--commit-message", "two words",
    ]  # fmt: skip


def test_the_given_list_is_left_alone():
    words = ["train", "--models", "a", "b"]
    rewrite(words, GRAMMARS)
    assert words == ["train", "--models", "a", "b"]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("train stray", "'stray'"),
        ("train stray --models a b", "'stray'"),
        ("train --models a --seed 3 stray", "'stray'"),
        ("train --models=a stray", "'stray'"),
        ("train --models a --seed 3 one two", "'one', 'two'"),
        ("train --models a -- stray", "'stray'"),
        ("train --models a --overwrite stray", "'stray'"),
        ("evaluate org/m stray --k-shot 1", "'stray'"),
        ("evaluate org/m --k-shot 1 stray", "'stray'"),
        ("evaluate --k-shot 1 org/m 5", "'5'"),
    ],
)
def test_stray_words_are_refused_by_name(given, named):
    with pytest.raises(UsageError, match=f"stray words? {named}"):
        run(given)


def test_the_refusal_of_a_stray_word_says_what_to_do():
    with pytest.raises(UsageError) as caught:
        run("train stray")
    assert caught.value.allowed == "no word outside a flag"
    assert caught.value.action == "teachers follow --models"


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ("train --models", "--models"),
        ("train --models --seed 1", "--models"),
        ("train --models=", "--models"),
        ("train --models --", "--models"),
        ("evaluate m --k-shot", "--k-shot"),
        ("train --models a --output", "--output"),
        ("train --output --models a b", "--output"),
        ("train --output --seed 1", "--output"),
    ],
)
def test_a_flag_without_its_value_is_refused(given, flag):
    with pytest.raises(UsageError, match=f"{flag} has no value"):
        run(given)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--models", True), ("-h", True), ("--", True), ("-1x", True), ("-", False), ("-1", False), ("-1.5", False),
        ("-.5", False), ("-1e-3", False), ("a-b", False), ("", False),
    ],
)  # fmt: skip
def test_is_flag(word, expected):
    assert is_flag(word) is expected


def test_list_files_are_expanded_in_place(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# our teachers\norg/b\n\n  org/c@v1  # the old one\n./dir#1\n", encoding="utf-8")
    assert expand_list_files(["org/a", f"@{path}", "org/d"]) == ["org/a", "org/b", "org/c@v1", "./dir#1", "org/d"]


def test_a_list_file_with_windows_line_ends_and_a_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbforg/a\r\norg/b\r\n")
    assert expand_list_files([f"@{path}"]) == ["org/a", "org/b"]


def test_unusable_list_files_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the list @.*missing.txt: No such file"):
        expand_list_files([f"@{tmp_path}/missing.txt"])
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(UsageError, match="names nothing"):
        expand_list_files([f"@{tmp_path}/empty.txt"])
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not a text file in UTF-8"):
        expand_list_files([f"@{tmp_path}/binary.txt"])
    for content in (b"org/a\n" + bytes(4096), b"org/" + b"a" * 10_000):  # as lost power leaves it, and one long line
        (tmp_path / "odd.txt").write_bytes(content)
        with pytest.raises(UsageError, match=r"the list @.*odd.txt holds what no id can be") as refused:
            expand_list_files([f"@{tmp_path}/odd.txt"])
        assert len(str(refused.value)) < 600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="makes a pipe")
def test_a_list_may_come_through_a_pipe_but_a_named_one_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UsageError, match=r"the list @.*list.txt is a pipe"):
        expand_list_files([f"@{tmp_path / 'list.txt'}"])
    read, write = os.pipe()
    os.write(write, b"org/a\norg/b\n")
    os.close(write)
    assert expand_list_files([f"@/dev/fd/{read}"]) == ["org/a", "org/b"]  # as a shell's <(...)
    os.close(read)


def test_a_list_on_a_stream_has_an_end(tmp_path):
    assert read_list(io.StringIO("a.png\nb c.png\n")) == ["a.png", "b c.png", ""]
    with open("/dev/zero", encoding="utf-8") as endless, pytest.raises(UsageError, match="stdin has more than 16 MiB"):
        read_list(endless)


def test_a_list_flag_may_mean_something_without_a_value():
    grammars = {
        "evaluate": Grammar(lists=frozenset({"--transductive"}), positionals=1, bare={"--transductive": "all"})
    }
    assert rewrite(["evaluate", "here", "--transductive"], grammars) == ["evaluate", "here", "--transductive=all"]
    assert rewrite(["evaluate", "--transductive", "--", "here"], grammars)[1] == "--transductive=all"
    assert rewrite(["evaluate", "here", "--transductive", "centered", "transport"], grammars)[2:] == [
        "--transductive=centered",
        "--transductive=transport",
    ]


def test_a_list_that_never_ends_is_refused():
    with pytest.raises(UsageError, match="the list @/dev/zero has more than 16 MiB"):
        expand_list_files(["@/dev/zero"])


def test_a_list_within_a_list_is_refused(tmp_path):
    (tmp_path / "list.txt").write_text("org/a\n@other.txt\n")
    with pytest.raises(UsageError, match=r"names the list @other\.txt"):
        expand_list_files([f"@{tmp_path / 'list.txt'}"])
