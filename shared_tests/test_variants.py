"""Blocks and networks with the options of published networks: every framework against the oracle.

Each case has two sizes. At the first every stage is compared in training, with its slope; at the
second the output and all gradients in evaluation.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from resattn.checking.backends import implementation, native_arguments, precise
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.oracle.evaluation import evaluate, run
from shared_tests.test_graph import CLOSE, computed, disagreement
from weights import BlockConfig, NetworkConfig, write
from weights.config import BottleneckConfig
from weights.errors import ArgumentError
from weights.graph import graph
from weights.live import LiveModel, adapter, build

SMALL: dict[str, Any] = {
    "widths": (8, 12),
    "depths": (1, 1),
    "classes": 5,
    "stem_stride": 2,
    "form": "bottleneck",
    "attention": "none",
}


def network(**options: Any) -> NetworkConfig:
    return NetworkConfig(**{**SMALL, **options})


PLAIN = {"attention": "none", "conv_bias": False}

CASES: dict[str, tuple[Any, tuple[int, int], tuple[int, int]]] = {
    "deep stem, pooling by convolution, average shortcut": (
        network(stem_channels=(4, 6), stem_pool="convolution", shortcut="average"),
        (17, 16),
        (20, 25),
    ),
    "averages": (
        network(form="basic", stem_pool="average", antialias="average", shortcut="average"),
        (24, 16),
        (16, 32),
    ),
    "blur, no classifier": (
        network(antialias="blur", stem_pool="max_blur", classes=0),
        (17, 16),
        (20, 19),
    ),
    "same": (
        network(
            form="basic",
            padding="same",
            stem_padding="same",
            stem_pool="max_same",
            projects_first=True,
        ),
        (17, 16),
        (22, 19),
    ),
    "groups": (
        network(
            stem_channels=8,
            stem_pool="max_ceil",
            norm="group",
            norm_groups=4,
            groups=2,
            hidden_widths=(4, (8,)),
            first_widths=(8, 4),
            stride_at="conv1",
        ),
        (17, 16),
        (20, 23),
    ),
    "output stride": (
        network(
            form="basic",
            stem_pool="max",
            widths=(4, 6),
            output_stride=4,
            shortcut_kernel_size=3,
        ),
        (17, 16),
        (20, 27),
    ),
    "bottleneck": (BottleneckConfig(5, 8, stride=2), (9, 8), (8, 7)),
    "bottleneck without projection": (
        BottleneckConfig(8, 8, hidden_channels=6, first_channels=3, groups=3, **PLAIN),
        (5, 6),
        (6, 7),
    ),
    "same padding of one kernel": (
        BlockConfig(3, 4, (5, 3), (3, 2), "same", **PLAIN),
        (10, 8),
        (11, 9),
    ),
    "average shortcut, stride 3": (
        BlockConfig(3, 4, 3, (3, 1), shortcut="average", **PLAIN),
        (10, 7),
        (11, 6),
    ),
    "subsample": (
        BlockConfig(3, 6, 3, 2, shortcut="subsample"),
        (9, 8),
        (8, 7),
    ),
    "dilation": (
        BlockConfig(3, 4, dilation=(2, 3), shortcut_kernel_size=(1, 3), **PLAIN),
        (9, 8),
        (6, 7),
    ),
    "projection everywhere": (
        BlockConfig(4, 4, projects_always=True, norm="group", norm_groups=2),
        (5, 6),
        (6, 5),
    ),
    "relu before attention": (
        BlockConfig(4, 4, relu_before_attention=True, attention_options={"hidden_channels": 2}),
        (5, 6),
        (6, 5),
    ),
    "relu before no attention": (
        BlockConfig(4, 4, relu_before_attention=True, **PLAIN),
        (5, 6),
        (6, 5),
    ),
    "blurred block": (BlockConfig(3, 4, 3, 2, antialias="blur", **PLAIN), (9, 8), (6, 5)),
}

cases = pytest.mark.parametrize("case", CASES)


@cases
def test_every_stage_in_training(framework, case):
    config, size, _ = CASES[case]
    arrays, x, seen = computed(framework, config, size, True)
    assert disagreement(graph(config, size), arrays, x, seen, True) is None
    expected = run(config, arrays, x, training=True).statistics
    assert seen.statistics.keys() == expected.keys()
    for name, value in expected.items():
        assert np.abs(seen.statistics[name] - value).max() < CLOSE, name


@cases
def test_gradients(framework, case):
    config, *_ = CASES[case]
    posed, expected = problem(case)
    with precise((framework,), "float64"):
        live = LiveModel.of(build(config, posed["arrays"], framework))
        y, slopes = live.gradients(posed["x"], posed["cotangent"], training=False)
    assert apart(y, expected.output) < CLOSE
    right = {"input": expected.input_gradient, **expected.gradients}
    assert slopes.keys() == right.keys()
    scale = max(np.abs(value).max() for value in right.values())
    for name, value in right.items():
        assert np.abs(slopes[name] - value).max() < CLOSE * scale, name


@cache
def problem(case: str) -> tuple[dict[str, Any], Any]:
    config, _, size = CASES[case]
    arrays, x = random_arrays(config, "float64"), random_input(config, size, 2, "float64")
    shape = run(config, arrays, x, training=False).output.shape
    cotangent = random_cotangent(shape, "float64")
    return (
        {"arrays": arrays, "x": x, "cotangent": cotangent},
        run(config, arrays, x, cotangent, training=False),
    )


def apart(actual: np.ndarray, right: np.ndarray) -> float:
    assert actual.shape == right.shape
    return float(np.abs(actual - right).max() / np.abs(right).max())


@pytest.mark.parametrize("case", ["bottleneck without projection", "blurred block"])
def test_bfloat16(framework, case):
    config, *_ = CASES[case]
    posed, expected = problem(case)
    low = random_arrays(config, "bfloat16")
    live = LiveModel.of(build(config, low, framework))
    x, cotangent = (posed[name].astype("float32") for name in ("x", "cotangent"))
    if framework == "torch":
        x = x.astype(next(iter(low.values())).dtype)
    y, slopes = live.gradients(x, cotangent, training=False)
    assert y.dtype.name == "bfloat16"
    assert apart(y.astype("float64"), expected.output) < 0.1
    assert all(np.isfinite(slope.astype("float64")).all() for slope in slopes.values())


def test_features(framework):
    config, size, _ = CASES["same"]
    arrays, x = random_arrays(config, "float64"), random_input(config, size, 2, "float64")
    stages = evaluate(graph(config, size).operations, arrays, x, training=False).stages
    with precise((framework,), "float64"):
        model = build(config, arrays, framework)
        native = adapter(framework)
        found = list(map(native.to_canonical, model.features(native.to_native(model, x))))
    names = ["stem", "stages.0.0", "stages.1.0"]
    assert all(
        apart(y, stages[name].computed.value) < CLOSE for y, name in zip(found, names, strict=True)
    )


# Random numbers

RANDOM = network(
    form="basic", depths=(1, 2), drop_path=0.3, dropout=0.2, norm="group", norm_groups=4
)
IMAGES = np.ones((5000, 2, 1, 3), "float32")


@pytest.fixture
def random_model(framework):
    return build(RANDOM, random_arrays(RANDOM), framework)


def block_of(model: Any, stage: int, position: int) -> Any:
    part = model.stages
    for number in (stage, position):
        part = part.layers[number] if hasattr(part, "layers") else part[number]
    return part


def dropped(framework: str, module: Any) -> np.ndarray:
    return adapter(framework).forward(module, IMAGES, training=True)


def test_drop_path(framework, random_model):
    last = block_of(random_model, 1, 1).drop_path
    y = dropped(framework, last)
    assert (y == y[:, :1, :1, :1]).all()
    gone = y[:, 0, 0, 0] == 0
    assert abs(gone.mean() - 0.3) < 0.03
    assert np.allclose(y[~gone], 1 / 0.7, rtol=1e-6)
    assert (dropped(framework, last) != y).any()  # other random numbers
    assert (dropped(framework, block_of(random_model, 1, 0).drop_path) != y).any()
    assert (adapter(framework).forward(last, IMAGES) == IMAGES).all()
    first = block_of(random_model, 0, 0).drop_path  # its share is 0
    assert (dropped(framework, first) == IMAGES).all()


def test_dropout(framework, random_model):
    y = dropped(framework, random_model.dropout)
    gone = y == 0
    assert abs(gone.mean() - 0.2) < 0.02
    assert np.allclose(y[~gone], 1 / 0.8, rtol=1e-6)
    assert (y != y[:, :1, :1, :1]).any()  # value by value
    assert (adapter(framework).forward(random_model.dropout, IMAGES) == IMAGES).all()


def test_random_models_infer_without_random_numbers(framework, random_model):
    arrays, x = random_arrays(RANDOM), random_input(RANDOM, (17, 16), 2, "float32")
    live = LiveModel.of(random_model)  # random state is no unexpected variable
    assert {name: array.tolist() for name, array in live.export().items()} == {
        name: array.tolist() for name, array in arrays.items()
    }
    assert apart(live.forward(x), run(RANDOM, arrays, x, training=False).output) < 1e-4
    trained = [live.forward(x, training=True) for _ in range(2)]
    assert (trained[0] != trained[1]).any()


def test_modes_of_models_without_batch_norms(framework, random_model):
    native = adapter(framework)
    assert not native.is_training(random_model)
    native.set_training(random_model, True)
    assert native.is_training(random_model) == (framework != "tf")  # Keras models keep none


def test_zero_init(framework):
    for config, names in (
        (BlockConfig(3, 4, zero_init=True), ("bn1", "bn2")),
        (BottleneckConfig(3, 8, zero_init=True, norm="group", norm_groups=2), ("bn2", "bn3")),
    ):
        model = implementation(framework).build_block(config, **native_arguments(framework))
        made = LiveModel.of(model).export()
        first, last = (made[f"{name}.weight"] for name in names)
        assert (first == 1).all()
        assert (last == 0).all()


# Errors


def test_paths_of_different_sizes(framework):
    config = BlockConfig(3, 4, 3, 2, antialias="average", **PLAIN)
    live = LiveModel.of(build(config, random_arrays(config), framework))
    assert live.forward(random_input(config, (8, 6), 2, "float32")).shape == (2, 4, 4, 3)
    with pytest.raises(ArgumentError, match=r"main path of a block ends at 4 x 3 .* at 5 x 3"):
        live.forward(random_input(config, (9, 6), 2, "float32"))


def test_a_map_without_neighbours_cannot_be_blurred(framework):
    config = BlockConfig(3, 4, 3, 2, antialias="blur", **PLAIN)
    live = LiveModel.of(build(config, random_arrays(config), framework))
    with pytest.raises(ArgumentError, match="blur_pool: expected 2 or more along each axis"):
        live.forward(random_input(config, (1, 6), 2, "float32"))


@pytest.mark.parametrize(
    ("pool", "name"), [("max_ceil", "max_pool_ceil"), ("average", "average_pool")]
)
def test_a_map_smaller_than_the_window_of_the_stem(framework, pool, name):
    config = NetworkConfig(
        3, 2, (4,), (1,), stem_kernel_size=3, stem_stride=2, stem_pool=pool, attention="none"
    )
    live = LiveModel.of(build(config, random_arrays(config), framework))
    assert live.forward(random_input(config, (3, 4), 2, "float32")).shape == (2, 2)
    for size in ((2, 4), (4, 1)):
        with pytest.raises(ArgumentError, match=f"{name}: expected 2 or more along"):
            live.forward(random_input(config, size, 2, "float32"))


def test_options_need_the_block_that_has_them(framework):
    config = BlockConfig(3, 4, norm="group", norm_groups=2)
    plain = implementation(framework).ResidualBlockWithAttention
    with pytest.raises(ArgumentError, match=r"norm, norm_groups: .*build_block"):
        plain.from_config(config, **native_arguments(framework))


# Keras


@pytest.mark.parametrize(
    "config",
    [
        CASES["groups"][0],
        RANDOM,
        CASES["blur, no classifier"][0],
        CASES["bottleneck"][0],
        CASES["same padding of one kernel"][0],
        replace(CASES["subsample"][0], drop_path=0.5),
    ],
    ids=["groups", "random", "blur", "bottleneck", "same", "subsample"],
)
def test_keras_files(keras, tmp_path, config):
    arrays, x = random_arrays(config), random_input(config, (17, 16), 2, "float32")
    write(tmp_path / "model.keras", config, arrays)
    again = keras.models.load_model(tmp_path / "model.keras")
    y = keras.ops.convert_to_numpy(again(np.moveaxis(x, 1, -1)))
    assert apart(np.moveaxis(y, -1, 1), run(config, arrays, x, training=False).output) < 1e-4


@pytest.mark.parametrize(
    "case",
    ["same", "blur, no classifier", "groups", "average shortcut, stride 3", "subsample"],
)
def test_graphs_of_unknown_size(keras, case):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras has another backend")
    import tensorflow as tf

    config, *sizes = CASES[case]
    arrays = random_arrays(config, "float64")
    model = build(config, arrays, "tf")
    spec = tf.TensorSpec((None, None, None, config.in_channels), "float64")
    compiled = tf.function(lambda x: model(x, training=False), input_signature=[spec])
    for size in sizes:
        x = random_input(config, size, 2, "float64")
        y = np.moveaxis(compiled(np.moveaxis(x, 1, -1)).numpy(), -1, 1)
        assert apart(y, run(config, arrays, x, training=False).output) < CLOSE


@pytest.mark.parametrize("case", ["same", "averages", "bottleneck"])
def test_symbolic_shapes(keras, case):
    config, size, _ = CASES[case]
    model = build(config, random_arrays(config), "tf")
    expected = [extent.size for extent in graph(config, size).operations[-1].shape]
    known = model(keras.Input((*size, config.in_channels))).shape
    assert known == (None, *expected[1:], expected[0])
    assert model(keras.Input((None, None, config.in_channels))).shape[-1] == expected[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_stride": 3}, r"output_stride: maps become 4 times smaller .* more than 3"),
        ({"output_stride": 6, "strides": (2, 2)}, "output_stride: maps become 8 times smaller"),
        ({"output_stride": 4, "strides": (1, (2, 1))}, r"output_stride: stage 1 has stride \(2, 1"),
        ({"output_stride": 4, "antialias": "blur"}, "output_stride: cannot be used with antialias"),
        (
            {"output_stride": 4, "shortcut": "average"},
            "output_stride: cannot be used with .*average",
        ),
        ({"attention": {"se": 1}}, "attention: expected one for all stages"),
        ({"attention": ("se", ["eca"])}, "attention: expected one for all stages"),
    ],
)
def test_networks_that_are_refused(options, message):
    fields = {"stem_stride": 2, "stem_pool": "max", "attention": "none", **options}
    with pytest.raises(ArgumentError, match=message):
        NetworkConfig(widths=(4, 8), depths=(1, 1), **fields)
