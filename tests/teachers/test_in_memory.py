"""Networks of the user's own as teachers: timm's, transformers', and any other."""

from __future__ import annotations

import copy
import pickle
import re
import warnings

import pytest
import torch
from pico import pico_folder, pico_network
from torch import nn

from hf_free.errors import TeacherError
from hf_free.teachers.in_memory import as_teacher, pool_in_memory
from hf_free.teachers.own_network import OwnNetwork
from hf_free.teachers.pool import TeacherPool

SHOWN = {"input_size": (3, 16, 16), "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.2, 0.3)}


class Plain(nn.Module):
    """A network that knows neither timm nor transformers; may be more than its last linear layer says."""

    def __init__(self, classes=4, scale=1.0):
        super().__init__()
        self.early = nn.Linear(8, classes)  # of the right width, and not the head
        self.conv = nn.Conv2d(3, 8, 3, stride=2)
        self.head, self.scale = nn.Linear(8, classes), scale

    def forward(self, x):
        pooled = self.conv(x).relu().mean((2, 3))
        return self.scale * self.head(pooled) + 0 * self.early(pooled)


def test_a_network_of_timm_s_needs_nothing_said_and_stays_as_it_is():
    network = pico_network("conv4", num_classes=4)
    before = copy.deepcopy(network.state_dict())
    network.train()
    teacher = as_teacher(network, label_names=["a", "b", "c", "d"])
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(teacher.logits(images), network.eval()(teacher.prepare(images)), atol=1e-6)
    assert (teacher.record.label_names, teacher.record.input_size) == (("a", "b", "c", "d"), (3, 32, 32))


@pytest.mark.parametrize(("scale", "width"), [(1.0, 8), (2.0, 4)])
def test_any_network_answers_as_it_does_alone(scale, width):
    network = Plain(scale=scale).eval()
    teacher = as_teacher(network, **SHOWN)
    images = torch.rand(3, 3, 20, 20)
    logits, features = teacher(images)
    shown = teacher.prepare(images)
    assert torch.allclose(logits, network(shown), atol=1e-6)
    expected = network.conv(shown).relu().mean((2, 3)) if width == 8 else network(shown)
    assert torch.allclose(features, expected, atol=1e-6), "where more follows the last layer, the answers are all"
    assert (teacher.record.num_features, teacher.record.num_classes, teacher.record.architecture) == (
        width,
        4,
        "Plain",
    )
    copied = copy.deepcopy(teacher.network)
    assert torch.equal(copied.forward_head(copied.forward_features(shown)), logits)


def test_what_is_no_classifier_is_refused():
    with pytest.raises(TeacherError, match="nothing says how it is shown pictures"):
        as_teacher(Plain())
    with pytest.raises(TeacherError, match="cannot answer about images of"):
        as_teacher(nn.Linear(7, 2), **SHOWN)
    with pytest.raises(TeacherError, match="logits of shape"):
        as_teacher(nn.Conv2d(3, 4, 3), **SHOWN)
    pool = TeacherPool.from_teachers([as_teacher(Plain(classes=1), **SHOWN), as_teacher(Plain(), **SHOWN)])
    assert [reason for _, reason in pool.skipped] == ["has 1 class (allowed: classifiers of at least 2 classes)"]
    assert len(pool) == 1


def _traced():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of TorchScript as a whole
        return torch.jit.trace(Plain().eval(), torch.rand(2, 3, 16, 16))


def _frozen_program():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(_traced())


def _for_two_pictures():
    return torch.export.export(Plain().eval(), (torch.rand(2, 3, 16, 16),))


class _Computed(Plain):
    """Its head's weight is a result, not a parameter, as torch.nn.utils.weight_norm has it."""

    def __init__(self):
        super().__init__()
        weight = self.head._parameters.pop("weight")
        self.head.weight = weight * 2


@pytest.mark.parametrize(
    ("make", "said", "to_do"),
    [
        (_traced, r"mine: a TorchScript program", "load_state_dict"),
        (_frozen_program, r"mine: a TorchScript program", "load_state_dict"),
        (lambda: nn.Sequential(_traced(), nn.Identity()), r"parts in TorchScript", "load_state_dict"),
        (_for_two_pictures, r"ExportedProgram", r"PROGRAM\.module\(\)"),
        (lambda: _for_two_pictures().module(), r"mine: it cannot answer about one picture", "exported"),
        (lambda: Plain().to("meta"), r"mine: a network without weights", None),
        (lambda: Plain().half(), r"a Plain cannot answer", r"network\.float\(\)"),
        (_Computed, r"mine: this _Computed cannot be copied", "weight_norm"),
    ],
)
def test_what_torch_makes_of_networks_is_a_teacher_or_one_clear_error(make, said, to_do):
    with pytest.raises(TeacherError, match=said) as raised:
        as_teacher(make(), **SHOWN, name="mine")
    assert to_do is None or re.search(to_do, raised.value.action)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda network: torch.compile(network, backend="eager")])
def test_what_torch_wraps_networks_in_is_taken_off(wrap):
    network = Plain().eval()
    teacher = as_teacher(wrap(network), **SHOWN)
    images = torch.rand(2, 3, 16, 16)
    assert (teacher.record.architecture, teacher.record.num_features) == ("Plain", 8)
    assert torch.allclose(teacher.logits(images), network(teacher.prepare(images)), atol=1e-6)


@pytest.mark.parametrize("kind", ["timm", "own"])
@pytest.mark.parametrize(
    ("described", "said"),
    [
        ({"label_names": ["a"]}, "mine: label_names of length 1, and its classes are 4"),
        ({"std": (0.5, 0.5)}, "mine: std (of length 2, and its channels are 3|is .0.5, 0.5.)"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean="),
        ({"std": (0.5, 0.5, 0.0)}, "std="),
        ({"interpolation": "mitchell"}, "interpolation='mitchell'"),
        ({"name": 3}, "name=3"),
    ],
)
def test_what_does_not_describe_the_network_is_refused(kind, described, said):
    network, shown = (pico_network("conv4", num_classes=4), {}) if kind == "timm" else (Plain(), SHOWN)
    with pytest.raises(TeacherError, match=said) as raised:
        as_teacher(network, **{**shown, "name": "mine", **described})
    assert raised.value.allowed


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64])
def test_answers_that_are_no_floating_point_numbers_are_refused(kind):
    network = Plain()
    network.register_forward_hook(lambda _module, _inputs, output: output.to(kind))
    with pytest.raises(TeacherError, match=f"an output of {kind}"):
        as_teacher(network, **SHOWN)


def test_weights_of_64_bits_are_refused():
    for network in (Plain().double(), pico_network("conv4").double()):
        with pytest.raises(TeacherError, match=r"(?s)mine: a network with weights of 64 bits.*network\.float\(\)"):
            as_teacher(network, **SHOWN, name="mine")


def test_a_network_whose_weights_are_buffers_is_a_teacher():
    class Buffers(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.rand(3, 4))

        def forward(self, x):
            return x.mean((2, 3)) @ self.weight

    assert as_teacher(Buffers(), **SHOWN).logits(torch.rand(2, 3, 16, 16)).shape == (2, 4)


def test_a_network_of_transformers_that_takes_other_pictures_says_so():
    pytest.importorskip("transformers")
    from pico_transformers import pico_classifier

    with pytest.raises(TeacherError, match=r"mine: it cannot answer about one picture of \(3, 16, 16\)"):
        as_teacher(pico_classifier("vit"), **SHOWN, name="mine")


def test_a_network_of_transformers_answers_as_it_does_alone():
    pytest.importorskip("transformers")
    from pico_transformers import ask, pico_classifier

    network = pico_classifier("vit")
    teacher = as_teacher(network, **{**SHOWN, "input_size": (3, 32, 32)})
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(teacher.logits(images), ask(network, teacher.prepare(images)), atol=1e-6)
    assert (teacher.record.num_features, teacher.record.num_classes) == (16, 5)
    assert isinstance(network.classifier, nn.Linear), "the user's own keeps its head"


@pytest.mark.parametrize("error", [SystemExit("bye"), AssertionError("a")])
def test_a_network_that_raises_what_it_likes_is_named(error):
    network = Plain()
    network.forward = lambda _: (_ for _ in ()).throw(error)
    with pytest.raises(TeacherError, match=f"a Plain cannot answer about images of .*: {type(error).__name__}"):
        as_teacher(network, **SHOWN)


def test_a_pool_that_is_pickled_asks_the_same_teachers_and_holds_no_token(tmp_path):
    pool = TeacherPool([str(pico_folder(tmp_path, "conv4"))], token="hf_secret")
    copied, images = pickle.loads(pickle.dumps(pool)), torch.rand(2, 3, 32, 32)
    assert torch.equal(copied[0].logits(images), pool[0].logits(images))
    assert b"hf_secret" not in pickle.dumps(pool)


def test_a_pool_holds_networks_teachers_and_texts(tmp_path):
    named = str(pico_folder(tmp_path, "conv4"))
    models = [pico_network("resnet"), as_teacher(Plain(), **SHOWN, name="mine"), named]
    pool = pool_in_memory(models)
    assert [record.reference for record in pool.records] == ["(in memory 1)", "mine", named]
    assert isinstance(pool[1].network, OwnNetwork)
    assert pool[2].record.sha256
