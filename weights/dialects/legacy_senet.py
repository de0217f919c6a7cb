"""The SE-ResNets that Cadene's pretrainedmodels published, and timm keeps as `legacy_*`.

Their arithmetic is another than that of timm's own SE-ResNets: the stride is in the first 1x1
convolution (but not of ResNeXts), a basic block has a relu before its attention, and the maximum
pooling has no padding but may reach over the edge, as Caffe's.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from weights.config import NetworkConfig
from weights.dialects.architectures import make_resnet
from weights.dialects.blocks import in_layers
from weights.dialects.dialect import Dialect, Traits

_PLACE = "layer{i1}.{j}."


def name_modules(traits: Traits) -> dict[str, str]:
    numbers = (1, 2, 3)
    stem = (
        {f"stem.{part}{n}": f"layer0.{part}{n}" for n in numbers for part in ("conv", "bn")}
        if traits.deep
        else {"stem.conv": "layer0.conv1", "stem.bn": "layer0.bn1"}
    )
    return {
        **stem,
        **in_layers(Traits()),
        "attention.fc1": f"{_PLACE}se_module.fc1",
        "attention.fc2": f"{_PLACE}se_module.fc2",
        "classifier": "last_linear",
    }


def _net(form: str, depths: tuple[int, ...], **options: Any) -> Callable[[], NetworkConfig]:
    return partial(
        make_resnet,
        form,
        depths,
        attention="se",
        attention_options={"reduction": 16},
        stem_pool="max_ceil",
        **options,
    )


_TWO, _FIFTY, _HUNDRED, _MORE = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
_NEXT = {"groups": 32, "base_width": 4}

DIALECT = Dialect(
    title="timm's legacy SENets",
    source="timm.models.senet, after Cadene's pretrainedmodels",
    framework="torch",
    modules=name_modules,
    architectures={
        "legacy_seresnet18": _net("basic", _TWO, relu_before_attention=True),
        "legacy_seresnet34": _net("basic", _FIFTY, relu_before_attention=True),
        "legacy_seresnet50": _net("bottleneck", _FIFTY, stride_at="conv1"),
        "legacy_seresnet101": _net("bottleneck", _HUNDRED, stride_at="conv1"),
        "legacy_seresnet152": _net("bottleneck", _MORE, stride_at="conv1"),
        "legacy_seresnext26_32x4d": _net("bottleneck", _TWO, **_NEXT),
        "legacy_seresnext50_32x4d": _net("bottleneck", _FIFTY, **_NEXT),
        "legacy_seresnext101_32x4d": _net("bottleneck", _HUNDRED, **_NEXT),
        "legacy_senet154": _net(
            "bottleneck",
            _MORE,
            groups=64,
            base_width=4,
            first_reduction=2,
            stem=(64, 64, 128),
            shortcut_kernel_size=3,
        ),
    },
)
