"""A teacher and a saved classifier as what is served."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from huggingface_hub import constants
from pico import pico_files, pico_folder, pico_teacher
from served import pictures, png

from hf_free.config.sections import LearnerConfig
from hf_free.learner.meta_learner import MetaLearner
from hf_free.serving import served_model
from hf_free.serving.protocol import Refusal
from hf_free.serving.served_model import ServedTeacher, open_model


def test_a_teacher_answers_as_it_does_itself_whatever_sizes_come_together():
    teacher = pico_teacher("conv4", size=16, num_classes=3)
    small, large = pictures(2), pictures(2, size=24)
    files = [png(small[0]), png(large[0]), png(small[1]), png(large[1])]
    served = ServedTeacher(teacher)
    found = served.scores(files, "none")
    expected = [teacher.logits(part.float() / 255) for part in (small, large)]
    assert torch.allclose(found[[0, 2]], expected[0], atol=1e-5)
    assert torch.allclose(found[[1, 3]], expected[1], atol=1e-5)
    assert served.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_few_pictures_are_held_at_once_whoever_sends_them(monkeypatch):
    monkeypatch.setattr(served_model, "MOST_HELD", 2 * 3 * 16 * 16, raising=False)
    teacher, decode = pico_teacher("conv4", size=16, num_classes=3), served_model.decode
    batches, at_once, busiest = [], [], []

    class Counting:
        record, device = teacher.record, teacher.device

        def logits(self, batch):
            batches.append(len(batch))
            return teacher.logits(batch)

    def slow(*given, **options):
        at_once.append(1)
        busiest.append(len(at_once))
        time.sleep(0.01)
        at_once.pop()
        return decode(*given, **options)

    monkeypatch.setattr(served_model, "decode", slow)
    served, files = ServedTeacher(Counting()), [png(one) for one in pictures(5)]
    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(lambda _: served.scores(files, "none"), range(3))
    assert torch.allclose(first, teacher.logits(pictures(5).float() / 255), atol=1e-5)
    assert all(torch.equal(first, other) for other in others)
    assert sorted(batches) == [2, 2, 2, 3, 3, 3]
    assert max(busiest) == 1, "a small file may hold a picture of a gigabyte"


def test_a_folder_is_opened_as_what_it_is(tmp_path):
    teacher = open_model(str(pico_folder(tmp_path / "teacher", size=16, label_names=["a", "b"], num_classes=2)))
    assert teacher.labels == ("a", "b")
    torch.manual_seed(0)
    learner = MetaLearner(LearnerConfig(backbone="conv4_32", image_size=16)).eval()
    classifier = learner.adapt(pictures(4), ["cat", "cat", "dog", "dog"])
    classifier.save_pretrained(tmp_path / "pets")
    served = open_model(str(tmp_path / "pets"))
    assert (served.labels, served.name) == (("cat", "dog"), "pets")
    files = [png(one) for one in pictures(3)]
    found = served.scores(files, "softmax")
    assert torch.allclose(found, classifier.predict_proba(pictures(3)), atol=1e-5)
    assert torch.allclose(served.scores(files, "none").exp(), found, atol=1e-5)
    with pytest.raises(Refusal, match="sigmoid"):
        served.scores(files, "sigmoid")


def test_a_hub_repository_of_a_teacher_is_a_teacher(hub, monkeypatch, tmp_path):
    hub.add_repo("lab/served", pico_files(size=16, num_classes=2))
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    assert len(open_model("lab/served", cache_dir=tmp_path, token="").labels) == 2


@pytest.mark.parametrize("file", [b"no picture", png(pictures(1)[0])[:40]])
def test_a_picture_that_cannot_be_read_is_refused(file):
    with pytest.raises(Refusal) as refused:
        ServedTeacher(pico_teacher("conv4", size=16)).scores([file], "softmax")
    assert refused.value.status == 400
    assert "picture" in refused.value.message
