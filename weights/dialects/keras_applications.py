"""Keras Applications' ResNet50, ResNet101 and ResNet152.

Convolutions have biases, the stride is in the first 1x1 convolution, eps is 1.001e-5.
"""

from collections.abc import Callable
from functools import partial

from weights.config import NetworkConfig
from weights.dialects.architectures import make_resnet
from weights.dialects.dialect import Dialect, Traits
from weights.preprocessing import from_keras

_PLACE = "conv{i2}_block{j1}_"


def name_modules(traits: Traits) -> dict[str, str]:
    numbers = (1, 2, 3)
    return {
        "stem.conv": "conv1_conv",
        "stem.bn": "conv1_bn",
        **{f"conv{n}": f"{_PLACE}{n}_conv" for n in numbers},
        **{f"bn{n}": f"{_PLACE}{n}_bn" for n in numbers},
        "shortcut.0": f"{_PLACE}0_conv",
        "shortcut.1": f"{_PLACE}0_bn",
        "classifier": "predictions",
    }


def _net(depths: tuple[int, ...]) -> Callable[[], NetworkConfig]:
    return partial(
        make_resnet,
        "bottleneck",
        depths,
        stride_at="conv1",
        conv_bias=True,
        bn_eps=1.001e-5,
        bn_decay=0.99,
    )


DIALECT = Dialect(
    title="Keras Applications",
    source="keras.applications.resnet",
    framework="tf",
    modules=name_modules,
    architectures={
        "ResNet50": _net((3, 4, 6, 3)),
        "ResNet101": _net((3, 4, 23, 3)),
        "ResNet152": _net((3, 8, 36, 3)),
    },
    preprocessing=from_keras("caffe"),
)
