"""Hashes of arrays and of files: equal for weights that are the same to the last bit.

They do not depend on the format of a file, nor on the axis orders of a framework.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weights.stored import StoredArray, get_bytes, on_cores


def fingerprint(array: np.ndarray | StoredArray) -> str:
    """The SHA-256 of dtype, shape and values, hexadecimal: of the text "float32 (64, 3, 7, 7)" and
    the values in C order, little-endian.
    """
    found = hashlib.sha256(f"{array.dtype.name} {array.shape}".encode())
    found.update(get_bytes(array))
    return found.hexdigest()


def fingerprint_all(prints: Mapping[str, str]) -> str:
    """One SHA-256 of the fingerprints of several arrays: of a line "name fingerprint" for each, in
    the order of the names.
    """
    text = "\n".join(f"{name} {prints[name]}" for name in sorted(prints))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint_weights(arrays: Mapping[str, np.ndarray | StoredArray]) -> str:
    """One SHA-256 of canonical arrays with their names, computed on the available cores."""
    prints = on_cores(fingerprint, arrays.values())
    return fingerprint_all(dict(zip(arrays, prints, strict=True)))


def fingerprint_file(path: Path) -> str:
    """The SHA-256 of the bytes of a file, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
