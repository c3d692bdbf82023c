"""What adaptation leaves behind, saved and loaded."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from learners import LABELS, RECORD, make, pictures
from safetensors.torch import save_file

from hf_free.errors import LearnerError
from hf_free.learner.classifier import FewShotClassifier


def test_an_adapted_classifier_predicts_the_same_bit_for_bit_in_another_process(tmp_path):
    classifier = make(head="ridge", batchnorm="support").adapt(pictures(), LABELS)
    classifier.save(tmp_path)
    save_file({"queries": pictures(9, 21, seed=4)}, tmp_path / "queries.safetensors")
    code = (
        "import json, sys, torch; from safetensors.torch import load_file; torch.set_num_threads(1);"
        "from hf_free.learner.classifier import FewShotClassifier;"
        "classifier = FewShotClassifier.load(sys.argv[1]);"
        "answers = classifier.predict_proba(load_file(sys.argv[1] + '/queries.safetensors')['queries']);"
        "print(json.dumps([classifier.classes, answers.tolist()]))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        expected = classifier.predict_proba(pictures(9, 21, seed=4)).tolist()
    finally:
        torch.set_num_threads(threads)
    assert json.loads(run.stdout) == [["ant", "bee", "cat"], expected]


def test_integer_classes_stay_integers(tmp_path):
    make(head="maml").adapt(pictures(), [3, 1, 3, 1, 3, 1]).save(tmp_path)
    assert FewShotClassifier.load(tmp_path).classes == [1, 3]


def test_a_folder_without_classifier_is_refused(tmp_path):
    make(record=RECORD).save_pretrained(tmp_path)
    with pytest.raises(LearnerError, match=r"holds no adapted classifier[\s\S]*classifier.json"):
        FewShotClassifier.load(tmp_path)


def test_it_is_loaded_without_what_trains_and_publishes_and_keeps_its_record(tmp_path):
    make("conv4_32", record=RECORD).adapt(pictures(), LABELS).save(tmp_path / "first")
    code = (
        "import sys; from hf_free.learner.classifier import FewShotClassifier;"
        "FewShotClassifier.load(sys.argv[1]).save(sys.argv[2]);"
        "assert 'hf_free.learner.meta_learner' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "first"), str(tmp_path / "second")], check=True)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(files) == 5
    for name in files:
        assert (tmp_path / "second" / name).read_bytes() == (tmp_path / "first" / name).read_bytes()
