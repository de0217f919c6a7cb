"""Blocks and networks with the options of published networks, each with the size of its images."""

from __future__ import annotations

from typing import Any

from weights import BlockConfig, BottleneckConfig, NetworkConfig


def _narrow(**options: Any) -> NetworkConfig:
    """A network of bottlenecks with few channels."""
    fields: dict[str, Any] = {
        "in_channels": 3,
        "classes": 4,
        "widths": (8, 16),
        "depths": (2, 1),
        "form": "bottleneck",
        "attention": "none",
    }
    return NetworkConfig(**{**fields, **options})


# Plain blocks with one option each, or a few that go together.
VARIANTS: dict[str, tuple[BlockConfig, tuple[int, int]]] = {
    "average shortcut": (BlockConfig(4, 6, 3, 2, shortcut="average"), (9, 8)),
    "subsample": (BlockConfig(4, 7, 3, 2, shortcut="subsample", conv_bias=False), (9, 8)),
    "wide shortcut": (BlockConfig(4, 6, 3, 2, shortcut_kernel_size=3), (8, 7)),
    "always projects": (BlockConfig(5, 5, projects_always=True), (7, 6)),
    "antialias average": (BlockConfig(4, 6, 3, 2, antialias="average"), (8, 10)),
    "antialias blur": (BlockConfig(4, 6, 3, 2, antialias="blur", conv_bias=False), (9, 8)),
    "relu before attention": (BlockConfig(4, 6, 3, 2, relu_before_attention=True), (8, 7)),
    "group norm": (BlockConfig(4, 6, 3, 2, norm="group", norm_groups=2), (9, 8)),
    "dilation": (BlockConfig(4, 6, 3, dilation=(1, 2), attention="eca"), (9, 8)),
    "same": (BlockConfig(4, 6, (5, 3), 2, "same"), (9, 8)),
    "folded": (BlockConfig(4, 6, 3, 2, norm="folded"), (9, 8)),
}

BOTTLENECKS: dict[str, tuple[BlockConfig, tuple[int, int]]] = {
    "bottleneck": (BottleneckConfig(8, 12, stride=2), (9, 8)),
    "identity": (BottleneckConfig(8, 8, attention="none", conv_bias=False), (7, 6)),
    "stride at conv1": (BottleneckConfig(8, 12, stride=2, stride_at="conv1"), (9, 8)),
    "groups": (
        BottleneckConfig(6, 8, hidden_channels=6, first_channels=9, groups=3, stride=(2, 1)),
        (8, 9),
    ),
    "depthwise": (BottleneckConfig(6, 8, hidden_channels=4, groups=4, conv_bias=False), (8, 7)),
    "resnet-d": (
        BottleneckConfig(8, 12, stride=2, shortcut="average", attention="eca", conv_bias=False),
        (9, 8),
    ),
    "blur": (BottleneckConfig(8, 12, stride=2, antialias="blur", projects_always=True), (9, 8)),
    "average": (
        BottleneckConfig(8, 12, stride=2, antialias="average", relu_before_attention=True),
        (8, 10),
    ),
    "group norm": (BottleneckConfig(8, 16, stride=2, norm="group", norm_groups=2), (9, 8)),
    "same": (
        BottleneckConfig(8, 12, 5, 2, "same", shortcut_kernel_size=3, attention="none"),
        (9, 8),
    ),
    "folded": (BottleneckConfig(8, 12, stride=2, norm="folded", shortcut="average"), (9, 8)),
    "option A": (BottleneckConfig(8, 12, stride=2, shortcut="subsample"), (9, 8)),
}

PUBLISHED_NETWORKS: dict[str, tuple[NetworkConfig, tuple[int, int]]] = {
    "resnet50": (
        _narrow(stem_channels=4, stem_kernel_size=7, stem_stride=2, stem_pool="max"),
        (38, 29),
    ),
    "resnet50d": (
        _narrow(
            stem_channels=(3, 3, 6), stem_stride=2, stem_pool="max", shortcut="average",
            attention="se",
        ),
        (38, 29),
    ),
    "resnetrs": (
        _narrow(
            stem_channels=(3, 3, 6), stem_stride=2, stem_pool="convolution", shortcut="average",
            attention="se", attention_options={"reduction": 4},
        ),
        (38, 29),
    ),
    "blur": (
        _narrow(stem_stride=2, stem_kernel_size=7, stem_pool="max_blur", antialias="blur"),
        (38, 29),
    ),
    "average": (
        _narrow(
            stem_stride=2, stem_pool="average", antialias="average", relu_before_attention=True,
            attention="ese",
        ),
        (40, 32),
    ),
    "legacy senet": (
        _narrow(
            stem_channels=4, stem_kernel_size=7, stem_stride=2, stem_pool="max_ceil",
            stride_at="conv1", attention="se", attention_options={"reduction": 4},
        ),
        (38, 29),
    ),
    "resnext": (
        _narrow(
            hidden_widths=(4, (8,)), groups=2, first_widths=(4, 8), projects_first=True, classes=0,
        ),
        (9, 8),
    ),
    "group norm": (
        _narrow(norm="group", norm_groups=2, hidden_widths=(4, 8), stem_pool="max_same",
                stem_padding="same", padding="same"),
        (19, 16),
    ),
    "folded": (
        _narrow(
            stem_channels=(3, 3, 6), stem_stride=2, stem_pool="convolution", shortcut="average",
            norm="folded", conv_bias=True, attention="se",
        ),
        (38, 29),
    ),
    "option A": (
        NetworkConfig(
            3, 5, (4, 7), (1, 2), attention="none", shortcut="subsample", stem_channels=4
        ),
        (9, 8),
    ),
    "output stride": (
        NetworkConfig(
            2, 3, (4, 5, 6), (1, 1, 2), attention="eca", output_stride=2, shortcut_kernel_size=3,
            drop_path=0.2, dropout=0.1,
        ),
        (13, 10),
    ),
}  # fmt: skip

PUBLISHED_BLOCKS = {
    **{f"variant: {name}": case for name, case in VARIANTS.items()},
    **{f"bottleneck: {name}": case for name, case in BOTTLENECKS.items()},
}
PUBLISHED: dict[str, Any] = {
    **PUBLISHED_BLOCKS,
    **{f"network: {name}": case for name, case in PUBLISHED_NETWORKS.items()},
}
