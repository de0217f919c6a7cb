"""An attention kind that a user registers is a kind like any other.

The one here is `gain`: x * (gain + sigmoid(norm(conv(x)))) with one gain a channel: a convolution
of ours, a batch norm, so that it has statistics, a role of its own, and an option.
"""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from resattn.checking.backends import precise
from resattn.checking.crosscheck import check_model, crosscheck
from resattn.checking.draws import random_arrays
from resattn.checking.problem import draw_problem
from weights import (
    BlockConfig,
    NetworkConfig,
    WeightsError,
    export,
    port,
    read,
    register_attention,
    register_role,
    schema,
    write,
)
from weights.attention import ATTENTION
from weights.frameworks import FRAMEWORKS
from weights.live import build
from weights.parameters import Parameter, batch_norm, convolution

ROOT = Path(__file__).parent.parent


def gain_parameters(channels, kernel_size=1):
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size: expected an odd size, got {kernel_size}")
    return (
        Parameter("", "gain", (channels,)),
        *convolution("conv", channels, channels, (kernel_size, kernel_size)),
        *batch_norm("norm", channels),
    )


def torch_gain():
    import torch

    from pytorch_impl.layers import Conv2d, sigmoid
    from pytorch_impl.normalization import BatchNorm

    class Gain(torch.nn.Module):
        def __init__(self, channels, kernel_size=1, *, dtype=None, device=None):
            super().__init__()
            side, options = (kernel_size, kernel_size), {"dtype": dtype, "device": device}
            self.gain = torch.nn.Parameter(torch.ones(channels, **options))
            self.conv = Conv2d(
                channels, channels, side, (1, 1), (kernel_size // 2, kernel_size // 2), **options
            )
            self.norm = BatchNorm(channels, **options)

        def forward(self, x):
            return x * (self.gain[:, None, None] + sigmoid(self.norm(self.conv(x))))

    return Gain


def jax_gain(power=1):
    import jax.numpy as jnp
    from flax import nnx

    from jax_impl.layers import Conv2d, sigmoid
    from jax_impl.normalization import BatchNorm

    class Gain(nnx.Module):
        def __init__(self, channels, kernel_size=1, *, dtype=jnp.float32, rngs):
            side, options = (kernel_size, kernel_size), {"dtype": dtype, "rngs": rngs}
            self.amount = nnx.Param(jnp.ones(channels, dtype))
            self.conv = Conv2d(
                channels, channels, side, (1, 1), (kernel_size // 2, kernel_size // 2), **options
            )
            self.norm = BatchNorm(channels, **options)

        def __call__(self, x):
            return x * (self.amount[...] ** power + sigmoid(self.norm(self.conv(x))))

    return Gain


def tf_gain():
    import keras
    from keras import ops

    from tf_impl.layers import Conv2d, sigmoid
    from tf_impl.normalization import BatchNorm

    class Gain(keras.layers.Layer):
        def __init__(self, channels, kernel_size=1, *, dtype=None, name=None, **keras_options):
            super().__init__(dtype=dtype, name=name, **keras_options)
            side, options = (
                (kernel_size, kernel_size),
                {"dtype": self.dtype_policy, "trainable": self.trainable},
            )
            self.gain = self.add_weight(shape=(channels,), initializer="ones", name="gain")
            self.conv = Conv2d(
                channels, channels, side, (1, 1), (kernel_size // 2, kernel_size // 2), **options
            )
            self.norm = BatchNorm(channels, **options)
            self.built = True

        def call(self, x, training=None):
            return x * (
                ops.convert_to_tensor(self.gain)
                + sigmoid(self.norm(self.conv(x), training=training))
            )

    return Gain


def gain_graph(build, x, kernel_size):
    gain = build.parameter("", "gain")
    gate = build.convolution("conv", x, padding=(kernel_size // 2, kernel_size // 2))
    gate = build.batch_norm("norm", gate, 1e-5, 0.9)
    gate = build.activation("sigmoid", gate)
    both = build.add("both", "sum", gate, gain)
    return build.product("", x, both)


MODULES = {"torch": torch_gain, "jax": jax_gain, "tf": tf_gain}


def register_gain(frameworks, graph=None, **modules):
    """Registers `gain` for some frameworks; modules: others than the right ones."""
    register_role("gain", "gain", "channel", jax=("amount", "channel"))
    made = {name: MODULES[name]() for name in frameworks if name not in modules}
    text = {"source": "nobody", "summary": "Scales by a gain and a gate."}
    register_attention("gain", gain_parameters, **made, **modules, graph=graph, **text)


def block(**options):
    return BlockConfig(3, 5, 3, 2, attention="gain", attention_options=options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("graph", [gain_graph, None], ids=["graph", "stand-in"])
def test_everything_agrees(framework, graph, dtype):
    register_gain([framework], graph)
    config = block(kernel_size=3)
    report = crosscheck(config, frameworks=framework, dtype=dtype, size=(8, 6), batch=3)
    assert report.ok, str(report)
    compared = {row.tensor for row in report.rows}
    assert {"attention.gain", "attention.conv.weight", "attention.norm.running_var"} <= compared
    stands_in = (
        f"attention 'gain' has no graph of its own: its {FRAMEWORKS[framework].label} module, in "
        "float64, stands in"
    )
    assert any(stands_in in note for note in report.notes) == (graph is None)


def test_the_stand_in_is_the_oracle(framework):
    results = []
    for graph in (gain_graph, None):
        register_gain([framework], graph)
        config = block()
        results.append(draw_problem(config, random_arrays(config, "float64"), (8, 6), 3, "float64"))
    first, second = (problem.expected for problem in results)
    for quantity, tensors in first.items():
        for name, array in tensors.items():
            scale = results[0].scales[quantity, name]
            np.testing.assert_allclose(
                second[quantity][name], array, rtol=0, atol=1e-12 * scale, err_msg=name
            )


@pytest.mark.parametrize("whole", [False, True], ids=["block", "network"])
def test_around_the_frameworks_and_a_file(all_frameworks, whole, tmp_path):
    register_gain(FRAMEWORKS)
    config = NetworkConfig(2, 3, (4, 6), (1, 1), attention="gain") if whole else block()
    arrays = random_arrays(config)
    model = build(config, arrays, "torch")
    for framework in ("jax", "tf", "torch"):
        model = port(model, framework)
        assert all((export(model)[name] == array).all() for name, array in arrays.items())
    write(tmp_path / "own.safetensors", config, export(model))
    held, back = read(tmp_path / "own.safetensors")
    assert held == config
    assert all((back[name] == array).all() for name, array in arrays.items())


@pytest.mark.parametrize("graph", [gain_graph, None], ids=["graph", "stand-in"])
def test_one_that_computes_something_else_is_found(all_frameworks, graph):
    register_gain(FRAMEWORKS, graph, jax=jax_gain(power=2))
    report = crosscheck(block(), size=(8, 6), batch=3)
    assert not report.ok
    assert all("jax cpu" in (row.actual, row.expected) for row in report.failures)


def test_one_number_off_is_found(backend):
    register_gain([backend.framework])
    config = block()
    posed = draw_problem(config, random_arrays(config, "float64"), (8, 6), 3, "float64")
    arrays = {name: array.copy() for name, array in posed.arrays.items()}
    arrays["attention.gain"][2] += 1e-6
    with precise((backend.framework,), "float64"):
        model = backend.build(config, arrays)
    assert any(row.quantity == "eval output" for row in check_model(backend, model, posed).failures)


def test_no_parameters_at_all(torch):
    class Half(torch.nn.Module):
        def __init__(self, channels, *, dtype=None, device=None):
            super().__init__()

        def forward(self, x):
            return x / 2

    register_attention("half", torch=Half)
    assert crosscheck(BlockConfig(3, 4, attention="half"), frameworks="torch").ok


def test_it_is_drawn_and_listed(torch):
    from resattn.cli.attention import costs, sentence
    from resattn.drawing.pictures import scene_of
    from resattn.drawing.svg import svg

    register_gain(["torch"])
    assert "attention: gain" in svg(scene_of(block()))
    assert costs("gain", 4, (5, 6)) == (str(4 + 16 + 4 + 8), "-")
    assert sentence(ATTENTION["gain"]) == "Scales by a gain and a gate. (nobody)"


def test_the_command_line_imports_it(torch, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from shared_tests.test_own_kinds import register_gain\nregister_gain(['torch'])\n"
    )
    register_gain(["torch"])
    config = block().to_json()

    def run(*words):
        command = [sys.executable, "-m", "resattn.cli.app", *words]
        environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env=environment
        )

    checked = run(
        "--import", "mine", "check", "--config", config, "--frameworks", "torch", "--size", "8x6"
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "attention gain" in checked.stdout
    unknown = run("check", "--config", config, "--frameworks", "torch")
    assert unknown.returncode == 2
    assert "got 'gain'; a kind of your own must be registered first" in unknown.stderr
    absent = run("--import", "nowhere", "attention")
    assert absent.returncode == 2
    assert "--import nowhere: there is no such module" in absent.stderr
    by_path = run(
        "--import", "./mine.py", "check", "--config", config, "--size", "8x6"
    )  # in PyTorch, for which it was registered
    assert by_path.returncode == 0, by_path.stdout + by_path.stderr
    assert "The same function" in by_path.stdout


def raises(error, message):
    return pytest.raises(error, match=re.escape(message))


def test_what_cannot_be_registered():
    with raises(ValueError, "kind: expected a name that no built-in kind has, got 'se'"):
        register_attention("se", torch=object)
    with raises(ValueError, "kind: expected a name that no built-in kind has, got ''"):
        register_attention("", torch=object)
    with raises(
        ValueError,
        "mine: expected an implementation for at least one framework (torch=, jax=, tf=), got none",
    ):
        register_attention("mine")
    with raises(ValueError, "role: expected a name that no built-in role has, got 'norm mean'"):
        register_role("norm mean", "mean", "channel")
    with raises(ValueError, "jax: expected the axes 'in out' in some order, got 'in out row'"):
        register_role("mix", "weight", "in out", jax=("kernel", "in out row"))
    with raises(ValueError, "for one of your own call weights.register_role"):
        Parameter("conv", "gain", (3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"parameters": (1, 2)},
            "odd: expected parameters to be a class or a function, got (1, 2)",
        ),
        (
            {"parameters": lambda: ()},
            "odd: expected parameters to take the channels and each option by name",
        ),
        (
            {"parameters": lambda channels, **options: ()},
            "as in (channels, size=3), got (channels, **options)",
        ),
        ({"torch": 3}, "odd: expected torch to be a class or a function, got 3"),
        ({"graph": "none"}, "odd: expected graph to be a class or a function, got 'none'"),
    ],
)
def test_registrations_that_can_never_work(arguments, message):
    with raises(ValueError, message):
        register_attention(
            "odd", **{"parameters": lambda channels: (), "torch": object, **arguments}
        )
    assert "odd" not in ATTENTION


def test_shapes_and_roles_that_can_never_work():
    with raises(ValueError, "shape: expected 2 positive sizes (out in), got (3,)"):
        Parameter("w", "linear kernel", (3,))
    with raises(ValueError, "shape: expected 1 positive sizes (out), got 3"):
        Parameter("w", "linear bias", 3)
    with raises(
        ValueError, "jax: expected a leaf name and axes, as in ('kernel', 'in out'), got 'amount'"
    ):
        register_role("gain", "gain", "channel", jax="amount")


def test_arrays_of_its_own_that_are_no_parameters(torch, jax):
    """Constants of a module survive building and porting; they are no weights."""
    import jax.numpy as jnp
    from flax import nnx

    class Window(torch.nn.Module):
        def __init__(self, channels, *, dtype=None, device=None):
            super().__init__()
            self.register_buffer(
                "window",
                torch.arange(1, channels + 1, dtype=dtype, device=device),
                persistent=False,
            )

        def forward(self, x):
            return x * self.window[:, None, None].to(x.dtype)

    class FlaxWindow(nnx.Module):
        def __init__(self, channels, *, dtype=jnp.float32, rngs):
            self.window = nnx.data(jnp.arange(1, channels + 1, dtype=dtype))

        def __call__(self, x):
            return x * self.window

    register_attention("window", torch=Window, jax=FlaxWindow)
    config = BlockConfig(3, 4, attention="window")
    assert crosscheck(config, frameworks=("torch", "jax"), batch=3).ok
    ported = port(build(config, random_arrays(config), "torch"), "jax")
    assert np.asarray(ported.attention.window).tolist() == [1, 2, 3, 4]


def test_what_a_registered_kind_refuses(torch, jax):
    register_gain(["torch"])
    with raises(
        ValueError, "attention_options of 'gain': kernel_size: expected an odd size, got 2"
    ):
        block(kernel_size=2)
    with raises(ValueError, "'gain' has no 'size'; its options are: kernel_size"):
        block(size=2)
    with raises(ValueError, "attention 'gain' was registered for torch, not for jax; pass jax= to"):
        port(build(block(), random_arrays(block()), "torch"), "jax")
    with raises(ValueError, "attention 'gain' was registered for torch, not for jax; pass jax= to"):
        crosscheck(block(), frameworks=("torch", "jax"))


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        (lambda channels: gain_parameters(channels)[1:], "attention.gain: unexpected"),
        (
            lambda channels: (*gain_parameters(channels), *convolution("more", 1, 1)),
            "attention.more.weight: missing",
        ),
        (
            lambda channels: (Parameter("", "gain", (1,)), *gain_parameters(channels)[1:]),
            "attention.gain: expected (1,) as PyTorch holds it, got (5,)",
        ),
    ],
    ids=["one less", "one more", "another shape"],
)
def test_a_module_that_is_not_what_its_schema_says(torch, parameters, fault):
    register_gain([], torch=torch_gain())
    register_attention("gain", parameters, torch=torch_gain())
    with pytest.raises(WeightsError) as caught:
        build(block(), random_arrays(block()), "torch")
    assert fault in caught.value.faults
    assert "does the module registered as 'gain' hold, once constructed, the arrays" in str(
        caught.value
    )


@pytest.mark.parametrize("wrong", [None, [1], "fc1"])
def test_a_schema_that_is_none(torch, wrong):
    register_attention("odd", lambda channels: wrong, torch=torch.nn.Identity)
    with raises(
        ValueError,
        "attention 'odd': its schema must be a tuple of weights.parameters.Parameter, got",
    ):
        BlockConfig(3, 4, attention="odd")


def test_names_that_meet(torch):
    register_attention(
        "twice",
        lambda channels: 2 * convolution("fc", channels, 1),
        torch=torch.nn.Identity,
    )
    with raises(
        ValueError, "attention 'twice': its schema names fc.bias, fc.weight more than once"
    ):
        schema(BlockConfig(3, 4, attention="twice"))
