"""What a run does while teachers are being downloaded, on the loopback Hub; and which teachers it resumes with."""

from __future__ import annotations

import json

import pytest
from pico import pico_files

SMALL = {
    "five": {"latent_dim": 8, "width": 4, "images_per_class": 4, "inner_steps": 2, "teachers_per_step": 2,
             "min_teacher_accuracy": 0, "min_diversity": 0, "recover_share": 1},
    "memory": {"drawn_per_step": 8, "held_out_images": 4},
    "bell": {"batch_size": 8, "updates_per_step": 1},
    "learner": {"backbone": "conv4_32", "image_size": 16},
    "trainer": {"steps": 5, "warmup_steps": 3, "log_every": 1, "device": "cpu", "mixed_precision": "no",
                "validation_episodes": 2},
}  # fmt: skip

TRAIN = """
import json, logging, urllib.request
import torch
from pathlib import Path
from hf_free.config.tree import FreeConfig
from hf_free.training.trainer import train
torch.set_num_threads(1)

class TellTheHub(logging.Handler):
    def emit(self, record):
        if record.name == "hf_free.training.warm_up":
            urllib.request.urlopen({endpoint!r} + "/api/models?search=early-step").close()

logging.getLogger("hf_free.training.warm_up").addHandler(TellTheHub())
logging.getLogger("hf_free.training.warm_up").setLevel(logging.INFO)
runs = []
for name in {names}:
    run = Path(name)
    train(FreeConfig.from_dict(json.loads({config!r})), output=run, resume={resume})
    record = json.loads((run / "record.json").read_text())
    logged = [json.loads(line)["step"] for line in (run / "log.jsonl").open()]
    runs.append([record["training"], logged, record["teachers"]])
print(json.dumps(runs))
"""


def config_of(models, **trainer):
    return {**SMALL, "models": list(models), "trainer": {**SMALL["trainer"], **trainer}}


def run_on_hub(hub, run_client, config, tmp_path, *names, resume=False):
    """Train in folders of these names, one after the other: training, logged steps and teachers of each."""
    code = TRAIN.format(endpoint=hub.endpoint, config=json.dumps(config), names=names, resume=resume)
    return run_client(code, token="hf_alice_secret", cwd=tmp_path, timeout=600).json


@pytest.mark.parametrize("a_step", [pytest.param(2, marks=pytest.mark.long), 4])
def test_a_run_warms_up_while_its_last_teacher_is_on_the_way(hub, tokens, run_client, tmp_path, a_step):
    """Also where a step takes all the teachers that there are: two do for an early one."""
    names = [f"alice/arriving-{a_step}-{index}" for index in range(3)]
    for seed, name in enumerate(names):
        hub.add_repo(name, pico_files("conv4", size=16, num_classes=3, seed=seed))
    config = config_of(names)
    config["five"] = {**config["five"], "teachers_per_step": a_step}
    held_back = f"/alice/arriving-{a_step}-2/resolve/.*safetensors"
    start = len(hub.requests)
    # the last teacher's weights are held back until the run has done a step: it hangs unless the two overlap
    with hub.fault("stall", held_back, after=1000, until="early-step", times=None):
        first, again = run_on_hub(hub, run_client, config, tmp_path, "first", "again")
    training, logged, teachers = first
    steps = sum("early-step" in request.path for request in hub.requests[start:])
    assert 1 <= steps == training["steps_while_downloading"] <= 3  # warm-up, and no kept task
    assert logged == [1, 2, 3, 4, 5]
    assert training["steps"] == 5
    assert [teacher["repo_id"] for teacher in teachers] == names
    assert again[0]["steps_while_downloading"] == 0, "from the cache a run waits for all of its teachers"
    assert again[1:] == first[1:]


def test_the_pool_is_used_only_while_bytes_are_on_the_way(hub, tokens, run_client):
    for seed, name in enumerate(("use/first", "use/second", "use/third")):
        hub.add_repo(name, pico_files("conv4", seed=seed))
    code = f"""
import json, urllib.request
from hf_free.errors import HfFreeError
from hf_free.teachers.pool import TeacherPool
calls = []
def meanwhile(pool):
    calls.append(len(pool))
    if len(pool) == 2:
        urllib.request.urlopen({hub.endpoint!r} + "/api/models?search=used").close()
    return False  # nothing more to do until the next one is there
names = ["use/first", "use/second", "use/third"]
first = [r.repo_id for r in TeacherPool(names, meanwhile=meanwhile, strict=True).records]
downloading, calls = calls, []
again = [r.repo_id for r in TeacherPool(names, meanwhile=meanwhile, strict=True).records]
try:
    TeacherPool([*names, "use/without"], meanwhile=meanwhile, strict=True)
except HfFreeError as error:
    print(json.dumps([first, downloading, again, calls, str(error)]))
"""
    hub.add_repo("use/without", {"config.json": b"{}"})
    with hub.fault("stall", "/use/third/resolve/.*safetensors", after=1000, until="used", times=None):
        first, downloading, again, calls, failure = run_client(code, token=tokens["alice"]).json
    assert first == again == ["use/first", "use/second", "use/third"]
    assert downloading
    assert max(downloading) == 2, "called with the two that were there, before the third was"
    assert calls == []
    assert "use/without@main has no model.safetensors" in failure


def test_what_a_collection_holds_that_is_no_teacher_is_left_out(hub, tokens, run_client):
    good = pico_files("conv4", seed=1)
    text = json.dumps({"model_type": "bert", "architectures": ["BertModel"]}).encode()
    hub.add_repo("kept/net", good)
    hub.add_repo("kept/bert", {**good, "config.json": text})
    hub.add_repo("kept/pickles", {"config.json": b"{}", "pytorch_model.bin": b"x"})
    hub.add_collection("kept/all-65f0c0ffee", ["kept/bert", "kept/pickles", "kept/net"])
    code = """
import json
from hf_free.errors import HfFreeError
from hf_free.teachers.pool import TeacherPool
pool = TeacherPool(["collection:kept/all-65f0c0ffee"], strict=True)
typed = []
for name in ("kept/bert", "kept/pickles"):
    try:
        TeacherPool(["collection:kept/all-65f0c0ffee", name], strict=True)
    except HfFreeError as error:
        typed.append(str(error))
print(json.dumps([[r.reference for r in pool.records], pool.skipped, typed]))
"""
    kept, skipped, typed = run_client(code).json
    assert kept == ["kept/net"]
    assert [reference for reference, _ in skipped] == ["kept/bert", "kept/pickles"]
    assert "transformers" in skipped[0][1]
    assert "only pickled weights" in skipped[1][1]
    assert ["transformers" in typed[0], "only pickled weights" in typed[1]] == [True, True], "a typed one stays strict"


def test_a_resumed_run_has_the_teachers_that_it_began_with(hub, tokens, run_client, tmp_path):
    for seed, name in enumerate(("fixed/a", "fixed/b", "fixed/c")):
        hub.add_repo(name, pico_files("conv4", size=16, num_classes=3, seed=seed))
    hub.add_collection("fixed/all-65f0c0ffee", ["fixed/a", "fixed/b"])
    config = config_of(["collection:fixed/all-65f0c0ffee:0,2"], steps=4, warmup_steps=0)
    ((_, _, before),) = run_on_hub(hub, run_client, config, tmp_path, "run")
    hub.add_repo("fixed/a", pico_files("conv4", size=16, num_classes=3, seed=9))  # the branch moves on,
    hub.add_collection("fixed/all-65f0c0ffee", ["fixed/c", "fixed/a", "fixed/b"])  # and the collection grows
    longer = config_of(config["models"], steps=5, warmup_steps=0)
    ((training, logged, after),) = run_on_hub(hub, run_client, longer, tmp_path, "run", resume=True)
    assert after == before
    assert [teacher["repo_id"] for teacher in after] == ["fixed/a", "fixed/b"]
    assert [teacher["classes"] for teacher in after] == [[0, 2], [0, 2]]
    assert training["steps"] == 5
    assert logged == [1, 2, 3, 4, 5]
