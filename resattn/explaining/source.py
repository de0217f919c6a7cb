"""The forward methods as they stand in the three implementations, and which operations each of
their lines computes.

Read from the files, by path: no framework is imported. The three are one text, so one table serves
all of them.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from weights.config import BlockConfig, Config, NetworkConfig
from weights.frameworks import LAYOUTS
from weights.graph import Graph, Operation

ROOT = Path(__file__).parent.parent.parent
FORWARD = {"torch": "forward", "jax": "__call__", "tf": "call"}
BLOCK, NETWORK = "ResidualBlockWithAttention", "ResidualAttentionNetwork"

# For each class the operations of each line of its forward method, named from the module itself (""
# is its output); "x.*": all in the module x. A second use has the same name. No operation: the line
# checks, reshapes or asks.
LINES: dict[str, tuple[tuple[str, ...], ...]] = {
    BLOCK: (
        (),
        ("conv1",),
        ("bn1",),
        ("relu",),
        ("conv2",),
        ("bn2",),
        ("attention.*",),
        ("shortcut.*", "sum"),
        ("output",),
    ),
    NETWORK: ((), ("stem.*",), ("stages.*",), ("global_average",), ("classifier",)),
    "Stem": (("conv",), ("bn",), ("relu",), ("",)),
    "Identity": ((),),
    "SqueezeExcite": (
        ("global_average",),
        ("fc1",),
        ("relu",),
        ("fc2",),
        ("sigmoid", "hard_sigmoid"),
        ("",),
    ),
    "Bottleneck": (("fc1",), ("relu",), ("fc2",)),
    "EffectiveSqueezeExcite": (("global_average",), ("fc",), ("sigmoid", "hard_sigmoid"), ("",)),
    "EfficientChannel": (("global_average",), (), ("conv",), ("sigmoid",), (), ("",)),
    "CBAM": (
        ("global_average", "channel.*"),
        ("maximum", "channel.*"),
        ("sigmoid input", "sigmoid", "average input"),
        ("average", "maximum"),
        ("concatenate",),
        ("spatial.*",),
        ("",),
    ),
    "SpatialGate": (("conv",), ("bn",), ("",)),
    "BAM": (
        ("channel_att.*",),
        ("spatial_att.*",),
        ("sigmoid input",),
        ("sigmoid", "one_more", ""),
    ),
    "ChannelBranch": (("global_average",), ("fc_0",), ("bn_1",), ("relu",), ("fc_final",)),
    "SpatialBranch": (
        ("conv_reduce0",),
        ("bn_reduce0",),
        ("relu",),
        ("conv_di_0",),
        ("bn_di_0",),
        ("relu",),
        ("conv_di_1",),
        ("bn_di_1",),
        ("relu",),
        ("conv_final",),
    ),
    "ConcurrentSqueezeExcite": (("cSE.*",), ("sSE.*",), ("",)),
    "SpatialSqueezeExcite": (("conv",), ("sigmoid", "")),
    "GatherExcite": (("gather.*",), ("mlp.*",), ("nearest",), ("sigmoid",), ("",)),
    "GatherAverages": (("",),),
    "GatherConvolutions": (
        (),
        (),
        ("relu",),
        (*(f"conv{step}" for step in range(1, 5)), *(f"norm{step}" for step in range(1, 5))),
        (),
    ),
    "GlobalContext": (
        (),
        ("global_average",),
        (),
        ("conv_attn",),
        ("softmax",),
        ("context",),
        (),
        ("mlp_scale.*", "sigmoid", "scaled", ""),
        (),
        ("mlp_add.*", ""),
        (),
    ),
    "ContextTransform": (("fc1",), ("norm",), ("relu",), ("fc2",)),
    "SimAM": (
        (),
        (),
        (),
        ("average", "centred"),
        ("average input",),
        ("average", "variance"),
        ("divisor", "energy", "sigmoid input"),
        ("sigmoid", ""),
    ),
    "Coordinate": (
        ("average",),
        ("average",),
        ("concatenate",),
        ("conv1",),
        ("bn1",),
        ("hard_swish",),
        ("rows", "cols"),
        ("conv_h", "sigmoid"),
        ("conv_w", "sigmoid"),
        ("by_cols", ""),
    ),
    "Triplet": (
        ("maximum input",),
        ("maximum", "average", "concatenate", "cw.*"),
        ("cw.gated", "cw.back"),
        ("maximum input",),
        ("maximum", "average", "concatenate", "hc.*"),
        ("hc.gated", "hc.back"),
        (),
        ("total", ""),
        ("maximum", "average", "concatenate", "hw.*"),
        ("hw.gated", "total", ""),
    ),
    "NonLocal": (
        (),
        ("theta", "phi", "g"),
        (),
        (),
        ("max_pool_2x2", "max_pool_2x2"),
        ("softmax input",),
        ("scaled", "softmax"),
        ("weighted",),
        ("conv_out",),
        ("bn",),
        ("",),
    ),
    "MultiHeadSelfAttention": (
        (),
        ("qkv", "query", "key", "value"),
        ("scaled",),
        ("logits",),
        ("pos_embed.*", "softmax input"),
        ("softmax", ""),
        (),
        (),
    ),
    "RelativePositions": ((), (), (), (), (), (), (), (), (), (), ("",)),
}

# The classes of each attention kind: of the module itself (""), and of the modules in it.
CLASSES: dict[str, dict[str, str]] = {
    "none": {"": "Identity"},
    "se": {"": "SqueezeExcite"},
    "ese": {"": "EffectiveSqueezeExcite"},
    "eca": {"": "EfficientChannel"},
    "cbam": {"": "CBAM", "channel": "Bottleneck", "spatial": "SpatialGate"},
    "bam": {"": "BAM", "channel_att": "ChannelBranch", "spatial_att": "SpatialBranch"},
    "scse": {"": "ConcurrentSqueezeExcite", "cSE": "SqueezeExcite", "sSE": "SpatialSqueezeExcite"},
    "ge": {"": "GatherExcite", "gather": "GatherAverages", "mlp": "Bottleneck"},
    "gc": {"": "GlobalContext", "mlp_scale": "ContextTransform", "mlp_add": "ContextTransform"},
    "simam": {"": "SimAM"},
    "coordinate": {"": "Coordinate"},
    "triplet": {"": "Triplet", "cw": "SpatialGate", "hc": "SpatialGate", "hw": "SpatialGate"},
    "nonlocal": {"": "NonLocal"},
    "mhsa": {"": "MultiHeadSelfAttention", "pos_embed": "RelativePositions"},
}
ENDS = (
    "gated",
    "back",
)  # of a branch of triplet, computed outside of the gate that gives it its name

REPEATED = (
    "GatherConvolutions",
    "Bottleneck",
)  # lines that run more than once: in a loop, or a module used twice


@dataclass(frozen=True)
class Line:
    """One line of a forward method. scope: the module that runs it. of: its class. number: its
    place in the method.
    """

    text: str
    of: str
    scope: str
    number: int


@cache
def forward_lines(framework: str, name: str) -> tuple[str, ...]:
    """The lines of a class's forward method, as they stand there but for the indentation.

    framework: torch, jax or tf. Raises ValueError for another one, and for a class that its package
    does not have.
    """
    if framework not in LAYOUTS:
        raise ValueError(f"--code: expected one of {', '.join(LAYOUTS)}, got {framework!r}")
    package = ROOT / LAYOUTS[framework].package
    for path in sorted(package.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                method = next(
                    item for item in node.body if getattr(item, "name", "") == FORWARD[framework]
                )
                return tuple(_lines(source, method))
    raise ValueError(f"--code: {LAYOUTS[framework].package} has no class {name}")


def _lines(source: str, method: Any) -> Iterator[str]:
    lines = source.splitlines()
    for number in range(method.body[0].lineno, method.end_lineno + 1):
        text = lines[number - 1][method.body[0].col_offset :]
        if text.strip() and not text.lstrip().startswith("#"):
            yield text


def classes(config: BlockConfig) -> dict[str, str]:
    """The class of each module of a block that has a forward method of several lines, by the
    module's path.
    """
    held = dict(CLASSES.get(config.attention, {}))
    if (
        config.attention == "ge"
        and dict(config.attention_options or {}).get("gather") == "convolution"
    ):
        held["gather"] = "GatherConvolutions"
    return {"": BLOCK, **{f"attention.{scope}".rstrip("."): name for scope, name in held.items()}}


def scopes(config: Config) -> dict[str, str]:
    """The same of a config: those of a block, or of a network with its stem and all of its
    blocks.
    """
    if isinstance(config, BlockConfig):
        return classes(config)
    held = {"": NETWORK, "stem": "Stem"}
    for stage, blocks in enumerate(config.stages()):
        for position, block in enumerate(blocks):
            path = f"stages.{stage}.{position}"
            held |= {f"{path}.{scope}".rstrip("."): name for scope, name in classes(block).items()}
    return held


def annotated(found: Graph, framework: str) -> dict[str, tuple[Line, ...]]:
    """For each operation the lines that compute it, from the outermost module to the innermost,
    each line once.

    A line that computes several operations stands at the first of them; one that computes none, at
    the next that is computed in its module, or at the last if there is no next.
    """
    shown: dict[str, list[Line]] = {}
    for scope, name in scopes(found.config).items():
        texts = forward_lines(framework, name)
        for number, operation in enumerate(_owners(found, scope, name)):
            shown.setdefault(operation, []).append(Line(texts[number], name, scope, number))
    return {operation: tuple(lines) for operation, lines in shown.items()}


def _owners(found: Graph, scope: str, name: str) -> list[str]:
    """For each line of a module's forward method the operation at which it stands."""
    inside = [operation for operation in found if _within(operation, scope)]
    computed = computed_by(inside, scope, name, isinstance(found.config, NetworkConfig))
    firsts = [operations[0].name if operations else "" for operations in computed]
    if not any(firsts):  # no attention: its line stands where the block goes on
        return [inside[-1].name if inside else _after_identity(found, scope)] * len(firsts)
    for number in range(len(firsts) - 2, -1, -1):
        firsts[number] = firsts[number] or firsts[number + 1]
    for number in range(1, len(firsts)):
        firsts[number] = firsts[number] or firsts[number - 1]
    return firsts


def _after_identity(found: Graph, scope: str) -> str:
    return f"{scope.removesuffix('attention')}sum"


def _within(operation: Operation, scope: str) -> bool:
    path = plain_name(operation.name)
    return not scope or path == scope or path.startswith(f"{scope}.")


def plain_name(name: str) -> str:
    """Without the number of a second use."""
    head, _, number = name.rpartition(" ")
    return head if number.isdigit() else name


def computed_by(
    inside: list[Operation], scope: str, name: str, in_network: bool
) -> list[list[Operation]]:
    """For each line of a class's forward method the operations that it computes, in the order of
    execution.

    inside: those of the module at `scope`. Each is taken by the first line after the last that can
    have computed it.
    """
    lines = LINES[name]
    taken: list[list[Operation]] = [[] for _ in lines]
    repeats = name in REPEATED
    line = 0
    for operation in inside:
        if operation.kind == "input":
            continue
        path = plain_name(operation.name).removeprefix(scope).lstrip(".")
        if name == BLOCK and path == "" and in_network:
            path = "output"
        if name == "Stem" and operation.kind == "relu":
            path = "relu"  # without a pooling its output is the stem's
        if name == "SpatialGate" and path in ENDS:
            continue
        start = 0 if repeats else line
        for number in range(start, len(lines)):
            if any(_names(entry, path) for entry in lines[number]) and _free(
                taken[number], operation, lines[number], path, repeats
            ):
                taken[number].append(operation)
                line = number
                break
    return taken


def _names(entry: str, path: str) -> bool:
    module = entry.removesuffix(".*")
    return path == entry or (
        entry.endswith(".*")
        and (path == module or path.startswith(f"{module}."))
        and not _end(path)
    )


def _end(path: str) -> bool:
    return path.count(".") == 1 and path.split(".")[1] in ENDS


def _free(
    taken: list[Operation], operation: Operation, entries: tuple[str, ...], path: str, repeats: bool
) -> bool:
    """Whether a line has not yet computed all it computes under that name."""
    if repeats or any(entry.endswith(".*") and _names(entry, path) for entry in entries):
        return True
    already = [each for each in taken if plain_name(each.name) == plain_name(operation.name)]
    return len(already) < entries.count(path)
