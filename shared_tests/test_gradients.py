"""Everything the cross-check compares, for representative configurations and drawn ones, one
framework at a time.
"""

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resattn.checking.backends import precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import check_model
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from shared_tests.cases import NETWORKS, REPRESENTATIVE, name_of
from weights import BlockConfig
from weights.live import LiveModel


@cache
def problem(config, size, dtype):
    return draw_problem(config, random_arrays(config, dtype), size, 4, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("config", "size"), REPRESENTATIVE + NETWORKS, ids=name_of)
def test_against_the_oracle(backend, config, size, dtype):
    posed = problem(config, size, dtype)
    with precise((backend.framework,), dtype):
        model = backend.build(config, posed.arrays)
    report = check_model(backend, model, posed)
    assert report.ok, str(report)


def test_a_strided_shortcut_many_times(backend):
    """PyTorch 2.13 on CPU corrupts memory, now and then, in the gradient of a strided 1x1
    convolution of Keras' layout.
    """
    posed = problem(BlockConfig(5, 3, (1, 5), (2, 1), attention="none"), (6, 7), "float32")
    with precise((backend.framework,), "float32"):
        model = backend.build(posed.config, posed.arrays)
    for _ in range(30):
        slopes = LiveModel.of(model).gradients(posed.x, posed.cotangent, training=False)[1]
        kept = posed.expected["eval gradient"]
        assert all(
            abs(slopes[name] - kept[name]).max() < 1e-5 * abs(kept[name]).max() for name in kept
        )


SIDES = st.sampled_from([1, 3, 5, 7])
STRIDES = st.integers(1, 4)


@st.composite
def configs(draw_from):
    stride = draw_from(st.one_of(STRIDES, st.tuples(STRIDES, STRIDES)))
    steps = (stride, stride) if isinstance(stride, int) else stride
    # Four positions or more after the stride: with fewer the variances of a channel are hardly
    # there.
    size = tuple(
        step * draw_from(st.integers(2, 4)) + draw_from(st.integers(0, 1)) for step in steps
    )
    attention = draw_from(st.sampled_from(list(KINDS_AND_OPTIONS)))
    channels = draw_from(st.integers(1, 9)), draw_from(st.integers(2, 9))
    try:
        attended = attention_block(
            attention,
            draw_from(st.sampled_from(KINDS_AND_OPTIONS[attention])),
            channels,
            stride,
            size,
        )
    except ValueError:  # heads that do not divide the channels, a reduction that leaves none
        attended = attention_block("none", {}, channels, stride, size)
    fields = {
        **attended.to_dict(),
        "kernel_size": draw_from(st.one_of(SIDES, st.tuples(SIDES, SIDES))),
        "padding": None,
        "conv_bias": draw_from(st.booleans()),
        "bn_eps": draw_from(st.sampled_from([1e-5, 1e-3])),
        "bn_decay": draw_from(st.sampled_from([0.9, 0.99, 0.0])),
    }
    return BlockConfig.from_dict(fields), size, draw_from(st.integers(0, 2**16))


@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(drawn=configs())
def test_drawn_configurations(backend, drawn):
    config, size, seed = drawn
    posed = draw_problem(config, random_arrays(config, "float64", seed), size, 3, "float64", seed)
    with precise((backend.framework,), "float64"):
        model = backend.build(config, posed.arrays)
    report = check_model(backend, model, posed)
    assert report.ok, str(report)
