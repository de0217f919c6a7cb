"""Every attention kind, in every framework: the grid, every option, every tensor, every mistake
that an option can be.
"""

import ast
import inspect
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.cases import KINDS_AND_OPTIONS, attention_block
from resattn.checking.crosscheck import LIMIT, check_model
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from resattn.oracle.evaluation import run
from shared_tests.cases import ATTENTION_GRID, ATTENTION_VARIANTS, name_of
from shared_tests.test_forward import check_forward
from weights import BlockConfig, NetworkConfig, difference, export, load, port, read, schema, write
from weights.attention import ATTENTION as KINDS
from weights.attention import attention_parameters
from weights.convert import to_canonical, to_native
from weights.frameworks import FRAMEWORKS
from weights.graph import multiply_adds
from weights.live import LiveModel, build

ROOT = Path(__file__).parent.parent
SIZE = (9, 8)
VARIANTS = pytest.mark.parametrize(
    "config", [config for config, _ in ATTENTION_VARIANTS], ids=name_of
)
LAST = {
    kind: attention_block(kind, variants[-1]) for kind, variants in KINDS_AND_OPTIONS.items()
}  # with the most options


@cache
def problem(config, dtype="float64"):
    return draw_problem(config, random_arrays(config, dtype), SIZE, 4, dtype)


def report_on(backend, config, built=None, change=None, dtype="float64"):
    """The cross-check of `config` on a model of another config, or whose arrays were changed."""
    posed = problem(config, dtype)
    arrays = {name: array.copy() for name, array in posed.arrays.items()}
    with precise((backend.framework,), dtype):
        model = backend.build(built or config, arrays)
        if change:
            change(arrays)
            load(model, arrays)
    return check_model(backend, model, posed)


# Equal


@pytest.mark.parametrize(("config", "size"), ATTENTION_GRID, ids=name_of)
def test_float64(backend, config, size):
    check_forward(backend, config, size, "float64", batch=3)


@pytest.mark.parametrize(("config", "size"), ATTENTION_GRID[::5], ids=name_of)
def test_float32(backend, config, size):
    arrays = random_arrays(config, "float32")
    posed = draw_problem(config, arrays, size, 3, "float32")
    with precise((backend.framework,), "float32"):
        model = backend.build(config, arrays)
        outputs = {
            mode: LiveModel.of(model).forward(posed.x, training=mode == "train")
            for mode in ("eval", "train")
        }
        held = export(model)
    rows = [(f"{mode} output", "output", outputs[mode]) for mode in outputs]
    rows += [("train statistics", p.name, held[p.name]) for p in schema(config) if not p.trainable]
    for quantity, tensor, actual in rows:
        row = difference(
            actual,
            posed.expected[quantity][tensor],
            tolerance=LIMIT,
            explained=posed.rounding.explained[quantity, tensor],
            tensor=tensor,
            dtype="float32",
        )
        assert row.ok, row


@VARIANTS
def test_everything(backend, config):
    """Outputs, statistics and every gradient, with every option."""
    report = report_on(backend, config)
    assert report.ok, str(report)


@pytest.mark.parametrize("kind", KINDS_AND_OPTIONS)
def test_everything_in_float32(backend, kind):
    report = report_on(backend, attention_block(kind, KINDS_AND_OPTIONS[kind][0]), dtype="float32")
    assert report.ok, str(report)


@pytest.mark.parametrize("kind", ["cbam", "gc", "nonlocal"])
def test_in_a_network(backend, kind):
    config = NetworkConfig(
        2, 3, (4, 6), (1, 1), attention=kind, attention_options={"hidden_channels": 3}
    )
    report = report_on(backend, config)
    assert report.ok, str(report)


# Different


def one_number_of(name):
    return [
        (kind, p.name)
        for kind, config in LAST.items()
        for p in schema(config)
        if p.name.startswith(name)
    ]


@pytest.mark.parametrize(("kind", "name"), one_number_of("attention."))
def test_one_number_of_any_tensor(backend, kind, name):
    """Off by a millionth of its tensor: found by what the model computes, if the oracle says that
    it moves anything.
    """
    config = LAST[kind]
    expected = problem(config).expected
    both = [
        expected[f"{mode} gradient"].get(name) for mode in ("eval", "train")
    ]  # None for a statistic
    slopes = both[0] if both[0] is None or both[0].any() else both[1]
    place = 0 if slopes is None else int(np.abs(slopes).argmax())

    def change(arrays):
        arrays[name].flat[place] += 1e-6 * np.abs(arrays[name]).max()

    report = report_on(backend, config, change=change)
    assert not report.ok
    moves = slopes is None or slopes.any()
    assert any(row.quantity != "weights" for row in report.failures) == moves


def test_what_moves_nothing_is_what_a_softmax_does_not_see():
    still = {
        (config.attention, name)
        for config, _ in ATTENTION_VARIANTS
        for name in frozenset.intersection(
            *(_vanishing(config, training) for training in (False, True))
        )
    }
    assert still == {("gc", "attention.conv_attn.bias"), ("nonlocal", "attention.phi.bias")}


def _vanishing(config, training):
    posed = problem(config)
    return run(config, posed.arrays, posed.x, posed.cotangent, training=training).vanishing


# For each option that leaves the parameters as they are: the value that the oracle has, and one
# that the model has instead.
OTHER = [
    ("se", {"hidden_channels": 3}, {"gate": "hard_sigmoid"}),
    ("ese", {}, {"gate": "sigmoid"}),
    ("eca", {"kernel_size": 5}, {"padding": "circular"}),
    ("cbam", {}, {"bn_eps": 1e-3}),
    ("cbam", {}, {"bn_decay": 0.9}),
    ("bam", {"hidden_channels": 4}, {"dilation": 2}),
    ("bam", {"hidden_channels": 4}, {"fusion": "product"}),
    ("bam", {"hidden_channels": 4}, {"bn_eps": 1e-3}),
    ("bam", {"hidden_channels": 4}, {"bn_decay": 0.99}),
    ("scse", {}, {"fusion": "maximum"}),
    ("ge", {}, {"extent": 2}),
    ("ge", {"extent": 2}, {"extent": 3}),
    ("ge", {"gather": "convolution", "extent": 2}, {"bn_eps": 1e-3}),
    ("ge", {"gather": "convolution", "extent": 2}, {"bn_decay": 0.99}),
    ("gc", {"hidden_channels": 4}, {"ln_eps": 1e-6}),
    ("simam", {}, {"e_lambda": 1e-3}),
    ("coordinate", {}, {"bn_eps": 1e-3}),
    ("coordinate", {}, {"bn_decay": 0.99}),
    ("triplet", {}, {"bn_eps": 1e-3}),
    ("triplet", {}, {"bn_decay": 0.9}),
    ("nonlocal", {}, {"subsample": True}),
    ("nonlocal", {}, {"scale": True}),
    ("nonlocal", {}, {"bn_eps": 1e-3}),
    ("nonlocal", {}, {"bn_decay": 0.99}),
    ("mhsa", {"size": None, "heads": 2}, {"scale_positions": False}),
    ("mhsa", {"size": None, "heads": 2, "bias": True}, {"scale_positions": False}),
]


@pytest.mark.parametrize(("kind", "options", "other"), OTHER, ids=str)
def test_another_value_of_an_option(backend, kind, options, other):
    built = attention_block(kind, {**options, **other})
    failing = {
        row.quantity for row in report_on(backend, attention_block(kind, options), built).failures
    }
    if "bn_decay" in other:
        assert failing == {"train statistics"}
    else:
        assert {"eval output", "train output"} & failing or "bn_eps" in other
        assert {"eval gradient", "train gradient"} <= failing


def test_channel_order_of_the_spatial_gate(backend):
    """The authors' code of CBAM stacks (maximum, average); weights brought from there must be
    swapped, and it shows.
    """

    def change(arrays):
        arrays["attention.spatial.conv.weight"] = arrays["attention.spatial.conv.weight"][
            :, ::-1
        ].copy()

    assert any(
        row.quantity == "eval output"
        for row in report_on(backend, LAST["cbam"], change=change).failures
    )


@pytest.mark.parametrize("first", ["query", "key", "value"])
def test_order_of_queries_keys_and_values(backend, first):
    def change(arrays):
        parts = dict(
            zip(("query", "key", "value"), np.split(arrays["attention.qkv.weight"], 3), strict=True)
        )
        order = [first, *(name for name in ("value", "key", "query") if name != first)]
        arrays["attention.qkv.weight"] = np.concatenate([parts[name] for name in order])

    assert any(
        row.quantity == "eval output"
        for row in report_on(backend, LAST["mhsa"], change=change).failures
    )


# There and back


@pytest.mark.parametrize("framework", FRAMEWORKS)
@VARIANTS
def test_names_and_axes(config, framework):
    """Needs no framework: the layouts alone."""
    arrays = random_arrays(config)
    back = to_canonical(framework, schema(config), to_native(framework, schema(config), arrays))
    assert all((back[name] == array).all() for name, array in arrays.items())


@VARIANTS
def test_around_the_frameworks_and_a_file(all_frameworks, config, tmp_path):
    """In both directions, bit for bit."""
    arrays = random_arrays(config)
    for around in (("jax", "tf", "torch"), ("tf", "jax", "torch")):
        model = build(config, arrays, "torch")
        for framework in around:
            model = port(model, framework)
            assert all((export(model)[name] == array).all() for name, array in arrays.items())
    write(tmp_path / "block.safetensors", config, export(model))
    held, back = read(tmp_path / "block.safetensors")
    assert held == config
    assert all((back[name] == array).all() for name, array in arrays.items())


@VARIANTS
def test_names_are_pytorchs(torch, config):
    from pytorch_impl import ResidualBlockWithAttention

    names = [
        name
        for name in ResidualBlockWithAttention.from_config(config).state_dict()
        if "num_batches" not in name
    ]
    assert names == [parameter.name for parameter in schema(config)]


# One definition, in as many places as there are


def test_the_same_kinds_everywhere():
    assert list(KINDS) == list(KINDS_AND_OPTIONS)
    for package in ("pytorch_impl", "jax_impl", "tf_impl"):
        assert list(classes(package)) == list(KINDS)


def classes(package):
    """The class name of each kind, as the package's table has it."""
    tree = ast.parse((ROOT / package / "attention" / "__init__.py").read_text())
    table = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and node.target.id == "ATTENTION"
    )
    return {key.value: value.id for key, value in zip(table.keys, table.values, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("package", ["pytorch_impl", "jax_impl", "tf_impl"])
def test_options_and_defaults_are_those_of_the_schema(package, kind):
    files = (ROOT / package / "attention").glob("*.py")
    nodes = [
        node
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.ClassDef)
    ]
    init = next(
        item
        for node in nodes
        if node.name == classes(package)[kind]
        for item in node.body
        if hasattr(item, "args")
    )
    names = [argument.arg for argument in init.args.args][2:]
    defaults = [ast.literal_eval(default) for default in init.args.defaults]
    required = [
        name for name, default in KINDS[kind].options.items() if default is inspect.Parameter.empty
    ]
    assert names == list(KINDS[kind].options)
    assert defaults == [
        default for name, default in KINDS[kind].options.items() if name not in required
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_is(kind):
    described = KINDS[kind]
    assert described.summary.endswith(".")
    assert described.source or kind == "none"
    assert all(name in described.explanation for name in described.options)


def test_every_option_is_in_the_cases():
    for kind, variants in KINDS_AND_OPTIONS.items():
        named = {name for options in variants for name in options}
        named |= {name for other, _, options in OTHER for name in options if other == kind}
        widths = {"reduction", "hidden_channels", "minimum"}  # one of them is enough
        assert named | widths >= set(KINDS[kind].options), kind


def test_published_sizes():
    """Numbers of parameters that papers and libraries give, for 512 channels."""

    def count(kind, **options):
        return sum(
            int(np.prod(p.shape)) for p in attention_parameters(kind, 512, options) if p.trainable
        )

    assert count("se") == 2 * 512 * 32 + 32 + 512
    assert count("eca") == 5
    assert count("cbam", bias=False) == 2 * 512 * 32 + 98 + 2
    assert count("triplet") == 300
    assert count("simam") == count("none") == count("ge") == 0
    assert count("mhsa", size=14) == 3 * 512 * 512 + 2 * 27 * 128
    assert count("nonlocal") == 3 * (512 * 256 + 256) + 256 * 512 + 512 + 2 * 512


@VARIANTS
def test_multiply_adds_are_what_the_oracle_does(config):
    """The formulas against the counting oracle, for one image; the rest of the block is in both."""
    sides = [(-(-side // step)) for side, step in zip(SIZE, config.stride, strict=True)]
    counts = []
    for kind, options in ((config.attention, config.attention_options), ("none", {})):
        plain = BlockConfig.from_dict(
            {**config.to_dict(), "attention": kind, "attention_options": options}
        )
        image = np.ones((1, plain.in_channels, *SIZE))
        counts.append(run(plain, random_arrays(plain), image, training=False).multiply_adds)
    assert (
        multiply_adds(config.attention, config.out_channels, tuple(sides), config.attention_options)
        == counts[0] - counts[1]
    )


# Delicate arithmetic


@pytest.mark.parametrize("kind", ["cbam", "triplet", "nonlocal"])
def test_compiled_maxima(framework, kind):
    """A maximum's gradient must not look for values equal to it: a compiler may compute them twice,
    and differently.
    """
    config = attention_block(
        kind,
        {"subsample": True, "hidden_channels": 3} if kind == "nonlocal" else {"kernel_size": 3},
    )
    posed = problem(config)
    with precise((framework,), "float64"):
        model = build(config, posed.arrays, framework)
        slope = np.asarray(compiled_gradient(framework, model, posed.x, posed.cotangent))
    expected = posed.expected["eval gradient"]["input"]
    assert np.abs(slope - expected).max() < 1e-12 * np.abs(expected).max()


def compiled_gradient(framework, model, x, cotangent):
    images, slopes = (np.moveaxis(array, 1, -1) for array in (x, cotangent))
    if framework == "jax":
        import jax

        return np.moveaxis(jax.jit(jax.grad(lambda x: (model(x) * slopes).sum()))(images), -1, 1)
    if framework == "torch":
        import torch

        image = torch.tensor(x, requires_grad=True)
        (model(image) * torch.tensor(cotangent)).sum().backward()
        return image.grad.numpy()
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("compiled by TensorFlow here")
    import tensorflow

    @tensorflow.function(jit_compile=True, autograph=False)
    def gradient(images):
        with tensorflow.GradientTape() as tape:
            tape.watch(images)
            loss = tensorflow.reduce_sum(model(images) * slopes)
        return tape.gradient(loss, images)

    return np.moveaxis(gradient(tensorflow.constant(images)).numpy(), -1, 1)


def shifted(config, mean):
    """A batch whose maps have a mean far from 0."""
    posed = problem(config)
    arrays = {name: array.copy() for name, array in posed.arrays.items()}
    arrays["bn2.bias"] = arrays["bn2.bias"] + mean
    return arrays, posed.x


@pytest.mark.parametrize("kind", ["simam", "gc", "nonlocal", "mhsa"])
def test_large_values(backend, kind):
    """Means of 1000: E[x^2] - E[x]^2 would lose all digits, exp without its maximum taken away
    would overflow.
    """
    config = attention_block(kind, KINDS_AND_OPTIONS[kind][0])
    arrays, x = shifted(config, 1000.0)
    with precise((backend.framework,), "float64"):
        y = LiveModel.of(backend.build(config, arrays)).forward(x, training=False)
    expected = run(config, arrays, x, training=False).output
    assert np.isfinite(expected).all()
    assert np.abs(y - expected).max() < 1e-11 * np.abs(expected).max()
    short = {name: array.astype("float32") for name, array in arrays.items()}
    y = LiveModel.of(backend.build(config, short)).forward(x.astype("float32"), training=False)
    rounded = run(config, short, x.astype("float32"), training=False).output
    assert np.isfinite(y).all()
    if kind == "simam":
        assert np.abs(y - rounded).max() < 1e-4 * np.abs(rounded).max()


def test_blocks_without_options_work_at_every_width():
    for kind in KINDS:
        for channels in (1, 2, 3, 7, 16, 33):
            options = {"size": (4, 5), "heads": 1} if kind == "mhsa" else {}
            assert BlockConfig(3, channels, attention=kind, attention_options=options)
