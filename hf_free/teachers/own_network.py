"""A network that neither timm nor transformers knows, behind timm's interface."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from hf_free.errors import TeacherError
from hf_free.runtime.foreign_code import told
from hf_free.runtime.text import others_words
from hf_free.teachers.teacher import reduce_logits

fx.wrap("reduce_logits")  # which looks at what it gets: a trace (hf_free.teachers.folding) takes it as one operation


class OwnNetwork(nn.Module):
    """A classifier of any library behind timm's interface.

    Args:
        body: Maps pictures to logits.
        input_size: Of a picture that it is tried with.

    Raises:
        TeacherError: it gives no logits (B, classes) for such pictures.
    """

    def __init__(self, body: nn.Module, input_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.body = body
        self.pretrained_cfg = {"architecture": type(body).__name__, "classifier": ()}
        self._head: tuple[nn.Module, ...] = ()  # a tuple hides it from registration: it is a part of the body
        images = torch.rand((2, *input_size), generator=torch.Generator().manual_seed(0))

        def cannot(error: BaseException) -> TeacherError:
            return TeacherError(
                f"a {type(body).__name__} cannot answer about images of {input_size}: {others_words(error)}",
                allowed="a network that maps normalized pictures (B, C, H, W) to logits (B, classes)",
                action="" if all(t.dtype == torch.float32 for t in body.parameters()) else "give network.float()",
            )

        with told(cannot), torch.no_grad():
            logits = reduce_logits(body(images))
        linear = [m for m in body.modules() if isinstance(m, nn.Linear) and m.out_features == logits.shape[1]]
        for head in reversed(linear):
            self._head = (head,)
            with torch.no_grad():
                kept = self.forward_features(images)
                if kept.ndim == 2 and torch.equal(head(kept), logits):
                    return
        self._head = ()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        return reduce_logits(self.body(x))

    def forward_features(self, x: Tensor) -> Tensor:
        """Input of the last linear layer, or the logits where there is no such layer."""
        if not self._head:
            return self(x)
        kept: list[Tensor] = []
        handle = self._head[0].register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        try:
            logits = self(x)
        finally:
            handle.remove()
        return kept[-1] if kept else logits

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of what `forward_features` gave, or just that."""
        return x if pre_logits or not self._head else self._head[0](x)

    def __deepcopy__(self, memo: dict[int, object]) -> OwnNetwork:
        copied = OwnNetwork.__new__(OwnNetwork)
        nn.Module.__init__(copied)
        copied.body = copy.deepcopy(self.body, memo)
        copied.pretrained_cfg = dict(self.pretrained_cfg)
        places = {id(module): name for name, module in self.body.named_modules()}
        copied._head = tuple(copied.body.get_submodule(places[id(head)]) for head in self._head)
        return copied.train(self.training)
