"""Files of torch.save, for `weights.files.pytorch`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from pytorch_impl.bridge.native import to_numpy
from weights.convert import BFLOAT16
from weights.errors import WeightsError
from weights.stored import StoredArray, dtype_named, in_native_order

_STATE = "state_dict"
_MOST_VALUES, _DEEPEST = 1_000_000, 50  # of what is in a file, nested mappings included


def write_state(path: Path, label: Mapping[str, str], arrays: Mapping[str, StoredArray]) -> None:
    """Writes a file for torch.load(path, weights_only=True): a plain state dict, or, with a label,
    that and the state dict under "state_dict".

    PyTorch needs all tensors at once. Those that are whole in a file or a model are not copied.
    """
    state = {name: _share(array) for name, array in arrays.items()}
    # Not to the path: the archive would hold its name.
    with path.open("wb") as file:
        target = _Target(file)
        torch.save({**label, _STATE: state} if label else state, cast(Any, target))
    if target.error is not None:
        raise target.error


class _Target:
    """A file, for PyTorch to write to. It would make a RuntimeError of one for a full disk."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.error = error
        return len(content)

    def flush(self) -> None:
        """Nothing: the file is closed at once."""


def _share(array: StoredArray) -> Tensor:
    """A tensor to be written, in the memory where the values are if they are in C order there."""
    values = array.get()
    if not values.flags.c_contiguous:
        values = array.read()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        if values.dtype == BFLOAT16:
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)


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
