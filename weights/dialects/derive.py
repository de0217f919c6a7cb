"""The config that the shapes of a network's parameters say, under our names."""

import re
from collections.abc import Mapping
from typing import Any

from weights.config import NetworkConfig
from weights.dialects.dialect import Sizes
from weights.errors import ArgumentError, WeightsError
from weights.language import say

# Shapes do not say these: a derived config has their defaults.
NOT_IN_SHAPES = (
    "strides", "stem_stride", "stem_pool", "stem_padding", "padding", "stride_at", "antialias",
    "shortcut", "relu_before_attention", "norm_groups", "bn_eps", "bn_decay", "output_stride",
)  # fmt: skip


def derive(shapes: Mapping[str, Sizes]) -> NetworkConfig:
    """shapes: by our names, in our axis order.

    Raises WeightsError where they are not those of a residual network.
    """
    try:
        return NetworkConfig(**_fields(shapes))
    except (KeyError, IndexError) as error:
        headline = say("the shapes are not those of a residual network:")
        raise WeightsError(headline, [say("{name}: missing", name=error.args[0])]) from None
    except ArgumentError as error:
        raise WeightsError(
            say("the shapes are not those of a residual network:"), [str(error)]
        ) from None


def _fields(shapes: Mapping[str, Sizes]) -> dict[str, Any]:
    stages = _blocks(shapes)
    if not stages:
        raise KeyError("stages.0.0.conv1.weight")
    forms = tuple("bottleneck" if "conv3.weight" in each[0] else "basic" for each in stages)
    stem = _stem(shapes)
    fields: dict[str, Any] = {
        "in_channels": shapes[f"stem.{stem[0]}.weight"][1],
        "classes": shapes["classifier.weight"][0] if "classifier.weight" in shapes else 0,
        "widths": tuple(_last(blocks[0])[0] for blocks in stages),
        "depths": tuple(len(blocks) for blocks in stages),
        "stem_channels": tuple(shapes[f"stem.{conv}.weight"][0] for conv in stem),
        "stem_kernel_size": shapes[f"stem.{stem[0]}.weight"][2:],
        "stem_pool": "convolution" if "stem.pool.0.weight" in shapes else None,
        "conv_bias": f"stem.{stem[0]}.bias" in shapes,
        "norm": "batch" if "bn1.running_mean" in stages[0][0] else "group",
        "form": forms[0] if len(set(forms)) == 1 else forms,
        **_attention(stages),
        **_shortcut(stages),
    }
    if len(stem) == 1:
        fields["stem_channels"] = fields["stem_channels"][0]
    if fields["norm"] == "group":
        fields["norm_groups"] = 1
    if "bottleneck" in forms:
        fields |= _hidden(stages)
    else:
        fields["kernel_size"] = stages[0][0]["conv2.weight"][2:]
    return fields


def _last(block: Mapping[str, Sizes]) -> Sizes:
    """The shape of the last kernel of a block's main path."""
    return block.get("conv3.weight", block["conv2.weight"])


def _blocks(shapes: Mapping[str, Sizes]) -> list[list[dict[str, Sizes]]]:
    """The shapes of each block, stage by stage."""
    found: dict[int, dict[int, dict[str, Sizes]]] = {}
    for name, shape in shapes.items():
        place = re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.*)", name)
        if place is not None:
            blocks = found.setdefault(int(place[1]), {})
            blocks.setdefault(int(place[2]), {})[place[3]] = shape
    return [[blocks[j] for j in sorted(blocks)] for _, blocks in sorted(found.items())]


def _stem(shapes: Mapping[str, Sizes]) -> list[str]:
    if "stem.conv.weight" in shapes:
        return ["conv"]
    found = [f"conv{n}" for n in range(1, 10) if f"stem.conv{n}.weight" in shapes]
    return found or ["conv"]


def _hidden(stages: list[list[dict[str, Sizes]]]) -> dict[str, Any]:
    """What only bottlenecks have. Widths that are one in a stage are one number."""
    first, hidden = (
        [tuple(block[f"{conv}.weight"][0] for block in blocks) for blocks in stages]
        for conv in ("conv1", "conv2")
    )
    merge = [tuple(w[0] if len(set(w)) == 1 else w for w in widths) for widths in (first, hidden)]
    at = next(i for i, blocks in enumerate(stages) if "conv3.weight" in blocks[0])
    block = stages[at][0]
    return {
        "hidden_widths": merge[1],
        "first_widths": None if merge[0] == merge[1] else merge[0],
        "groups": max(1, first[at][0] // block["conv2.weight"][1]),
        "kernel_size": block["conv2.weight"][2:],
    }


def _attention(stages: list[list[dict[str, Sizes]]]) -> dict[str, Any]:
    kinds, options = [], []
    for blocks in stages:
        held = blocks[0]
        if "attention.fc1.weight" in held:
            kinds.append("se")
            options.append({"hidden_channels": held["attention.fc1.weight"][0]})
        elif "attention.conv.weight" in held:
            kinds.append("eca")
            options.append({"kernel_size": held["attention.conv.weight"][-1]})
        else:
            kinds.append("none")
            options.append({})
    kind: Any = kinds[0] if len(set(kinds)) == 1 else tuple(kinds)
    return {"attention": kind, "attention_options": tuple(options)}


def _shortcut(stages: list[list[dict[str, Sizes]]]) -> dict[str, Any]:
    kernels = {blocks[0]["shortcut.0.weight"][2:] for blocks in stages[1:]
               if "shortcut.0.weight" in blocks[0]}  # fmt: skip
    first = stages[0][0]
    narrow = _last(first)[0] == first["conv1.weight"][1]
    return {
        "shortcut_kernel_size": next(iter(kernels)) if len(kernels) == 1 else 1,
        "projects_first": narrow and "shortcut.0.weight" in first,
        "shortcut": "convolution" if kernels or len(stages) == 1 else "subsample",
    }
