"""Attaches attention to a trained network that has none, so that its output does not change.

Every array of the network is kept. Most kinds multiply by gates that begin at 1/2; the last norm of
each block, whose output they read, is multiplied by the inverse. Where that is a power of 2 nothing
is rounded, in evaluation as in training: the output is the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from weights.attention import ATTENTION, Start, attention_parameters, plain_options
from weights.checks import at_least
from weights.config import BlockConfig, Config, NetworkConfig
from weights.convert import Arrays, check
from weights.errors import ArgumentError
from weights.parameters import Parameter, within
from weights.schema import schema

Attention = str | tuple[str, ...]
AttentionOptions = Mapping[str, Any] | tuple[Mapping[str, Any] | None, ...] | None


@dataclass(frozen=True)
class Attached:
    """A block that attention was attached to.

    name: of the block, "" where it is alone. block: its new config. start: how its attention
    begins.
    """

    name: str
    block: BlockConfig
    start: Start

    @property
    def path(self) -> str:
        """What the names of its parameters begin with."""
        return f"{self.name}.".lstrip(".")

    @property
    def norm(self) -> str:
        """The norm whose output the attention reads."""
        return f"{self.path}{self.block.last_layer}"


def attach(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    attention: Attention,
    options: AttentionOptions = None,
    seed: int = 0,
) -> tuple[Config, Arrays]:
    """The config and the canonical arrays of the same network with attention, for fine-tuning.

    config, arrays: of a network or block whose attention is "none" where one is to be attached.
    attention, options: a kind and its options, or for networks a tuple of one for each stage, as in
        `NetworkConfig`; stages with the kind "none" stay as they are.
    seed: of the new arrays that are not constant.

    The output stays the same: bit for bit in any binary format, in evaluation and in training, or
    up to rounding for `bam` and for `triplet` with three branches. For that, the weight and the
    bias of each block's last norm are multiplied by 1, 2 or 4, for `bam` by 2/3; nothing else of
    the network changes. `attachments` says which by what.
    Each module begins with a last layer of zeros, and learns that one at the first step and the
    layers before it from the second; no gate is saturated. New arrays have the dtype of the last
    norm.
    Raises ArgumentError for a kind that cannot begin without changing the output (mhsa, simam, ge
    without parameters, those of a user), for a stage that has attention already, and for what the
    config refuses; WeightsError for arrays that do not fit the config.
    """
    if config.norm == "folded":
        raise ArgumentError(
            "norm: the batch norms are folded into the convolutions, but attention is attached by "
            "scaling each block's last norm; attach it to the network that was folded"
        )
    check(schema(config), arrays)
    target = target_config(config, attention, options)
    random = np.random.RandomState(at_least("seed", seed, 0, limit=2**32))
    found = dict(arrays)
    for each in attachments(config, target):
        weight, bias = f"{each.norm}.weight", f"{each.norm}.bias"
        for name in (weight, bias):
            found[name] = _scaled(name, arrays[name], each.start.factor)
        found |= _first_values(each, found, random)
    return target, {parameter.name: found[parameter.name] for parameter in schema(target)}


def target_config(config: Config, attention: Attention, options: AttentionOptions) -> Config:
    """The config with that attention in it, as `attach` makes it. Raises ArgumentError."""
    if isinstance(config, BlockConfig):
        if not isinstance(attention, str):
            raise ArgumentError(f"attention: a block has one kind, got {attention!r}")
        _check_free(("the block",), (config.attention,), (attention,))
        changes: dict[str, Any] = {"attention": attention, "attention_options": options}
        return type(config).from_dict({**config.to_dict(), **changes})
    stages = len(config.depths)
    held, held_options = _each(config.attention, stages), _each(config.attention_options, stages)
    kinds, given = _each(attention, stages), _each(options, stages)
    if len(kinds) != stages or len(given) != stages:
        raise ArgumentError(
            f"attention, options: expected one for each of the {stages} stages, got {len(kinds)} "
            f"and {len(given)}"
        )
    _check_free(tuple(f"stages.{stage}" for stage in range(stages)), held, kinds)
    for stage, kind in enumerate(kinds):
        if kind == "none" and plain_options(given[stage]) and isinstance(options, tuple):
            raise ArgumentError(f"options: stages.{stage} gets no attention, so it has no options")
    new = tuple(old if kind == "none" else kind for old, kind in zip(held, kinds, strict=True))
    new_options = tuple(
        dict(held_options[stage] if kind == "none" else plain_options(given[stage]))
        for stage, kind in enumerate(kinds)
    )
    same = len(set(new)) == 1 and all(each == new_options[0] for each in new_options)
    changes = {
        "attention": new[0] if same else new,
        "attention_options": new_options[0] if same else new_options,
    }
    return NetworkConfig.from_dict({**config.to_dict(), **changes})


def _each(value: Any, stages: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * stages


def _check_free(places: tuple[str, ...], held: tuple[str, ...], kinds: tuple[str, ...]) -> None:
    """Raises ArgumentError where nothing is to be attached, and where attention is already."""
    if all(kind == "none" for kind in kinds):
        raise ArgumentError("attention: expected a kind to attach, got 'none', which is no module")
    taken = [
        f"{place} ({old})"
        for place, old, kind in zip(places, held, kinds, strict=True)
        if kind != "none" and old != "none"
    ]
    if taken:
        raise ArgumentError(
            f"attention: expected 'none' where one is to be attached, got {', '.join(taken)}; name "
            "only stages without attention (on the command line: --stages)"
        )


def attachments(config: Config, target: Config) -> tuple[Attached, ...]:
    """The blocks of `target` that have attention and in `config` have none, in their order.

    Raises ArgumentError for a kind that cannot begin without changing the output.
    """
    before = config.named_blocks()
    return tuple(
        Attached(name, block, _start_of(block))
        for name, block in target.named_blocks().items()
        if block.attention != before[name].attention
    )


def _start_of(block: BlockConfig) -> Start:
    kind = ATTENTION[block.attention]
    reason = kind.refusal
    if block.attention_options.get("folded"):
        raise ArgumentError(
            "attention_options: folded: an attached module is trained, and needs the batch norms "
            "that this option leaves out; fold the network after training"
        )
    if kind.start is not None:
        try:
            return kind.start(block.out_channels, **{**kind.options, **block.attention_options})
        except ArgumentError as error:
            reason = str(error)
    able = ", ".join(name for name, other in ATTENTION.items() if other.start is not None)
    raise ArgumentError(
        f"attention: {block.attention!r} cannot be attached without changing the output: {reason}. "
        f"Kinds that can: {able}"
    )


# Values


def _scaled(name: str, array: np.ndarray, factor: float) -> np.ndarray:
    """Rounded once, and not at all where the factor is a power of 2."""
    if factor == 1:
        return array
    with np.errstate(over="ignore"):
        scaled = (array.astype(np.float64) * factor).astype(array.dtype)
    if (np.isfinite(array) & ~np.isfinite(scaled)).any():
        raise ArgumentError(
            f"{name}: {factor:g} times its values are more than {array.dtype.name} holds; convert "
            "the weights to float32 first"
        )
    return scaled


def _first_values(each: Attached, arrays: Arrays, random: np.random.RandomState) -> Arrays:
    """The arrays of the attention of a block. arrays: those of the network, norms scaled."""
    block = each.block
    weight, bias = (arrays[f"{each.norm}.{leaf}"].astype(np.float64) for leaf in ("weight", "bias"))
    # What a norm gives out has this mean and this mean square, roughly, for each channel.
    mean = np.maximum(bias, 0) + 0.4 * np.abs(weight) if block.relu_before_attention else bias
    power = float(np.sum(weight**2 + bias**2)) or float(block.out_channels)
    dtype = arrays[f"{each.norm}.weight"].dtype
    variance = arrays.get(f"{each.norm}.running_var")
    wide = np.dtype(np.float32 if dtype.itemsize < 4 else dtype)
    dtypes = {True: dtype, False: wide if variance is None else variance.dtype}
    held = attention_parameters(block.attention, block.out_channels, block.attention_options)
    return {
        f"{each.path}{named.name}": _first_value(each.start, parameter, random, mean, power).astype(
            dtypes[parameter.trainable]
        )
        for parameter, named in zip(held, within("attention", held), strict=True)
    }


def _first_value(
    start: Start,
    parameter: Parameter,
    random: np.random.RandomState,
    mean: np.ndarray,
    power: float,
) -> np.ndarray:
    """mean, power: of the map that the attention reads: the mean of each channel, and the sum over
    the channels of their mean squares.
    """
    module, role, shape = parameter.module, parameter.role, parameter.shape
    if role == "norm variance":
        return np.ones(shape)
    if role == "norm mean" or (module in start.zero and parameter.leaf == "weight"):
        return np.zeros(shape)
    if parameter.leaf == "bias":
        return np.full(shape, dict(start.biases).get(module, 0.0))
    if role == "norm scale":
        return np.ones(shape)
    kernel: np.ndarray = random.normal(0, 1, shape)
    logits = dict(start.logits)
    if module in logits:
        return kernel * (logits[module] / sqrt(power))
    if module in start.relus:
        kernel[kernel[:, :, 0, 0] @ mean < 0] *= -1  # else a relu may never let a gradient through
        return kernel * sqrt(2 / power)
    # He et al. 2015, Delving Deep into Rectifiers; most have a norm after them, which undoes it
    return kernel * sqrt(2 / prod(shape[1:]))
