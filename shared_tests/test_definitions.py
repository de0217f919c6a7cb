"""The attention oracle against the papers: each kind once more, with PyTorch's functions, as the
published code has it.

Written from the papers and their code before the oracle was read. The functions below take
`Arrays`, an input and the options; their defaults are the published ones. Where paper and code
differ, the docstring says which of the two it is.
"""

import inspect
import math

import numpy as np
import pytest

from resattn.checking.draws import DRAWS
from resattn.oracle.evaluation import evaluate
from weights.attention import ATTENTION, attention_parameters, eca_kernel_size, hidden_width
from weights.graph import attention_operations

CHANNELS = 12


class Arrays:
    """Canonical arrays as float64 tensors, with PyTorch's layers of their names. norm updates the
    running statistics.
    """

    def __init__(self, torch, arrays, training):
        self.torch, self.f, self.training = torch, torch.nn.functional, training
        self.tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}

    def get(self, name):
        return self.tensors.get(name)

    def conv(self, name, x, **geometry):
        return self.f.conv2d(x, self.get(f"{name}.weight"), self.get(f"{name}.bias"), **geometry)

    def linear(self, name, x):
        return self.f.linear(x, self.get(f"{name}.weight").flatten(1), self.get(f"{name}.bias"))

    def norm(self, name, x, eps, decay):
        mean, variance, scale, offset = (
            self.get(f"{name}.{leaf}") for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return self.f.batch_norm(
            x, mean, variance, scale, offset, self.training, momentum=1 - decay, eps=eps
        )


def se(m, x, gate="sigmoid", **widths):
    """Hu et al., section 3: global pooling, two fully connected layers, gate. hard_sigmoid: as in
    MobileNetV3.
    """
    pooled = m.f.adaptive_avg_pool2d(x, 1).flatten(1)
    logits = m.linear("fc2", m.f.relu(m.linear("fc1", pooled)))
    gates = logits.sigmoid() if gate == "sigmoid" else m.f.hardsigmoid(logits)
    return x * gates.unflatten(1, (-1, 1, 1)).expand_as(x)


def ese(m, x, gate="hard_sigmoid"):
    """Lee & Park, on VoVNetV2, with a sigmoid; their vovnet.py has the hard one, relu6(x + 3) /
    6.
    """
    logits = m.conv("fc", m.f.adaptive_avg_pool2d(x, 1))
    return x * (logits.sigmoid() if gate == "sigmoid" else m.f.relu6(logits + 3) / 6)


def eca(m, x, padding="zero", **size):
    """Wang et al., eca_module.py: a 1-d convolution over the channels. circular: CecaModule in
    timm.
    """
    pooled, kernel = (
        m.f.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2),
        m.get("conv.weight"),
    )
    around = kernel.shape[-1] // 2
    if padding == "circular":
        logits = m.f.conv1d(m.f.pad(pooled, (around, around), mode="circular"), kernel)
    else:
        logits = m.f.conv1d(pooled, kernel, padding=around)
    return x * logits.transpose(-1, -2).unsqueeze(-1).sigmoid()


def cbam(m, x, kernel_size=7, bias=True, bn_eps=1e-5, bn_decay=0.99, **widths):
    """Woo et al., MODELS/cbam.py, which stacks (maximum, average): the kernel of the paper's
    (average, maximum), flipped.
    """
    size = x.shape[2:]
    pooled = [pool(x, size, stride=size).flatten(1) for pool in (m.f.avg_pool2d, m.f.max_pool2d)]
    logits = sum(
        m.linear("channel.fc2", m.linear("channel.fc1", values).relu()) for values in pooled
    )
    x = x * logits.sigmoid().unsqueeze(2).unsqueeze(3)
    both = m.torch.cat((x.max(1)[0].unsqueeze(1), x.mean(1).unsqueeze(1)), dim=1)
    logits = m.f.conv2d(both, m.get("spatial.conv.weight").flip(1), padding=(kernel_size - 1) // 2)
    return x * m.norm("spatial.bn", logits, bn_eps, bn_decay).sigmoid()


def bam(m, x, dilation=4, fusion="sum", bn_eps=1e-5, bn_decay=0.9, **widths):
    """Park et al., MODELS/bam.py (which multiplies the branches; section 3, equation 2: their
    sum).
    """

    def activated(name, y):
        return m.norm(name, y, bn_eps, bn_decay).relu()

    pooled = m.f.avg_pool2d(x, x.shape[2:]).flatten(1)
    channel = m.linear(
        "channel_att.fc_final", activated("channel_att.bn_1", m.linear("channel_att.fc_0", pooled))
    )
    channel = channel.unsqueeze(2).unsqueeze(3).expand_as(x)
    spatial = activated("spatial_att.bn_reduce0", m.conv("spatial_att.conv_reduce0", x))
    spatial = m.conv("spatial_att.conv_di_0", spatial, padding=dilation, dilation=dilation)
    spatial = m.conv(
        "spatial_att.conv_di_1",
        activated("spatial_att.bn_di_0", spatial),
        padding=dilation,
        dilation=dilation,
    )
    spatial = m.conv("spatial_att.conv_final", activated("spatial_att.bn_di_1", spatial)).expand_as(
        x
    )
    return (1 + (channel + spatial if fusion == "sum" else channel * spatial).sigmoid()) * x


def scse(m, x, fusion="sum", **widths):
    """Roy et al. 2018, section 2; the maximum as in their squeeze_and_excitation.py and Roy et al.
    2019.
    """
    logits = m.conv("cSE.fc2", m.conv("cSE.fc1", m.f.adaptive_avg_pool2d(x, 1)).relu())
    channel, spatial = x * logits.sigmoid(), x * m.conv("sSE.conv", x).sigmoid()
    return channel + spatial if fusion == "sum" else m.torch.max(channel, spatial)


def ge(
    m, x, gather="average", extent=None, size=None, mlp=False, bn_eps=1e-5, bn_decay=0.9, **widths
):
    """Hu et al., sections 2 and 3, as gather_excite.py in timm; over the whole map unpadded, as in
    RN50-GEP.prototxt.
    """
    gathered = x
    if gather == "average":
        around = (
            {}
            if extent is None
            else {"padding": extent - 1, "stride": extent, "count_include_pad": False}
        )
        gathered = m.f.avg_pool2d(x, x.shape[2:] if extent is None else 2 * extent - 1, **around)
    steps = 1 if extent is None else int(math.log2(extent))
    for step in range(1, steps + 1 if gather == "convolution" else 1):
        geometry = {} if extent is None else {"padding": 1, "stride": 2}
        gathered = m.conv(
            f"gather.conv{step}", gathered.relu() if step > 1 else x, groups=x.shape[1], **geometry
        )
        gathered = m.norm(f"gather.norm{step}", gathered, bn_eps, bn_decay)
    if mlp:
        gathered = m.conv("mlp.fc2", m.conv("mlp.fc1", gathered).relu())
    return x * m.f.interpolate(gathered, size=x.shape[2:], mode="nearest").sigmoid()


def gc(m, x, pooling="attention", fusion="add", ln_eps=1e-5, **widths):
    """Cao et al., context_block.py: LayerNorm over [planes, 1, 1]; channel_mul comes before
    channel_add.
    """
    batch, channels, height, width = x.shape
    context = m.f.adaptive_avg_pool2d(x, 1)
    if pooling == "attention":
        mask = m.conv("conv_attn", x).view(batch, 1, height * width).softmax(dim=2).unsqueeze(3)
        context = (
            x.view(batch, 1, channels, height * width).matmul(mask).view(batch, channels, 1, 1)
        )

    def transformed(name):
        y = m.conv(f"{name}.fc1", context)
        scale, offset = (m.get(f"{name}.norm.{leaf}").view(-1, 1, 1) for leaf in ("weight", "bias"))
        return m.conv(f"{name}.fc2", m.f.layer_norm(y, y.shape[1:], scale, offset, ln_eps).relu())

    if fusion != "add":
        x = x * transformed("mlp_scale").sigmoid()
    return x if fusion == "scale" else x + transformed("mlp_add")


def simam(m, x, e_lambda=1e-4):
    """Yang et al., simam_module.py: the variance is divided by positions - 1 (in the text of the
    paper: by positions).
    """
    variance, mean = m.torch.var_mean(x, dim=(2, 3), correction=1, keepdim=True)
    energy = 4 * (variance + e_lambda) / ((x - mean) ** 2 + 2 * variance + 2 * e_lambda)
    return x * (1 / energy).sigmoid()


def coordinate(m, x, bn_eps=1e-5, bn_decay=0.9, **widths):
    """Hou et al., section 3.2 and coordatt.py: both averages, one below the other, go through one
    convolution.
    """
    sizes = list(x.shape[2:])
    rows, columns = m.f.adaptive_avg_pool2d(x, (None, 1)), m.f.adaptive_avg_pool2d(x, (1, None))
    hidden = m.conv("conv1", m.torch.cat((rows, columns.permute(0, 1, 3, 2)), dim=2))
    hidden = m.f.hardswish(m.norm("bn1", hidden, bn_eps, bn_decay))
    rows, columns = hidden.split(sizes, dim=2)
    return (
        x
        * m.conv("conv_w", columns.permute(0, 1, 3, 2)).sigmoid()
        * m.conv("conv_h", rows).sigmoid()
    )


def triplet(m, x, kernel_size=7, spatial=True, bn_eps=1e-5, bn_decay=0.99):
    """Misra et al., triplet_attention.py: the same gate on rotated copies, each rotated back."""

    def branch(name, order):
        turned = x.permute(order)
        pooled = m.torch.stack((turned.max(1)[0], turned.mean(1)), dim=1)
        logits = m.norm(
            f"{name}.bn",
            m.conv(f"{name}.conv", pooled, padding=(kernel_size - 1) // 2),
            bn_eps,
            bn_decay,
        )
        return (turned * logits.sigmoid()).permute(
            order
        )  # each of these rotations is its own inverse

    turns = {"cw": (0, 2, 1, 3), "hc": (0, 3, 2, 1), **({"hw": (0, 1, 2, 3)} if spatial else {})}
    branches = [branch(name, order) for name, order in turns.items()]
    return sum(branches) / len(branches)


def nonlocal_(m, x, subsample=False, scale=False, bn_eps=1e-5, bn_decay=0.9, **widths):
    """Wang et al., figure 2 and sections 3.3 and 4.1. Their code pools before phi and g, and scales
    unless told not to.
    """
    theta, phi, g = (m.conv(name, x) for name in ("theta", "phi", "g"))
    if subsample:
        phi, g = m.f.max_pool2d(phi, 2), m.f.max_pool2d(g, 2)
    affinity = theta.flatten(2).transpose(1, 2).bmm(phi.flatten(2))
    weights = (affinity * theta.shape[1] ** -0.5 if scale else affinity).softmax(dim=2)
    y = weights.bmm(g.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(theta.shape)
    return x + m.norm("bn", m.conv("conv_out", y), bn_eps, bn_decay)


def relative_logits(m, q, table):
    """(..., length, features), (2 length - 1, features) -> (..., query, key): rel_to_abs of the
    authors' botnet.py.
    """
    length = q.shape[-2]
    relative = (q @ table.T).reshape(-1, length, 2 * length - 1)
    flat = m.f.pad(m.f.pad(relative, (0, 1)).flatten(1), (0, length - 1))
    return flat.view(-1, length + 1, 2 * length - 1)[:, :length, length - 1 :].reshape(
        *q.shape[:-1], length
    )


def mhsa(m, x, size, heads=4, scale_positions=True, bias=False):
    """Srinivas et al., figure 4 and botnet.py, which scales the queries before both products; timm:
    the content's alone.
    """
    batch, channels, height, width = x.shape
    q, k, v = (
        y.view(batch, heads, channels // heads, height * width)
        for y in m.conv("qkv", x).chunk(3, dim=1)
    )
    q, k, v = (y.transpose(2, 3) for y in (q, k, v))
    scaled = q * (channels // heads) ** -0.5
    asking = (scaled if scale_positions else q).view(batch, heads, height, width, -1)
    across = relative_logits(m, asking, m.get("pos_embed.width_rel"))  # row, col, key's col
    down = relative_logits(m, asking.transpose(2, 3), m.get("pos_embed.height_rel")).transpose(
        2, 3
    )  # row, col, key's row
    positions = (down.unsqueeze(5) + across.unsqueeze(4)).reshape(
        batch, heads, height * width, height * width
    )
    weights = (scaled @ k.transpose(2, 3) + positions).softmax(dim=3)
    return (weights @ v).transpose(2, 3).reshape(x.shape)


KINDS = (
    se,
    ese,
    eca,
    cbam,
    bam,
    scse,
    ge,
    gc,
    simam,
    coordinate,
    triplet,
    nonlocal_,
    mhsa,
)
PUBLISHED = {kind.__name__.rstrip("_"): kind for kind in KINDS}

CASES = [
    ("se", {"reduction": 3}),
    ("se", {"hidden_channels": 5, "gate": "hard_sigmoid"}),
    ("se", {"reduction": 2, "divisor": 8}),
    ("se", {"reduction": 4, "minimum": 6}),
    ("ese", {}),
    ("ese", {"gate": "sigmoid"}),
    ("eca", {}),
    ("eca", {"kernel_size": 5}),
    ("eca", {"gamma": 1, "beta": 2, "padding": "circular"}),
    ("eca", {"kernel_size": 25, "padding": "circular"}),
    ("cbam", {"hidden_channels": 5}),
    ("cbam", {"reduction": 4, "bias": False, "kernel_size": 3, "bn_eps": 1e-3, "bn_decay": 0.8}),
    ("bam", {"hidden_channels": 5}),
    ("bam", {"reduction": 3, "fusion": "product", "dilation": 2, "bn_eps": 1e-3, "bn_decay": 0.8}),
    ("scse", {}),
    ("scse", {"hidden_channels": 5, "fusion": "maximum"}),
    ("ge", {}),
    ("ge", {"extent": 2}),
    ("ge", {"extent": 3, "mlp": True, "hidden_channels": 5}),
    ("ge", {"extent": 4}),
    ("ge", {"extent": 16}),
    ("ge", {"mlp": True, "reduction": 3}),
    ("ge", {"gather": "convolution", "extent": 2}),
    (
        "ge",
        {
            "gather": "convolution",
            "extent": 4,
            "mlp": True,
            "reduction": 2,
            "bn_eps": 1e-3,
            "bn_decay": 0.8,
        },
    ),
    ("ge", {"gather": "convolution", "extent": 8}),
    ("ge", {"gather": "convolution", "size": "of the map"}),
    ("ge", {"gather": "convolution", "size": "of the map", "mlp": True, "hidden_channels": 5}),
    ("gc", {"hidden_channels": 5}),
    ("gc", {"reduction": 3, "fusion": "scale", "ln_eps": 1e-2}),
    ("gc", {"reduction": 2, "fusion": "both"}),
    ("gc", {"hidden_channels": 5, "pooling": "average", "fusion": "both"}),
    ("simam", {}),
    ("simam", {"e_lambda": 0.3}),
    ("coordinate", {}),
    ("coordinate", {"reduction": 2, "minimum": 1, "bn_eps": 1e-3, "bn_decay": 0.8}),
    ("triplet", {}),
    ("triplet", {"spatial": False, "kernel_size": 3, "bn_eps": 1e-3, "bn_decay": 0.8}),
    ("nonlocal", {}),
    ("nonlocal", {"hidden_channels": 5, "subsample": True}),
    ("nonlocal", {"reduction": 3, "scale": True, "bn_eps": 1e-3, "bn_decay": 0.8}),
    ("mhsa", {"size": "of the map"}),
    ("mhsa", {"size": "of the map", "heads": 1, "bias": True}),
    ("mhsa", {"size": "of the map", "heads": 3, "scale_positions": False}),
    ("mhsa", {"size": "of the map", "heads": 12, "scale_positions": False, "bias": True}),
]
SIZES = [(7, 10), (8, 5)]


def name_of(case):
    if isinstance(case, dict):
        return (
            "-".join(f"{name}={value}" for name, value in case.items() if name != "size")
            or "default"
        )
    return "x".join(map(str, case)) if isinstance(case, tuple) else str(case)


def drawn(kind, options, size, seed=5):
    """Arrays, and an input whose averages differ so widely between channels that hard gates reach
    both their ends.
    """
    rng = np.random.default_rng(seed)
    parameters = attention_parameters(kind, CHANNELS, options)
    arrays = {
        parameter.name: DRAWS[parameter.role](rng, parameter.shape) for parameter in parameters
    }
    return arrays, rng.normal(0.3, 1, (3, CHANNELS, *size)) + rng.normal(
        0, 1.5, (3, CHANNELS, 1, 1)
    )


def assert_close(actual, expected):
    expected = expected.numpy()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("size", SIZES, ids=name_of)
@pytest.mark.parametrize(("kind", "options"), CASES, ids=name_of)
def test_oracle_computes_what_was_published(torch, kind, options, size, training):
    options = {**options, **({"size": size} if "size" in options else {})}
    arrays, x = drawn(kind, options, size)
    published = Arrays(torch, arrays, training)
    expected = PUBLISHED[kind](published, torch.from_numpy(x), **options)
    named = {f"attention.{name}": array for name, array in arrays.items()}
    operations = attention_operations(kind, x.shape[1], x.shape[2:], options)
    made = evaluate(operations, named, x, training=training)
    assert_close(made.output.value, expected)
    if training:
        statistics = made.state.statistics
        assert set(statistics) == {name for name in named if "running" in name}
        for name, values in statistics.items():
            assert_close(values, published.get(name.removeprefix("attention.")))


def test_every_kind_has_a_published_version():
    assert set(PUBLISHED) == {kind for kind, entry in ATTENTION.items() if entry.built_in} - {
        "none"
    }


@pytest.mark.parametrize("kind", PUBLISHED)
def test_defaults_are_the_published_ones(kind):
    published = {
        name: value.default for name, value in inspect.signature(PUBLISHED[kind]).parameters.items()
    }
    ours = {name: default for name, default in ATTENTION[kind].options.items() if name in published}
    assert {name: published[name] for name in ours} == ours


@pytest.mark.parametrize(
    ("kind", "layer", "width"),
    [
        ("se", "fc1", 32),
        ("cbam", "channel.fc1", 32),
        ("bam", "spatial_att.conv_reduce0", 32),
        ("scse", "cSE.fc1", 256),
        ("gc", "mlp_add.fc1", 32),
        ("coordinate", "conv1", 16),
        ("nonlocal", "theta", 256),
    ],
)
def test_hidden_width_of_512_channels_is_the_published_one(kind, layer, width):
    shapes = {parameter.name: parameter.shape for parameter in attention_parameters(kind, 512, {})}
    assert shapes[f"{layer}.weight"] == (width, 512, 1, 1)


@pytest.mark.parametrize(
    "channels", [2**power for power in range(12)] + [3, 5, 7, 9, 12, 48, 100, 511, 513, 1000, 2047]
)
def test_eca_kernel_size_is_the_published_one(channels):
    """The published math.log(channels, 2) differs from math.log2 at 1189 of 1..4096, none a power
    of 2, and in no size.
    """
    size = int(abs((math.log(channels, 2) + 1) / 2))
    assert eca_kernel_size(channels) == (size if size % 2 else size + 1)


@pytest.mark.parametrize("reduction", [4, 8, 16, 32])
def test_hidden_width_with_a_divisor_is_make_divisible(reduction):
    """timm's make_divisible(channels / reduction, 8, round_limit=0.), where it never rounds up for
    being too low.
    """

    def make_divisible(value, divisor):
        return max(divisor, int(value + divisor / 2) // divisor * divisor)

    widths = {channels: make_divisible(channels / reduction, 8) for channels in range(1, 2049)}
    assert {
        channels: hidden_width(channels, reduction=reduction, divisor=8) for channels in widths
    } == widths


@pytest.mark.parametrize(
    ("extent", "different"), [(2, {}), (4, {198: [99], 230: [115]}), (8, {122: [61]})]
)
def test_nearest_neighbour_is_the_integer_rule_but_for_rounding(torch, extent, different):
    """PyTorch rounds row * (m / n) to float32, which may fall below an integer (in float64 it
    depends on the layout).
    """

    def rows_that_differ(size):
        gathered = -(-size // extent)
        numbers = (
            torch.arange(gathered, dtype=torch.float32).view(1, 1, gathered, 1).repeat(2, 3, 1, 4)
        )
        spread = torch.nn.functional.interpolate(numbers, size=(size, 5), mode="nearest")[
            1, 2, :, 3
        ].tolist()
        return [row for row in range(size) if spread[row] != row * gathered // size]

    assert {size: rows for size in range(1, 257) if (rows := rows_that_differ(size))} == different
