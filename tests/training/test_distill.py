"""`distill`: a pooled learner becomes one network."""

from __future__ import annotations

import json
import re
import time
from types import SimpleNamespace

import pytest
import torch
import yaml
from pico import pico_folder

from hf_free import ConfigError, FreeConfig, MetaLearner, RunError, distill, load_teacher, pool
from hf_free.config.sections import BellConfig, FiveConfig, LearnerConfig
from hf_free.pooling.imitation import PictureBank
from hf_free.training.distill import MOST_USES, check_request, note_of_kinds

FIVE = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, min_teacher_accuracy=0, min_diversity=0)
NETWORK = LearnerConfig(backbone="conv4_32", image_size=16, views=["identity"])


@pytest.fixture(scope="module")
def pooled(tmp_path_factory):
    root = tmp_path_factory.mktemp("pooled")
    folders = [str(pico_folder(root / name, kind, size=16)) for name, kind in (("a", "conv4"), ("b", "resnet"))]
    views = LearnerConfig(views=["identity"])
    pool(folders, output=root / "learner", five=FIVE, rounds=0, learner=views, device="cpu")
    return root / "learner"


def test_it_learns_what_the_pooled_learner_says_and_needs_no_teacher_any_more(pooled, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_free.training.distill.FIRST_PICTURES", 256)
    monkeypatch.setattr("hf_free.training.distill.HELD_OUT", 128)
    busy_clock = SimpleNamespace(monotonic=time.process_time)  # other programs take nothing of its minutes
    monkeypatch.setattr("hf_free.training.distill.time", busy_clock)
    seen = []
    small = distill(
        pooled,
        tmp_path / "small",
        minutes=0.05,
        learner=NETWORK,
        bell=BellConfig(batch_size=64),
        device="cpu",
        progress=lambda what, done, total: seen.append((what, done, total)),
    )
    record = small.record.imitation.to_dict()
    hardly = distill(pooled, tmp_path / "hardly", minutes=1e-4, learner=NETWORK, device="cpu")
    hardly = hardly.record.imitation.to_dict()
    assert record["agreement"] > hardly["agreement"] + 0.05
    assert record["pictures"] >= hardly["pictures"]
    assert 0 < record["loss"] < 1
    assert small.record.training.steps > 5
    assert [teacher.reference for teacher in small.record.teachers] == [
        teacher.reference for teacher in MetaLearner.from_pretrained(pooled).record.teachers
    ]
    assert seen[-1][2] == 3
    assert "disagreement" in seen[-1][0]
    opened = MetaLearner.from_pretrained(tmp_path / "small")
    images = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    labels = [0, 0, 1, 1, 2, 2]
    answers = [learner.adapt(images, labels).predict_proba(images) for learner in (small, opened)]
    assert torch.equal(*answers)
    assert opened.feature_dim == opened.backbone_dim + 1
    card = (tmp_path / "small" / "README.md").read_text()
    assert "what a *pooled learner* says of\n" in card
    assert f"agree to {record['agreement']:.2f} of 1" in card
    assert "repeats the run" not in card, "no configuration of hf-free train makes it"


def test_where_a_pooled_learner_tells_kinds_apart_a_network_of_it_is_said_to_lack_that(pooled, tmp_path, caplog):
    source = MetaLearner.from_pretrained(pooled)
    assert note_of_kinds(source.embedding.pooled) == ""
    source.embedding.pooled.set_groups([0, 0], [0, 1])
    assert "2 kinds of pictures" in note_of_kinds(source.embedding.pooled)
    distill(source, tmp_path / "small", minutes=1e-4, learner=NETWORK, device="cpu")
    assert caplog.text.count("hf-free pool --keep N") == 1


def test_slow_teachers_get_more_of_the_time_so_that_pictures_are_not_learned_by_heart(pooled, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_free.training.distill.FIRST_PICTURES", 64)
    monkeypatch.setattr("hf_free.training.distill.PICTURES_AT_ONCE", 32)
    monkeypatch.setattr("hf_free.training.distill.HELD_OUT", 64)
    now, grow = [0.0], PictureBank.grow

    def slow(bank, count):
        now[0] += 10.0
        grow(bank, count)

    def clock():
        now[0] += 0.01  # an update reads it twice
        return now[0]

    monkeypatch.setattr(PictureBank, "grow", slow)
    monkeypatch.setattr("hf_free.training.distill.time", SimpleNamespace(monotonic=clock))
    small = distill(
        pooled, tmp_path / "small", minutes=1, learner=NETWORK, bell=BellConfig(batch_size=16), device="cpu"
    )
    updates, pictures = small.record.training.steps, small.record.imitation.pictures
    assert pictures >= 64 + 4 * 32, "half of the minute would be asked about 64 more"
    assert 3 * pictures < 16 * updates <= MOST_USES * pictures + 16


def test_what_cannot_be_distilled_is_refused_before_anything_is_written(pooled, tmp_path):
    plain = MetaLearner(NETWORK)
    plain.save_pretrained(tmp_path / "plain")
    for source in (plain, tmp_path / "plain"):
        with pytest.raises(ConfigError, match="one network already"):
            distill(source, tmp_path / "small", minutes=1, learner=NETWORK)
    with pytest.raises(ConfigError, match="minutes=0"):
        distill(pooled, tmp_path / "small", minutes=0)
    with pytest.raises(ConfigError, match="init_from"):
        distill(pooled, tmp_path / "small", learner=LearnerConfig(init_from="timm:resnet18"))
    with pytest.raises(ConfigError, match="fp16"):
        distill(pooled, tmp_path / "small", mixed_precision="fp16")
    with pytest.raises(RunError, match="not empty"):
        distill(pooled, pooled)
    run = tmp_path / "run"  # of train, whose checkpoints lie where those of distill do
    (run / "checkpoints" / "00001").mkdir(parents=True)
    for name in ("config.yaml", "teachers.json", "checkpoints/00001/state.json"):
        (run / name).write_text("{}")
    with pytest.raises(RunError, match="holds a run of hf-free train"):
        distill(pooled, run, minutes=1, overwrite=True)
    assert (run / "checkpoints" / "00001" / "state.json").exists()
    assert not (tmp_path / "small").exists()


def test_a_network_that_starts_from_a_teacher_is_resumed_and_says_so(pooled, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_free.training.distill.FIRST_PICTURES", 128)
    monkeypatch.setattr("hf_free.training.distill.HELD_OUT", 64)
    monkeypatch.setattr("hf_free.training.distill.ASKED", 64)
    teachers = MetaLearner.from_pretrained(pooled).record.teachers
    untrained = distill(pooled, tmp_path / "untrained", minutes=1e-4, learner=NETWORK, device="cpu")
    started = distill(pooled, tmp_path / "started", minutes=1e-4, start_from=teachers[1].reference, device="cpu")
    assert started.record.imitation.started_from == 1
    assert started.record.imitation.agreement > untrained.record.imitation.agreement + 0.1, (
        "before it learned anything"
    )
    opened = MetaLearner.from_pretrained(tmp_path / "started")
    teacher = load_teacher(teachers[1].reference)
    for name, value in opened.backbone.named_buffers():  # the statistics of real pictures stay
        assert torch.equal(value, teacher.network.get_buffer(name)), name
    card = (tmp_path / "started" / "README.md").read_text()
    assert "It began as the network of teacher 2 below" in card
    assert "from the weights of one of them (none stated)" in " ".join(card.split())
    exact = yaml.safe_load(re.search(r"```yaml\n(.*?)```", card, re.DOTALL)[1])
    assert not {"backbone", "image_size"} & set(exact["learner"]), "the command on the card would refuse them"
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(exact))
    repeated = FreeConfig.load(tmp_path / "card.yaml").learner
    check_request(
        tmp_path / "again",
        minutes=1,
        learner=repeated,
        mixed_precision="auto",
        overwrite=False,
        resume=False,
        start_from="best",
    )
    assert "--start-from TEACHER" in card

    arguments = {"start_from": "best", "device": "cpu"}
    with monkeypatch.context() as signaled:
        signaled.setattr("hf_free.runtime.interrupts.StopBetweenSteps.wanted", True)
        distill(pooled, tmp_path / "best", minutes=1e-4, **arguments)
    monkeypatch.setattr("hf_free.training.distill.best_start", lambda *_: pytest.fail("the checkpoint knows it"))
    with pytest.raises(RunError, match="other weights"):
        distill(pooled, tmp_path / "best", minutes=1e-4, resume=True, device="cpu")
    resumed = distill(pooled, tmp_path / "best", minutes=2e-4, resume=True, **arguments)
    assert resumed.record.imitation.started_from in (0, 1)


@pytest.mark.parametrize("alone", [True, False])
def test_a_teachers_own_features_stay_where_they_agree_more_than_what_was_learned(
    pooled, tmp_path, monkeypatch, alone
):
    for name in ("FIRST_PICTURES", "HELD_OUT", "PICTURES_AT_ONCE"):
        monkeypatch.setattr(f"hf_free.training.distill.{name}", 128)
    source = MetaLearner.from_pretrained(pooled)
    weights = source.embedding.pooled
    weights.answer_weights.zero_()
    weights.feature_weights.copy_(
        torch.tensor([1.0, 0.0] if alone else [0.0, 1.0])
    )  # all that is said, by one of them
    teachers = source.record.teachers
    fast = SimpleNamespace(monotonic=time.process_time)
    monkeypatch.setattr("hf_free.training.distill.time", fast)
    made = distill(source, tmp_path / "small", minutes=0.02, start_from=teachers[0].reference, device="cpu")
    done, teacher = made.record.imitation, load_teacher(teachers[0].reference)
    kept = all(torch.equal(made.backbone.state_dict()[name], value) for name, value in _saved_of(teacher, made))
    assert done.as_it_was is alone is kept
    card = (tmp_path / "small" / "README.md").read_text()
    assert ("keeps them: what it learned agreed less" in " ".join(card.split())) is alone
    opened = MetaLearner.from_pretrained(tmp_path / "small")
    images = torch.rand(40, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    own, all_say = (one.eval().prepare_features(one.features(images)) for one in (opened, source))
    cosines = own @ own.T - (all_say @ all_say.T)
    assert (cosines.abs().max() < 1e-3) == alone, "the same inner products"
    if alone:
        assert done.agreement > 0.99


def _saved_of(teacher, learner):
    """A teacher's tensors that its learner has too."""
    return [
        (key, value) for key, value in teacher.network.state_dict().items() if key in learner.backbone.state_dict()
    ]


def test_a_network_that_starts_from_a_teacher_has_no_other_network_or_size(pooled, tmp_path):
    for learner in (LearnerConfig(backbone="conv4_32"), LearnerConfig(image_size=16)):
        with pytest.raises(ConfigError, match="and a network that starts from best"):
            distill(pooled, tmp_path / "small", learner=learner, start_from="best")
    with pytest.raises(ConfigError, match="no teacher of the name"):
        distill(pooled, tmp_path / "small", start_from="org/other", device="cpu")


def test_teachers_that_lie_with_the_learner_keep_their_names_and_licenses(tmp_path):
    folders = [pico_folder(tmp_path / name, "conv4", size=16, seed=seed) for seed, name in enumerate("ab")]
    for folder in folders:
        (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    whole = tmp_path / "whole"
    pool(list(map(str, folders)), output=whole, five=FIVE, rounds=0, include_weights=True, device="cpu")
    content = json.loads((whole / "config.json").read_text())
    first, second = content["hf_free"]["teachers"]
    first |= {"reference": "org/a@main", "repo_id": "org/a", "commit": "a" * 40, "license": "cc-by-nc-4.0"}
    second |= {"reference": "org/b", "repo_id": "org/b", "commit": "b" * 40, "gated": True}
    (whole / "config.json").write_text(json.dumps(content))
    for name, reason in (
        ("org/a", "its license (cc-by-nc-4.0)"),
        ("org/b", "private or gated"),
        ("best", "no teacher"),
    ):
        with pytest.raises(ConfigError, match=re.escape(reason)):
            distill(whole, tmp_path / "small", start_from=name, device="cpu")
