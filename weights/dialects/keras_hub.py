"""KerasHub's ResNets (v1 and vd): backbones and classifiers."""

from collections.abc import Callable
from functools import partial
from typing import Any

from weights.config import NetworkConfig
from weights.dialects.architectures import make_resnet
from weights.dialects.dialect import Dialect, Traits

_PLACE = "stack{i}_block{j}_"


def name_modules(traits: Traits) -> dict[str, str]:
    numbers = (1, 2, 3)
    stem = (
        {f"stem.{part}{n}": f"conv{n}_{part}" for n in numbers for part in ("conv", "bn")}
        if traits.deep
        else {"stem.conv": "conv1_conv", "stem.bn": "conv1_bn"}
    )
    return {
        **stem,
        **{f"conv{n}": f"{_PLACE}{n}_conv" for n in numbers},
        **{f"bn{n}": f"{_PLACE}{n}_bn" for n in numbers},
        "shortcut.0": f"{_PLACE}0_conv",
        "shortcut.1": f"{_PLACE}0_bn",
        "classifier": "predictions",
    }


_VD = {"stem": (32, 32, 64), "shortcut": "average", "projects_first": True}
_DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
_BOTTLENECK_DEPTHS = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 12, 48, 3),
}


def _nets(suffix: str, **options: Any) -> dict[str, Callable[[], NetworkConfig]]:
    return {
        **{f"resnet{suffix}_{n}": partial(make_resnet, "basic", depths, **options)
           for n, depths in _DEPTHS.items()},
        **{f"resnet{suffix}_{n}": partial(make_resnet, "bottleneck", depths, **options)
           for n, depths in _BOTTLENECK_DEPTHS.items()},
    }  # fmt: skip


DIALECT = Dialect(
    title="KerasHub",
    source="keras_hub.models.ResNetBackbone",
    framework="tf",
    modules=name_modules,
    architectures={**_nets(""), **_nets("_vd", **_VD)},
)
