"""A card that the Hub takes."""

from __future__ import annotations

CARD = b"---\nlicense: mit\nlibrary_name: timm\ntags:\n- few-shot\nbase_model:\n- org/teacher\n---\n# A model\n"
