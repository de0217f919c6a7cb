"""Every option of published networks changes what a model computes, or says that it does not."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from resattn.checking.draws import random_arrays, random_input
from resattn.oracle.evaluation import run
from weights import BlockConfig, BottleneckConfig, NetworkConfig, Preprocessing
from weights.graph import graph

BLOCK = BlockConfig(4, 6, 3, 2, attention_options={"hidden_channels": 2})
SAME_SIZE = BlockConfig(6, 6, attention="none")
BOTTLENECK = BottleneckConfig(8, 12, stride=2, hidden_channels=6, attention="none")
NETWORK = NetworkConfig(
    3, 4, (8, 16), (2, 2), attention="none", form="bottleneck", stem_pool="max", stem_channels=6
)
BASIC = NetworkConfig(3, 4, (8, 16), (2, 2), attention="none", stem_stride=2)

# What training does at random, how parameters start, how images are made: none is in a graph.
NO_OPERATIONS = {
    "drop_path": 0.5,
    "dropout": 0.5,
    "zero_init": True,
    "preprocessing": Preprocessing(crop=0.9),
}
CHANGES = [
    (BLOCK, {"padding": "same"}),
    (BLOCK, {"shortcut": "average"}),
    (BLOCK, {"shortcut": "subsample"}),
    (BLOCK, {"shortcut_kernel_size": 3}),
    (SAME_SIZE, {"projects_always": True}),
    (BLOCK, {"antialias": "average"}),
    (BLOCK, {"antialias": "blur"}),
    (BLOCK, {"relu_before_attention": True}),
    (BLOCK, {"norm": "group", "norm_groups": 2}),
    (replace(BLOCK, norm="group", norm_groups=2), {"norm_groups": 3}),
    (BLOCK, {"dilation": (2, 1)}),
    (BLOCK, {"dilation": (1, 2)}),
    (BOTTLENECK, {"hidden_channels": 3}),
    (BOTTLENECK, {"first_channels": 3}),
    (BOTTLENECK, {"groups": 3}),
    (BOTTLENECK, {"stride_at": "conv1"}),
    (NETWORK, {"form": "basic"}),
    (NETWORK, {"hidden_widths": (3, (2, 5))}),
    (NETWORK, {"first_widths": (3, (2, 5))}),
    (NETWORK, {"groups": 2}),
    (NETWORK, {"stride_at": "conv1"}),
    (NETWORK, {"stem_padding": "same", "stem_stride": 2}),
    (NETWORK, {"padding": "same"}),
    (NETWORK, {"shortcut": "average"}),
    (NETWORK, {"shortcut_kernel_size": 3}),
    (BASIC, {"projects_first": True}),
    (NETWORK, {"antialias": "blur"}),
    (NETWORK, {"relu_before_attention": True}),
    (NETWORK, {"norm": "group", "norm_groups": 2}),
    (replace(NETWORK, norm="group", norm_groups=2), {"norm_groups": 1}),
    (BASIC, {"output_stride": 2}),
    (NETWORK, {"classes": 0}),
    (NETWORK, {"stem_channels": (3, 6)}),
    *((NETWORK, {"stem_pool": pool}) for pool in (
        None, "max_ceil", "max_same", "max_blur", "average", "convolution"
    )),
]  # fmt: skip


def output(config, arrays, x):
    return run(config, arrays, x, training=False).output


@pytest.mark.parametrize(("config", "options"), CHANGES, ids=lambda each: str(each)[:60])
def test_options_change_the_output(config, options):
    other = replace(config, **options)
    arrays = random_arrays(config, "float64")
    theirs = random_arrays(other, "float64", 1)
    same = {
        name: array
        for name, array in arrays.items()
        if theirs.get(name, array).shape == array.shape
    }
    x = random_input(config, (24, 16), 2, "float64")
    one, two = output(config, arrays, x), output(other, {**theirs, **same}, x)
    assert one.shape != two.shape or np.abs(one - two).max() > 1e-3 * np.abs(one).max()
    # What is drawn differs, too: no option is outside of the graph.
    kinds = [
        [(each.name, each.kind, each.shape, str(each.settings)) for each in graph(each, (24, 16))]
        for each in (config, other)
    ]
    assert kinds[0] != kinds[1]


def test_every_option_is_changed():
    for kind in (BlockConfig, BottleneckConfig, NetworkConfig):
        names = [item.name for item in fields(kind)]
        options = set(names[names.index("bn_decay") + 1 :]) - set(NO_OPERATIONS)
        shared = {name for config, each in CHANGES for name in each if isinstance(config, kind)}
        shared |= {
            name
            for config, each in CHANGES
            for name in each
            if kind is BottleneckConfig and isinstance(config, BlockConfig)
        }
        assert options <= shared, options - shared


@pytest.mark.parametrize("name", sorted(NO_OPERATIONS))
def test_what_is_no_operation_changes_nothing_in_evaluation(name):
    config = BASIC if name in ("dropout", "preprocessing") else BLOCK
    arrays, x = random_arrays(config, "float64"), random_input(config, (12, 8), 2, "float64")
    other = replace(config, **{name: NO_OPERATIONS[name]})
    np.testing.assert_array_equal(output(config, arrays, x), output(other, arrays, x))
    assert name in type(config).__doc__
