"""Published residual networks, in the terms of a `NetworkConfig`."""

from collections.abc import Mapping
from typing import Any

from weights.config import NetworkConfig, bottleneck_widths

PLANES = (64, 128, 256, 512)


def make_resnet(
    form: str | tuple[str, ...],
    depths: tuple[int, ...],
    *,
    planes: tuple[int, ...] = PLANES,
    groups: int = 1,
    base_width: int = 64,
    first_reduction: int = 1,
    stem: tuple[int, ...] = (64,),
    attention: str = "none",
    attention_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> NetworkConfig:
    """A ResNet for ImageNet.

    planes: of each stage; a bottleneck's output has 4 times as many channels. groups, base_width:
        see `bottleneck_widths`. first_reduction: hidden over first width.
    stem: channels of its convolutions, 7x7 for one and 3x3 for several.
    options: other fields of the config. Without a stem_pool it is "max".
    """
    forms = form if isinstance(form, tuple) else (form,) * len(planes)
    widths = tuple(
        4 * each if one == "bottleneck" else each for each, one in zip(planes, forms, strict=True)
    )
    if "bottleneck" in forms:
        hidden = bottleneck_widths(widths, groups, base_width)
        options |= {"hidden_widths": hidden, "groups": groups}
        if first_reduction != 1:
            options["first_widths"] = tuple(each // first_reduction for each in hidden)
    return NetworkConfig(
        **{
            "widths": widths,
            "depths": depths,
            "form": form,
            "stem_channels": stem if len(stem) > 1 else stem[0],
            "stem_kernel_size": 3 if len(stem) > 1 else 7,
            "stem_stride": 2,
            "stem_pool": "max",
            "attention": attention,
            "attention_options": attention_options,
            **options,
        }
    )
