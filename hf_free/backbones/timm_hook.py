"""Make `timm.create_model("conv4_32")` work after `import hf_free`, without importing timm there.

timm takes seconds to import and `hf-free --help` must not wait for it. If timm is there already, our networks
are registered at once; otherwise right after its first import.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

_BACKBONES = "hf_free.backbones.register"


def install() -> None:
    """Register hf-free's backbones with timm now, or as soon as timm is imported. Safe to call again."""
    if "timm" in sys.modules:
        # During timm's own import its registry does not exist yet; the finder below has then done its work.
        if not getattr(sys.modules["timm"].__spec__, "_initializing", False):
            importlib.import_module(_BACKBONES)
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())


class _TimmFinder:
    """Finds timm as the other finders do, and has its loader register the backbones after running timm."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Spec of timm with a loader that runs once more than it used to; None for any other module."""
        if name != "timm":
            return None
        # Some libraries only ask whether timm could be imported, so this finder stays until timm is loaded.
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and spec.loader is not None:
            self._extend(spec.loader)
        return spec

    def _extend(self, loader: importlib.abc.Loader) -> None:
        """Wrap `exec_module` of this one loader object; the wrapper takes itself and the finder away again."""
        run = loader.exec_module

        def run_and_register(module: ModuleType) -> None:
            run(module)
            if module.__name__ != "timm":
                return
            del loader.exec_module  # the class has its own again
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            importlib.import_module(_BACKBONES)

        loader.exec_module = run_and_register  # type: ignore[method-assign]
