"""Nested mappings of arrays, as Flax keeps a model, and the flat names of `weights`.

A state of Flax NNX {"conv1": {"kernel": array}} has the array "conv1.kernel".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from weights.config import Config
from weights.convert import see_natively
from weights.errors import WeightsError
from weights.files.content import Header, check_length
from weights.files.label import CHECKSUMS, CONFIG, Label, find_entries
from weights.schema import schema
from weights.stored import StoredArray, as_stored

STATE = "state"  # the entry, beside those of the label, that holds the arrays of a model of ours

_COLLECTIONS = ("params", "batch_stats")  # of a Linen model
_OPTIMIZERS = ("opt_state", "optimizer", "opt")  # their moments have the names of the parameters
_RANDOM = ("count", "key")  # of the source of random numbers of dropout, in NNX "rngs"

_Keys = tuple[str, ...]


def nest(config: Config | None, arrays: Mapping[str, np.ndarray | StoredArray]) -> dict[Any, Any]:
    """Arrays as nested mappings of stored arrays: canonical ones of `config` in the names and axis
    orders of NNX, with positions in a list as integers; those of another library (config None) by
    the dots in their names; a name with a slash has no parts.

    Raises WeightsError for a name that is the beginning of another.
    """
    if config is None:
        flat = {name: as_stored(array) for name, array in arrays.items()}
    else:
        flat = see_natively("jax", schema(config), arrays)
    tree: dict[Any, Any] = {}
    for name, array in flat.items():
        texts = [name] if "/" in name else name.split(".")
        *parts, leaf = [int(each) if config and each.isdigit() else each for each in texts]
        node: Any = tree
        for part in parts:
            node = node.setdefault(part, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict) or leaf in node:
            raise WeightsError(
                f"cannot write {name!r} into nested mappings: it begins with the name of another "
                "array, or another begins with it",
                [],
            )
        node[leaf] = array
    return tree


def find_label(tree: Mapping[str, Any]) -> Label:
    """What a file of ours says about itself; empty for any other file."""
    texts = find_entries(tree)
    ours = {CONFIG, CHECKSUMS} & set(texts) and isinstance(tree.get(STATE), Mapping)
    return texts if ours else {}


def header_of(tree: Mapping[str, Any], source: str, label: Label | None = None) -> Header:
    """The header of a file that holds nested mappings of StoredArrays.

    label: where the file keeps it elsewhere; by default as `find_label` finds it.
    Left out are optimizers, single numbers beside mappings (the step of a training), sources of
    random numbers, the levels "value" of NNX variables and the collections of Linen models.
    Raises WeightsError where two arrays get the same name.
    """
    if label is None:
        label = find_label(tree)
        tree = tree[STATE] if label else tree
    arrays: dict[str, Any] = {}
    nested = any(isinstance(value, Mapping) for value in tree.values())
    for path, array in _leaves(tree):
        if path[0] in _OPTIMIZERS or ("rngs" in path and path[-1] in _RANDOM):
            continue
        if nested and len(path) == 1 and not array.shape:
            continue
        check_length(sum(len(part) + 1 for part in path), source)
        name = ".".join(path[1:] if path[0] in _COLLECTIONS and len(path) > 1 else path)
        if name in arrays:
            raise WeightsError(f"{source}: holds two arrays named {ascii(name)[:100]}", [])
        arrays[name] = array
    said = tree.get("arch")
    layout = "jax" if label or any(name.endswith("conv1.kernel") for name in arrays) else "torch"
    return Header(arrays, label, layout, said if isinstance(said, str) else None)


def map_leaves(tree: Mapping[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
    """The same mappings with `convert` applied to everything else."""
    return {
        name: map_leaves(value, convert) if isinstance(value, Mapping) else convert(value)
        for name, value in tree.items()
    }


def _leaves(tree: Mapping[str, Any], path: _Keys = ()) -> Iterator[tuple[_Keys, StoredArray]]:
    """The arrays with the keys that lead there, without "value" where nothing else is beside it."""
    if path and list(tree) == ["value"] and isinstance(tree["value"], StoredArray):
        yield path, tree["value"]
        return
    for name, value in tree.items():
        if isinstance(value, StoredArray):
            yield (*path, name), value
        elif isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
