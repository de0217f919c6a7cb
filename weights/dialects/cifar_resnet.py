"""ResNets for CIFAR-10, as akamaster trained them: option A has no parameters, option B has."""

from collections.abc import Callable
from functools import partial

from weights.config import NetworkConfig
from weights.dialects.blocks import in_layers, stem
from weights.dialects.dialect import Dialect, Traits


def name_modules(traits: Traits) -> dict[str, str]:
    return {
        **stem(Traits()),
        **in_layers(Traits(), shortcut="shortcut"),
        "classifier": "linear",
    }


def _net(layers: int, shortcut: str) -> Callable[[], NetworkConfig]:
    return partial(
        NetworkConfig,
        classes=10,
        widths=(16, 32, 64),
        depths=((layers - 2) // 6,) * 3,
        attention="none",
        shortcut=shortcut,
    )


_LAYERS = (20, 32, 44, 56, 110, 1202)

DIALECT = Dialect(
    title="CIFAR ResNets",
    source="akamaster/pytorch_resnet_cifar10 (He et al. 2015, section 4.2)",
    framework="torch",
    modules=name_modules,
    architectures={
        **{f"cifar_resnet{n}": _net(n, "subsample") for n in _LAYERS},
        **{f"cifar_resnet{n}_b": _net(n, "convolution") for n in _LAYERS},
    },
)
