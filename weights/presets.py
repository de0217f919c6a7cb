"""Well-known networks by name."""

from typing import Any

from weights.config import NetworkConfig
from weights.errors import ArgumentError
from weights.language import say

_IMAGENET: dict[str, Any] = {"stem_kernel_size": 7, "stem_stride": 2, "stem_pool": True}
_BOTTLENECKS: dict[str, Any] = {
    **_IMAGENET,
    "stem_channels": 64,
    "widths": (256, 512, 1024, 2048),
    "form": "bottleneck",
}
_CIFAR: dict[str, Any] = {"widths": (16, 32, 64), "classes": 10}

PRESETS: dict[str, dict[str, Any]] = {
    "resnet18": {**_IMAGENET, "depths": (2, 2, 2, 2), "attention": "none"},
    "resnet34": {**_IMAGENET, "depths": (3, 4, 6, 3), "attention": "none"},
    "se-resnet18": {**_IMAGENET, "depths": (2, 2, 2, 2), "attention": "se"},
    "se-resnet34": {**_IMAGENET, "depths": (3, 4, 6, 3), "attention": "se"},
    "resnet50": {**_BOTTLENECKS, "depths": (3, 4, 6, 3), "attention": "none"},
    "resnet101": {**_BOTTLENECKS, "depths": (3, 4, 23, 3), "attention": "none"},
    "resnet152": {**_BOTTLENECKS, "depths": (3, 8, 36, 3), "attention": "none"},
    "se-resnet50": {**_BOTTLENECKS, "depths": (3, 4, 6, 3), "attention": "se"},
    "resnet20": {**_CIFAR, "depths": (3, 3, 3), "attention": "none"},
    "se-resnet20": {**_CIFAR, "depths": (3, 3, 3), "attention": "se"},
}


def preset(name: str, **changes: Any) -> NetworkConfig:
    """A well-known network by name, with fields changed: `preset("resnet18", classes=10)`.

    resnet18, 34, 50, 101 and 152: He et al. 2015, table 1, the stride of bottlenecks in the 3x3
    convolution; se-resnet18, 34 and 50: the same with squeeze-and-excitation; resnet20 and
    se-resnet20: the CIFAR network of He et al. 2015, section 4.2, with projection shortcuts.
    Raises ArgumentError for a name that does not exist.
    """
    if name not in PRESETS:
        raise ArgumentError(
            say(
                "preset: expected one of {known}, got {name!r}", known=", ".join(PRESETS), name=name
            )
        )
    return NetworkConfig.from_dict({**PRESETS[name], **changes})


def find_preset(config: NetworkConfig) -> str | None:
    """The name of the preset that a network is, whatever its classes, its image's channels and its
    preprocessing are.
    """
    same = {name: getattr(config, name) for name in ("classes", "in_channels", "preprocessing")}
    return next((name for name in PRESETS if preset(name, **same) == config), None)
