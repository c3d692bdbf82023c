"""The version of hf-free, for records and cards."""

from __future__ import annotations

__version__ = "0.1.0"
