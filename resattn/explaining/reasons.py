"""Why each operation is there: the part of the model it belongs to and the key of a sentence."""

from resattn.explaining.attention import words_of
from resattn.explaining.names import name_within, plain_name
from weights.config import BlockConfig, NetworkConfig
from weights.graph import Graph
from weights.operations import Operation

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
        how = "projection" if block.projects else "identity"
        return "join", f"sum.{how}" if part == "sum" else "output"
    if part == "shortcut":
        strided = block.stride != (1, 1) and name == "shortcut.0"
        return "shortcut", f"{name}.strided" if strided else name
    return "main", _on_main_path(name, block)


def _on_main_path(name: str, block: BlockConfig) -> str:
    if name == "conv1" and block.stride != (1, 1):
        return "conv1.strided"
    if name == "conv1" and block.kernel_size == (1, 1):
        return "conv1.pointwise"
    return {"bn1": "norm", "relu": "nonlinear"}.get(name, name)


def _outside(operation: Operation) -> tuple[str, str]:
    """In the stem and the head of a network."""
    if plain_name(operation.name).split(".")[0] != "stem":
        return "head", operation.name
    if operation.kind == "convolution":
        strided = operation.settings["stride"] != (1, 1)
        return "stem", "stem.conv.strided" if strided else "stem.conv"
    return "stem", {"batch_norm": "norm", "relu": "nonlinear"}.get(operation.kind, "stem.pool")


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
