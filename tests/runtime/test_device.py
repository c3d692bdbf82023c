"""Device and precision: what the names mean, and a clear refusal of what is not there."""

from __future__ import annotations

import errno

import pytest
import torch

from hf_free.errors import ConfigError
from hf_free.runtime.device import Precision, check_can_compile, choose_device, has_fast_bf16, is_out_of_memory

CPU = torch.device("cpu")


def test_a_default_device_that_holds_no_numbers_is_refused():
    with torch.device("meta"), pytest.raises(ConfigError, match="torch's default device is meta"):
        choose_device("cpu")


def test_auto_is_a_device_that_computes():
    device = choose_device("auto")
    assert device.type == ("cuda" if torch.cuda.is_available() else device.type)
    assert (torch.ones(2, device=device) * 3).tolist() == [3, 3]
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x", "cuda:-1", "meta"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        choose_device(name)
    assert "auto, cpu, cuda" in str(caught.value)
    assert "--device cpu" in str(caught.value)
    assert "\n" not in caught.value.given


@pytest.mark.parametrize(("name", "dtype"), [("no", None), ("bf16", torch.bfloat16)])
def test_named_precision(name, dtype):
    precision = Precision.choose(name, CPU)
    assert precision.dtype is dtype
    assert precision.name == name


def test_auto_takes_bf16_only_where_it_is_native():
    expected = torch.bfloat16 if has_fast_bf16(CPU) else None
    assert Precision.choose("auto", CPU).dtype is expected
    assert Precision.choose("auto", torch.device("meta")).dtype is None


def test_autocast_is_what_the_name_says():
    a, b = torch.rand(4, 4), torch.rand(4, 4)
    for name, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        with Precision.choose(name, CPU).autocast(CPU):
            assert (a @ b).dtype == dtype
    assert (a @ b).dtype == torch.float32


def test_layout():
    images = torch.rand(2, 3, 4, 5)
    laid = Precision(channels_last=True).layout(images)
    assert laid.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(laid, images)
    assert Precision(channels_last=False).layout(images) is images


def test_compiling_on_a_cpu_without_a_compiler_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"trainer\.compile needs a C\+\+ compiler"):
        check_can_compile(torch.device("cpu"))
    (tmp_path / "g++").touch(mode=0o755)
    check_can_compile(torch.device("cpu"))


def test_whoever_says_it_out_of_memory_is_known():
    """torch tells of a file that cannot be mapped in words of its own, the system by a number."""
    mapped = "unable to mmap 9 bytes from file <x>: "
    for error in (
        MemoryError(),
        OSError(errno.ENOMEM, "x"),
        RuntimeError(mapped + "Cannot allocate memory (12)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ):
        assert is_out_of_memory(error), error
    for error in (RuntimeError(mapped + "Permission denied (13)"), OSError(errno.ENOENT, "x"), ValueError("memory")):
        assert not is_out_of_memory(error), error
