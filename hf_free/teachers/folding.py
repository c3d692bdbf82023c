"""A faster copy of a network for inference only: BatchNorm folded into the convolutions before it, pooling before
ReLU.

In eval mode BatchNorm is a linear map per channel, so it can be multiplied into the weights of the convolution whose
output it takes; ReLU and the maximum over a window may change places, and after pooling there is less to do. The
numbers are the same up to rounding. The network itself is left alone: inversion reads its BatchNorm layers.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from hf_free.backbones.halving_pool import HalvingPool

_ONE_AT_A_TIME = threading.Lock()
"""Held while a network is traced: each trace puts back what it found, so that two at once leave one of them behind."""


class _Tracer(fx.Tracer):
    """Traces into modules that have parts; all others, including timm's own layers, are left as they are.

    While it traces, torch.fx sends the calls of every module of the process through it, those of other threads too:
    these go on to their modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, object]
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, dict(kwargs))

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        has_parts = any(True for _ in m.children()) and not isinstance(m, _norms_of_timm())
        return not has_parts or super().is_leaf_module(m, module_qualified_name)


def fold_batchnorm(network: nn.Module) -> nn.Module | None:
    """A network with the same outputs as this one in eval mode, for inference; None where there is nothing to fold.

    Everything but the folded convolutions is shared with the network.

    Args:
        network: In eval mode; it stays as it is.
    """
    if network.training or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        return None
    try:
        with _ONE_AT_A_TIME:
            graph = _Tracer().trace(network)
        folded = fx.GraphModule(network, graph)
    except Exception:  # torch.fx's where a forward depends on its input; a network of the user's own may raise any
        return None
    modules, calls = dict(folded.named_modules()), Counter(node.target for node in folded.graph.nodes)
    count = 0
    for node in list(folded.graph.nodes):
        convolution = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(convolution, fx.Node) or convolution.op != "call_module" or len(convolution.users) > 1:
            continue
        before, norm = modules[str(convolution.target)], modules[str(node.target)]
        # subclasses of a convolution may use their weights differently
        is_pair = type(before) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None
        if not is_pair or calls[convolution.target] > 1 or calls[node.target] > 1 or node.kwargs or len(node.args) > 1:
            continue
        if type(norm) not in (nn.BatchNorm2d, *_norms_of_timm()):
            continue
        _replace(folded, str(convolution.target), fuse_conv_bn_eval(before, norm))
        if isinstance(norm, _norms_of_timm()):
            _replace(folded, str(node.target), norm.act)  # its `drop` is for training
        else:
            node.replace_all_uses_with(convolution)
            folded.graph.erase_node(node)
        count += 1
    if not count:
        return None
    _pool_first(folded)
    folded.delete_all_unused_submodules()
    folded.graph.lint()
    folded.recompile()
    return folded.eval().requires_grad_(False)


def _norms_of_timm() -> tuple[Any, ...]:
    """timm's BatchNorm with an activation; without timm, which takes seconds to import, no network has one."""
    layers = sys.modules.get("timm.layers")
    return () if layers is None else (layers.BatchNormAct2d,)


def _halves(pool: nn.MaxPool2d) -> bool:
    is_plain = pool.padding in (0, (0, 0)) and pool.dilation in (1, (1, 1))
    is_plain = is_plain and not pool.ceil_mode and not pool.return_indices
    return is_plain and pool.kernel_size in (2, (2, 2)) and pool.stride in (2, (2, 2))


def own_bytes(folded: nn.Module, network: nn.Module) -> int:
    """Bytes of what a folded network does not share with the one that it was made of."""
    shared = {id(tensor) for tensor in [*network.parameters(), *network.buffers()]}
    own = [tensor for tensor in [*folded.parameters(), *folded.buffers()] if id(tensor) not in shared]
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module into the place of that name; the modules that contain it belong to the copy."""
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, module)


def _pool_first(folded: fx.GraphModule) -> None:
    """Have a maximum over windows taken before a ReLU whose output nothing else takes."""
    modules = dict(folded.named_modules())
    for pool in list(folded.graph.nodes):
        if pool.op != "call_module" or not isinstance(modules[pool.target], nn.MaxPool2d) or len(pool.args) != 1:
            continue
        act = pool.args[0]
        if not isinstance(act, fx.Node) or act.op != "call_module" or len(act.users) > 1:
            continue
        if not isinstance(modules[act.target], nn.ReLU):
            continue
        (act_input,) = act.all_input_nodes
        pool.replace_all_uses_with(act)
        act.replace_input_with(act_input, pool)
        pool.args = (act_input,)
        pool.append(act)
        window = modules[pool.target]
        if _halves(window):
            _replace(folded, pool.target, HalvingPool())
