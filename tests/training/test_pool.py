"""`pool`: teachers joined into a learner, saved, published, opened again elsewhere."""

from __future__ import annotations

import errno
import json
import shutil

import pytest
import torch
from kills import killed
from metered import TAKEN, meter_all_runs
from pico import pico_files, pico_folder
from records import config_of

from hf_free import (
    ConfigError,
    FewShotClassifier,
    FreeConfig,
    HubError,
    LearnerError,
    MetaLearner,
    RunError,
    TeacherError,
    pool,
)
from hf_free.config.sections import FiveConfig, HubConfig, LearnerConfig
from hf_free.errors import StorageError
from hf_free.learner.push import push_learner
from hf_free.training.run_lock import LOCK_FILE, RunLock

IMAGES = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))
LABELS = [0, 0, 1, 1, 2, 2]
FIVE = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, min_teacher_accuracy=0, min_diversity=0)
ONE_VIEW = LearnerConfig(views=["identity"])
LICENSE = b"---\nlicense: mit\n---\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    made = [
        pico_folder(root / "a", "conv4", size=16, num_classes=3),
        pico_folder(root / "b", "resnet", size=24, num_classes=4),
    ]
    for folder in made:
        (folder / "README.md").write_bytes(LICENSE)
    return [str(folder) for folder in made]


@pytest.fixture(scope="module")
def pooled(folders, tmp_path_factory):
    """A learner of both, with the weights, as it was saved."""
    output = tmp_path_factory.mktemp("pooled") / "learner"
    settings = {"five": FIVE, "rounds": 1, "learner": ONE_VIEW, "device": "cpu"}
    return pool(folders, output=output, include_weights=True, **settings), output


def answers(learner):
    return learner.adapt(IMAGES, LABELS).predict_proba(IMAGES)


def test_it_is_a_learner_that_asks_each_teacher_at_its_own_size(folders):
    learner = pool(folders, five=FIVE, rounds=0, learner=ONE_VIEW, device="cpu")
    assert learner.config.image_size == 24
    teachers = learner.backbone.classifiers
    said = learner.backbone(IMAGES)
    expected = [[teacher(IMAGES)[1] for teacher in teachers], [teacher(IMAGES)[0] for teacher in teachers]]
    assert torch.equal(said, torch.cat([*expected[0], *expected[1]], 1))
    probabilities = answers(learner)
    assert probabilities.argmax(1).tolist() == LABELS
    assert not list(learner.parameters())


def test_fewer_teachers_are_kept_and_the_others_named_with_the_reason(folders, tmp_path, caplog):
    settings = {"five": FIVE, "rounds": 0, "learner": ONE_VIEW, "device": "cpu"}
    twice = [folders[0], *(shutil.copytree(folders[0], tmp_path / name) for name in ("same", "too")), folders[1]]
    learner = pool(list(map(str, twice)), output=tmp_path / "thin", keep=2, **settings)
    kept = {teacher.reference for teacher in learner.record.teachers}
    assert folders[1] in kept, "of three that say the same two are too many"
    left = learner.record.skipped
    assert {entry.reference for entry in left} == set(map(str, twice)) - kept
    assert all("2 that were kept agree with all 4" in entry.reason for entry in left)
    assert "--keep 2" in (tmp_path / "thin" / "README.md").read_text()
    assert torch.equal(answers(MetaLearner.from_pretrained(tmp_path / "thin")), answers(learner))
    assert caplog.text.count("2 of 4 teachers kept") == 1
    for keep, said in ((0, "keep=0"), (5, "keep=5 of 4 teachers"), (1.5, "keep=1.5")):
        with pytest.raises(ConfigError, match=said):
            pool(list(map(str, twice)), keep=keep, **settings)


def test_the_largest_pictures_are_those_of_the_teachers_that_are_kept(folders):
    copies = [folders[0]] * 3  # of 16 pixels; the fourth sees 24
    learner = pool([*copies, folders[1]], five=FIVE, rounds=0, learner=ONE_VIEW, device="cpu", keep=1)
    assert learner.config.image_size == next(iter(learner.backbone.classifiers)).record.input_size[1]
    assert len(learner.backbone.classifiers) == 1


def test_what_is_saved_opens_to_the_same_answers(folders, tmp_path, monkeypatch):
    meter_all_runs(monkeypatch)
    learner = pool(folders, output=tmp_path / "learner", five=FIVE, rounds=1, device="cpu")
    opened = MetaLearner.from_pretrained(tmp_path / "learner")
    assert torch.equal(answers(opened), answers(learner))
    classifier = learner.adapt(IMAGES, LABELS)
    classifier.save_pretrained(tmp_path / "classifier")
    again = FewShotClassifier.from_pretrained(tmp_path / "classifier")
    assert torch.equal(again.predict_proba(IMAGES), classifier.predict_proba(IMAGES))
    assert {path.name for path in (tmp_path / "learner").iterdir()} == {
        "config.json", "model.safetensors", "hf_free.safetensors", "README.md",
    }  # fmt: skip
    assert (tmp_path / "learner" / "model.safetensors").stat().st_size < 100
    assert opened.record.training.energy == TAKEN
    card = (tmp_path / "learner" / "README.md").read_text()
    assert "`hf-free pool --models ID... --config FILE --output DIR --rounds 1` repeats it" in card
    again = FreeConfig.from_dict(config_of(card))
    assert (again.five, again.learner.views, again.seed) == (FIVE, learner.config.views, 0)
    assert "Energy: 0.25 kWh in 1 minutes (told by the test)." in card
    assert "**Pooled.**" in card
    assert str(tmp_path) not in card


def test_a_teacher_whose_files_changed_is_refused(folders, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / f"copy{place}") for place, folder in enumerate(folders)]
    settings = {"five": FIVE, "rounds": 0, "learner": ONE_VIEW, "device": "cpu"}
    pool([str(copy) for copy in copies], output=tmp_path / "learner", **settings)
    pico_folder(copies[0], "conv4", size=16, num_classes=3, seed=5)
    with pytest.raises(TeacherError, match="copy0 has other files"):
        MetaLearner.from_pretrained(tmp_path / "learner")


def test_included_files_are_the_teachers_own_and_are_checked(pooled, folders, tmp_path):
    learner, output = pooled
    for place, folder in enumerate(folders):
        for name in ("config.json", "model.safetensors"):
            included = output / "teachers" / f"{place:02d}" / name
            with open(f"{folder}/{name}", "rb") as given:
                assert included.read_bytes() == given.read()
    moved = shutil.copytree(output, tmp_path / "moved")
    opened = MetaLearner.from_pretrained(moved)
    assert torch.equal(answers(opened), answers(learner))
    opened.save_pretrained(tmp_path / "saved")
    assert torch.equal(answers(MetaLearner.from_pretrained(tmp_path / "saved")), answers(learner))
    pico_folder(moved / "teachers" / "00", "conv4", size=16, num_classes=3, seed=5)
    with pytest.raises(TeacherError, match="has other files"):
        MetaLearner.from_pretrained(moved)


def test_licenses_decide_whether_weights_are_handed_on(folders, tmp_path):
    copies = [shutil.copytree(folder, tmp_path / f"copy{place}") for place, folder in enumerate(folders)]
    (copies[0] / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (copies[1] / "README.md").unlink()
    with pytest.raises(ConfigError, match=r"copy0 \(cc-by-nc-4.0\)[\s\S]*copy1 \(no license stated\)"):
        pool([str(copy) for copy in copies], output=tmp_path / "learner", include_weights=True, device="cpu")
    assert not (tmp_path / "learner").exists()


def test_settings_that_cannot_be_are_refused(folders, tmp_path):
    with pytest.raises(ConfigError, match="maml"):
        pool(folders, learner=LearnerConfig(head="maml"))
    with pytest.raises(ConfigError, match="without --output"):
        pool(folders, include_weights=True)
    with pytest.raises(ConfigError, match="no models"):
        pool([])
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        pool(folders, output=tmp_path)


def test_a_learner_of_folders_is_not_published_without_them(folders, tmp_path):
    learner = pool(folders, output=tmp_path / "learner", five=FIVE, rounds=0, learner=ONE_VIEW, device="cpu")
    with pytest.raises(HubError, match="--include-weights"):
        learner.push_to_hub("alice/pooled")


PUBLISH = """
from hf_free import MetaLearner, pool
from hf_free.config.sections import FiveConfig, HubConfig, LearnerConfig
import torch
one_view = LearnerConfig(views=["identity"])
five = FiveConfig(images_per_class=2, latent_dim=8, width=4, inner_steps=1, min_teacher_accuracy=0, min_diversity=0)
learner = pool({models}, output="out", five=five, rounds=0, learner=one_view, device="cpu", include_weights={included})
learner.push_to_hub("{name}")
"""

ANSWER = """
import json, torch
from hf_free import HfFreeError, MetaLearner
images = torch.rand(6, 3, 20, 20, generator=torch.Generator().manual_seed(1))
try:
    learner = MetaLearner.from_pretrained("{name}")
    print(json.dumps(learner.adapt(images, [0, 0, 1, 1, 2, 2]).predict_proba(images).tolist()))
except HfFreeError as error:
    print(json.dumps(type(error).__name__ + ": " + str(error)))
"""


def test_published_it_opens_elsewhere_to_the_same_answers(hub, tokens, run_client, tmp_path):
    for name, kind in (("pool-a", "conv4"), ("pool-b", "resnet")):
        hub.add_repo(f"lab/{name}", {**pico_files(kind, size=16), "README.md": LICENSE})
    models = ["lab/pool-a", "lab/pool-b"]
    code = PUBLISH.format(models=models, name="alice/pooled", included=False)
    run_client(code, token=tokens["alice"], cwd=tmp_path)
    files = hub.read_repo("alice/pooled")
    assert {name.partition("/")[0] for name in files} - {".gitattributes"} == {
        "config.json", "model.safetensors", "hf_free.safetensors", "README.md",
    }  # fmt: skip
    block = json.loads(files["config.json"])["hf_free"]
    assert [len(entry["commit"]) for entry in block["teachers"]] == [40, 40]

    here = run_client(ANSWER.format(name=str(tmp_path / "out")), home=tmp_path / "home").json
    there = run_client(ANSWER.format(name="alice/pooled"), home=tmp_path / "elsewhere").json
    assert there == here
    assert isinstance(there, list)

    code = PUBLISH.format(models=models, name="alice/pooled-whole", included=True).replace('"out"', '"whole"')
    run_client(code, token=tokens["alice"], cwd=tmp_path)
    assert "teachers/01/model.safetensors" in hub.read_repo("alice/pooled-whole")
    whole = run_client(ANSWER.format(name="alice/pooled-whole"), home=tmp_path / "third").json
    assert whole == here


def test_a_strangers_learner_names_no_folder_of_this_computer(hub, run_client, pooled, tmp_path):
    _, output = pooled
    content = json.loads((output / "config.json").read_text())
    content["hf_free"]["learner"].pop("teachers_included")
    files = {name: (output / name).read_bytes() for name in ("model.safetensors", "hf_free.safetensors")}
    hub.add_repo("bob/pooled-paths", {**files, "config.json": json.dumps(content).encode()})
    said = run_client(ANSWER.format(name="bob/pooled-paths"), home=tmp_path / "home").json
    assert said.startswith("LearnerError: bob/pooled-paths: its teacher 1 is a folder of the computer it was made on")


def test_a_private_teacher_without_a_token_is_said_so(hub, tokens, run_client, tmp_path):
    hub.add_repo("alice/pool-secret", {**pico_files("conv4", size=16), "README.md": LICENSE}, private=True)
    code = PUBLISH.format(models=["alice/pool-secret"], name="alice/pooled-secret", included=False)
    refused = run_client(code, token=tokens["alice"], cwd=tmp_path, check=False)
    assert "name_private_teachers" in refused.stderr
    named = code.replace("rounds=0,", "rounds=0, hub=HubConfig(name_private_teachers=True), overwrite=True,")
    named = named.replace("import FiveConfig", "import FiveConfig, HubConfig")
    run_client(named, token=tokens["alice"], cwd=tmp_path)
    said = run_client(ANSWER.format(name="alice/pooled-secret"), home=tmp_path / "elsewhere").json
    assert said.startswith("UnavailableRepositoryError")
    assert "alice/pool-secret" in said
    assert "token" in said or "private" in said


def test_an_entry_without_its_commit_is_refused(pooled, tmp_path):
    _, output = pooled
    moved = shutil.copytree(output, tmp_path / "moved")
    content = json.loads((moved / "config.json").read_text())
    content["hf_free"]["learner"].pop("teachers_included")
    content["hf_free"]["teachers"][0] |= {"repo_id": "lab/pool-a", "commit": "main"}
    (moved / "config.json").write_text(json.dumps(content))
    with pytest.raises(LearnerError, match="has no commit"):
        MetaLearner.from_pretrained(moved)


def test_a_pool_that_ends_while_it_copies_weights_leaves_no_folder_in_the_way(folders, tmp_path, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    output = tmp_path / "learner"
    settings = {"five": FIVE, "rounds": 0, "learner": ONE_VIEW, "include_weights": True, "device": "cpu"}
    with monkeypatch.context() as patched:
        patched.setattr(MetaLearner, "save_pretrained", killed)
        with pytest.raises(KeyboardInterrupt):
            pool(folders, output=output, **settings)
    assert not list(tmp_path.iterdir())

    for number, reason in ((errno.ENOSPC, "no space is left"), (errno.EDQUOT, "the quota of this user is used up")):

        def full(source, target, number=number):
            raise OSError(number, "full", source, None, target)

        with monkeypatch.context() as patched:
            patched.setattr(shutil, "copyfile", full)
            with pytest.raises(StorageError, match=rf"cannot write learner in {tmp_path}: {reason}"):
                pool(folders, output=output, **settings)  # not the scratch folder, which is gone
        assert not list(tmp_path.iterdir())
    learner = pool(folders, output=output, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["learner"]
    assert torch.equal(answers(MetaLearner.from_pretrained(output)), answers(learner))
    again = pool(folders, output=output, overwrite=True, **settings)
    assert torch.equal(answers(MetaLearner.from_pretrained(output)), answers(again))


@pytest.mark.parametrize("name", ["teachers/00/config.json", "teachers/01/model.safetensors"])
def test_a_learner_that_nobody_could_open_for_its_teachers_files_is_not_pushed(pooled, tmp_path, name):
    shutil.copytree(pooled[1], tmp_path / "learner")
    given, wrong = tmp_path / "learner" / name, rf"{name} is not the file that config\.json was saved with"
    given.write_bytes(given.read_bytes() + b" ")
    with pytest.raises(LearnerError, match=wrong):
        push_learner(tmp_path / "learner", "me/pooled")
    with given.open("wb") as file:
        file.truncate(2**40)  # hours to read for its hash
    with pytest.raises(LearnerError, match=wrong):
        push_learner(tmp_path / "learner", "me/pooled")
    given.unlink()
    with pytest.raises(LearnerError, match=wrong):
        push_learner(tmp_path / "learner", "me/pooled")


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 5])
def test_a_learner_with_its_teachers_is_saved_over_another_in_one_step(tmp_path, every):
    """Killed at any (in the quick form: every fifth) change to the file system, the folder opens to the old one or to
    the new one."""

    def said(learner):
        return learner.embed(IMAGES)

    settings = {"five": FIVE, "rounds": 0, "learner": ONE_VIEW, "device": "cpu"}
    teachers = [str(pico_folder(tmp_path / name, size=16, seed=seed)) for seed, name in enumerate("ab")]
    for teacher in teachers:
        (tmp_path / teacher / "README.md").write_bytes(LICENSE)
    two = pool(teachers, output=tmp_path / "two", include_weights=True, **settings)
    one = pool(teachers[1:], output=tmp_path / "one", include_weights=True, **settings)
    plain = pool(teachers[:1], **settings)
    folder = tmp_path / "learner"
    for before, after, has_teachers in ((two, one, True), (one, plain, False)):
        old, new, seen = said(before), said(after), []
        while True:
            before.save_pretrained(folder)  # finishes what the last kill has left
            assert not list(folder.glob(".saving-*"))
            call = every * len(seen) + 1
            if not killed(lambda after=after: after.save_pretrained(folder), at_call=call):
                break
            found = said(MetaLearner.from_pretrained(folder))
            assert any(found.equal(whole) for whole in (old, new)), f"a mixture after a kill at call {call}"
            seen.append(found.equal(new))
        assert seen == sorted(seen)
        assert (3 if every == 1 else 0) < sum(seen) < len(seen)
        assert said(MetaLearner.from_pretrained(folder)).equal(new)
        assert (folder / "teachers").exists() is has_teachers


def test_an_output_that_is_a_link_to_nowhere_is_refused_at_once(folders, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(RunError, match="link is a link that leads nowhere"):
        pool(folders, output=tmp_path / "link", rounds=10**6)


def test_an_output_that_would_replace_a_teacher_is_refused(folders, tmp_path):
    copy = shutil.copytree(folders[0], tmp_path / "a")
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    for output in (copy, tmp_path):
        with pytest.raises(RunError, match=r"would replace .*/a, which it is made of"):
            pool([str(copy), folders[1]], output=output, overwrite=True, rounds=0)
    with pytest.raises(RunError, match=r"/a is not empty.*\n.*--overwrite replaces a learner"):  # a checkpoint
        pool(folders, output=copy, overwrite=True, rounds=0)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == before


def test_what_nobody_could_open_is_refused_before_it_is_pooled(folders, tmp_path, monkeypatch, caplog):
    """And a teacher that is named twice is said."""
    monkeypatch.setattr("hf_free.training.pool.recover_from_all", None)
    with pytest.raises(HubError, match="a pooled learner fetches its teachers, and"):
        pool([folders[0], folders[0]], output=tmp_path / "x", hub=HubConfig(push_to_hub="me/pooled"))
    assert not (tmp_path / "x").exists()
    assert "the same teacher more than once" in caplog.text


def test_a_folder_that_another_process_is_to_write_is_refused_before_teachers_are_opened(folders, tmp_path):
    settings = {"five": FIVE, "rounds": 0, "device": "cpu"}
    with RunLock(tmp_path / "out"), pytest.raises(RunError, match="in use by process"):
        pool(folders, output=tmp_path / "out", **settings)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK_FILE).write_text("")  # of one that was killed
    pool(folders, output=tmp_path / "out", include_weights=True, **settings)
    assert not (tmp_path / "out" / LOCK_FILE).exists()
    MetaLearner.from_pretrained(tmp_path / "out")
