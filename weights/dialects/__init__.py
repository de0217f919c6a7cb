"""Checkpoints of other libraries: which network they are, and their names <-> ours.

One dialect a file. `recognise` finds the dialect and the architecture from the set of names and
shapes.
"""

from weights.dialects import (
    cifar_resnet,
    keras_applications,
    keras_hub,
    legacy_senet,
    timm,
    torchvision,
)
from weights.dialects.dialect import Dialect
from weights.errors import ArgumentError

DIALECTS: dict[str, Dialect] = {
    "torchvision": torchvision.DIALECT,
    "timm": timm.DIALECT,
    "legacy-senet": legacy_senet.DIALECT,
    "cifar-resnet": cifar_resnet.DIALECT,
    "keras-applications": keras_applications.DIALECT,
    "keras-hub": keras_hub.DIALECT,
}


def dialect_named(name: str) -> Dialect:
    """A dialect. Raises ArgumentError for one that is not known."""
    if name not in DIALECTS:
        raise ArgumentError(f"dialect: expected one of {', '.join(DIALECTS)}, got {name!r}")
    return DIALECTS[name]
