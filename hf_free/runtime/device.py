"""Where and in which precision to compute."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from hf_free.errors import ConfigError
from hf_free.runtime.given import short_form

MAX_DEVIATION = 0.25
"""Share of a network's answers by which they may differ in bf16 from those in fp32. A bf16 number has 8 bits, so each
layer rounds by up to 2^-9, which a hundred layers in a row make 2 %, and features that nearly cancel each other ten
times that. Measured: at most 0.03 in 31 trained networks, and 0.06 in 28 of 30 timm families with random weights (0.17
in ReXNet and HardCoRe-NAS); a layer that is computed wrongly makes it about 1."""


_DEVICES = "auto, cpu, cuda, cuda:N or mps, as the machine has them"


def choose_device(name: str | torch.device) -> torch.device:
    """The device of that name; `auto` takes a GPU where there is one. Of None, as of any other type, there is none.

    Raises:
        ConfigError: a device that this machine does not have.
    """
    if torch.get_default_device().type == "meta":  # set by torch.set_default_device, or a `with` of it
        given = "torch's default device is meta, which holds no numbers"
        raise ConfigError(given, allowed=_DEVICES, action='torch.set_default_device("cpu")')
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):  # its words list dozens of kinds
        given = f"device {short_form(name)} cannot be used: PyTorch knows none of that name"
        raise ConfigError(given, allowed=_DEVICES, action="--device cpu") from None
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"device {str(name)!r} cannot be used: {str(error).splitlines()[0]}",
            allowed=_DEVICES,
            action="--device cpu",
        ) from None
    return device


@dataclass(frozen=True)
class Precision:
    """Autocast type and memory format of the networks."""

    dtype: torch.dtype | None = None
    """Type of the heavy operations; None computes in fp32."""
    channels_last: bool = True
    """Whether pictures are laid out pixel by pixel, which convolutions of CPUs and GPUs prefer."""

    @classmethod
    def choose(cls, name: str, device: torch.device, *, channels_last: bool = True) -> Precision:
        """`no`, `bf16`, `fp16`, or `auto`: bf16 where the device computes it natively."""
        types = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
        dtype = types[name] if name in types else (torch.bfloat16 if has_fast_bf16(device) else None)
        return cls(dtype, channels_last)

    @property
    def name(self) -> str:
        """The name that `choose` takes."""
        return {None: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]

    @property
    def scales_loss(self) -> bool:
        """Whether a loss has to be scaled before its backward pass: small gradients become zero in fp16."""
        return self.dtype == torch.float16

    @property
    def of_unscaled(self) -> Precision:
        """The same for steps that do not scale their loss: fp32 in the place of fp16."""
        return Precision(None, self.channels_last) if self.scales_loss else self

    def autocast(self, device: torch.device) -> AbstractContextManager[None]:
        """The context to compute in; fp32 stays fp32 inside another one, too."""
        return torch.autocast(device.type, self.dtype, enabled=self.dtype is not None)

    def deviation(self, answer: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor | None = None) -> float:
        """By how much a network's answers differ as they are computed in a run from those in fp32.

        Some processors compute some layers wrongly in bf16, silently (torch 2.14 on CPUs with AMX: convolutions whose
        stride is their kernel).

        Args:
            answer: Images (B, C, H, W) -> answers (B, n), of which a shift of a row changes nothing.
            images: What it is asked about.
            expected: Its answers in fp32; None asks for them.

        Returns:
            See `deviation`; 0 where this precision is fp32.
        """
        if self.dtype is None:
            return 0.0
        with torch.no_grad():
            if expected is None:
                with Precision(None).autocast(images.device):
                    expected = answer(images)
            with self.autocast(images.device):
                found = answer(self.layout(images))
        return deviation(found, expected)

    def layout(self, images: Tensor) -> Tensor:
        """Pictures in the memory format."""
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images


def deviation(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference of two sets of answers (B, n) over the norm of the expected ones, rows centered.

    0 is none, about 1 and more says that they have nothing to do with each other; not finite if a number is not.
    """
    found, expected = (rows.double() - rows.double().mean(1, keepdim=True) for rows in (found, expected))
    smallest = torch.finfo(torch.float64).tiny  # two answers of 0 are the same
    return ((found - expected).norm() / expected.norm().clamp_min(smallest)).item()


def check_can_compile(device: torch.device) -> None:
    """Refuse torch.compile where it could not work: on a CPU it calls a C++ compiler.

    Raises:
        ConfigError: none is there.
    """
    if device.type != "cpu" or any(shutil.which(name) for name in (os.environ.get("CXX"), "g++", "clang++") if name):
        return
    raise ConfigError(
        "trainer.compile needs a C++ compiler on a CPU, and none was found",
        allowed="g++ or clang++ on the path, or CXX naming one",
        action="install one, or leave trainer.compile out: it does not pay on a CPU (docs/experiments)",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory: Python's, a GPU's, or that of torch on a CPU."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if isinstance(error, RuntimeError) and "unable to mmap" in str(
        error
    ):  # torch, of a file for which there is no room
        return os.strerror(errno.ENOMEM) in str(error)
    return isinstance(error, Exception) and should_reduce_batch_size(error)  # torch on a CPU: a bare RuntimeError


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 runs on the device's own instructions rather than being emulated."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        capabilities = torch.backends.cpu.get_cpu_capability()
        return capabilities.startswith("AVX512") and _cpu_flag("avx512_bf16", "amx_bf16")
    return False


@cache
def _cpu_flag(*names: str) -> bool:
    """Whether Linux lists one of the flags for the processor; elsewhere no."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return any(name in flags.split() for name in names)
