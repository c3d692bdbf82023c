"""`evaluate --compare timm:NAME`: a published backbone on the loopback Hub, against plain computation."""

from __future__ import annotations

import json
import sys

import pytest
import timm
import torch
from PIL import Image

from hf_free.cli.main import main
from hf_free.config.sections import LearnerConfig
from hf_free.data.episodes import sample_episodes
from hf_free.evaluation.datasets import load_labeled_images
from hf_free.evaluation.off_the_shelf import trained_on
from hf_free.learner.meta_learner import MetaLearner
from hf_free.learner.scoring import score_episodes
from hf_free.teachers.saving import save_teacher

REPOSITORY = "timm/test_resnet.r160_in1k"
"""Where timm looks for the weights of `test_resnet`."""
WORDS = ["--dataset", "pictures", "--n-way", "2", "--n-query", "3", "--episodes", "20", "--k-shot", "2", "--json"]


@pytest.fixture
def folder(tmp_path):
    """Three classes of eight colored noise pictures, and a learner with a ridge head."""
    generator = torch.Generator().manual_seed(0)
    for label, name in enumerate(("red", "green", "blue")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            noise = torch.randint(0, 170, (40, 40, 3), generator=generator)
            noise[..., label] += 12
            picture = Image.fromarray(noise.to(torch.uint8).numpy())
            picture.save(tmp_path / "pictures" / name / f"{index}.png")
    MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16, head="ridge")).save_pretrained(tmp_path / "learner")
    return tmp_path


@pytest.fixture(scope="module")
def network():
    """`test_resnet` with weights and statistics of its own."""
    torch.manual_seed(0)
    made = timm.create_model("test_resnet")
    with torch.no_grad():
        made.train()(torch.randn(8, 3, 64, 64))
    return made.eval()


def test_its_features_are_scored_with_the_learners_head_on_the_same_episodes(hub, run_client, folder, network):
    save_teacher(network, folder / "saved")
    commit = hub.add_repo(REPOSITORY, folder / "saved")
    hub.add_repo(REPOSITORY, {"model.safetensors": b"broken since"})
    program = [sys.executable, "-m", "hf_free.cli.main", "evaluate", "learner", *WORDS, "--compare"]
    done = run_client([*program, f"timm:test_resnet@{commit}", "learner"], cwd=folder)
    report = json.loads(done.stdout)
    name = "timm:test_resnet.r160_in1k (not data-free, trained on ImageNet-1k)"
    rows = {row["method"]: row for row in report["rows"]}
    assert list(rows) == ["learner", "compared learner", name]
    assert (
        f"{REPOSITORY} at commit {commit[:8]}, the center 95 % of pictures at 160x160, bilinear" in rows[name]["note"]
    )

    data = load_labeled_images(folder / "pictures")
    own_view = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    with torch.no_grad():
        pictures = torch.stack([own_view(picture) for picture in data.images])
        features = network.forward_head(network.forward_features(pictures), pre_logits=True)
    drawn = sample_episodes(
        data.labels, n_way=2, k_shot=2, n_query=3, episodes=20, generator=torch.Generator().manual_seed(0)
    )
    accuracy = score_episodes(torch.nn.functional.normalize(features), drawn, "ridge").mean().item()
    assert rows[name]["accuracy"] == pytest.approx(100 * accuracy, abs=1e-3)
    assert rows[name]["accuracy"] != pytest.approx(rows["learner"]["accuracy"])


def test_a_name_that_timm_does_not_publish_is_refused(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["evaluate", "learner", *WORDS, "--compare", "timm:test_resne"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot compare with 'timm:test_resne'" in said
    assert "did you mean timm:test_resnet" in said


def test_pickles_and_weights_of_another_network_are_refused(hub, run_client, tmp_path, network):
    hub.add_repo("timm/test_vit.r160_in1k", {"config.json": b"{}", "pytorch_model.bin": b"a pickle"})
    save_teacher(network, tmp_path / "saved")
    hub.add_repo("timm/test_efficientnet.r160_in1k", tmp_path / "saved")
    done = run_client(
        """
import json
from hf_free.errors import HfFreeError
from hf_free.evaluation.off_the_shelf import load_off_the_shelf
said = []
for name in ("test_vit", "test_efficientnet"):
    try:
        load_off_the_shelf(f"timm:{name}")
    except HfFreeError as error:
        said.append(str(error))
print(json.dumps(said))
"""
    )
    pickled, other = done.json
    assert "has only pickled weights" in pickled
    assert "the weights of timm:test_efficientnet.r160_in1k do not fit timm" in other


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("a1_in1k", "ImageNet-1k"),
        ("augreg_in21k_ft_in1k", "ImageNet-21k and ImageNet-1k"),
        ("fb_swsl_ig1b_ft_in1k", "Instagram-1B and ImageNet-1k"),
        ("lvd142m", "LVD-142M"),
        ("laion2b_ft_in12k_in1k", "LAION-2B, ImageNet-12k and ImageNet-1k"),
        ("dino", "unknown data"),
        ("", "unknown data"),
    ],
)
def test_what_it_was_trained_on_is_read_off_the_tag_or_unknown(tag, expected):
    assert trained_on(tag) == expected
