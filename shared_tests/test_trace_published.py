"""The trace of models with the options of published networks: right ones, and mistakes that people
make with them, planted by another config or another layer.
"""

# ruff: noqa: E402  (PyTorch first: it must be loaded before TensorFlow)

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional

from pytorch_impl.bridge.recorder import trace as record
from resattn.checking.draws import random_arrays, random_input
from resattn.oracle import evaluation as reference
from resattn.tracing.computation import FORMULAS, StageSpec, compute
from resattn.tracing.trace import Recording, trace
from shared_tests.cases import marked_like, name_of
from shared_tests.published_cases import PUBLISHED, PUBLISHED_NETWORKS
from weights import BlockConfig, BottleneckConfig
from weights.graph import graph
from weights.live import adapter, build


def without_chance(config):
    """The config without what training leaves out at random."""
    changed = replace(config, drop_path=0.0)
    return changed if isinstance(config, BlockConfig) else replace(changed, dropout=0.0)


CASES = [(without_chance(config), size) for config, size in PUBLISHED.values()]
cases = pytest.mark.parametrize(("config", "size"), CASES, ids=name_of)


@cases
def test_formulas_are_those_of_the_oracle(config, size):
    arrays = random_arrays(config, "float64")
    x = random_input(config, size, 3, "float64")
    for training in (False, True):
        made = reference.stages(config, arrays, x, training=training).stages
        for stage in made.values():
            if stage.kind in FORMULAS and stage.kind != "input":
                leaves = {
                    name.rpartition(".")[2]: array
                    for name, array in arrays.items()
                    if name.rpartition(".")[0] == stage.module
                }
                spec = StageSpec(stage.kind, leaves, {**stage.settings, "training": training})
                found = compute(spec, tuple(node.value for node in stage.inputs))
                np.testing.assert_allclose(found, stage.computed.value, rtol=1e-9, atol=1e-9)


def test_every_kind_of_these_networks_has_a_formula():
    kinds = {each.kind for config, size in CASES for each in graph(config, size)}
    assert {"pad", "group_norm", "average_pool", "blur_pool", "subsample", "flatten"} <= kinds
    assert kinds - set(FORMULAS) <= {"convolution_1d"}


def traced(model, config, arrays, x, modes=("eval",)):
    with adapter("torch").precise("float64"):
        return trace({"torch": model}, x, config=config, arrays=arrays, modes=modes)


@cases
def test_right_models_have_no_finding(config, size):
    arrays = random_arrays(config, "float64")
    model = build(config, arrays, "torch")
    x = random_input(config, size, 3, "float64")
    found = traced(model, config, arrays, x, ("eval", "train"))
    assert not found.findings, str(found)
    assert {row.tensor for row in found.rows} >= {each.name for each in graph(config, size)} - {
        "input"
    }


# Mistakes: the options of the model, and the words that must name them.

BLOCK = BottleneckConfig(8, 12, stride=2, attention="se", attention_options={"hidden_channels": 3})
PLAIN = BlockConfig(4, 6, 3, 2, attention="se", attention_options={"hidden_channels": 3})
DEEP = PUBLISHED_NETWORKS["resnet50"][0]
GROUPED = BottleneckConfig(
    8, 12, stride=2, attention="none", norm="group", norm_groups=3, hidden_channels=6
)
MISTAKES = {
    "stride in conv1": (BLOCK, {"stride_at": "conv1"}, "stride is at conv1 instead of conv2"),
    "stride in conv2": (
        replace(BLOCK, stride_at="conv1"),
        {"stride_at": "conv2"},
        "stride is at conv2 instead of conv1",
    ),
    "relu before the attention": (BLOCK, {"relu_before_attention": True}, "relu (between|after)"),
    "no relu before the attention": (
        replace(BLOCK, relu_before_attention=True),
        {"relu_before_attention": False},
        "no relu between bn3|identity instead of relu",
    ),
    "no relu before the attention, basic": (
        replace(PLAIN, relu_before_attention=True),
        {"relu_before_attention": False},
        "no relu between bn2|identity instead of relu",
    ),
    "no blur": (
        replace(BLOCK, antialias="blur"),
        {"antialias": "none"},
        "stride is that of conv2|first pixel",
    ),
    "no average": (
        replace(PLAIN, antialias="average"),
        {"antialias": "none"},
        "stride is that of conv1|first of 2 x 2",
    ),
    "average shortcut": (BLOCK, {"shortcut": "average"}, "takes the average of 2 x 2"),
    "no average shortcut": (
        replace(BLOCK, shortcut="average"),
        {"shortcut": "convolution"},
        "strided convolution and no average|first of 2 x 2 pixels",
    ),
    "padded by half": (replace(BLOCK, padding="same"), {"padding": None}, "as PyTorch does"),
    "SAME": (BLOCK, {"padding": "same"}, "pads as SAME"),
    "group norm's eps": (GROUPED, {"bn_eps": 1e-3}, "eps 0.001 instead of 1e-05"),
    "group norm's groups": (GROUPED, {"norm_groups": 6}, "(6|instance).* instead of"),
    "pooling padded by 1": (
        replace(DEEP, stem_pool="max_same"),
        {"stem_pool": "max"},
        r"padded by 1, instead of",
    ),
    "SAME pooling": (DEEP, {"stem_pool": "max_same"}, "pads as SAME"),
    "ceil pooling": (DEEP, {"stem_pool": "max_ceil"}, "ceil mode|padded by 0|pads as SAME"),
}
SIZES = {BottleneckConfig: (10, 8), BlockConfig: (10, 8)}


def pose(config, seed=0):
    """Arrays and images: the map that the stem pools is even, so that paddings differ."""
    size = SIZES.get(type(config), (40, 32))
    return random_arrays(config, "float64", seed), random_input(config, size, 3, "float64")


def explained(found, pattern):
    words = [str(each) for finding in found.findings for each in finding.explanations]
    return [each for each in words if re.search(pattern, each)]


@pytest.mark.parametrize("known", ["stages", "output"])
@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name, known):
    config, options, pattern = MISTAKES[name]
    arrays, x = pose(config)
    model = build(replace(config, **options), arrays, "torch")
    last = "output" if isinstance(config, BlockConfig) else "classifier"
    if known == "output":
        with adapter("torch").precise("float64"):
            values = record(model, x, np.ones, training=False, last=last).values
        model = Recording({last: values[last]})
    found = traced(model, config, arrays, x)
    assert found.findings
    assert explained(found, pattern), str(found)


# Mistakes in a layer


def pad_blur_with_zeros(x, stride):
    row = x.new_tensor([1.0, 2.0, 1.0]) / 4
    kernel = (row[:, None] * row).expand(x.shape[1], 1, 3, 3)
    return functional.conv2d(x, kernel, stride=stride, padding=1, groups=x.shape[1])


def count_zeros(x, stride):
    rows, cols = (-size % step for size, step in zip(x.shape[2:], stride, strict=True))
    return functional.avg_pool2d(functional.pad(x, (0, cols, 0, rows)), stride)


def add_zeros_after(x, stride, channels):
    kept = x[:, :, :: stride[0], :: stride[1]]
    return functional.pad(kept, (0, 0, 0, 0, 0, channels - x.shape[1]))


LAYERS = {
    "blur_pool": (pad_blur_with_zeros, {"antialias": "blur"}, "pads with zeros instead"),
    "average_pool": (count_zeros, {"shortcut": "average"}, "counts the zeros beyond the edge"),
    "subsample": (add_zeros_after, {"shortcut": "subsample"}, "zeros are after the others"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_mistakes_in_layers_are_named(name, monkeypatch):
    import pytorch_impl.shortcut

    wrong, options, pattern = LAYERS[name]
    config = replace(BLOCK, **options)
    arrays, x = random_arrays(config, "float64"), random_input(config, (9, 7), 3, "float64")
    right = getattr(pytorch_impl.shortcut, name)
    marked = marked_like(right, wrong)
    monkeypatch.setattr(pytorch_impl.shortcut, name, lambda *given, ceil=None: marked(*given))
    found = traced(build(config, arrays, "torch"), config, arrays, x)
    assert found.findings
    assert explained(found, pattern), str(found)


@pytest.mark.parametrize(
    ("order", "pattern"),
    [
        ((0, 2, 4, 1, 3, 5), "interleaved"),
        ((0, 3, 1, 4, 2, 5), "dealt out"),
        ((3, 4, 5, 0, 1, 2), "reverse order of the groups"),
        ((0, 1, 2, 0, 1, 2), "input channels of the first one"),
    ],
)
def test_groups_of_other_channels_are_named(order, pattern):
    config = replace(BLOCK, hidden_channels=6, first_channels=6, groups=2)
    arrays, x = pose(config)
    model = build(config, arrays, "torch")
    forward = model.conv2.forward
    model.conv2.forward = lambda x: forward(x[:, list(order)])
    found = traced(model, config, arrays, x)
    assert found.findings
    assert explained(found, pattern), str(found)
