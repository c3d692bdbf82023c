"""The card of a small teacher."""

from __future__ import annotations

import torch

from hf_free.demo.small_teachers import ClassifierRecipe, train_classifier
from hf_free.demo.teacher_card import teacher_card
from hf_free.hub.loopback.card_rules import card_errors

COLORS = ((220, 30, 30), (30, 200, 40), (20, 40, 220), (230, 220, 30))


TINY = {"width": 8}


QUICK = ClassifierRecipe(architecture="conv4_32", model_args=TINY, epochs=6, batch_size=16, lr=1e-2, shift=2)


def colored_pictures(count: int, *, classes: int = 3, size: int = 32, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Noisy pictures whose color is their class: uint8 (N, 3, size, size), labels (N,)."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    noise = torch.randint(-20, 20, (count, 3, size, size), generator=generator)
    images = torch.tensor(COLORS)[labels][:, :, None, None] + noise
    return images.clamp(0, 255).to(torch.uint8), labels


def test_the_card_is_one_the_hub_takes_and_claims_no_license():
    trained = train_classifier(QUICK, *colored_pictures(12), held_out=colored_pictures(6, seed=1))
    card = teacher_card(trained, ["a<b>", "[c](d)", "e\n# f"], data="some digits")
    assert card_errors(card) == []
    assert "license" not in card.split("---")[1]
    assert "License of the data: not stated" in card
    assert f"{100 * trained.accuracy:.1f} %" in card
    assert "\n# f" not in card
    assert "<b>" not in card
    assert "cc0-1.0" in teacher_card(trained, ["a"], data="some digits", data_license="cc0-1.0")
