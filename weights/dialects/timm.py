"""timm's ResNets: `timm.models.resnet`, version 1.0."""

from collections.abc import Callable
from functools import partial
from typing import Any

from weights.config import NetworkConfig
from weights.dialects.architectures import make_resnet
from weights.dialects.blocks import in_layers, stem
from weights.dialects.dialect import Architectures, Dialect, Traits

_PLACE = "layer{i1}.{j}."


def name_modules(traits: Traits) -> dict[str, str]:
    return {
        **stem(traits),
        "stem.pool.0": "maxpool.0",
        "stem.pool.1": "maxpool.1",
        **in_layers(traits),
        "attention.fc1": f"{_PLACE}se.fc1",
        "attention.fc2": f"{_PLACE}se.fc2",
        "attention.conv": f"{_PLACE}se.conv",
        "classifier": "fc",
    }


# The letters in timm's names: stem and shortcut.
_C: dict[str, Any] = {"stem": (32, 32, 64)}
_S: dict[str, Any] = {"stem": (64, 64, 128)}
_D: dict[str, Any] = {**_C, "shortcut": "average"}
_T: dict[str, Any] = {"stem": (24, 32, 64), "shortcut": "average"}
_AVERAGED: dict[str, Any] = {"antialias": "average", "stem_pool": "average"}
_BLURRED: dict[str, Any] = {"antialias": "blur", "stem_pool": "max_blur"}
_SE: dict[str, Any] = {"attention": "se", "attention_options": {"divisor": 8}}
_ECA: dict[str, Any] = {"attention": "eca"}
_RS: dict[str, Any] = {
    **_D,
    "stem_pool": "convolution",
    "attention": "se",
    "attention_options": {"reduction": 4, "divisor": 8},
}

# Depths by the number in a name: of bottlenecks, and of basic blocks.
_DEPTHS: dict[int, tuple[int, ...]] = {
    14: (1, 1, 1, 1),
    26: (2, 2, 2, 2),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_BASIC_DEPTHS: dict[int, tuple[int, ...]] = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
}


def _net(number: int | tuple[int, ...], **options: Any) -> Callable[[], NetworkConfig]:
    depths = _DEPTHS[number] if isinstance(number, int) else number
    return partial(make_resnet, "bottleneck", depths, **options)


def _basic(number: int, **options: Any) -> Callable[[], NetworkConfig]:
    return partial(make_resnet, "basic", _BASIC_DEPTHS[number], **options)


def _grouped(groups: int, base_width: int) -> dict[str, int]:
    return {"groups": groups, "base_width": base_width}


_PLAIN: Architectures = {
    "resnet10t": _basic(10, **_T),
    "resnet14t": _net(14, **_T),
    "resnet18": _basic(18),
    "resnet18d": _basic(18, **_D),
    "resnet34": _basic(34),
    "resnet34d": _basic(34, **_D),
    "resnet26": _net(26),
    "resnet26t": _net(26, **_T),
    "resnet26d": _net(26, **_D),
    "resnet50t": _net(50, **_T),
    "resnet200": _net(200),
    "resnet200d": _net(200, **_D),
    **{f"resnet{n}": _net(n) for n in (50, 101, 152)},
    **{f"resnet{n}c": _net(n, **_C) for n in (50, 101, 152)},
    **{f"resnet{n}d": _net(n, **_D) for n in (50, 101, 152)},
    **{f"resnet{n}s": _net(n, **_S) for n in (50, 101, 152)},
    "wide_resnet50_2": _net(50, base_width=128),
    "wide_resnet101_2": _net(101, base_width=128),
    "resnet50_gn": _net(50, norm="group"),
    "test_resnet": partial(
        make_resnet,
        ("basic", "basic", "bottleneck", "basic"),
        (1, 1, 1, 1),
        planes=(32, 48, 48, 96),
        stem=(16, 16, 32),
        shortcut="average",
    ),
}

_RESNEXT: Architectures = {
    "resnext50_32x4d": _net(50, **_grouped(32, 4)),
    "resnext50d_32x4d": _net(50, **_grouped(32, 4), **_D),
    "resnext101_32x4d": _net(101, **_grouped(32, 4)),
    "resnext101_32x8d": _net(101, **_grouped(32, 8)),
    "resnext101_32x16d": _net(101, **_grouped(32, 16)),
    "resnext101_32x32d": _net(101, **_grouped(32, 32)),
    "resnext101_64x4d": _net(101, **_grouped(64, 4)),
}

_ECA_NETS: Architectures = {
    "ecaresnet26t": _net(26, **_T, **_ECA),
    "ecaresnet50d": _net(50, **_D, **_ECA),
    "ecaresnet50d_pruned": _net(50, **_D, **_ECA),
    "ecaresnet50t": _net(50, **_T, **_ECA),
    "ecaresnetlight": _net((1, 1, 11, 3), shortcut="average", **_ECA),
    "ecaresnet101d": _net(101, **_D, **_ECA),
    "ecaresnet101d_pruned": _net(101, **_D, **_ECA),
    "ecaresnet200d": _net(200, **_D, **_ECA),
    "ecaresnet269d": _net(269, **_D, **_ECA),
    "ecaresnext26t_32x4d": _net(26, **_grouped(32, 4), **_T, **_ECA),
    "ecaresnext50t_32x4d": _net(50, **_grouped(32, 4), **_T, **_ECA),
}

_SE_NETS: Architectures = {
    "seresnet18": _basic(18, **_SE),
    "seresnet34": _basic(34, **_SE),
    "seresnet50": _net(50, **_SE),
    "seresnet50t": _net(50, **_T, **_SE),
    "seresnet101": _net(101, **_SE),
    "seresnet152": _net(152, **_SE),
    "seresnet152d": _net(152, **_D, **_SE),
    "seresnet200d": _net(200, **_D, **_SE),
    "seresnet269d": _net(269, **_D, **_SE),
    "seresnext26d_32x4d": _net(26, **_grouped(32, 4), **_D, **_SE),
    "seresnext26t_32x4d": _net(26, **_grouped(32, 4), **_T, **_SE),
    "seresnext50_32x4d": _net(50, **_grouped(32, 4), **_SE),
    "seresnext101_32x4d": _net(101, **_grouped(32, 4), **_SE),
    "seresnext101_32x8d": _net(101, **_grouped(32, 8), **_SE),
    "seresnext101d_32x8d": _net(101, **_grouped(32, 8), **_D, **_SE),
    "seresnext101_64x4d": _net(101, **_grouped(64, 4), **_SE),
    "senet154": _net(
        152, **_grouped(64, 4), **_S, **_SE, first_reduction=2, shortcut_kernel_size=3
    ),
}

_ANTIALIASED: Architectures = {
    "resnetblur18": _basic(18, **_BLURRED),
    "resnetblur50": _net(50, **_BLURRED),
    "resnetblur50d": _net(50, **_BLURRED, **_D),
    "resnetblur101d": _net(101, **_BLURRED, **_D),
    "resnetaa34d": _basic(34, **_AVERAGED, **_D),
    "resnetaa50": _net(50, **_AVERAGED),
    "resnetaa50d": _net(50, **_AVERAGED, **_D),
    "resnetaa101d": _net(101, **_AVERAGED, **_D),
    "seresnetaa50d": _net(50, **_AVERAGED, **_D, **_SE),
    "seresnextaa101d_32x8d": _net(101, **_grouped(32, 8), **_AVERAGED, **_D, **_SE),
    "seresnextaa201d_32x8d": _net(
        (3, 24, 36, 4), **_grouped(32, 8), **_AVERAGED, **_S, shortcut="average", **_SE
    ),
}

_RESNET_RS: Architectures = {
    f"resnetrs{number}": _net(depths, **_RS)
    for number, depths in {
        50: (3, 4, 6, 3),
        101: (3, 4, 23, 3),
        152: (3, 8, 36, 3),
        200: (3, 24, 36, 3),
        270: (4, 29, 53, 4),
        350: (4, 36, 72, 4),
        420: (4, 44, 87, 4),
    }.items()
}

DIALECT = Dialect(
    title="timm",
    source="timm.models.resnet",
    framework="torch",
    modules=name_modules,
    architectures={
        **_PLAIN, **_RESNEXT, **_ECA_NETS, **_SE_NETS, **_ANTIALIASED, **_RESNET_RS,
    },
    pruned=("ecaresnet50d_pruned", "ecaresnet101d_pruned"),
)  # fmt: skip
