"""`distill`, and `train` that pools first, in two processes: what one process makes, with the work shared out."""

from __future__ import annotations

import torch
from pico import pico_folder
from ranks import run_ranks

from hf_free import MetaLearner, pool

TWO = """
import sys
from pathlib import Path
from types import SimpleNamespace
import torch
import hf_free.training.distill as distilling
from hf_free.config.sections import BellConfig, LearnerConfig
from hf_free.pooling.imitation import PictureBank
from hf_free.runtime.launched import Launched

root, name, here, now, asked = Path(sys.argv[1]), sys.argv[2], Launched.here(), [0.0], []
torch.set_num_threads(1)

def clock():  # so that each run takes as many turns
    now[0] += 1.0
    return now[0]

ask = PictureBank._ask
def counted(bank, images):
    asked.append(len(images))
    return ask(bank, images)

PictureBank._ask = counted
distilling.time = SimpleNamespace(monotonic=clock)
distilling.FIRST_PICTURES, distilling.PICTURES_AT_ONCE, distilling.HELD_OUT = 128, 64, 32
network = LearnerConfig(backbone="test_convnext", image_size=32, views=["identity"])  # no BatchNorm
options = {"learner": network, "bell": BellConfig(batch_size=16), "device": "cpu", "mixed_precision": "no"}
made = distilling.distill(root / "pooled", root / name, minutes=0.25, **options)
told, updates = made.record.imitation, made.record.training.steps
done = {"pictures": told.pictures, "loss": told.loss, "updates": updates, "asked": sum(asked)}
torch.save({"weights": made.state_dict(), **done}, root / f"{name}-{here.rank}.pt")
"""


def test_two_processes_learn_what_one_does_and_ask_half_as_much_each(forks, tmp_path):
    folders = [str(pico_folder(tmp_path / kind, kind, size=16)) for kind in ("conv4", "resnet")]
    pool(folders, output=tmp_path / "pooled", rounds=0, device="cpu")
    (alone,) = run_ranks(forks, TWO, str(tmp_path), "one", count=1)
    both = run_ranks(forks, TWO, str(tmp_path), "two")
    assert [done.returncode for done in (alone, *both)] == [0, 0, 0], (alone, both)
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("one-0", "two-0", "two-1"))
    assert one["weights"].keys() == first["weights"].keys()
    for name, value in one["weights"].items():
        assert torch.equal(first["weights"][name], second["weights"][name]), name
        # sums in another order, which 8 steps of Muon and AdamW carry on
        assert torch.allclose(first["weights"][name], value, rtol=1e-2, atol=1e-3), name
    assert first["asked"] == second["asked"] == one["asked"] / 2 > 100
    assert first["pictures"] == second["pictures"] == one["pictures"]
    assert first["loss"] == second["loss"]
    assert abs(first["loss"] - one["loss"]) < 1e-3 < one["loss"]  # of the optimizers no scale of the loss is seen
    assert first["updates"] == second["updates"] == one["updates"] > 5
    saved = MetaLearner.from_pretrained(tmp_path / "two")
    assert all(torch.equal(saved.state_dict()[name], value) for name, value in first["weights"].items())


FIRST_POOLED = """
import sys
from pathlib import Path
import torch
import hf_free.training.distill as distilling
import hf_free.training.pooled_first as pooled_first
from hf_free import FreeConfig, train
from hf_free.runtime.launched import Launched

root, folders, here = Path(sys.argv[1]), sys.argv[2:], Launched.here()
distilling.FIRST_PICTURES, distilling.PICTURES_AT_ONCE, distilling.HELD_OUT = 128, 64, 32
pooled_first.LEAST_MINUTES = 0.05
pool, threads = pooled_first.pool, []

def counted(*args, **options):
    threads.append(torch.get_num_threads())
    return pool(*args, **options)

pooled_first.pool = counted
five = {"images_per_class": 2, "latent_dim": 8, "width": 4, "inner_steps": 1}
config = FreeConfig.from_dict({"models": folders, "five": five, "trainer": {"max_minutes": 0.05, "device": "cpu"}})
made = train(config, output=root / "run")
torch.save({"weights": made.state_dict(), "threads": threads}, root / f"run-{here.rank}.pt")
"""


def test_the_first_of_two_processes_pools_and_both_learn(forks, tmp_path):
    folders = [str(pico_folder(tmp_path / kind, kind, size=16, num_classes=10)) for kind in ("conv4", "resnet")]
    both = run_ranks(forks, FIRST_POOLED, str(tmp_path), *folders)
    assert [done.returncode for done in both] == [0, 0], both
    first, second = (torch.load(tmp_path / f"run-{rank}.pt") for rank in range(2))
    assert first["threads"] == [2], "those of both, of one thread each"
    assert second["threads"] == [], "the second waits"
    saved = MetaLearner.from_pretrained(tmp_path / "run" / "learner")
    assert saved.record.imitation.started_from in (0, 1)
    for name, value in saved.state_dict().items():
        assert torch.equal(first["weights"][name], value), name
        assert torch.equal(second["weights"][name], value), name
    assert MetaLearner.from_pretrained(tmp_path / "run" / "pooled").config.backbone == "pooled"
