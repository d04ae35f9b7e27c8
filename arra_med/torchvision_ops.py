"""Lets a torchvision built for CUDA be imported beside a CPU-only torch.

PyPI's torchvision declares its operators in a compiled library that does not load beside a CPU-only torch; its Python
code then fails on import ("operator torchvision::nms does not exist") and takes timm, open_clip and transformers with
it. Declaring the two operators' schemas before torchvision is first imported is enough; nothing here runs them.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []


class _TorchvisionFinder(importlib.abc.MetaPathFinder):
    """Acts once, when torchvision is first imported, and finds nothing itself."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_missing_operators()
        return None


def _declare_missing_operators() -> None:
    import torch

    if torch.version.cuda is not None or hasattr(torch.ops.torchvision, "nms"):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _libraries.append(library)  # the declarations live as long as this object


def install() -> None:
    """Installs the finder, once; costs nothing until torchvision is imported."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _TorchvisionFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())
