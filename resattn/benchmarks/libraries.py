"""Libraries whose implementations ours are compared with."""

from __future__ import annotations

import sys
import warnings
from functools import cache
from importlib import import_module
from typing import Any


def import_library(package: str) -> Any:
    """A library of other implementations, imported.

    torchvision, which timm imports, registers shapes for its compiled operators as it is imported.
    The registry's wheel has them for CUDA alone; beside a PyTorch without CUDA they do not load,
    and the import fails. Their schemas suffice, since no network here calls them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_module("torch")  # before TensorFlow, which must not be loaded first
        try:
            return import_module(package)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
        for name in [
            name for name in sys.modules if name.split(".")[0] in (package, "torchvision")
        ]:
            del sys.modules[name]
        _declare_operators()
        return import_module(package)


@cache
def _declare_operators() -> Any:
    """Schemas of torchvision's operators. They last as long as what is returned."""
    library = import_module("torch").library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
