"""Why each operation is there: the part of the model it belongs to and the key of a sentence."""

from math import prod

from resattn.explaining.attention import words_of
from resattn.explaining.names import name_within, plain_name
from weights.config import BlockConfig, BottleneckConfig, NetworkConfig
from weights.graph import Graph
from weights.operations import Operation

NORM_REASONS = {"batch_norm": "norm", "group_norm": "group_norm"}
# Inside attention: by the name or the kind of an operation, whatever the attention kind is.
COMMON_REASONS = {
    "attention": "own",
    "batch_norm": "norm",
    "global_average": "squeeze",
    "hard_sigmoid": "gate",
    "hard_swish": "hard_swish",
    "relu": "nonlinear",
    "sigmoid": "gate",
}


def find_reason(
    operation: Operation, name: str, block: BlockConfig | None, found: Graph
) -> tuple[str, str]:
    """The part of the model, and the key of the sentence without "why.".

    name: of the operation, within its block. block: None for stem and head.
    """
    if operation.kind == "input":
        return "input", "input"
    if block is None or (isinstance(found.config, NetworkConfig) and name == operation.name):
        return _outside(operation)
    part = plain_name(name).split(".")[0]
    if part == "attention":
        return "attention", _inside_attention(operation, name, block.attention)
    if part in ("sum", "", "output"):
        return "join", _of_sum(block) if part == "sum" else "output"
    if part == "shortcut":
        return "shortcut", on_shortcut(operation)
    return "main", _on_main_path(operation, name, block)


def _of_sum(block: BlockConfig) -> str:
    return "sum.projection" if block.projects else f"sum.{block.shortcut_form}"


def on_shortcut(operation: Operation) -> str:
    """The reason of an operation on the path of a shortcut."""
    if operation.kind in NORM_REASONS:
        return "shortcut.1"
    if operation.kind != "convolution":
        return f"shortcut.{operation.kind}"
    if prod(operation.settings["kernel"]) > 1:
        return "shortcut.0.wide"
    return "shortcut.0" if operation.settings["stride"] == (1, 1) else "shortcut.0.strided"


def _on_main_path(operation: Operation, name: str, block: BlockConfig) -> str:
    if operation.kind in NORM_REASONS:
        last = name == block.last_layer and not block.relu_before_attention
        return "last_norm" if last else NORM_REASONS[operation.kind]
    if operation.kind == "relu":
        number = 3 if isinstance(block, BottleneckConfig) else 2
        return "relu_before_attention" if name == f"relu {number}" else "nonlinear"
    if operation.kind != "convolution":
        return operation.kind
    strided = operation.settings["stride"] != (1, 1)
    pointwise = prod(operation.settings["kernel"]) == 1
    if isinstance(block, BottleneckConfig):
        return _in_bottleneck(operation, name, strided)
    if name == "conv1":
        return "conv1.strided" if strided else "conv1.pointwise" if pointwise else "conv1"
    return name


def _in_bottleneck(operation: Operation, name: str, strided: bool) -> str:
    if name != "conv2":
        return f"bottleneck.{name}.strided" if strided else f"bottleneck.{name}"
    grouped = ".grouped" if operation.settings["groups"] > 1 else ""
    return f"bottleneck.conv2{grouped}.strided" if strided else f"bottleneck.conv2{grouped}"


def _outside(operation: Operation) -> tuple[str, str]:
    """In the stem and the head of a network."""
    name, kind = plain_name(operation.name), operation.kind
    if name.split(".")[0] != "stem":
        return "head", f"{name}.none" if kind == "flatten" else name
    strided = operation.settings.get("stride", (1, 1)) != (1, 1)
    if kind == "convolution":
        if name == "stem.pool.0":
            return "stem", "stem.pool.0"
        if name not in ("stem.conv", "stem.conv1"):
            return "stem", "stem.conv.further"
        return "stem", "stem.conv.strided" if strided else "stem.conv"
    if kind == "max_pool":
        return "stem", "stem.pool" if strided else "stem.pool.dense"
    known = {**NORM_REASONS, "relu": "nonlinear", "average_pool": "stem.average_pool"}
    return "stem", known.get(kind, kind)


def _inside_attention(operation: Operation, name: str, kind: str) -> str:
    """What the kind's file says, or else a sentence for all kinds."""
    numbered = name.removeprefix("attention").lstrip(".")
    plain, what = name_within(name, "attention"), operation.kind
    reasons = words_of(kind).reasons
    for each in (numbered, f"{numbered} {what}", plain, f"{plain} {what}", f"* {what}"):
        if each in reasons:
            return reasons[each]
    last = plain.rpartition(".")[2]
    return COMMON_REASONS.get(last) or COMMON_REASONS.get(what) or f"plain.{what}"
