"""Files of torch.save, for `weights.files.pytorch`."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pytorch_impl.bridge.native import from_numpy, to_numpy
from weights.errors import WeightsError
from weights.stored import StoredArray, dtype_named, in_native_order

_STATE = "state_dict"
_MOST_VALUES, _DEEPEST = 1_000_000, 50  # of what is in a file, nested mappings included


def to_file(label: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> bytes:
    """A file for torch.load(path, weights_only=True): a plain state dict, or, with a label, that
    and the state dict under "state_dict".
    """
    state = {name: from_numpy(array) for name, array in arrays.items()}
    # Not to the path: the archive would hold its name, and a full disk would be a RuntimeError.
    content = io.BytesIO()
    torch.save({**label, _STATE: state} if label else state, content)
    return content.getvalue()


def read_file(path: Path, zipped: bool) -> dict[str, Any]:
    """What a file of torch.save holds, with stored arrays for its tensors. Runs no code in it.

    zipped: whether it has the format of PyTorch 1.6 and later, which is not read before it is
    needed.
    Raises WeightsError for tensors that claim more values than the file has, and whatever
    PyTorch raises for a file that is broken.
    """
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(content, Mapping):
        raise TypeError(f"expected a mapping of names to tensors, got {type(content).__name__}")
    return _Copy().mapping(content, 0)


class _Copy:
    """Copies nested mappings, whose parts may be shared: so many that a copy would never end."""

    def __init__(self) -> None:
        self._left = _MOST_VALUES

    def mapping(self, content: Mapping[Any, Any], depth: int) -> dict[Any, Any]:
        self._left -= len(content)
        if self._left < 0 or depth > _DEEPEST:
            raise WeightsError(
                f"holds more than {_MOST_VALUES:,} values, or mappings more than {_DEEPEST} deep",
                [],
            )
        return {
            name: self.mapping(value, depth + 1)
            if isinstance(value, Mapping)
            else _stored(name, value)
            if isinstance(value, Tensor)
            else value
            for name, value in content.items()
        }


def _stored(name: Any, tensor: Tensor) -> StoredArray:
    """A tensor, which may say that a few numbers in the file are many."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise WeightsError(
            f"{ascii(name)[:100]} is a sparse, quantized or empty tensor, and expected is a plain "
            "one",
            [],
        )
    dtype = dtype_named(str(tensor.dtype).removeprefix("torch."), str(name))
    claimed, held = math.prod(tensor.shape) * dtype.itemsize, tensor.untyped_storage().nbytes()
    if claimed > held:
        raise WeightsError(
            f"{ascii(name)[:100]} claims {claimed:,} bytes of values and has {held:,} bytes (an "
            "expanded tensor); save tensor.contiguous()",
            [],
        )
    plain = tensor.detach().resolve_conj().resolve_neg()
    return StoredArray(tuple(tensor.shape), dtype, lambda: in_native_order(to_numpy(plain)))
