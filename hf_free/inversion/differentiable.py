"""Teachers whose answers tell nothing about how to change the pictures: only a network of the user's own is one."""

from __future__ import annotations

from torch import Tensor

from hf_free.errors import UnfitTeacherError

NO_GRADIENT = "no gradient comes back from its answers to the pictures"


class NoGradientError(UnfitTeacherError):
    """A teacher that can be asked and cannot be inverted.

    Args:
        name: What it is called.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name}: {NO_GRADIENT}, so that it cannot be inverted",
            allowed="a forward that torch computes to its end, without detach(), no_grad() or numpy",
            action="mend its forward, or leave it out; or serve it (hf-free serve) and give it as endpoint:ADDRESS, "
            "which is inverted by answers alone",
        )


def check_gradient(pictures: Tensor, logits: Tensor, name: str) -> None:
    """Refuse logits that do not lead back to the pictures; nothing is computed.

    Args:
        pictures: What the teacher was asked about; where they ask for no gradient, nothing is refused.
        logits: Its answers.
        name: What it is called.

    Raises:
        NoGradientError: they do not.
    """
    if pictures.requires_grad and not logits.requires_grad:
        raise NoGradientError(name)
