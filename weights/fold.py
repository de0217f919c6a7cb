"""Batch norms multiplied into the convolutions before them, for inference.

In evaluation a batch norm is x * factor + offset for each channel, with factor = weight /
sqrt(running_var + eps) and offset = bias - running_mean * factor. A convolution whose output
channels are multiplied by the factors, and whose bias is bias * factor + offset, gives the same
output without the norm.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from weights.attention import ATTENTION, plain_options
from weights.config import BlockConfig, Config
from weights.convert import Arrays, check
from weights.errors import ModelError, WeightsError
from weights.graph import graph, probe_size
from weights.live import LiveModel, look_into_unchanged
from weights.operations import Operation
from weights.schema import schema
from weights.stored import StoredArray, as_stored, read_arrays


def fold(config: Config, arrays: Mapping[str, np.ndarray]) -> tuple[Config, Arrays]:
    """The config and the canonical arrays of the same model without batch norms.

    The norms of blocks, stem and shortcuts, and those in attention modules of ours. Group and layer
    norms stay as they are, since they depend on the image; so does what a user's own attention
    module has. A model without batch norms is returned as it is.

    The output in evaluation is the same up to rounding: products and sums are computed in float64
    and rounded once, to the dtype of the convolution's weight. The result is for inference: it has
    no statistics that training would update.
    Raises WeightsError for arrays that do not fit the config, and for numbers that become too great
    for their dtype.
    """
    check(schema(config), arrays)
    target, folded = fold_stored(config, {name: as_stored(each) for name, each in arrays.items()})
    return target, read_arrays(folded)


def fold_stored(
    config: Config, arrays: Mapping[str, StoredArray]
) -> tuple[Config, dict[str, StoredArray]]:
    """`fold` for arrays in a file: each is computed when its values are asked for.

    arrays: those of the config.
    """
    target = folded_config(config)
    found = dict(arrays)
    operations = {operation.name: operation for operation in graph(config, probe_size(config))}
    kept = {parameter.name for parameter in schema(target)}
    for norm in operations.values():
        if norm.kind == "batch_norm" and f"{norm.module}.weight" not in kept:
            found |= _fold_one(operations[norm.inputs[0]].module, norm, arrays)
    return target, {parameter.name: found[parameter.name] for parameter in schema(target)}


def fold_model(model: Any) -> Any:
    """A new model without batch norms that computes what a live model computes in evaluation: of
    the same framework and dtype, on the same device. The model itself stays as it is.

    Raises ModelError for what is no model of ours, for a class derived from ours, for a model that
    was changed after it was made, and for one with parameters of several dtypes.
    """
    live = look_into_unchanged(model)
    dtypes = {live.dtypes()[each.name] for each in live.trainable}
    if len(dtypes) > 1:
        raise ModelError(
            f"the model has parameters of several dtypes, {', '.join(sorted(dtypes))}: expected "
            "one; convert the model to it first"
        )
    config, folded = fold_stored(model.config, live.see())
    made = live.adapter.create_like(model, config)
    LiveModel.of(made).load(folded, is_new=True)
    live.adapter.set_training(made, False)
    return made


def _fold_one(
    convolution: str, norm: Operation, arrays: Mapping[str, StoredArray]
) -> dict[str, StoredArray]:
    """The weight and the bias of a convolution, the module of that name, with its norm in them."""
    held = arrays[f"{convolution}.weight"]

    def get(leaf: str) -> np.ndarray:
        return arrays[f"{norm.module}.{leaf}"].get().astype(np.float64)

    def factors() -> np.ndarray:
        found: np.ndarray = get("weight") / np.sqrt(get("running_var") + norm.settings["eps"])
        return found

    def weight() -> np.ndarray:
        wide = held.get().astype(np.float64)
        wide *= factors().reshape(-1, *(1,) * (held.ndim - 1))
        return _round(wide, held.dtype, f"{convolution}.weight")

    def bias() -> np.ndarray:
        own = arrays.get(f"{convolution}.bias")
        before = np.zeros(held.shape[0]) if own is None else own.get().astype(np.float64)
        folded: np.ndarray = (before - get("running_mean")) * factors() + get("bias")
        return _round(folded, held.dtype, f"{convolution}.bias")

    return {
        f"{convolution}.weight": StoredArray(held.shape, held.dtype, weight),
        f"{convolution}.bias": StoredArray(held.shape[:1], held.dtype, bias),
    }


def _round(wide: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """Raises WeightsError where a number is too great for the dtype."""
    with np.errstate(over="ignore"):
        narrow = wide.astype(dtype)
    if (np.isfinite(wide) & ~np.isfinite(narrow)).any():
        raise WeightsError(
            f"{name}: with its batch norm in it, it has numbers that are too great for {dtype}; "
            "fold the weights in float32",
            [],
        )
    return narrow


def folded_config(config: Config) -> Config:
    """The config of the model that `fold` makes."""
    changes: dict[str, Any] = {}
    if config.norm == "batch":
        # What follows says nothing about a model without batch norms, so it has its defaults.
        idle = {name: getattr(BlockConfig(1, 1), name) for name in ("bn_eps", "bn_decay")}
        changes = {"norm": "folded", "conv_bias": True, "zero_init": False, **idle}
    return replace(config, **changes, attention_options=_fold_attention(config))


def _fold_attention(config: Config) -> Any:
    """The options of the attention, of each stage where they are so."""
    if isinstance(config, BlockConfig):
        return _folded_options(config.attention, config.attention_options)
    kinds, options = config.attention, config.attention_options
    if isinstance(kinds, str) and not isinstance(options, tuple):
        return _folded_options(kinds, options)
    stages = [blocks[0] for blocks in config.stages()]
    return tuple(_folded_options(each.attention, each.attention_options) for each in stages)


def _folded_options(kind: str, options: Any) -> dict[str, Any]:
    found = plain_options(options)
    if not ATTENTION[kind].built_in or "folded" not in ATTENTION[kind].options:
        return found
    return {name: value for name, value in found.items() if name not in ("bn_eps", "bn_decay")} | {
        "folded": True
    }
