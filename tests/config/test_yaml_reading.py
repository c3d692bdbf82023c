"""What a plain scalar of YAML is: the text that was written, or its value, as the reader means it."""

from __future__ import annotations

import math

import pytest
import yaml

from hf_free.config.tree import FreeConfig, parse_assignments
from hf_free.config.yaml_reading import as_texts, meant, read_written
from hf_free.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("1.10", 1.1), ("0012345", 12345), ("1e-3", 0.001), ("1_000", 1000), ("-5", -5), (".5", 0.5), ("0x1F", 31)),
        *(("true", True), ("FALSE", False), ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("0o17", 15)),
        *(("null", None), ("~", None), ("2026-01-01", "2026-01-01"), ("12:30", "12:30"), ("-.inf", -math.inf)),
        *(("'1.10'", "1.10"), ('"null"', "null"), ("!!int '7'", 7), ("9" * 5000, float("inf")), ("1.2.3", "1.2.3")),
    ],
)
def test_a_scalar_has_the_value_of_yaml_1_2_and_stays_what_was_written(text, value):
    tree = read_written(f"key: [{text}]")
    (found,) = meant(tree)["key"]
    assert (found, type(found)) == (value, type(value))
    if text[0] not in "'\"!":
        assert as_texts(tree) == {"key": [text]}


def test_keys_merges_and_empty_documents():
    assert meant(read_written("base: &b {no: 1}\nyes: {<<: *b, on: 2}")) == {
        "base": {"no": 1},
        "yes": {"no": 1, "on": 2},
    }
    assert read_written("") is None
    assert meant(read_written("null")) is None


WRITTEN = """
seed: 0012
models: [1.10, 0012345, yes, null]
learner: {init_from: ~, backbone: 1.0, views: identity, whitening: null}
trainer: {mixed_precision: no, validation_split: on, max_minutes: 1e-1, channels_last: off, steps: 010}
hub: {commit_message: null, license: 2.0}
"""


def test_a_configuration_has_texts_where_texts_are_meant_in_a_file_and_on_the_command_line(tmp_path):
    (tmp_path / "config.yaml").write_text(WRITTEN)
    config = FreeConfig.from_yaml(tmp_path / "config.yaml")
    assert (config.seed, config.models) == (12, ["1.10", "0012345", "yes", "null"])
    assert (config.learner.init_from, config.learner.backbone, config.learner.views) == (None, "1.0", ["identity"])
    trainer = config.trainer
    assert (trainer.mixed_precision, trainer.validation_split, trainer.steps) == ("no", "on", 10)
    assert (trainer.max_minutes, trainer.channels_last) == (0.1, False)
    assert (config.hub.commit_message, config.hub.license, config.learner.whitening) == ("null", "2.0", None)
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert FreeConfig.from_yaml(tmp_path / "again.yaml") == config
    assignments = [
        *("seed=0012", "models=[1.10, 0012345, yes, null]", "learner.init_from=~", "learner.backbone=1.0"),
        *("learner.views=identity", "trainer.mixed_precision=no", "trainer.validation_split=on"),
        *("trainer.max_minutes=1e-1", "trainer.channels_last=off", "trainer.steps=010", "hub.commit_message=null"),
        *("hub.license=2.0", "learner.whitening=null"),
    ]
    assert FreeConfig.from_dict(parse_assignments(assignments)) == config


def test_an_assignment_into_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"--set 'five\.inner_steps=3'"):
        parse_assignments(["five=1", "five.inner_steps=3"])


def test_of_two_assignments_of_a_key_the_last_counts():
    """As of two flags: programs add their own behind what they are given."""
    assert parse_assignments(["learner.head=anil", "learner.head=ridge"]) == {"learner": {"head": "ridge"}}


BOMB = "a: &a [x, x, x, x]\n" + "".join(
    f"{name}: &{name} [*{below}, *{below}, *{below}, *{below}, *{below}, *{below}, *{below}, *{below}]\n"
    for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("models: " + "[" * 5000 + "]" * 5000, "nested more than 32 deep"),
        ("five: " + "{a: " * 5000 + "1" + "}" * 5000, "nested more than 32 deep"),
        ("\n".join(" " * level + "a:" for level in range(2000)), "nested more than 32 deep"),
        ("[" * 200_000, "nested more than 32 deep"),  # libyaml ends the process there
        (BOMB, "more than 2,000,000 values"),
        ("models: &a [*a]", "values that hold themselves"),
        ("five: &a {b: *a}", "values that hold themselves"),
        ('seed: !!int "' + "9" * 5000 + '"', "not of its tag's type"),
        ('seed: !!timestamp "never"', "not of its tag's type"),
        ("seed: " + "9" * 5000, "seed = inf cannot be used"),
        ("seed: 0x" + "f" * 5000, "cannot be used"),
        ("five:", "five = None cannot be used"),
        ("trainer: ~", "trainer = None cannot be used"),
        ("models:", "models = None cannot be used"),
        ("method:", "method = '' cannot be used"),
        ("seed: 1\nfive: {flip: no}\nseed: 2", "the key seed is there twice"),
        ("five: {flip: no, flip: yes}", "the key flip is there twice"),
        ("trainer: {max_minutes: .inf}", "a finite number"),
        ("trainer: {memory: 6 apples}", "--memory 4GiB"),
        ("hub: {teacher_memory: 0GB}", "--teacher-memory 4GiB"),
    ],
    ids=range(20),
)
def test_what_is_no_configuration_is_refused_in_words(tmp_path, text, reason):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        FreeConfig.from_yaml(path)
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("models=" + "[" * 5000, "--set models=... cannot be used: its values are nested"),
        ("five=" + "{a: " * 100_000, "--set five=... cannot be used: its values are nested"),
        (".".join("a" * 5000) + "=1", "--set 'a.a."),
        ("seed=" + "9" * 5000, "seed = inf cannot be used"),
        ("trainer=", "trainer = None cannot be used"),
    ],
    ids=range(5),
)
def test_assignments_beyond_use_are_refused_in_words(assignment, reason):
    with pytest.raises(ConfigError) as refused:
        FreeConfig.load(assignments=[assignment])
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_python_values_beyond_showing_are_refused_in_words():
    deep = "x"
    for _ in range(100_000):  # from Python 3.12 on, 5,000 can be shown
        deep = [deep]
    with pytest.raises(ConfigError, match="a list beyond showing"):
        FreeConfig.from_dict({"models": deep})
    with pytest.raises(ConfigError, match="seed = a int beyond showing"):
        FreeConfig.from_dict({"seed": 10**5000})


def test_anchors_that_multiply_or_hold_themselves_take_no_memory():
    page = "a0: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(60))
    for read in (as_texts, meant):  # written out, that would be 2 to the power of 60 texts
        assert read(read_written(page))["a1"] == [["x"], ["x"]]
        with pytest.raises(yaml.YAMLError, match="hold themselves"):
            read(read_written("&a [*a]"))


def test_a_file_without_an_end_is_not_read_to_it(tmp_path):
    with (tmp_path / "config.yaml").open("wb") as file:
        file.truncate(2**40)
    for path in (tmp_path / "config.yaml", "/dev/zero"):
        with pytest.raises(ConfigError, match="has more than 64 MiB"):
            FreeConfig.from_yaml(path)
