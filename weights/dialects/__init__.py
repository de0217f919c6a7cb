"""Checkpoints of other libraries: their names -> canonical names, one naming a file."""

from collections.abc import Mapping

import numpy as np

from weights.config import Config
from weights.convert import Arrays
from weights.dialects import cifar_resnet, torchvision
from weights.dialects.names import Naming, canonical_names
from weights.errors import ArgumentError

NAMINGS: dict[str, Naming] = {
    "torchvision": torchvision.NAMING,
    "cifar-resnet": cifar_resnet.NAMING,
}


def to_canonical_names(
    naming: str, config: Config, arrays: Mapping[str, np.ndarray], source: str = "the file"
) -> Arrays:
    """The arrays of another library's checkpoint of the network that `config` describes.

    naming: one of `NAMINGS`.
    Raises ArgumentError for a naming that does not exist or a config it cannot name, WeightsError
    with every missing and unexpected name.
    """
    if naming not in NAMINGS:
        raise ArgumentError(f"naming: expected one of {', '.join(NAMINGS)}, got {naming!r}")
    return canonical_names(naming, NAMINGS[naming], config, arrays, source)
