"""What recovered pictures reveal: the figures against slow plain computation, and the program whole on digits."""

from __future__ import annotations

import json
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
from benchmark import privacy
from benchmark.membership import auc, found_at, nearest, over_classes, random_half, share_nearer


def test_half_of_each_class_is_inside():
    labels = torch.tensor([0] * 10 + [2] * 7 + [1] * 4)[torch.randperm(21, generator=torch.Generator().manual_seed(1))]
    inside = random_half(labels, torch.Generator().manual_seed(0))
    assert [int(inside[labels == label].sum()) for label in range(3)] == [5, 2, 3]
    assert not torch.equal(inside, random_half(labels, torch.Generator().manual_seed(1)))


def test_the_share_nearer_to_members_is_that_of_plain_loops():
    generator = torch.Generator().manual_seed(0)
    ours, members, strangers = (torch.randn(n, 3, generator=generator) for n in (30, 8, 8))
    count = 0
    for point in ours.tolist():
        closest = [
            min(sum((a - b) ** 2 for a, b in zip(point, other, strict=True)) for other in side)
            for side in (members.tolist(), strangers.tolist())
        ]
        count += closest[0] < closest[1]
    assert share_nearer(ours, members, strangers) == pytest.approx(count / 30)
    assert share_nearer(ours, members, members) == 0.5
    assert share_nearer(members + 0.01, members, strangers) == 1.0
    assert nearest(members, members).tolist() == [0.0] * 8
    with pytest.raises(ValueError, match="8 members, 7 strangers"):
        share_nearer(ours, members, strangers[:7])


def test_auc_and_members_found_are_those_of_scikit_learn():
    from sklearn.metrics import roc_auc_score, roc_curve

    generator = torch.Generator().manual_seed(0)
    members, strangers = (torch.randint(0, 40, (n,), generator=generator) + more for n, more in ((90, 10), (120, 0)))
    truth, scores = [1] * 90 + [0] * 120, torch.cat([members, strangers]).tolist()
    assert auc(members, strangers) == pytest.approx(roc_auc_score(truth, scores))
    wrongly, rightly, _ = roc_curve(truth, scores, drop_intermediate=False)
    for allowed in (0.0, 0.01, 0.1):
        assert found_at(members, strangers, allowed) == pytest.approx(rightly[wrongly <= allowed].max())


def test_the_interval_covers_the_mean_as_often_as_it_says():
    values = torch.randn(200, 40, generator=torch.Generator().manual_seed(0)) + 0.5
    found = [over_classes(row.tolist()) for row in values]
    assert 0.9 <= sum(one.low <= 0.5 <= one.high for one in found) / 200 <= 0.98
    assert all(one.low < one.mean < one.high for one in found)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The program on digits with the smallest run there is."""
    folder = tmp_path_factory.mktemp("privacy")
    small = ["trainer.steps=3", "trainer.warmup_steps=0", "five.width=4", "five.images_per_class=2"]
    small += ["five.min_teacher_accuracy=0", "learner.backbone=conv4_32", "memory.drawn_per_step=16"]
    small += ["memory.held_out_images=16", "bell.batch_size=16", "bell.updates_per_step=1"]
    arguments = ["--quick", "--epochs", "1", "--images-per-class", "4", "--json", str(folder / "found.json")]
    printed = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(printed):
        patch.setattr(privacy, "DATA", folder / "nowhere")
        privacy.main([*arguments, "--output", str(folder / "kept"), "--set", *small])
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


@pytest.mark.long
def test_the_controls_bracket_what_is_measured(measured):
    found = json.loads((measured / "found.json").read_text())
    rows = {(row["table"], row["what"]): row["values"] for row in found["rows"]}
    assert found["data"].startswith("scikit-learn digits")
    assert (found["teachers"], found["n_way"], found["recovered"], found["steps"]) == (2, 3, 24, 3)
    nearer = {what: values for (table, what), values in rows.items() if table == "nearer"}
    assert nearer[privacy.LEAK]["pixels"]["mean"] == 1.0
    assert nearer[privacy.DRAWN]["pixels"]["low"] <= 0.5 <= nearer[privacy.DRAWN]["pixels"]["high"]
    assert set(nearer[privacy.RECOVERED]) == {privacy.OTHERS, privacy.PIXELS}
    attacks = [what for table, what in rows if table == "membership"]
    assert len(attacks) == 3 * 3 + 4
    assert {privacy.LEARNERS_LOSS, privacy.CLASSIFIER, privacy.OF_FEATURES, privacy.OWN_LOSS} < set(attacks)


@pytest.mark.long
def test_the_tables_say_what_was_measured(measured):
    text = measured.joinpath("printed.txt").read_text()
    assert f"| score | AUC | {privacy.FOUND} |" in text
    assert "2 teachers, 3 classes each" in text
    assert "seed 0" in text
    assert f"torch {torch.__version__}" in text


@pytest.mark.long
def test_pooled_and_distilled_learners_are_attacked_in_the_place_of_a_trained_one(tmp_path, monkeypatch, capsys):
    small = {"FIRST_PICTURES": 256, "HELD_OUT": 64, "NETWORK": "conv4_32"}
    for name, value in small.items():
        monkeypatch.setattr(f"hf_free.training.distill.{name}", value)
    monkeypatch.setattr(privacy, "DATA", tmp_path / "nowhere")
    arguments = ["--quick", "--epochs", "1", "--minutes", "0.01", "--json", str(tmp_path / "found.json")]
    monkeypatch.setattr("hf_free.training.pool.PICTURES", 200)
    settings = ["five.width=4", "five.images_per_class=2", "five.min_teacher_accuracy=0"]
    privacy.main([*arguments, "--learners", "pooled", "distilled", "--set", *settings])
    found = json.loads((tmp_path / "found.json").read_text())
    rows = {(row["table"], row["what"]): row["values"] for row in found["rows"]}
    losses = {what for table, what in rows if table == "membership" and what.startswith("loss")}
    assert losses == {privacy.OWN_LOSS, privacy.OF_POOLED, privacy.OF_DISTILLED}
    assert ("nearer", privacy.RECOVERED) not in rows  # neither comes with pictures
    assert rows["nearer", privacy.LEAK]["pixels"]["mean"] == 1.0
    assert (found["steps"], found["recovered"]) == (None, 0)
    assert 0 <= found["agreement"] <= 1
    assert "a learner distilled in 0.01 minutes, which agrees with the pooled one by 0." in capsys.readouterr().out


@pytest.mark.long
def test_what_is_kept_is_not_written_over(measured):
    with pytest.raises(SystemExit, match="is not empty: give another --output"):
        privacy.main(["--output", str(measured / "kept")])


def test_more_classes_than_there_are_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(privacy, "DATA", tmp_path / "nowhere")
    with pytest.raises(SystemExit, match="3 teachers of 3 classes: there are 7 classes"):
        privacy.main(["--teachers", "3"])
