"""torchvision's ResNets, ResNeXts and Wide ResNets."""

from collections.abc import Callable
from functools import partial

from weights.config import NetworkConfig
from weights.dialects.architectures import make_resnet
from weights.dialects.blocks import in_layers, stem
from weights.dialects.dialect import Dialect, Traits


def name_modules(traits: Traits) -> dict[str, str]:
    return {**stem(traits), **in_layers(traits), "classifier": "fc"}


def _networks() -> dict[str, Callable[[], NetworkConfig]]:
    fifty, hundred = (3, 4, 6, 3), (3, 4, 23, 3)
    bottleneck = partial(partial, make_resnet, "bottleneck")
    return {
        "resnet18": partial(make_resnet, "basic", (2, 2, 2, 2)),
        "resnet34": partial(make_resnet, "basic", fifty),
        "resnet50": bottleneck(fifty),
        "resnet101": bottleneck(hundred),
        "resnet152": bottleneck((3, 8, 36, 3)),
        "resnext50_32x4d": bottleneck(fifty, groups=32, base_width=4),
        "resnext101_32x8d": bottleneck(hundred, groups=32, base_width=8),
        "resnext101_64x4d": bottleneck(hundred, groups=64, base_width=4),
        "wide_resnet50_2": bottleneck(fifty, base_width=128),
        "wide_resnet101_2": bottleneck(hundred, base_width=128),
    }


DIALECT = Dialect(
    title="torchvision",
    source="torchvision.models.resnet",
    framework="torch",
    modules=name_modules,
    architectures=_networks(),
)
