"""Checkpoints of other libraries: their names -> canonical names, as tables.

A naming is chosen by the user, never recognised from the keys. A table row is (their name, ours);
{i} and {j} are the stage and the block in it, and rows that end in `.*` stand for all parameters of
a module.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weights.config import Config, NetworkConfig
from weights.convert import Arrays
from weights.errors import ArgumentError, WeightsError
from weights.frameworks import FRAMEWORKS
from weights.parameters import Parameter
from weights.schema import schema


@dataclass(frozen=True)
class Naming:
    """How another library names a residual network.

    source: where the naming is from. prefix: what stands before every name. names: ours -> theirs,
    module by module, stage and block counted from 0 in {i} and {j} and from 1 in {i1}. shortcut:
    "projection" when its file holds the shortcut's parameters, "subsample" when its shortcut has
    none: every stride-th pixel, channels padded with zeros on both sides (He et al. 2015, section
    3.3, option A).
    """

    source: str
    names: Mapping[str, str]
    prefix: str = ""
    shortcut: str = "projection"


STEM = {"stem.conv": "conv1", "stem.bn": "bn1"}
BLOCK = {
    f"stages.{{i}}.{{j}}.{part}": f"layer{{i1}}.{{j}}.{part}"
    for part in ("conv1", "bn1", "conv2", "bn2")
}


def canonical_names(
    naming: str,
    table: Naming,
    config: Config,
    arrays: Mapping[str, np.ndarray],
    source: str = "the file",
) -> Arrays:
    """The arrays of another library's checkpoint under canonical names, for the network that
    `config` describes.

    Raises ArgumentError for a naming that does not exist or a config it cannot name, WeightsError
    with every missing and unexpected name.
    """
    if not isinstance(config, NetworkConfig):
        raise ArgumentError(
            f"naming: {naming!r} names a network, but the config is of a {config.model}"
        )
    modules = _modules(table, config)
    theirs: dict[str, Parameter] = {}
    implied: list[Parameter] = []
    for parameter in schema(config):
        if parameter.module in modules:
            theirs[f"{table.prefix}{modules[parameter.module]}.{parameter.leaf}"] = parameter
        elif table.shortcut == "subsample" and ".shortcut." in parameter.module:
            implied.append(parameter)
        else:
            raise ArgumentError(
                f"naming: {naming!r} has no name for {parameter.name}; choose a config without it"
            )
    counters = {
        f"{name.rpartition('.')[0]}.{leaf}"
        for name, parameter in theirs.items()
        if parameter.role == "norm mean"
        for leaf in FRAMEWORKS["torch"].unread
    }
    missing = [f"{name}: missing" for name in set(theirs) - set(arrays)]
    strange = [f"{name}: unexpected" for name in set(arrays) - set(theirs) - counters]
    if missing or strange:
        raise WeightsError(
            f"{source} is not a {naming} checkpoint of this config:", missing + strange
        )
    dtype = next(iter(arrays.values())).dtype
    return {
        **{parameter.name: arrays[name] for name, parameter in theirs.items()},
        **{parameter.name: _subsample(parameter, config.bn_eps, dtype) for parameter in implied},
    }


def _modules(table: Naming, config: NetworkConfig) -> dict[str, str]:
    """Our module names -> theirs, for every stage and block of the config."""
    modules = {}
    for i, blocks in enumerate(config.stages()):
        for j, _ in enumerate(blocks):
            for ours, theirs in table.names.items():
                modules[ours.format(i=i, j=j)] = theirs.format(i1=i + 1, j=j)
    return modules


def _subsample(parameter: Parameter, eps: float, dtype: np.dtype) -> np.ndarray:
    """A parameter of the shortcut that takes every stride-th pixel and pads the channels with zeros
    on both sides.

    The convolution selects: output channel o is input channel o - (out - in) // 2, where there is
    one. The batch norm is the identity: its variance is 1 - eps, so that variance + eps is 1. Exact
    in evaluation; in training a batch norm normalises, and the two networks are no longer the same.
    """
    if parameter.role == "convolution kernel":
        kernel = np.zeros(parameter.shape, dtype)
        before = (parameter.shape[0] - parameter.shape[1]) // 2
        for channel in range(parameter.shape[1]):
            kernel[before + channel, channel, 0, 0] = 1
        return kernel
    if parameter.role == "norm scale":
        return np.ones(parameter.shape, dtype)
    if parameter.role == "norm variance":
        return np.full(parameter.shape, 1 - dtype.type(eps), dtype)
    return np.zeros(parameter.shape, dtype)
