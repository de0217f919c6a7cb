"""The oracle against the definitions, written out by hand, and its gradients against complex
steps.
"""

import gc
import weakref

import numpy as np
import pytest

from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.oracle import evaluation as reference
from resattn.oracle import layers, pooling
from resattn.oracle.convolution import conv2d
from resattn.oracle.node import Node, Noise, backward, disturbed, exp, given, reshape, total
from shared_tests.cases import ATTENTION_VARIANTS, NETWORKS, REPRESENTATIVE, name_of
from shared_tests.published_cases import PUBLISHED
from weights import BlockConfig

RNG = np.random.default_rng(7)


def state(training=False, **arrays):
    return layers.State(arrays, training)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((3, 3), (2, 1), (1, 1)), ((1, 5), (1, 3), (0, 2))]
)
def test_convolution_is_the_sum_it_should_be(kernel, stride, padding):
    x, weight, bias = (
        RNG.normal(size=(2, 3, 7, 8)),
        RNG.normal(size=(4, 3, *kernel)),
        RNG.normal(size=4),
    )
    y = conv2d(state(**{"c.weight": weight, "c.bias": bias}), "c", Node(x), stride, padding).value

    def at(batch, channel, row, col):
        inside = 0 <= row < 7 and 0 <= col < 8
        return x[batch, channel, row, col] if inside else 0.0

    batch, out, row, col = (size - 1 for size in y.shape)
    for r in (0, row):
        total = bias[out] + sum(
            weight[out, i, u, v]
            * at(batch, i, r * stride[0] + u - padding[0], col * stride[1] + v - padding[1])
            for i in range(3)
            for u in range(kernel[0])
            for v in range(kernel[1])
        )
        np.testing.assert_allclose(y[batch, out, r, col], total, rtol=1e-13)
    assert y.shape[2:] == tuple(
        (n + 2 * p - k) // s + 1 for n, p, k, s in zip((7, 8), padding, kernel, stride, strict=True)
    )


def test_batch_norm_normalises_with_the_biased_and_keeps_the_unbiased_variance():
    x = RNG.normal(5, 2, (3, 2, 4, 5))
    arrays = {
        "b.weight": [2.0, -1.0],
        "b.bias": [0.5, 1],
        "b.running_mean": [1.0, 2],
        "b.running_var": [3.0, 4],
    }
    held = state(training=True, **{name: np.array(values) for name, values in arrays.items()})
    y = layers.apply_batch_norm(held, "b", Node(x), 1e-5, 0.9).value
    values = x[:, 1].ravel()
    np.testing.assert_allclose(
        held.statistics["b.running_mean"][1], 0.9 * 2 + 0.1 * values.mean(), rtol=1e-14
    )
    np.testing.assert_allclose(
        held.statistics["b.running_var"][1], 0.9 * 4 + 0.1 * values.var(ddof=1), rtol=1e-14
    )
    np.testing.assert_allclose(
        y[:, 1].ravel(), 1 - (values - values.mean()) / np.sqrt(values.var() + 1e-5), rtol=1e-12
    )


def test_max_pool_pads_with_minus_infinity():
    x = -np.arange(1.0, 13).reshape(1, 1, 3, 4)
    y = pooling.max_pool(state(), Node(x), (3, 3), (2, 2), (1, 1))
    np.testing.assert_array_equal(y.value, [[[[-1, -2], [-5, -6]]]])


def test_max_pool_reaches_over_the_edge_at_the_end_alone():
    x = -np.arange(1.0, 13).reshape(1, 1, 3, 4)
    y = pooling.max_pool(state(), Node(x), (3, 3), (2, 2), (0, 0), (0, 1))
    np.testing.assert_array_equal(y.value, [[[[-1, -3]]]])


def test_average_pool_counts_the_pixels_that_are_there():
    x = np.arange(15.0).reshape(1, 1, 3, 5)
    y = pooling.average_pool(Node(x), (2, 2), (2, 2), (1, 1))
    np.testing.assert_array_equal(y.value, [[[[3, 5, 6.5], [10.5, 12.5, 14]]]])
    dropped = pooling.average_pool(Node(x), (2, 2), (2, 2), (0, 0))
    np.testing.assert_array_equal(dropped.value, [[[[3, 5]]]])


def test_blur_pool_is_the_binomial_filter_of_the_reflected_map():
    x = RNG.normal(size=(2, 3, 5, 4))
    y = pooling.blur_pool(Node(x), (2, 1)).value
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    weights = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
    for row in range(3):
        for col in range(4):
            window = wide[:, :, 2 * row : 2 * row + 3, col : col + 3]
            np.testing.assert_allclose(
                y[:, :, row, col], (window * weights).sum((2, 3)), rtol=1e-13
            )


def test_subsample_adds_channels_of_zeros_on_both_sides():
    x = RNG.normal(size=(2, 3, 5, 4))
    y = pooling.subsample(Node(x), (2, 3), 1, 2).value
    np.testing.assert_array_equal(y[:, 1:4], x[:, :, ::2, ::3])
    assert y.shape[1] == 6
    assert not y[:, 0].any()
    assert not y[:, 4:].any()


def test_group_norm_normalises_each_group_of_each_image():
    x = RNG.normal(3, 2, (2, 6, 3, 4))
    arrays = {"g.weight": RNG.normal(size=6), "g.bias": RNG.normal(size=6)}
    y = layers.apply_group_norm(state(**arrays), "g", Node(x), 2, 1e-3).value
    group = x[1, 3:]
    expected = (group - group.mean()) / np.sqrt(group.var() + 1e-3)
    scale, offset = (arrays[f"g.{leaf}"][3:, None, None] for leaf in ("weight", "bias"))
    np.testing.assert_allclose(y[1, 3:], expected * scale + offset, rtol=1e-12)


def test_groups_do_not_see_each_other():
    x, weight = RNG.normal(size=(2, 6, 4, 5)), RNG.normal(size=(4, 3, 3, 3))
    held = state(**{"c.weight": weight})
    y = conv2d(held, "c", Node(x), padding=(1, 1), groups=2).value
    for group in (0, 1):
        own = state(**{"c.weight": weight[2 * group : 2 * group + 2]})
        part = conv2d(own, "c", Node(x[:, 3 * group : 3 * group + 3]), padding=(1, 1)).value
        np.testing.assert_allclose(y[:, 2 * group : 2 * group + 2], part, rtol=1e-12)


def add_up_convolution(x, weight, slope, stride, padding, dilation, groups):
    """Output and both gradients, term by term as the definition says."""
    y = np.zeros(slope.shape)
    to_x, to_weight = np.zeros(x.shape), np.zeros(weight.shape)
    out, each, rows, cols = weight.shape
    for o, i, u, v, r, c in np.ndindex(out, each, rows, cols, *slope.shape[2:]):
        row = r * stride[0] + u * dilation - padding[0]
        col = c * stride[1] + v * dilation - padding[1]
        if 0 <= row < x.shape[2] and 0 <= col < x.shape[3]:
            seen = (slice(None), o // (out // groups) * each + i, row, col)
            y[:, o, r, c] += weight[o, i, u, v] * x[seen]
            to_x[seen] += weight[o, i, u, v] * slope[:, o, r, c]
            to_weight[o, i, u, v] += (x[seen] * slope[:, o, r, c]).sum()
    return y, to_x, to_weight


CONVOLUTIONS = {  # channels in and out, kernel, stride, padding, dilation, groups
    "plain": (4, 6, (3, 3), (1, 1), (1, 1), 1, 1),
    "without padding": (4, 6, (3, 2), (1, 1), (0, 0), 1, 1),
    "padding per axis": (2, 3, (3, 5), (1, 1), (0, 2), 1, 1),
    "padding beyond the kernel": (2, 3, (2, 2), (1, 1), (3, 2), 1, 1),
    "stride per axis": (4, 6, (3, 3), (2, 3), (1, 1), 1, 1),
    "stride beyond the kernel": (3, 2, (2, 1), (3, 2), (0, 0), 1, 1),
    "dilated": (4, 6, (3, 3), (1, 2), (2, 1), 2, 1),
    "grouped": (4, 6, (3, 3), (2, 1), (1, 1), 1, 2),
    "grouped and dilated": (6, 3, (3, 2), (1, 1), (2, 2), 2, 3),
    "depthwise": (4, 4, (3, 3), (1, 2), (1, 1), 1, 4),
    "depthwise, twice as many out": (3, 6, (3, 3), (2, 2), (1, 1), 1, 3),
    "pointwise": (4, 6, (1, 1), (1, 1), (0, 0), 1, 1),
    "pointwise, strided and grouped": (4, 6, (1, 1), (2, 3), (0, 0), 1, 2),
    "pointwise, padded": (4, 6, (1, 1), (2, 1), (1, 2), 1, 1),
}


@pytest.mark.parametrize("size", [(7, 6), (6, 9)], ids=["7x6", "6x9"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_and_their_gradients_are_sums(case, batch, size):
    first, last, kernel, stride, padding, dilation, groups = case
    x, bias = RNG.normal(size=(batch, first, *size)), RNG.normal(size=last)
    weight = RNG.normal(size=(last, first // groups, *kernel))
    held, node = state(**{"c.weight": weight, "c.bias": bias}), Node(x)
    y = conv2d(held, "c", node, stride, padding, dilation, groups)
    slope = RNG.normal(size=y.shape)
    backward(y, slope)
    parameters = held.parameters
    found = (y.value, node.slope, parameters["c.weight"].slope, parameters["c.bias"].slope)
    added, *gradients = add_up_convolution(x, weight, slope, stride, padding, dilation, groups)
    expected = (added + bias[:, None, None], *gradients, slope.sum(axis=(0, 2, 3)))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * np.abs(other).max())
    assert held.multiply_adds == y.value.size * weight[0].size


@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_the_noise_of_convolutions_is_that_of_their_terms(case):
    """The squares of the terms, which noise is made of, as if those of both factors were
    independent: right on average over kernels, here of ones.
    """
    first, last, kernel, stride, padding, dilation, groups = case
    x, weight = RNG.normal(size=(2, first, 7, 6)), np.ones((last, first // groups, *kernel))
    held, node, squares = state(**{"c.weight": weight}), Node(x), []

    class Recorded(Noise):
        def value(self, value):
            return value

        def sum(self, value, of_terms, terms):
            squares.append(np.broadcast_to(of_terms, value.shape).reshape(-1))
            return value

    with disturbed(Recorded(np.random.default_rng(0), 1.0, 1.0, 0.0, np.inf)):
        y = conv2d(held, "c", node, stride, padding, dilation, groups)
        slope = RNG.normal(size=y.shape)
        backward(y, slope)
    options = (stride, padding, dilation, groups)
    exact = add_up_convolution(np.square(x), weight, np.square(slope), *options)
    forward, to_x, to_weight = (array.reshape(-1) for array in exact)
    by_size = {each.size: each for each in squares}
    if weight[0].size > 1:  # one term is not rounded as a sum
        channel_last = forward.reshape(y.shape).swapaxes(0, 1).reshape(-1)
        np.testing.assert_allclose(squares[0], channel_last, rtol=1e-12)
    if last // groups * np.prod(kernel) > 1:
        np.testing.assert_allclose(by_size[to_x.size], to_x, rtol=1e-12, atol=1e-12)
    energy = np.square(slope).sum(axis=(0, 2, 3))
    found = by_size[to_weight.size].reshape(weight.shape)
    ratio = found / to_weight.reshape(weight.shape)
    assert found.shape[0] == len(energy)
    assert 0.2 < np.median(ratio) < 5


def test_what_was_given_gets_no_slope():
    """Neither numbers nor running statistics: their slopes were sums over whole maps."""
    asked = []
    fixed, moving = given(np.ones((2, 2))), Node(np.ones((2, 2)))

    def pull(slope):
        asked.append(slope)
        return slope

    y = Node(fixed.value + moving.value, (fixed, pull), (moving, pull))
    backward(y * 2.0 - fixed, np.full((2, 2), 3.0))
    assert len(asked) == 1
    assert fixed.slope is None
    assert (moving.slope == 6).all()
    assert (fixed * 2.0).fixed
    assert not y.fixed


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_a_pass_without_gradients_computes_none(monkeypatch, training):
    config = BlockConfig(3, 4, 3, 2)
    arrays, x = random_arrays(config), random_input(config, (7, 6), 2, "float64")
    whole = reference.run(config, arrays, x, np.ones((2, 4, 4, 3)), training=training)
    nodes = []
    inner = Node.__init__

    def kept(self, *arguments, **options):
        inner(self, *arguments, **options)
        nodes.append(self)

    monkeypatch.setattr(Node, "__init__", kept)
    monkeypatch.setattr(reference, "backward", None)  # it is not called
    alone = reference.run(config, arrays, x, training=training)
    assert nodes
    assert not any(node.sources for node in nodes)
    np.testing.assert_array_equal(alone.output, whole.output)
    assert alone.gradients == {}
    assert alone.input_gradient is None
    assert alone.kinks.distances == []
    assert set(alone.statistics) == ({n for n in arrays if "running" in n} if training else set())


def test_a_pass_keeps_nothing_but_its_outcome():
    config = BlockConfig(3, 4, 3, 2)
    arrays, x = random_arrays(config), random_input(config, (7, 6), 2, "float64")
    held = weakref.WeakSet()
    inner = Node.__init__

    def noted(self, *arguments, **options):
        inner(self, *arguments, **options)
        held.add(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "__init__", noted)
        outcome = reference.run(config, arrays, x, np.ones((2, 4, 4, 3)), training=True)
    gc.collect()
    assert len(outcome.gradients) > 10
    assert len(held) == 0


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("groups", [1, 2])
def test_pointwise_convolutions_are_those_with_windows(stride, groups):
    """1x1 kernels have a way of their own; a 3x3 kernel that is 0 around the middle computes the
    same.
    """
    x, weight = RNG.normal(size=(3, 4, 5, 7)), RNG.normal(size=(6, 4 // groups, 1, 1))
    wide = np.pad(weight, ((0, 0), (0, 0), (1, 1), (1, 1)))
    found = []
    for kernel, padding in ((weight, (0, 0)), (wide, (1, 1))):
        held, node = state(**{"c.weight": kernel}), Node(x)
        y = conv2d(held, "c", node, stride, padding, groups=groups)
        backward(y, np.cos(np.arange(y.value.size)).reshape(y.shape))
        middle = held.parameters["c.weight"].slope[..., kernel.shape[2] // 2, kernel.shape[3] // 2]
        found.append((y.value, node.slope, middle))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


def test_squeeze_excite_scales_each_channel_by_its_gate():
    x = RNG.normal(size=(2, 3, 4, 5))
    w1, b1, w2, b2 = (
        RNG.normal(size=(2, 3)),
        RNG.normal(size=2),
        RNG.normal(size=(3, 2)),
        RNG.normal(size=3),
    )
    arrays = {
        "attention.fc1.weight": w1[..., None, None],
        "attention.fc1.bias": b1,
        "attention.fc2.weight": w2[..., None, None],
        "attention.fc2.bias": b2,
    }
    # A block whose convolutions and norms change nothing, so that its attention is given x.
    config = BlockConfig(3, 3, 1, attention="se", attention_options={"hidden_channels": 2})
    for layer in ("1", "2"):
        arrays |= {
            f"conv{layer}.weight": np.eye(3)[..., None, None],
            f"conv{layer}.bias": np.zeros(3),
        }
        arrays |= {f"bn{layer}.weight": np.ones(3), f"bn{layer}.bias": np.zeros(3)}
        arrays |= {f"bn{layer}.running_mean": np.zeros(3)}
        arrays |= {f"bn{layer}.running_var": np.full(3, 1 - config.bn_eps)}
    x = np.abs(x)
    made = reference.stages(config, arrays, x, training=False).stages
    y = made["attention"].computed.value
    hidden = np.maximum(w1 @ x[1].mean(axis=(1, 2)) + b1, 0)
    gate = 1 / (1 + np.exp(-(w2 @ hidden + b2)))
    np.testing.assert_allclose(y[1], x[1] * gate[:, None, None], rtol=1e-13)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    ("config", "size"),
    [*REPRESENTATIVE, *NETWORKS, *ATTENTION_VARIANTS, *PUBLISHED.values()],
    ids=name_of,
)
def test_gradients_equal_complex_steps(config, size, training):
    """Squire & Trapp 1998: the imaginary part of f(x + ih) / h is the derivative, with no
    cancellation for tiny h.
    """
    step = 1e-30
    arrays, x = random_arrays(config, "float64"), random_input(config, size, 3, "float64")
    cotangent = random_cotangent(
        reference.run(config, arrays, x, training=training).output.shape, "float64"
    )
    result = reference.run(config, arrays, x, cotangent, training=training)
    along = {name: RNG.normal(size=gradient.shape) for name, gradient in result.gradients.items()}
    along_x = RNG.normal(size=x.shape)
    moved = {
        **arrays,
        **{name: arrays[name] + 1j * step * direction for name, direction in along.items()},
    }
    with np.errstate(
        invalid="ignore"
    ):  # -inf times a complex number, in the padding of the maximum pooling
        output = reference.run(config, moved, x + 1j * step * along_x, training=training).output
    expected = (output.imag / step * cotangent).sum()
    parts = [(result.input_gradient * along_x).sum()]
    parts += [(gradient * along[name]).sum() for name, gradient in result.gradients.items()]
    np.testing.assert_allclose(sum(parts), expected, rtol=0, atol=1e-12 * sum(map(abs, parts)))


def test_gradient_covers_every_trainable_parameter():
    from weights import schema

    for config, size in [*REPRESENTATIVE, *NETWORKS, *ATTENTION_VARIANTS, *PUBLISHED.values()]:
        arrays, x = random_arrays(config, "float64"), random_input(config, size, 2, "float64")
        output = reference.run(config, arrays, x, training=True)
        result = reference.run(config, arrays, x, np.ones_like(output.output), training=True)
        assert set(result.gradients) == {p.name for p in schema(config) if p.trainable}
        assert set(result.statistics) == {p.name for p in schema(config) if not p.trainable}


def test_a_value_used_twice_gets_both_slopes():
    x = Node(np.array([[2.0, 3.0]]))
    y = x * x + exp(x) * 2.0
    backward(total(y, 1), np.array([[1.0]]))
    np.testing.assert_allclose(x.slope, 2 * x.value + 2 * np.exp(x.value), rtol=1e-15)


def test_multiply_adds_are_counted():
    """By hand: a 3x3 convolution of 2 to 4 channels at 5 x 4 places, a linear layer of 4 to 3, for
    2 images.
    """
    held = state(
        **{"c.weight": np.ones((4, 2, 3, 3)), "l.weight": np.ones((3, 4)), "l.bias": np.ones(3)}
    )
    y = conv2d(held, "c", Node(np.ones((2, 2, 5, 4))), padding=(1, 1))
    assert held.multiply_adds == 2 * 5 * 4 * 4 * 2 * 9
    layers.apply_linear(held, "l", reshape(layers.global_average(y), 2, 4))
    assert held.multiply_adds == 2 * 5 * 4 * 4 * 2 * 9 + 2 * 4 * 3
