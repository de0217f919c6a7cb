"""Mistakes as people make them, planted in plain PyTorch models, and how the trace does on each.

`python -m shared_tests.trace_plants` prints the outcome of every case and how many there are of
each: explained, unexplained, false (a wrong cause or place), missed (no finding), refused (an error
of our own), crashed (any other). `python -m shared_tests.trace_plants WORD ...` runs the cases
whose names contain a word ("dilation", "@ alone") and prints what was found. The exit status is 1
if an outcome is not as `unexplained.py` says.

A plant is explained if every finding has an explanation that names the mistake (the pattern
`words`) at one of its places. A finding has several only if they compute the same values.
"""

from __future__ import annotations

import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from resattn.checking.draws import random_arrays
from resattn.tracing.formats import round_to
from resattn.tracing.trace import Mapped, trace
from shared_tests.plain_model import build_plain, count_calls, find_block, map_plain
from shared_tests.unexplained import FALSE, UNEXPLAINED
from weights import BlockConfig
from weights.config import NetworkConfig
from weights.errors import ResattnError
from weights.stages import Recording

SE = {"attention": "se", "attention_options": {"hidden_channels": 4}}
BLOCK = BlockConfig(4, 4, 3, 2, **SE)
IMAGE_BLOCK = BlockConfig(3, 4, 3, 2, **SE)
NETWORK = NetworkConfig(
    in_channels=3, classes=5, widths=(4, 6), depths=(2, 1), stem_pool=True, **SE
)
SIZES = {BlockConfig: (12, 9), NetworkConfig: (16, 12)}
FIRST, SECOND, LAST = "stages.0.0", "stages.0.1", "stages.1.0"

# In a block and in a network, in a network with a second mistake, and where only the output is
# known, of a block and of a network.
ALONE, INSIDE, AMONG, OUTPUT, FAR = "alone", "inside", "among", "output", "far"
SCOPES = (ALONE, INSIDE, AMONG, OUTPUT, FAR)
IN_NETWORK = (INSIDE, AMONG, FAR)


@dataclass(frozen=True)
class Plant:
    """A mistake.

    plant: makes it in a block, or in a whole model where `at` is "".
    words: the pattern of a cause's name and words that are right.
    places: the stages at which it may be found; of the block.
    at: the block of the network in which it is made.
    """

    plant: Callable
    words: str
    places: tuple[str, ...]
    at: str = LAST
    scopes: tuple[str, ...] = SCOPES
    block: BlockConfig = BLOCK
    mode: str = "eval"
    size: tuple[int, int] | None = None
    dtype: str = "float32"
    prepare: Callable = field(default=lambda x: x)

    def named_places(self, scope):
        if scope in (ALONE, OUTPUT) or not self.at:
            return set(self.places)
        return {self.at if p == "output" else f"{self.at}.{p}" for p in self.places}


PLANTS: dict[str, Plant] = {}


def plant(name, words, places, **options):
    """Registers the function that it decorates."""

    def register(function):
        assert name not in PLANTS, name
        PLANTS[name] = Plant(function, words, tuple(places.split()), **options)
        return function

    return register


def wired(name, words, places, **options):
    """Registers another order of a block's operations."""

    def register(wire):
        def change(block):
            block.wire = wire

        PLANTS[name] = Plant(change, words, tuple(places.split()), **options)
        return wire

    return register


def replace_forward(module, forward):
    module.forward = lambda x: forward(module, x)


# Operations that are added, dropped or moved

AROUND = "bn2 attention.global_average attention.fc1 attention.sigmoid attention sum output"


@wired("relu before attention", r"(activation|relu).*(before|in front of|added|after .*bn2)",
       AROUND)  # fmt: skip
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(functional.relu(y)) + block.shorten(x))


@wired("relu after attention", r"(activation|relu).*(after|before|added|around)", AROUND)
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(functional.relu(block.se(y)) + block.shorten(x))


@wired("relu before the sum", r"(activation|relu).*(before|moved|around)", AROUND)
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(y)) + block.shorten(x)


@wired("relu on the shortcut", r"(activation|relu).*shortcut", "shortcut.1 sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(y) + functional.relu(block.shorten(x)))


@wired("no relu at the end", r"identity instead of relu|(activation|relu).*missing", "output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.se(y) + block.shorten(x)


@wired("no relu inside", r"identity instead of relu|(activation|relu).*missing", "relu conv2")
def _(block, x):
    y = block.bn2(block.conv2(block.bn1(block.conv1(x))))
    return block.act2(block.se(y) + block.shorten(x))


@wired(
    "relu before the first norm",
    r"(activation|relu).*(before|moved|order)",
    "bn1 relu conv1 conv2",
)
def _(block, x):
    y = block.bn1(block.act1(block.conv1(x)))
    return block.act2(block.se(block.bn2(block.conv2(y))) + block.shorten(x))


@wired("attention before the norm", r"attention.*before", f"conv2 {AROUND}")
def _(block, x):
    y = block.conv2(block.act1(block.bn1(block.conv1(x))))
    return block.act2(block.bn2(block.se(y)) + block.shorten(x))


@wired("attention after the sum", r"attention.*after.*sum", AROUND)
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(y + block.shorten(x)))


@wired("attention after the last relu", r"attention.*after", AROUND)
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.se(block.act2(y + block.shorten(x)))


@wired("no attention", r"attention.*(missing|not)|without.*attention|gate is not applied", AROUND)
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(y + block.shorten(x))


@wired("no shortcut", r"shortcut is not added", "sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(y))


@wired("no first norm", r"norm.*(missing|not|dropped|left out)", "bn1 relu conv1 conv2")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.conv1(x))))
    return block.act2(block.se(y) + block.shorten(x))


@plant("gate + 1", r"(x|gate)? ?\+ (1|x)|1 \+|plus 1", "attention.sigmoid attention sum output")
def _(block):
    replace_forward(block.se, lambda se, x: x + x * se.scale(x))


@plant("no sigmoid", r"identity instead of sigmoid", "attention.sigmoid attention output")
def _(block):
    replace_forward(block.se.gate, lambda gate, x: x)


@plant("tanh for sigmoid", r"tanh instead of sigmoid", "attention.sigmoid attention output")
def _(block):
    replace_forward(block.se.gate, lambda gate, x: torch.tanh(x))


@plant("maximum for average", r"max\w* instead of|maximum", "attention.global_average "
       "attention.fc1 attention.sigmoid attention output")  # fmt: skip
def _(block):
    replace_forward(block.se.squeeze, lambda squeeze, x: x.amax((2, 3), keepdim=True))


@plant("attention twice", r"twice|squared", "attention.sigmoid attention sum output")
def _(block):
    replace_forward(block.se, lambda se, x: x * se.scale(x) ** 2)


@wired("scaled branch", r"(scaled|multiplied|factor).*0\.2\b", "attention sum output bn2")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(0.2 * block.se(y) + block.shorten(x))


@wired("scaled by an odd factor", r"(scaled|multiplied|factor).*0\.37\b", "attention sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(0.37 * block.se(y) + block.shorten(x))


@wired("scaled shortcut", r"(scaled|multiplied|factor).*0\.5\b", "shortcut.1 sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(block.se(y) + 0.5 * block.shorten(x))


@wired("layer scale", r"(scaled|multiplied|factor)", "attention sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    scale = torch.linspace(0.1, 0.9, y.shape[1], dtype=y.dtype)[:, None, None]
    return block.act2(scale * block.se(y) + block.shorten(x))


@wired("dropout left on", r"dropout", "attention sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    return block.act2(functional.dropout(block.se(y), 0.2, True) + block.shorten(x))


@wired("dropout left on inside", r"dropout", "relu conv2")
def _(block, x):
    y = functional.dropout(block.act1(block.bn1(block.conv1(x))), 0.3, True)
    return block.act2(block.se(block.bn2(block.conv2(y))) + block.shorten(x))


@wired("drop path left on", r"drop.?path|stochastic depth", "attention sum output")
def _(block, x):
    y = block.se(block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x))))))
    kept = torch.tensor([1, 0, 1, 1], dtype=y.dtype)[: len(y), None, None, None]
    return block.act2(y * kept / 0.8 + block.shorten(x))


@plant("dropout before the classifier", r"dropout", "global_average classifier", at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    network.drop = nn.Dropout(0.3)
    network.drop.forward = lambda x: functional.dropout(x, 0.3, True)


@plant("leaky slope from nowhere", r"leaky.*0\.05\b", "relu conv2 output")
def _(block):
    replace_forward(block.act1, lambda act, x: functional.leaky_relu(x, 0.05))


@plant("silu in the block", r"silu instead of relu", "relu output")
def _(block):
    for act in (block.act1, block.act2):
        replace_forward(act, lambda act, x: functional.silu(x))


# Parameters that are exchanged between places of equal shape


def exchange(first, second, leaves=None):
    first, second = first.state_dict(), second.state_dict()
    for name in leaves or first:
        held = first[name].clone()
        first[name].copy_(second[name])
        second[name].copy_(held)


EXCHANGE = r"exchange|swap|those of|belong to"


@plant("convolutions exchanged", EXCHANGE, "conv1 conv2 output", at=SECOND)
def _(block):
    exchange(block.conv1, block.conv2)


@plant("norms exchanged", EXCHANGE, "bn1 bn2 output")
def _(block):
    exchange(block.bn1, block.bn2)


@plant("norm and shortcut's exchanged", EXCHANGE, "bn2 shortcut.1 output")
def _(block):
    exchange(block.bn2, block.down[1])


@plant("statistics exchanged", EXCHANGE, "bn1 bn2 output")
def _(block):
    exchange(block.bn1, block.bn2, ("running_mean", "running_var"))


@plant("gate's layers exchanged", EXCHANGE, "attention.fc1 attention.fc2 output", at=SECOND)
def _(block):
    exchange(block.se.fc1, block.se.fc2)


BLOCK_STAGES = ("conv1", "bn1", "conv2", "bn2", "attention.fc1", "attention.fc2")


@plant("blocks exchanged", EXCHANGE, " ".join(f"{block}.{stage}" for block in (FIRST, SECOND)
       for stage in BLOCK_STAGES), at="", scopes=IN_NETWORK)  # fmt: skip
def _(network):
    exchange(find_block(network, FIRST), find_block(network, SECOND))


@plant("norms of two blocks exchanged", EXCHANGE, f"{FIRST}.bn1 {SECOND}.bn1", at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    exchange(find_block(network, FIRST).bn1, find_block(network, SECOND).bn1)


# The same mistake at a subset of sites

NORMS_OF_FIRST = " ".join(f"{block}.{norm}" for block in (FIRST, SECOND) for norm in ("bn1", "bn2"))
TRUNK_RELUS = " ".join(
    ("stem.relu", *(f"{b}{end}" for b in (FIRST, SECOND, LAST) for end in (".relu", "")))
)


@plant("eps of one stage", r"eps 0\.001 instead", NORMS_OF_FIRST, at="", scopes=IN_NETWORK)
def _(network):
    for block in network.layers[0]:
        block.bn1.eps = block.bn2.eps = 1e-3


@plant("odd eps of one stage", r"eps 0\.0037 instead", NORMS_OF_FIRST, at="", scopes=IN_NETWORK)
def _(network):
    for block in network.layers[0]:
        block.bn1.eps = block.bn2.eps = 3.7e-3


@plant("eps everywhere but in the stem", r"eps 0\.001 instead", NORMS_OF_FIRST + " " + " ".join(
       f"{LAST}.{norm}" for norm in ("bn1", "bn2", "shortcut.1")), at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    for path, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d) and path != "bn1":
            module.eps = 1e-3


@plant("silu in the trunk alone", r"silu instead of relu", TRUNK_RELUS, at="", scopes=IN_NETWORK)
def _(network):
    for path, module in network.named_modules():
        if isinstance(module, nn.ReLU) and ".se." not in path:
            replace_forward(module, lambda act, x: functional.silu(x))


@plant("relu6 in the attention alone", r"silu instead of relu", " ".join(
       f"{block}.attention.relu" for block in (FIRST, SECOND, LAST)), at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    for path, module in network.named_modules():
        if isinstance(module, nn.ReLU) and ".se." in path:
            replace_forward(module, lambda act, x: functional.silu(x))


@plant("no bias in the gates", r"bias is missing", " ".join(
       f"{block}.attention.{fc}" for block in (FIRST, SECOND, LAST) for fc in ("fc1", "fc2")),
       at="", scopes=IN_NETWORK)  # fmt: skip
def _(network):
    for path, module in network.named_modules():
        if path.endswith(("fc1", "fc2")):
            module.bias.data.zero_()


@plant("train mode in one stage", r"batch's statistics", NORMS_OF_FIRST, at="", scopes=IN_NETWORK)
def _(network):
    for block in network.layers[0]:
        for norm in (block.bn1, block.bn2):
            replace_forward(norm, normalise_by_batch)


# Values that are stored otherwise


def change_parameters(model, how, named=lambda name: True):
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and named(name):
                changed = how(tensor.double().numpy())
                tensor.copy_(torch.tensor(np.asarray(changed)))


def round_int8(array, axes=None):
    """Symmetric, with one scale, or one for each index of the first axis."""
    scale = np.abs(array).max(axes, keepdims=axes is not None) / 127
    return np.round(array / scale) * scale


def is_kernel(name):
    return name.endswith("weight") and ("conv" in name or "fc" in name or "down.0" in name)


ALL_PRODUCTS = (
    "conv1 conv2 shortcut.0 attention.fc1 attention.fc2 output bn1 bn2 shortcut.1 classifier"
)


def rounded(form):
    return rf"(stored|weights?|kernel|parameters?|values?).*(rounded|stored|in).*{form}"


@plant("rounded to bfloat16", rounded("bfloat16"), ALL_PRODUCTS)
def _(block):
    change_parameters(block, lambda a: round_to(a, "bfloat16"))


@plant("rounded to float16", rounded("float16"), ALL_PRODUCTS)
def _(block):
    change_parameters(block, lambda a: round_to(a, "float16"))


@plant("one kernel rounded to bfloat16", rounded("bfloat16"), "conv2 output")
def _(block):
    change_parameters(block.conv2, lambda a: round_to(a, "bfloat16"), lambda n: n == "weight")


INT8 = r"8.?bit|int8"


@plant("rounded to int8", INT8, "conv1 conv2 shortcut.0 attention.fc1 attention.fc2 output")
def _(block):
    change_parameters(block, round_int8, is_kernel)


@plant("one kernel rounded to int8", INT8, "conv2 output")
def _(block):
    change_parameters(block.conv2, round_int8, lambda n: n == "weight")


@plant("int8 for each channel", INT8, "conv2 output")
def _(block):
    change_parameters(block.conv2, lambda a: round_int8(a, (1, 2, 3)), lambda n: n == "weight")


def fold(conv, norm):
    """The norm folded into the convolution."""
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight *= factor[:, None, None, None]
        bias = 0 if conv.bias is None else conv.bias
        conv.bias = nn.Parameter((bias - norm.running_mean) * factor + norm.bias)


def reset(norm):
    with torch.no_grad():
        norm.weight.fill_(1)
        norm.bias.zero_()
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)


@plant("norm folded and applied again", r"folded|applied twice", "conv1 bn1 output")
def _(block):
    fold(block.conv1, block.bn1)


@plant("norm folded twice", r"folded|norm is missing|applied twice", "conv2 bn2 output")
def _(block):
    fold(block.conv2, block.bn2)
    fold(block.conv2, block.bn2)
    reset(block.bn2)


@plant("norm folded without its mean", r"folded|mean|norm is missing", "conv1 bn1 output")
def _(block):
    block.bn1.running_mean.zero_()
    fold(block.conv1, block.bn1)
    reset(block.bn1)


@plant("variance as deviation", r"deviation|root", "bn2 output")
def _(block):
    change_parameters(block.bn2, np.sqrt, lambda n: n == "running_var")


@plant("variance as inverse deviation", r"inverse|reciprocal|1 /", "bn2 output")
def _(block):
    change_parameters(block.bn2, lambda v: (v + 1e-5) ** -0.5, lambda n: n == "running_var")


@plant("variance as its inverse", r"inverse|reciprocal|1 /", "bn2 output")
def _(block):
    change_parameters(block.bn2, lambda v: 1 / v, lambda n: n == "running_var")


@plant("mean not loaded", r"mean.*(not|never) loaded", "bn1 output")
def _(block):
    block.bn1.running_mean.zero_()


@plant("variance not loaded", r"variance.*(not|never) loaded", "bn1 output")
def _(block):
    block.bn1.running_var.fill_(1)


@plant("statistics not loaded", r"statistics.*(not|never) loaded", "bn1 output")
def _(block):
    block.bn1.running_mean.zero_()
    block.bn1.running_var.fill_(1)


@plant("offset alone not loaded", r"bias is missing|offset", "bn2 output")
def _(block):
    block.bn2.bias.data.zero_()


@plant("another checkpoint", r"checkpoint|EMA|all (its|the) (parameters|weights)", ALL_PRODUCTS)
def _(block):
    rng = np.random.default_rng(5)
    change_parameters(block, lambda a: a * (1 + 0.02 * rng.normal(size=a.shape)))


@plant("another checkpoint everywhere", r"checkpoint|EMA|all (its|the) (parameters|weights)",
       " ".join(f"{b}.{s}" for b in (FIRST, SECOND, LAST) for s in ALL_PRODUCTS.split())
       + " stem.conv stem.bn classifier", at="", scopes=IN_NETWORK)  # fmt: skip
def _(network):
    rng = np.random.default_rng(5)
    change_parameters(network, lambda a: a * (1 + 0.02 * rng.normal(size=a.shape)))


# Structure


@plant("dilation", r"dilat", "conv2 output")
def _(block):
    block.conv2.dilation, block.conv2.padding = (2, 2), (2, 2)


@plant("dilation at stride 2", r"dilat", "conv1 output")
def _(block):
    block.conv1.dilation, block.conv1.padding = (2, 2), (2, 2)


def pad_by(mode, amounts=(1, 1, 1, 1)):
    def forward(conv, x):
        padded = functional.pad(x, amounts, mode)
        return functional.conv2d(padded, conv.weight, conv.bias, conv.stride)

    return forward


for _mode, _words in {
    "reflect": "reflect",
    "replicate": "replicat|edge|repeat",
    "circular": "circular|wrap",
}.items():

    @plant(f"{_mode} padding", rf"pad.*({_words})|({_words}).*pad", "conv2 output")
    def _(block, mode=_mode):
        replace_forward(block.conv2, pad_by(mode))

    @plant(f"{_mode} padding at stride 2", rf"pad.*({_words})|({_words}).*pad", "conv1 output")
    def _(block, mode=_mode):
        replace_forward(block.conv1, pad_by(mode))


@plant("SAME padding", r"SAME", "conv1 conv2 output", size=(16, 12))
def _(block):
    replace_forward(block.conv1, lambda c, x: pad_by("constant", (0, 1, 0, 1) if
                    x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0 else (1, 1, 1, 1))(c, x)
                    )  # fmt: skip


@plant("padded at the start alone", r"pad", "conv1 output")
def _(block):
    replace_forward(block.conv1, lambda c, x: pad_by("constant", (2, 0, 2, 0))(c, x))


@plant("kernel of 1 x 1", r"1 ?x ?1|centre|center|kernel.*size|dilation [4-9]", "conv2 output")
def _(block):
    replace_forward(
        block.conv2, lambda c, x: functional.conv2d(x, c.weight[:, :, 1:2, 1:2], c.bias)
    )


@plant("kernel of 5 x 5", r"5 ?x ?5|kernel.*size", "conv2 output")
def _(block):
    shape = (*block.conv2.weight.shape[:2], 5, 5)
    kernel = torch.tensor(np.random.default_rng(3).normal(0, 0.2, shape)).to(block.conv2.weight)
    kernel[:, :, 1:4, 1:4] = block.conv2.weight.data
    replace_forward(block.conv2, lambda c, x: functional.conv2d(x, kernel, c.bias, 1, 2))


POOL = r"pool"


def pool_by(function):
    return lambda network: replace_forward(network.maxpool, lambda module, x: function(x))


for _name, _words, _pool in (
    ("average pool, padding counted", r"average.*pool|pool.*average",
     lambda x: functional.avg_pool2d(x, 3, 2, 1)),
    ("average pool, padding not counted", r"average.*pool|pool.*average",
     lambda x: functional.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    ("pool of 2 x 2", r"pool.*2 ?x ?2|2 ?x ?2.*pool",
     lambda x: functional.max_pool2d(x, 2, 2)),
    ("pool padded at the end", r"pool.*(SAME|end)|(SAME|end).*pool",
     lambda x: functional.max_pool2d(functional.pad(x, (0, 1, 0, 1)), 3, 2)),
    ("pool of 5 x 5", r"pool.*5 ?x ?5|5 ?x ?5.*pool",
     lambda x: functional.max_pool2d(x, 5, 2, 2)),
    ("no pool but a stride", r"pool", lambda x: x[:, :, ::2, ::2]),
):  # fmt: skip
    plant(_name, _words, "stem", at="", scopes=IN_NETWORK)(pool_by(_pool))


@plant("maximum before the classifier", r"max", "global_average classifier", at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    replace_forward(network.pool, lambda pool, x: x.amax((2, 3), keepdim=True))


@plant("sum before the classifier", r"sum|scaled|mean|average", "global_average classifier", at="",
       scopes=IN_NETWORK)  # fmt: skip
def _(network):
    replace_forward(network.pool, lambda pool, x: x.sum((2, 3), keepdim=True))


@plant("stride at the second convolution", r"stride", "conv1 conv2 bn1 relu output")
def _(block):
    block.conv1.stride, block.conv2.stride = (1, 1), (2, 2)


def shorten_by(pool):
    def plant(block):
        def forward(conv, x):
            return functional.conv2d(pool(x), conv.weight, conv.bias)

        replace_forward(block.down[0], forward)

    return plant


plant("average pool in the shortcut", r"pool|average", "shortcut.0 shortcut.1 sum output")(
    shorten_by(lambda x: functional.avg_pool2d(x, 2, 2, ceil_mode=True))
)
plant("maximum pool in the shortcut", r"pool|max", "shortcut.0 shortcut.1 sum output")(
    shorten_by(lambda x: functional.max_pool2d(x, 2, 2, ceil_mode=True))
)
plant("shortcut takes odd pixels", r"pixel|offset|shift|slice|stride", "shortcut.0 output",
      size=(16, 12))(shorten_by(lambda x: x[:, :, 1::2, 1::2] if x.shape[2] % 2 == 0 and
                     x.shape[3] % 2 == 0 else x[:, :, ::2, ::2]))  # fmt: skip


@wired("shortcut of zeros and pixels", r"shortcut", "shortcut.0 shortcut.1 sum output")
def _(block, x):
    y = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    short = x[:, :, ::2, ::2]
    short = functional.pad(short, (0, 0, 0, 0, 0, y.shape[1] - short.shape[1]))
    return block.act2(block.se(y) + short)


SIDES = r"height|width|rows?|transpos"


# Before an average over the whole map, that is the same as every kernel with its sides swapped.
TURNED = "input conv1 conv2 shortcut.0 stem.conv " + " ".join(
    f"{block}.{conv}" for block in (FIRST, SECOND, LAST) for conv in ("conv1", "conv2")
)


@plant("height and width swapped", SIDES + "|row col", TURNED, at="",
       size=(12, 12))  # fmt: skip
def _(model):
    model.prepare.forward = lambda x: x.transpose(2, 3)


@plant("height and width swapped, not square", SIDES + "|row col", TURNED, at="",
       scopes=(OUTPUT, FAR, INSIDE))  # fmt: skip
def _(model):
    model.prepare.forward = lambda x: x.transpose(2, 3)


@plant("kernel's sides swapped", SIDES + "|row col", "conv2 output")
def _(block):
    block.conv2.weight.data = block.conv2.weight.data.transpose(2, 3).contiguous()


@plant("kernels' sides swapped everywhere", SIDES + "|row col", "conv1 conv2 stem.conv " + " ".join(
       f"{b}.{c}" for b in (FIRST, SECOND, LAST) for c in ("conv1", "conv2")),
       at="")  # fmt: skip
def _(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.transpose(2, 3).contiguous()


def normalise_by_batch(norm, x):
    return functional.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.1, norm.eps)


@plant("norm ignores the mode", r"batch's statistics|track_running_stats|train", "bn1 output")
def _(block):
    replace_forward(block.bn1, normalise_by_batch)


@plant("instance norm", r"instance", "bn1 output")
def _(block):
    replace_forward(
        block.bn1,
        lambda n, x: functional.instance_norm(x, None, None, n.weight, n.bias, True, 0.1, n.eps),
    )


@plant("group norm", r"group", "bn1 output")
def _(block):
    replace_forward(block.bn1, lambda n, x: functional.group_norm(x, 2, n.weight, n.bias, n.eps))


@plant("group norm of one group", r"group|layer", "bn1 output")
def _(block):
    replace_forward(block.bn1, lambda n, x: functional.group_norm(x, 1, n.weight, n.bias, n.eps))


@plant("fast variance", r"fast variance|mean of (the )?squares|E\[x",
       "shortcut.1 shortcut.1.running_var", mode="train", scopes=(ALONE,),
       prepare=lambda x: x + 30)  # fmt: skip
def _(block):
    def forward(norm, x):
        mean = x.mean((0, 2, 3), keepdim=True)
        variance = (x * x).mean((0, 2, 3), keepdim=True) - mean * mean
        y = (x - mean) / (variance.clamp(min=0) + norm.eps).sqrt()
        with torch.no_grad():
            count = x.numel() / x.shape[1]
            norm.running_mean.lerp_(mean.flatten(), 0.1)
            norm.running_var.lerp_(variance.flatten() * count / (count - 1), 0.1)
        return y * norm.weight[:, None, None] + norm.bias[:, None, None]

    replace_forward(block.down[1], forward)


# Preprocessing and classes

MEAN = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
CAFFE = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)[:, None, None]


def flip(x):
    return x.flip(1)


def standardise(x):
    return (x - MEAN) / STD


IMAGES = {
    "BGR": (r"BGR|input channels are in the order \(2, 1, 0\)", flip),
    "times 255": (r"255", lambda x: 255 * x),
    "divided by 255": (r"255", lambda x: x / 255),
    "divided by 255 twice": (r"255|65025|scaled by", lambda x: x / 255 / 255),
    "from -1 to 1": (r"-1, ?1|-1 to 1", lambda x: 2 * x - 1),
    "standardised": (r"ImageNet", standardise),
    "not standardised": (r"ImageNet", lambda x: x * STD + MEAN),
    "standardised twice": (r"ImageNet|scaled by", lambda x: standardise(standardise(x))),
    "BGR and standardised": (
        r"(BGR|reversed).*ImageNet|ImageNet.*(BGR|reversed)",
        lambda x: standardise(flip(x)),
    ),
    "standardised and BGR": (
        r"(BGR|reversed).*ImageNet|ImageNet.*(BGR|reversed)",
        lambda x: flip(standardise(x)),
    ),
    "BGR and from -1 to 1": (r"(BGR|reversed).*-1|-1.*(BGR|reversed)", lambda x: flip(2 * x - 1)),
    "BGR and times 255": (r"(BGR|reversed).*255|255.*(BGR|reversed)", lambda x: flip(255 * x)),
    "standardised out of 255": (r"ImageNet|scaled by", lambda x: standardise(255 * x)),
    "as Caffe": (r"BGR.*(103|Caffe)|(103|Caffe).*BGR|Caffe", lambda x: flip(255 * x) - CAFFE),
    "scaled and shifted": (r"scaled by \(1\.7", lambda x: 1.7 * x + 0.25),
    "channels with deviations apart": (r"scaled by", lambda x: x / (STD * 4)),
}
for _name, (_words, _change) in IMAGES.items():

    @plant(f"image {_name}", _words, "input conv1 shortcut.0 stem.conv", at="",
           block=IMAGE_BLOCK)  # fmt: skip
    def _(model, change=_change):
        model.prepare.forward = lambda x: change(x.double()).to(x.dtype)


CLASSES = r"class|output channels.*order|outputs.*order"


@plant("classes in reverse", CLASSES, "classifier", at="", scopes=IN_NETWORK)
def _(network):
    for array in network.fc.parameters():
        array.data = array.data.flip(0)


@plant("classes shifted by one", CLASSES, "classifier", at="", scopes=IN_NETWORK)
def _(network):
    for array in network.fc.parameters():
        array.data = array.data.roll(1, 0)


@plant("classes in alphabetical order", CLASSES, "classifier", at="", scopes=IN_NETWORK)
def _(network):
    for array in network.fc.parameters():
        array.data = array.data[[0, 3, 1, 4, 2]]


@plant("logits after a softmax", r"softmax", "classifier", at="", scopes=IN_NETWORK)
def _(network):
    network.fc.register_forward_hook(lambda fc, x, y: y.softmax(1))


# Running them


@dataclass(frozen=True)
class Outcome:
    """What the trace made of a plant. verdict: one of `VERDICTS`."""

    verdict: str
    text: str
    seconds: float = 0.0


VERDICTS = ("explained", "unexplained", "false", "missed", "refused", "crashed")
OTHER = r"eps 0\.001 instead"


def other_block(name):
    """The block whose second norm has another eps, as a second mistake: none that a plant is in."""
    return LAST if f"{FIRST}.bn2" in PLANTS[name].places else FIRST


def list_cases():
    return [(name, scope) for name, each in PLANTS.items() for scope in each.scopes]


@cache
def pose(config, size, dtype="float32"):
    """The right arrays and images between 0 and 1 for a config."""
    rng = np.random.default_rng(7)
    x = rng.uniform(0, 1, (4, config.in_channels, *size)).astype(dtype)
    return random_arrays(config, dtype), x


def is_listed(name, scope, tables=UNEXPLAINED):
    """Whether a case is known to stay unexplained."""
    return any(scope in table.get(name, ()) for table in tables.values())


def contradicts_table(name, scope, verdict):
    """Whether a case is explained but listed, or the other way round."""
    if is_listed(name, scope, FALSE):
        return verdict != "false"
    return verdict not in (("unexplained", "refused") if is_listed(name, scope) else ("explained",))


def make_case(name, scope):
    """The model or recording, the images, the config and the arrays of a case."""
    each = PLANTS[name]
    dtype = each.dtype
    whole = scope in IN_NETWORK
    config = NETWORK if whole else each.block
    arrays, x = pose(config, each.size or SIZES[type(config)], dtype)
    x = each.prepare(x)
    model = build_plain(config, arrays, dtype)
    each.plant(find_block(model, each.at) if each.at else model)
    if scope == AMONG:
        find_block(model, other_block(name)).bn2.eps = 1e-3
    torch.manual_seed(0)
    if scope in (OUTPUT, FAR):
        with torch.no_grad():
            last = "classifier" if whole else "output"
            return Recording({last: model(torch.tensor(x)).numpy()}), x, config, arrays
    calls = count_calls(model, torch.tensor(x))
    stages = {stage: path for stage, path in map_plain(model).items() if calls[path] == 1}
    return Mapped(model, stages), x, config, arrays


def run_case(name, scope):
    started = time.perf_counter()
    model, x, config, arrays = make_case(name, scope)
    try:
        found = trace(
            {"theirs": model}, x, config=config, arrays=arrays, modes=(PLANTS[name].mode,)
        )
    except ResattnError as error:
        return Outcome("refused", str(error), time.perf_counter() - started)
    except Exception:
        return Outcome("crashed", traceback.format_exc(), time.perf_counter() - started)
    verdict = judge(name, scope, found.findings)
    if verdict == "missed" and any("changes its input" in note for note in found.notes):
        verdict = "unexplained"
    return Outcome(verdict, str(found), time.perf_counter() - started)


def judge(name, scope, findings):
    """The verdict on the findings of a case; those of the second mistake must be right, too."""
    each = PLANTS[name]
    right = [(each.words, each.named_places(scope))]
    if scope == AMONG:
        right.append((OTHER, {f"{other_block(name)}.bn2", *right[0][1]}))
    seen = set()
    for finding in findings:
        fits = {
            number
            for number, (words, places) in enumerate(right)
            for text in (f"{each.cause}: {each.words}" for each in finding.explanations)
            if re.search(words, text, re.IGNORECASE) and at_place(finding, text, places)
        }
        if finding.explanations and not fits:
            return "false"
        seen |= fits
    if not findings:
        return "missed"
    explained = seen >= set(range(len(right))) and all(each.explanations for each in findings)
    return "explained" if explained else "unexplained"


NAME = re.compile(
    r"\b(?:stages\.\d\.\d(?:\.\w+)*|(?:stem|attention|shortcut)(?:\.\w+)+|conv\d|bn\d)\b"
)
AT = re.compile(r"\bat (relu|attention|sum|output|stem|global_average|classifier)\b")


def at_place(finding, text, places):
    """Whether the words name nothing but right places; a finding whose words name none must be at
    a right place.
    """
    if "in the input" in text:
        return "input" in places
    named = {*NAME.findall(text), *AT.findall(text)}
    known = {*places, *(place.rpartition(".")[2] for place in places)}
    known |= {".".join(place.split(".")[:3]) for place in places if place.startswith("stages")}
    return named <= known if named else finding.stage in places


def main():
    words = sys.argv[1:]
    counts: dict[str, Counter] = {scope: Counter() for scope in SCOPES}
    spent = 0.0
    wrong = []
    for name, scope in list_cases():
        if words and not any(word in f"{name} @ {scope}" for word in words):
            continue
        outcome = run_case(name, scope)
        counts[scope][outcome.verdict] += 1
        spent += outcome.seconds
        if contradicts_table(name, scope, outcome.verdict):
            wrong.append(f"{name} @ {scope}: {outcome.verdict}")
        print(f"{outcome.verdict:12} {outcome.seconds:5.1f} s  {name} @ {scope}", flush=True)
        if words or outcome.verdict in ("false", "crashed"):
            print(outcome.text)
    for scope, found in counts.items():
        print(scope, *(f"{verdict} {found[verdict]}" for verdict in VERDICTS), sep="  ")
    total = sum(counts.values(), Counter())
    for line in wrong:
        print("not as listed:", line)
    print("all", *(f"{each} {total[each]}" for each in VERDICTS), f"{spent:.0f} s", sep="  ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
