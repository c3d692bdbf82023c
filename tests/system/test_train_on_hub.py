"""`hf-free train` from end to end on the loopback Hub: teachers of all kinds, private and gated among them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pico import pico_files

from hf_free.hub.loopback.hub import LoopbackHub

PROGRAM = [sys.executable, "-m", "hf_free.cli.main"]
CARD = {"README.md": b"---\nlicense: apache-2.0\n---\n# A net\n"}
KINDS = {
    "zoo/public-resnet": ("resnet", {"size": 32, "num_classes": 4}),
    "zoo/gray-conv4": ("conv4", {"size": 16, "in_chans": 1, "num_classes": 3}),
    "zoo/groupnorm": ("groupnorm", {"size": 32, "num_classes": 2}),
    "lab/private-vit": ("vit", {"size": 32, "num_classes": 5}),
    "zoo/gated-convnext": ("convnext", {"size": 32, "num_classes": 3}),
}
SMALL = [
    "trainer.warmup_steps=0", "five.images_per_class=2", "five.width=4", "five.latent_dim=8", "five.inner_steps=1",
    "five.min_teacher_accuracy=0", "five.teachers_per_step=5", "five.recover_share=1", "memory.drawn_per_step=8",
    "memory.held_out_images=4", "bell.updates_per_step=1", "bell.batch_size=8", "trainer.validation_episodes=2",
]  # fmt: skip
TRAIN = [*PROGRAM, "train", "--models", *KINDS, "--steps", "3", "--backbone", "conv4_32", "--device", "cpu"]


@pytest.fixture(scope="module")
def commits(hub: LoopbackHub, tokens: dict[str, str]) -> dict[str, str]:
    """Every teacher's repository; alice (of `lab`) may read all of them, bob neither the private nor the gated one."""
    made = {}
    for seed, (name, (kind, options)) in enumerate(KINDS.items()):
        files = {**pico_files(kind, seed=seed, **options), **CARD}
        gated = name.startswith("zoo/gated")
        made[name] = hub.add_repo(name, files, private=name.startswith("lab/"), gated=gated, granted=("alice",))
    return made


def test_learner_of_all_kinds_is_trained_and_published(commits, hub, tokens, run_client, tmp_path):
    run = tmp_path / "run"
    words = [*TRAIN, "--output", str(run), "--push-to-hub", "alice/of-all-kinds", "--license", "mit", "--set", *SMALL]
    done = run_client([*words, "--json"], token=tokens["alice"], timeout=600, draws=True)
    assert json.loads(done.stdout)["url"].endswith("/alice/of-all-kinds")

    record = json.loads((run / "record.json").read_text())
    teachers = {teacher["repo_id"]: teacher for teacher in record["teachers"]}
    assert {name: teacher["commit"] for name, teacher in teachers.items()} == commits
    assert [name for name, teacher in teachers.items() if teacher["private"]] == ["lab/private-vit"]
    assert [name for name, teacher in teachers.items() if teacher["gated"]] == ["zoo/gated-convnext"]
    assert {teacher["license"] for teacher in teachers.values()} == {"apache-2.0"}
    assert record["recovered"]["tasks"] >= len(KINDS)

    published = hub.read_repo("alice/of-all-kinds")
    text = published["README.md"].decode() + published["config.json"].decode()
    assert "zoo/public-resnet" in text
    assert commits["zoo/groupnorm"] in text
    for name in ("lab/private-vit", "zoo/gated-convnext"):
        assert name not in text
        assert commits[name] not in text
    assert "pictures/recovered.png" not in published, "no pictures of private teachers unless asked for"

    use = "from hf_free import MetaLearner\nprint(MetaLearner.from_pretrained('alice/of-all-kinds').record.data_free)"
    assert run_client(use, token=tokens["bob"], home=tmp_path / "bob", timeout=600).stdout.strip() == "True"


def test_teacher_that_may_not_be_read_ends_the_run_before_training(commits, tokens, run_client, tmp_path: Path):
    run = tmp_path / "run"
    words = [*TRAIN, "--output", str(run), "--set", *SMALL]
    done = run_client(words, token=tokens["bob"], check=False, timeout=600)
    assert done.returncode == 1
    closed = ("lab/private-vit does not exist", "zoo/gated-convnext is gated and the token's user has no access")
    assert any(message in done.stderr for message in closed)  # whichever answer came first
    assert not (run / "log.jsonl").exists()
