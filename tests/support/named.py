"""Records of teachers to be named."""

from __future__ import annotations

from dataclasses import replace

from pico import pico_teacher


def records_of(*architectures):
    record = pico_teacher("conv4", size=16).record
    return [replace(record, architecture=name) for name in architectures]
