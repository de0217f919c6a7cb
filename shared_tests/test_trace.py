"""The trace finds the first stage that differs and says why: each known mistake is planted, alone
and among others.
"""

from __future__ import annotations

import copy
import json
import re
from itertools import product

import numpy as np
import pytest

from resattn.checking.backends import FRAMEWORKS, Backend, precise
from resattn.checking.cases import ATTENTION, attention_block
from resattn.checking.draws import random_arrays, random_cotangent, random_input
from resattn.oracle import model as reference
from resattn.tracing.causes import CAUSES, Step, compute, explanations, left_over, variants
from resattn.tracing.causes import KINDS as COMPUTED
from resattn.tracing.trace import Mapped, last_stage, trace, trace_frameworks
from shared_tests.cases import NETWORKS, name_of
from weights import BlockConfig, export, load
from weights.frameworks import LAYOUTS
from weights.live import adapter, build, part
from weights.stages import Recording
from weights.stages import stage as mark

# Square kernels and as many channels behind as in front, so that transposed and swapped tensors
# have shapes that fit; four channels, so that orders of them can be tried.
BLOCK = BlockConfig(4, 4, 3, 2, attention_options={"hidden_channels": 4})
SIZE = (8, 6)
CASES = [
    (BLOCK, SIZE),
    (BlockConfig(5, 5, (5, 3), attention="none", conv_bias=False), (7, 6)),
    NETWORKS[1],
]
KINDS = [
    (attention_block(kind, variants[-1]), (9, 8))
    for kind, variants in ATTENTION.items()
    if kind not in ("none", "se")
]


def images(config=BLOCK, size=SIZE, batch=3, seed=0):
    return random_input(config, size, batch, "float32", seed)


def recorded(model, config, x, training):
    framework = next(
        name for name in FRAMEWORKS if LAYOUTS[name].package == type(model).__module__.split(".")[0]
    )
    cotangent = {"training": training, "last": last_stage(config)}
    return part(framework, "bridge.recorder").trace(
        model, x, lambda shape: random_cotangent(shape, "float32"), **cotangent
    )


# What is recorded


@pytest.mark.parametrize(("config", "size"), CASES + KINDS, ids=name_of)
def test_every_stage_is_the_oracles(backend, config, size):
    """The same names in the same order, the same shapes, forward and backward; and the model is
    left as it was.
    """
    arrays = random_arrays(config)
    x = images(config, size)
    with precise((backend.framework,), "float32"):
        model = backend.build(config, arrays)
        found = trace({"model": model}, x, modes=("train",))
    assert all((array == arrays[name]).all() for name, array in export(model).items())
    state, _, _ = reference.stages(config, arrays, x, training=True)
    forward = [row.tensor for row in found.rows if row.quantity == "train forward"]
    assert {row.expected for row in found.rows} == {"oracle"}
    assert set(forward) == set(state.stages) - {"classifier.bias"}
    assert forward[-1] == last_stage(config)
    statistics = {row.tensor for row in found.rows if row.quantity == "train statistics"}
    assert statistics == set(state.statistics)
    assert found.ok, str(found)
    assert all(row.ok for row in found.rows if row.quantity != "train backward"), str(found)


@pytest.mark.parametrize(("config", "size"), [*CASES[:1], *KINDS[:2]], ids=name_of)
def test_the_same_stages_in_every_framework(all_frameworks, config, size):
    """Also those that the oracle does not have: what a function was given."""
    x = images(config, size)
    recordings = [
        recorded(build(config, random_arrays(config), name), config, x, False)
        for name in all_frameworks
    ]
    names = [list(recording.values) for recording in recordings]
    assert names[0] == names[1] == names[2]
    assert len({frozenset(recording.slopes) for recording in recordings}) == 1
    for recording in recordings[1:]:
        for name, value in recording.values.items():
            assert np.abs(value - recordings[0].values[name]).max() <= 2e-6 * np.abs(value).max(), (
                name
            )


def test_statistics_are_as_before_after_an_error(torch):
    model = build(BLOCK, random_arrays(BLOCK), "torch")
    model.conv2.forward = lambda x: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trace({"model": model}, images(), modes=("train",))
    assert (export(model)["bn1.running_mean"] == random_arrays(BLOCK)["bn1.running_mean"]).all()


def test_without_gradients(torch):
    """Within torch.no_grad gradients are there all the same; of a model that lets none through only
    values are told.
    """
    model = build(BLOCK, random_arrays(BLOCK), "torch")
    with torch.no_grad():
        assert any(
            row.quantity == "eval backward"
            for row in trace({"model": model}, images(), modes=("eval",)).rows
        )
    deaf, stages = torch_model(torch, PLAIN, random_arrays(PLAIN))
    deaf.requires_grad_(False)
    deaf.last.forward = lambda x: x.detach().relu()
    found = trace(
        {"deaf": Mapped(deaf, stages)},
        images(PLAIN),
        config=PLAIN,
        arrays=random_arrays(PLAIN),
        modes=("eval",),
    )
    assert found.ok, str(found)


def test_nan_in_the_checkpoint_is_nobodys_mistake(torch):
    for name in ("bn1.running_var", "conv1.weight"):
        arrays = random_arrays(BLOCK)
        arrays[name].flat[0] = np.nan
        found = trace({"ours": build(BLOCK, arrays, "torch")}, images(), modes=("eval",))
        assert [finding for finding in found.findings if not finding.backward] == [], str(found)


def test_a_recording_is_of_evaluation(torch):
    arrays, x = random_arrays(BLOCK), images()
    state, _, _ = reference.stages(BLOCK, arrays, x, training=False)
    values = {name: stage.output.value.astype("f") for name, stage in state.stages.items()}
    assert trace({"theirs": Recording(values)}, x, config=BLOCK, arrays=arrays).ok
    stored = {"output": values["output"].astype("float16")}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=stored)
    only(found, "output", "rounded outcome")
    assert "the outcome is rounded to float16" in found.first.explanations[0].words


def test_nothing_stays_replaced(framework):
    """Functions and classes are as they were, also after an error."""
    package = LAYOUTS[framework].package
    block = __import__(f"{package}.block", fromlist=["relu"])
    before = block.relu, type(build(BLOCK, random_arrays(BLOCK), framework)).__call__
    model = build(BLOCK, random_arrays(BLOCK), framework)
    trace({"model": model}, images(), modes=("eval",))
    with pytest.raises(ValueError, match="batch norm in training"):
        trace({"model": model}, images(size=(1, 2), batch=1), modes=("train",))
    assert (block.relu, type(model).__call__) == before
    assert (export(model)["bn1.running_mean"] == random_arrays(BLOCK)["bn1.running_mean"]).all()


# Every way to make every known mistake, in stages of every kind


def steps():
    """A stage of every kind with what it is given, of sizes that hide nothing."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(0.3, 1, shape)

    norm = {
        "weight": normal(5),
        "bias": normal(5),
        "running_mean": normal(5),
        "running_var": rng.uniform(1e-4, 2, 5),
    }
    conv = {"stride": (2, 2), "padding": (1, 1), "dilation": 1, "groups": 1}
    mapped = normal(3, 5, 8, 6)
    kernel = {"weight": normal(4, 4, 3, 3), "bias": normal(4)}
    return {
        "input": (Step("input", {}, {"channels": 3}), (rng.uniform(0, 1, (3, 3, 6, 5)),)),
        "convolution": (Step("convolution", kernel, conv), (normal(3, 4, 8, 6),)),
        "linear": (
            Step("linear", {"weight": normal(12, 12), "bias": normal(12)}),
            (normal(5, 12),),
        ),
        "batch norm": (Step("batch norm", norm, {"eps": 1e-5, "training": False}), (mapped,)),
        "batch norm in training": (
            Step("batch norm", norm, {"eps": 1e-5, "training": True}),
            (mapped / 30,),
        ),
        "layer norm": (
            Step("layer norm", {"weight": normal(5), "bias": normal(5)}, {"eps": 1e-5}),
            (mapped / 30,),
        ),
        **{
            kind: (Step(kind), (5 * mapped,))
            for kind in ("relu", "sigmoid", "hard_sigmoid", "hard_swish")
        },
        "sum": (Step("sum"), (mapped, normal(3, 5, 8, 6))),
        "running mean": (
            Step("running mean", {}, {"decay": 0.9}),
            (normal(5), normal(5), np.float64(24)),
        ),
        "running variance": (
            Step("running variance", {}, {"decay": 0.9}),
            (rng.uniform(0.5, 2, 5), rng.uniform(0.5, 2, 5), np.float64(24)),
        ),
    }


STEPS = steps()
WAYS = [
    (kind, cause.name, words)
    for kind, (step, _) in STEPS.items()
    for cause, words, _ in variants(step)
]


def test_every_cause_is_planted():
    assert {cause for _, cause, _ in WAYS} == {cause.name for cause in CAUSES}
    assert {step.kind for step, _ in STEPS.values()} == set(COMPUTED)


@pytest.mark.parametrize("kind", STEPS)
def test_every_way_of_every_cause(kind):
    """Each is found for what it is; another cause is named only where it computes the same."""
    step, inputs = STEPS[kind]
    right = compute(step, inputs)
    assert (
        explanations(step, inputs, (right + 0.01 * right**2).astype("f"), 2e-6, pairs=False) == []
    )
    for cause, words, planted in variants(step):
        actual = compute(planted, inputs).astype("f")
        if left_over(planted, right, actual, 2e-6) is not None:
            # An eps of 0 in place of 1e-5, say, does nothing where all variances are large.
            assert cause.name in ("batch norm eps", "reduced precision", "rounded outcome"), words
            continue
        found = explanations(step, inputs, actual, 2e-6)
        assert cause.name in [each.cause for each in found], words
        if cause.name not in (
            "batch norm eps",
            "reduced precision",
            "rounded outcome",
            "layout flattening",
        ):
            assert words in [each.words for each in found], (words, found)


@pytest.mark.parametrize("size", [1.1, 2, 10, 1000])
@pytest.mark.parametrize("kind", STEPS)
def test_noise_has_no_cause(kind, size):
    """Errors that nothing but chance made, a little over the tolerance or far over it, are nobody's
    mistake.
    """
    step, inputs = STEPS[kind]
    right = compute(step, inputs)
    for seed in range(3):
        noise = np.random.default_rng(seed).uniform(-1, 1, right.shape)
        actual = (right + size * 2e-6 * np.abs(right).max() * noise / np.abs(noise).max()).astype(
            "f"
        )
        assert explanations(step, inputs, actual, 2e-6, pairs=False) == [], seed


def test_one_number_is_not_solved_for():
    """Any number is some decay's, and a scale of one channel some eps'."""
    statistic = Step("running mean", {}, {"decay": 0.9})
    given = (np.array([0.3]), np.array([0.7]), np.float64(24))
    assert explanations(statistic, given, np.array([1.234]), 1e-6) == []
    norm = {name: np.array([0.8]) for name in ("weight", "bias", "running_mean", "running_var")}
    step = Step("batch norm", norm, {"eps": 1e-5, "training": False})
    x = np.random.default_rng(0).normal(size=(2, 1, 4, 5))
    scaled = compute(step.holding(weight=np.array([0.72])), (x,))
    assert explanations(step, (x,), scaled, 2e-6, pairs=False) == []


def test_a_dead_channel_does_not_hide_eps():
    step, inputs = STEPS["batch norm"]
    smallest = int(step.parameters["running_var"].argmin())
    gamma = step.parameters["weight"].copy()
    gamma[smallest] = 0
    dead = step.holding(weight=gamma)
    found = explanations(dead, inputs, compute(dead.having(eps=3.7e-3), inputs).astype("f"), 2e-6)
    assert [each.words for each in found] == ["eps 0.0037 instead of 1e-05"]


# Mistakes in the weights: in every framework


def swapped(first, second):
    def change(arrays):
        arrays[first], arrays[second] = arrays[second], arrays[first]

    return change


def changed(name, how):
    def change(arrays):
        arrays[name] = np.ascontiguousarray(how(arrays[name]))

    return change


IN_WEIGHTS = {
    "transposed": (
        "conv1",
        "transposed kernel",
        changed("conv1.weight", lambda w: w.transpose(1, 0, 2, 3)),
    ),
    "rows and columns": (
        "conv2",
        "transposed kernel",
        changed("conv2.weight", lambda w: w.transpose(0, 1, 3, 2)),
    ),
    "reshaped": (
        "conv2",
        "transposed kernel",
        changed("conv2.weight", lambda w: w.transpose(2, 3, 1, 0).reshape(w.shape)),
    ),
    "flipped": ("conv1", "flipped kernel", changed("conv1.weight", lambda w: w[:, :, ::-1, ::-1])),
    "mirrored": ("conv2", "flipped kernel", changed("conv2.weight", lambda w: w[:, :, :, ::-1])),
    "input channels": (
        "conv1",
        "permuted channels",
        changed("conv1.weight", lambda w: w[:, [1, 0, 3, 2]]),
    ),
    "output channels": (
        "conv2",
        "permuted channels",
        changed("conv2.weight", lambda w: w[[3, 0, 1, 2]]),
    ),
    "gamma and beta": ("bn1", "gamma and beta swapped", swapped("bn1.weight", "bn1.bias")),
    "mean and variance": (
        "bn2",
        "mean and variance swapped",
        swapped("bn2.running_mean", "bn2.running_var"),
    ),
    "no bias": ("conv2", "missing bias", changed("conv2.bias", np.zeros_like)),
    "no bias in attention": (
        "attention.fc1",
        "missing bias",
        changed("attention.fc1.bias", np.zeros_like),
    ),
    "no offset": ("shortcut.1", "missing bias", changed("shortcut.1.bias", np.zeros_like)),
}


@pytest.mark.parametrize("mistake", IN_WEIGHTS)
def test_in_weights(torch, mistake):
    stage, cause, change = IN_WEIGHTS[mistake]
    only(found_in("torch", change), stage, cause)


def found_in(framework, *changes, config=BLOCK, x=None, modes=("eval",)):
    """The trace of a model whose arrays were changed, against those that it should hold."""
    right = random_arrays(config)
    arrays = {name: array.copy() for name, array in right.items()}
    for change in changes:
        change(arrays)
    with precise((framework,), "float32"), np.errstate(all="ignore"):
        model = build(config, arrays, framework)
        return trace(
            {"theirs": model},
            images(config) if x is None else x,
            config=config,
            arrays=right,
            modes=modes,
        )


def only(found, stage, *causes):
    """One stage differs, for these causes alone, and nothing of the difference is left."""
    assert [finding.stage for finding in found.findings] == [stage], str(found)
    explained(found.first, *causes)


def explained(finding, *causes):
    assert tuple(each.cause for each in finding.explanations) == causes, finding
    assert all(each.left <= 2e-6 for each in finding.explanations)


def test_several_at_once_in_every_framework(framework):
    """At different stages each is found where it is, whatever came before; at one stage two are
    found together.
    """
    names = ("transposed", "gamma and beta", "mirrored", "no bias in attention", "no offset")
    found = found_in(framework, *(IN_WEIGHTS[name][2] for name in names))
    assert [finding.stage for finding in found.findings] == [
        IN_WEIGHTS[name][0] for name in names
    ], str(found)
    for finding, name in zip(found.findings, names, strict=True):
        explained(finding, IN_WEIGHTS[name][1])
    both = found_in(
        framework,
        changed("conv1.weight", lambda w: w.transpose(1, 0, 2, 3)),
        changed("conv1.bias", np.zeros_like),
    )
    only(both, "conv1", "missing bias and transposed kernel")
    assert (
        "reads the kernel's axes (out in row col) as (in out row col)"
        in both.first.explanations[0].words
    )


def test_what_none_explains_is_unexplained(framework):
    def noisy(arrays):
        arrays["conv2.weight"] += (
            np.random.default_rng(0).normal(0, 1e-3, arrays["conv2.weight"].shape).astype("f")
        )

    found = found_in(framework, noisy)
    only(found, "conv2")
    assert "unexplained: none of the known causes computes this" in str(found)
    assert found.first.agrees[0] == "relu"


# Mistakes in what is computed: in PyTorch, where layers are easily replaced


def planted(model, path, forward):
    """The layer at a path computes something else."""
    layer = model.get_submodule(path)
    layer.forward = lambda x: forward(layer, x)


def functional():
    from torch.nn import functional

    return functional


def same(layer, x):
    f = functional()
    return f.conv2d(f.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, layer.stride)


def low(form, outcome):
    def forward(layer, x):
        import torch

        from resattn.tracing.causes import rounded

        x, weight = (
            t + torch.tensor(rounded(t.detach().numpy(), form) - t.detach().numpy()).float()
            for t in (x, layer.weight)
        )
        y = functional().conv2d(x, weight, layer.bias, layer.stride, layer.padding)
        lost = torch.tensor(rounded(y.detach().numpy(), form), dtype=torch.float32) - y.detach()
        return y + lost if outcome else y

    return forward


def unbiased(layer, x):
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True) + layer.eps).sqrt()
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def always(training):
    def forward(layer, x):
        f = functional()
        mean, variance = (None, None) if training else (layer.running_mean, layer.running_var)
        return f.batch_norm(x, mean, variance, layer.weight, layer.bias, training, 0.1, layer.eps)

    return forward


def attribute(name, value):
    def plant(model, path):
        setattr(model.get_submodule(path), name, value)

    return plant


def forwarding(forward):
    return lambda model, path: planted(model, path, forward)


IN_LAYERS = {
    "SAME padding": ("conv1", "eval", "SAME padding", forwarding(same)),
    "eps of Keras": ("bn1", "eval", "batch norm eps", attribute("eps", 1e-3)),
    "eps of none": ("bn2", "eval", "batch norm eps", attribute("eps", 3.7e-4)),
    "eps in training": ("bn1", "train", "batch norm eps", attribute("eps", 1e-2)),
    "train mode left on": ("bn2", "eval", "train or evaluation mode", forwarding(always(True))),
    "evaluation mode left on": (
        "bn1",
        "train",
        "train or evaluation mode",
        forwarding(always(False)),
    ),
    "unbiased variance": ("bn2", "train", "biased or unbiased variance", forwarding(unbiased)),
    "TF32": ("conv2", "eval", "reduced precision", forwarding(low("TF32", False))),
    "bfloat16": ("conv2", "eval", "reduced precision", forwarding(low("bfloat16", False))),
    "bfloat16 throughout": (
        "conv1",
        "eval",
        "reduced precision",
        forwarding(low("bfloat16", True)),
    ),
    "float16 throughout": ("conv2", "eval", "reduced precision", forwarding(low("float16", True))),
    "no kernel bias": ("conv1", "train", "missing bias", attribute("bias", None)),
}


@pytest.mark.parametrize("mistake", IN_LAYERS)
def test_in_layers(torch, mistake):
    stage, mode, cause, plant = IN_LAYERS[mistake]
    found = planted_in_torch([(plant, stage)], mode)
    found = [finding for finding in found.findings if "running" not in finding.stage]
    assert [finding.stage for finding in found] == [stage]
    explained(found[0], cause)


def planted_in_torch(plants, mode, config=BLOCK, x=None, precision="float32"):
    arrays = random_arrays(config, precision)
    model = build(config, arrays, "torch")
    for plant, stage in plants:
        plant(model, stage)
    x = images(config).astype(precision) if x is None else x
    return trace({"theirs": model}, x, config=config, arrays=arrays, modes=(mode,))


def marked(name, function):
    """A function in the place of one of ours, marked as that is."""

    def replacement(x):
        return function(x)

    replacement.__name__ = name
    return mark(replacement)


def test_several_in_layers(torch):
    names = ("SAME padding", "eps of Keras", "TF32", "train mode left on")
    found = planted_in_torch([(IN_LAYERS[name][3], IN_LAYERS[name][0]) for name in names], "eval")
    assert [(finding.stage, finding.explanations[0].cause) for finding in found.findings] == [
        (IN_LAYERS[name][0], IN_LAYERS[name][2]) for name in names
    ]
    assert "only in the" not in found.findings[0].where  # at stride 2 SAME shifts the whole map


def test_it_says_where(torch):
    """At stride 1 with a wrong margin only the border differs."""

    def reflecting(layer, x):
        f = functional()
        return f.conv2d(f.pad(x, (1, 1, 1, 1), "reflect"), layer.weight, layer.bias)

    def deaf(layer, x):
        y = functional().conv2d(x, layer.weight, layer.bias, 1, 1)
        return y * (y.new_tensor([1, 1, 1.5, 1])[:, None, None])

    config = BlockConfig(4, 4, attention="none")
    found = planted_in_torch([(forwarding(reflecting), "conv2")], "eval", config)
    only(found, "conv2")
    assert found.first.where == "only in the first row, last row, first column and last column"
    assert (
        planted_in_torch([(forwarding(deaf), "conv1")], "eval", config).first.where
        == "only in channel 2 of 4"
    )


ACTIVATIONS = [
    "gelu",
    "silu",
    "relu6",
    "elu",
    "leaky_relu",
    "mish",
    "softplus",
    "selu",
    "hardswish",
    "tanh",
]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(torch, monkeypatch, name):
    """In the block and in its attention: every call is found."""
    import pytorch_impl.attention.se
    import pytorch_impl.block

    other = torch.tanh if name == "tanh" else getattr(functional(), name)
    for module in (pytorch_impl.block, pytorch_impl.attention.se):
        monkeypatch.setattr(module, "relu", marked("relu", other))
    found = planted_in_torch([], "eval", x=3 * images())
    hidden = [] if name == "relu6" else ["attention.relu"]  # nothing there comes to 6
    assert [finding.stage for finding in found.findings] == ["relu", *hidden, "output"], str(found)
    for finding in found.findings:
        explained(finding, "activation")
        assert name[:3] in finding.explanations[0].words.replace("leaky ", "lea").replace(
            "hard_", "har"
        )


def test_gates(torch, monkeypatch):
    import pytorch_impl.layers

    other = marked("sigmoid", lambda x: (0.2 * x + 0.5).clamp(0, 1))
    monkeypatch.setattr(pytorch_impl.layers, "sigmoid", other)
    found = planted_in_torch([], "eval")
    only(found, "attention.sigmoid", "activation")
    assert "hard_sigmoid (0.2 x + 0.5) instead of sigmoid" in str(found)


def test_a_missing_shortcut(torch):
    def nothing(model, path):
        model.shortcut[1].register_forward_hook(lambda layer, x, y: y * 0)

    found = planted_in_torch([(nothing, "shortcut.1")], "eval")
    assert found.first.stage == "shortcut.1"
    import pytorch_impl.block

    class Lonely(pytorch_impl.block.ResidualBlockWithAttention):
        def forward(self, x):
            y = self.attention(
                self.bn2(self.conv2(pytorch_impl.block.relu(self.bn1(self.conv1(x)))))
            )
            self.shortcut(x)
            return pytorch_impl.block.relu(y + 0)

    model = build(BLOCK, random_arrays(BLOCK), "torch")
    model.__class__ = Lonely
    found = trace({"theirs": model}, images(), modes=("eval",))
    only(found, "sum", "missing term")


def test_single_precision_in_a_double_model(torch):
    import torch as pytorch

    def single(layer, x):
        y = functional().conv2d(
            x.float(), layer.weight.float(), layer.bias.float(), layer.stride, layer.padding
        )
        return y.to(pytorch.float64)

    found = planted_in_torch([(forwarding(single), "conv1")], "eval", precision="float64")
    assert found.first.stage == "conv1"
    assert found.first.explanations[0].words == "computes in float32 instead of float64"


STATISTICS = {
    "momentum of Keras": (0.99, "decay 0.99 instead of 0.9"),
    "momentum for decay": (0.1, "momentum for decay: 0.1 is the part kept"),
    "another": (0.83, "decay 0.83 instead of 0.9"),
}


@pytest.mark.parametrize("mistake", STATISTICS)
def test_decay(torch, mistake):
    decay, words = STATISTICS[mistake]
    found = planted_in_torch([(attribute("momentum", 1 - decay), "bn1")], "train")
    assert [finding.stage for finding in found.findings] == ["bn1.running_mean", "bn1.running_var"]
    for finding in found.findings:
        explained(finding, "batch norm decay")
        assert words in finding.explanations[0].words


def test_biased_statistics(framework, monkeypatch):
    config = BlockConfig.from_dict({**BLOCK.to_dict(), "bn_decay": 0.8})
    model = build(config, random_arrays(config), framework)
    if framework == "torch":
        from shared_tests.test_sensitivity import _biased

        for bn in (model.bn1, model.bn2, model.shortcut[1]):
            bn.register_forward_hook(_biased)
    else:
        normalization = __import__(
            f"{LAYOUTS[framework].package}.normalization", fromlist=["unbias_variance"]
        )
        monkeypatch.setattr(normalization, "unbias_variance", lambda variance, n: variance)
    found = trace({"theirs": model}, images(), modes=("train",))
    assert [finding.stage for finding in found.findings] == [
        f"{bn}.running_var" for bn in ("bn1", "bn2", "shortcut.1")
    ]
    for finding in found.findings:
        explained(finding, "biased or unbiased variance")


def test_other_configs_in_every_framework(framework):
    """eps and decay of every batch norm, as another constructor's defaults would have them."""
    arrays = random_arrays(BLOCK)
    other = BlockConfig.from_dict({**BLOCK.to_dict(), "bn_eps": 1e-3, "bn_decay": 0.99})
    model = build(other, arrays, framework)
    found = trace({"theirs": model}, images(), config=BLOCK, arrays=arrays, modes=("train",))
    causes = {finding.stage: finding.explanations[0].cause for finding in found.findings}
    assert causes == {
        **dict.fromkeys(("bn1", "bn2", "shortcut.1"), "batch norm eps"),
        **{
            f"{bn}.{leaf}": "batch norm decay"
            for bn in ("bn1", "bn2", "shortcut.1")
            for leaf in ("running_mean", "running_var")
        },
    }


def test_a_gradient_alone(torch):
    """Forward agrees; going back, the gradient is another from a stage on."""

    def stopped(layer, x):
        return functional().conv2d(
            x.detach() + 0.5 * (x - x.detach()), layer.weight, layer.bias, 1, 1
        )

    found = planted_in_torch([(forwarding(stopped), "conv2")], "eval")
    assert [(finding.stage, finding.backward) for finding in found.findings] == [("relu", True)]
    assert found.first.agrees[0] == "conv2"
    assert "diverges at gradient of relu" in str(found)


# Models of a user's own


def torch_model(torch, config, arrays, eps=1e-5):
    """A block as somebody else would write it, behind a normalisation and in front of a head."""
    nn = torch.nn
    slope = config.stride[0]

    class Theirs(nn.Module):
        def __init__(self):
            super().__init__()
            c = config.out_channels
            self.body = nn.Sequential(
                nn.Conv2d(config.in_channels, c, 3, slope, 1), nn.BatchNorm2d(c, eps), nn.ReLU(),
                nn.Conv2d(c, c, 3, 1, 1), nn.BatchNorm2d(c, eps),
            )  # fmt: skip
            self.down = nn.Sequential(
                nn.Conv2d(config.in_channels, c, 1, slope), nn.BatchNorm2d(c, eps)
            )
            self.last = nn.ReLU()

        def forward(self, x):
            return self.last(self.body(x) + self.down(x))

    model = Theirs().eval()
    names = {
        "conv1": "body.0",
        "bn1": "body.1",
        "conv2": "body.3",
        "bn2": "body.4",
        "shortcut.0": "down.0",
        "shortcut.1": "down.1",
    }
    state = {
        f"{names[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": torch.tensor(array)
        for name, array in arrays.items()
    }
    model.load_state_dict(state, strict=False)
    return model, {**names, "output": "last"}


PLAIN = BlockConfig(4, 5, 3, 2, attention="none")
STAGES = ("conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1")


def test_a_model_of_ones_own(torch):
    arrays = random_arrays(PLAIN)
    model, stages = torch_model(torch, PLAIN, arrays)
    ours = build(PLAIN, arrays, "torch")
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN))
    assert found.ok, str(found)
    assert {row.tensor for row in found.rows if row.actual == "theirs"} >= {
        *stages,
        "bn1.running_var",
    }
    model, stages = torch_model(torch, PLAIN, arrays, eps=1e-3)
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN), modes=("eval",))
    assert {(finding.model, finding.stage) for finding in found.findings} == {
        ("theirs", "bn1"), ("theirs", "bn2"), ("theirs", "shortcut.1"),
    }  # fmt: skip
    # Where only some stages are known, the mistake is one of those between: here, in all that can
    # have it.
    few = {"conv1": "body.0", "output": "last"}
    found = trace({"ours": ours, "theirs": Mapped(model, few)}, images(PLAIN), modes=("eval",))
    only(found, "output", "batch norm eps")
    assert "in all of bn1, bn2, shortcut.1" in found.first.explanations[0].words


def in_place(torch, arrays, eps=1e-5):
    """The same as torchvision writes it: activations and the sum in place."""

    class BasicBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, _ = torch_model(torch, PLAIN, arrays, eps)
            self.relu, self.out = torch.nn.ReLU(inplace=True), torch.nn.ReLU(inplace=True)

        def forward(self, x):
            body = self.inner.body
            y = body[4](body[3](self.relu(body[1](body[0](x)))))
            y += self.inner.down(x)
            return self.out(y)

    model = BasicBlock().eval()
    paths = (
        "inner.body.0",
        "inner.body.1",
        "inner.body.3",
        "inner.body.4",
        "inner.down.0",
        "inner.down.1",
    )
    return model, {**dict(zip(STAGES, paths, strict=True)), "relu": "relu"}


def test_a_model_that_works_in_place(torch):
    arrays = random_arrays(PLAIN)
    model, stages = in_place(torch, arrays)
    x = images(PLAIN)
    ours = build(PLAIN, arrays, "torch")
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, x, modes=("eval",))
    assert [finding for finding in found.findings if not finding.backward] == [], str(found)
    model, stages = in_place(torch, arrays, 1e-3)
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, x, modes=("eval",))
    assert {finding.stage for finding in found.findings} == {"bn1", "bn2", "shortcut.1"}, str(found)
    for finding in found.findings:
        explained(finding, "batch norm eps")


def test_what_stands_in_front_is_not_judged(torch):
    """A prefix that keeps the shape of the image is noted, not blamed; ours get what it makes."""
    arrays = random_arrays(PLAIN)
    inner, stages = torch_model(torch, PLAIN, arrays)
    whole = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, 1, 1), inner)
    inside = {stage: f"1.{path}" for stage, path in stages.items()}
    found = trace(
        {"ours": build(PLAIN, arrays, "torch"), "theirs": Mapped(whole, inside)}, images(PLAIN)
    )
    assert found.ok, str(found)
    assert any(
        "theirs gives its first stage something else than the input" in note for note in found.notes
    )
    later = {name: path for name, path in stages.items() if name in ("bn1", "conv2", "output")}
    assert trace(
        {"theirs": Mapped(inner, later)},
        images(PLAIN),
        config=PLAIN,
        arrays=arrays,
        modes=("eval",),
    ).ok


def test_a_block_inside_a_model(torch):
    """It gets what the model computes in front of it, and so do ours."""
    arrays = random_arrays(PLAIN)
    inner, stages = torch_model(torch, PLAIN, arrays)
    inner.body[3].weight.data = inner.body[3].weight.data.flip(2, 3)
    whole = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5), torch.nn.Sequential(inner), torch.nn.Flatten()
    )
    inside = {stage: f"1.0.{path}" for stage, path in stages.items()}
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 11)).astype("f")
    models = {"ours": build(PLAIN, arrays, "torch"), "theirs": Mapped(whole, inside)}
    found = trace(models, x, modes=("eval",))
    only(found, "conv2", "flipped kernel")
    assert {row.actual for row in found.rows} == {"ours", "theirs"}


IMAGENET = (
    np.array([0.485, 0.456, 0.406])[:, None, None],
    np.array([0.229, 0.224, 0.225])[:, None, None],
)
IN_IMAGES = {
    "BGR": ("channel order of the image", "(BGR for RGB)", lambda x: x[:, [2, 1, 0]]),
    "ImageNet": (
        "normalisation of the image",
        "of ImageNet",
        lambda x: (x - IMAGENET[0]) / IMAGENET[1],
    ),
    "[-1, 1]": ("normalisation of the image", "from [0, 1] to [-1, 1]", lambda x: 2 * x - 1),
    "255": ("normalisation of the image", "divided by 255", lambda x: x / 255),
    "another": (
        "normalisation of the image",
        "scaled by (1.7, 1.7, 1.7)",
        lambda x: 1.7 * x + 0.25,
    ),
    "reshaped": (
        "layout flattening",
        "values read as",
        lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape),
    ),
}


# A scale of no usual kind cannot be found through a whole block.
@pytest.mark.parametrize(
    ("mistake", "seen"),
    [
        each
        for each in product(IN_IMAGES, ("input", "conv1", "output"))
        if each != ("another", "output")
    ],
)
def test_in_images(torch, mistake, seen):
    """Seen by what the first stage was given, by what it made of it, or by the output alone."""
    cause, words, how = IN_IMAGES[mistake]
    config = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 4})
    arrays = random_arrays(config)
    x = np.random.default_rng(0).uniform(0, 1, (3, 3, 8, 6)).astype("f")
    state, _, _ = reference.stages(config, arrays, how(x.astype(np.float64)), training=False)
    values = {name: stage.output.value.astype("f") for name, stage in state.stages.items()}
    theirs = {
        "input": Recording(values, received=how(x.astype(np.float64)).astype("f")),
        "conv1": Recording(values),
        "output": Recording({"output": values["output"]}),
    }[seen]
    found = trace({"theirs": theirs}, x, config=config, arrays=arrays, modes=("eval",))
    stages = [finding.stage for finding in found.findings]
    # Without knowing what it was given, both branches of the block show what is wrong with it.
    assert (
        stages == {"input": ["input"], "conv1": ["conv1", "shortcut.0"], "output": ["output"]}[seen]
    ), str(found)
    first = found.first.explanations[0]
    assert first.cause == cause or (
        (mistake, seen, first.cause) == ("BGR", "conv1", "permuted channels")
    ), str(found)
    assert words in " ".join(each.words for each in found.first.explanations)


def test_a_flax_model_of_ones_own(jax):
    from flax import nnx

    class Theirs(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.first = nnx.Conv(4, 5, (3, 3), (2, 2), padding="SAME", rngs=rngs)
            self.norms = nnx.List(
                [nnx.BatchNorm(5, epsilon=1e-5, momentum=0.9, rngs=rngs) for _ in range(3)]
            )
            self.second = nnx.Conv(5, 5, (3, 3), padding="SAME", rngs=rngs)
            self.down = nnx.Conv(4, 5, (1, 1), (2, 2), padding="VALID", rngs=rngs)

        def __call__(self, x):
            y = nnx.relu(self.norms[0](self.first(x)))
            return nnx.relu(self.norms[1](self.second(y)) + self.norms[2](self.down(x)))

    arrays = random_arrays(PLAIN)
    model = Theirs()
    paths = ("first", "norms.0", "second", "norms.1", "down", "norms.2")
    stages = dict(zip(STAGES, paths, strict=True))
    ours = build(PLAIN, arrays, "jax")
    for stage, path in stages.items():
        kind, _, number = path.partition(".")
        theirs = getattr(model, kind)[int(number)] if number else getattr(model, kind)
        held = (
            ours.shortcut.layers[int(stage[-1])]
            if stage.startswith("shortcut")
            else getattr(ours, stage)
        )
        for leaf in ("kernel", "bias", "scale", "mean", "var"):
            if hasattr(held, leaf):
                getattr(theirs, leaf)[...] = getattr(held, leaf)[...]
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN))
    assert {(f.model, f.mode, f.stage, f.explanations[0].cause) for f in found.findings} == {
        *(("theirs", mode, "conv1", "SAME padding") for mode in ("eval", "train")),
        *(
            ("theirs", "train", f"{bn}.running_var", "biased or unbiased variance")
            for bn in ("bn1", "bn2", "shortcut.1")
        ),
    }, str(found)


def test_a_keras_model_of_ones_own(keras):
    layers = keras.layers
    inputs = keras.Input((8, 6, 4))
    y = layers.Conv2D(5, 3, 2, padding="same", name="first")(inputs)
    y = layers.BatchNormalization(name="norm1")(y)
    y = layers.ReLU()(y)
    y = layers.Conv2D(5, 3, padding="same", name="second")(y)
    y = layers.BatchNormalization(name="norm2")(y)
    short = layers.BatchNormalization(epsilon=1e-5, name="norm3")(
        layers.Conv2D(5, 1, 2, name="down")(inputs)
    )
    model = keras.Model(inputs, layers.ReLU()(layers.Add(name="add")([y, short])))
    paths = ("first", "norm1", "second", "norm2", "down", "norm3", "add")
    stages = dict(zip((*STAGES, "sum"), paths, strict=True))
    arrays = random_arrays(PLAIN)
    ours = build(PLAIN, arrays, "tf")
    for stage, path in stages.items():
        if stage != "sum":
            held = (
                ours.shortcut.layers[int(stage[-1])]
                if stage.startswith("shortcut")
                else getattr(ours, stage)
            )
            model.get_layer(path).set_weights(
                [
                    np.array(weight.numpy() if hasattr(weight, "numpy") else weight)
                    for weight in held.get_weights()
                ]
            )
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN), modes=("eval",))
    assert [(finding.stage, finding.explanations[0].cause) for finding in found.findings] == [
        ("conv1", "SAME padding"), ("bn1", "batch norm eps"), ("bn2", "batch norm eps"),
    ], str(found)  # fmt: skip
    assert "eps 0.001 instead of 1e-05" in str(found)


# Outputs from elsewhere


@pytest.fixture(scope="module")
def posed():
    arrays = random_arrays(BLOCK)
    return arrays, images()


EVERYWHERE = {
    "eps": ({"eps": 1e-3}, "batch norm", "batch norm eps"),
    "train mode": ({"training": True}, "batch norm", "train or evaluation mode"),
    "SAME": ({"same": True}, "convolution", "SAME padding"),
    "TF32": ({"format": "TF32"}, "convolution", "reduced precision"),
    "silu": ({"activation": "silu"}, "relu", "activation"),
}


def made_wrongly(arrays, x, settings, kind, only_at=None):
    """The oracle's stages with settings of all stages of a kind, or of one, changed."""
    from resattn.tracing.causes import Step, compute

    def altered(stage):
        leaves = {
            n.rpartition(".")[2]: a.astype(float)
            for n, a in arrays.items()
            if n.rpartition(".")[0] == stage.module
        }
        step = Step(stage.kind, leaves, {**stage.settings, **settings})
        return compute(step, tuple(node.value for node in stage.inputs))

    plain, _, _ = reference.stages(BLOCK, arrays, x, training=False)
    sites = [
        name
        for name, stage in plain.stages.items()
        if stage.kind == kind and only_at in (None, name)
    ]
    state, _, _ = reference.stages(
        BLOCK, arrays, x, training=False, altered=dict.fromkeys(sites, altered)
    )
    return {name: stage.output.value.astype("f") for name, stage in state.stages.items()}


@pytest.mark.parametrize("mistake", EVERYWHERE)
def test_expected_outputs(torch, posed, mistake):
    """The output alone is enough, where the same mistake is made everywhere."""
    arrays, x = posed
    settings, kind, cause = EVERYWHERE[mistake]
    expected = {"output": made_wrongly(arrays, x, settings, kind)["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    assert [(finding.model, finding.stage) for finding in found.findings] == [
        ("expected", "output")
    ]
    assert found.first.explanations[0].cause == cause, str(found)
    assert "in all of" in found.first.explanations[0].words


def test_expected_outputs_of_one_wrong_stage(torch, posed):
    arrays, x = posed
    expected = {"output": made_wrongly(arrays, x, {"eps": 1e-2}, "batch norm", "bn2")["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    only(found, "output", "batch norm eps")
    assert found.first.explanations[0].words == "eps 0.01 instead of 1e-05, at bn2"


def test_expected_stages(torch, posed):
    """With more stages there is less to try, and the answer names the stage."""
    arrays, x = posed
    wrong = made_wrongly(arrays, x, {"eps": 1e-3}, "batch norm", "bn1")
    found = trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=x,
        expected={name: wrong[name] for name in ("conv1", "bn1", "output")},
    )
    only(found, "bn1", "batch norm eps")
    assert found.first.agrees[0] == "conv1"


def test_expected_two_mistakes(torch, posed):
    arrays, x = posed
    bgr = x[:, ::-1]
    expected = {"output": made_wrongly(arrays, bgr, {"eps": 1e-3}, "batch norm")["output"]}
    found = trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=expected)
    only(found, "output", "channel order of the image and batch norm eps")


def test_expected_that_agree_or_are_unexplained(torch, posed):
    arrays, x = posed
    right = made_wrongly(arrays, x, {}, "relu")["output"]
    for array in (right, np.moveaxis(right, 1, -1)):
        found = trace_frameworks(
            BLOCK, arrays, frameworks=("torch",), inputs=x, expected={"output": array}
        )
        assert found.ok, str(found)
    assert "its axes were taken as (batch row col channel)" in found.notes[-1]
    found = trace_frameworks(
        BLOCK,
        arrays,
        frameworks=("torch",),
        inputs=x,
        expected={"output": right + np.float32(0.01)},
    )
    only(found, "output")


# Errors and reports


def test_expected_that_do_not_fit(torch, posed):
    arrays, x = posed
    for outputs, message in (
        ({"bn9": x}, "there is no stage 'bn9'; the stages are conv1, bn1"),
        (
            {"output": x[..., 0, 0]},
            "expected: output: expected (3, 4, 4, 3) (batch channel row col), got (3, 4)",
        ),
        ({"output": x > 0}, "expected: output: expected an array of real numbers, got bool"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected=outputs)
    with pytest.raises(
        ValueError, match="expected: outputs are those of certain inputs; give these, too"
    ):
        trace_frameworks(BLOCK, arrays, frameworks=("torch",), expected={})
    with pytest.raises(ValueError, match="expected the output or stages by name, got none"):
        trace_frameworks(BLOCK, arrays, frameworks=("torch",), inputs=x, expected={})


def test_models_that_do_not_fit(torch, posed):
    arrays, x = posed
    model = build(BLOCK, arrays, "torch")

    def mapped(**stages):
        return {"a": model, "b": Mapped(model, stages)}

    for error, models, message in (
        (ValueError, {}, "expected at least one model and some of eval, train"),
        (
            ValueError,
            {"a": Recording({})},
            "none of them is ours, so config and arrays must say what they should be",
        ),
        (TypeError, {"a": torch.nn.ReLU()}, "expected a ResidualBlockWithAttention"),
        (
            TypeError,
            {"a": model, "b": Mapped(3, {})},
            "expected a PyTorch module, a Flax module or a Keras layer, got",
        ),
        (
            ValueError,
            mapped(bn1="bm1"),
            "stages: there is no 'bm1' in pytorch_impl.block.ResidualBlockWithAttention on the way",
        ),
        (
            ValueError,
            mapped(norm="bn1"),
            "stages: b: there is no stage 'norm'; the stages are input, conv1",
        ),
        (
            ValueError,
            mapped(bn1="bn1.weight"),
            "stages: 'bn1.weight' is Parameter, not a module that is called",
        ),
        (
            ValueError,
            mapped(bn1="bn1", bn2="bn1"),
            "stages: bn1 and bn2 are one module, 'bn1', so which of its calls",
        ),
        (ValueError, mapped(input="conv1"), "stages: b: the input is no stage; map conv1"),
        (ValueError, {"oracle": model}, "models: 'oracle' is what the report calls NumPy"),
        (
            ValueError,
            mapped(conv1="conv1", bn1="attention.fc1"),
            "b: bn1: expected (3, 4, 4, 3) (batch channel row col), got (3, 4, 1, 1): its stride, "
            "padding or channels",
        ),
    ):
        with pytest.raises(error, match=re.escape(message)):
            trace(models, x)
    with pytest.raises(ValueError, match=re.escape("and some of eval, train, got ['test']")):
        trace({"a": model}, x, modes=("test",))
    with pytest.raises(ValueError, match=re.escape("inputs: expected (batch, 4, height, width)")):
        trace({"a": model}, x[:, :2])


def test_reports_are_json_and_text(torch):
    found = found_in(
        "torch", IN_WEIGHTS["transposed"][2], IN_WEIGHTS["no offset"][2], modes=("eval", "train")
    )
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["ok"] is False
    assert [each["stage"] for each in plain["findings"]] == ["conv1", "shortcut.1"] * 2
    assert plain["findings"][0]["explanations"][0]["cause"] == "transposed kernel"
    text = str(found)
    assert text.count("reads the kernel's axes") == 1  # both modes in one
    assert "theirs, eval and train: diverges at conv1" in text
    marked = [line for line, kind in found.lines() if kind == "bad" and "<-" in line]
    assert [line.split()[0] for line in marked] == ["conv1", "shortcut.1"] * 2
    assert "diverges first" in marked[0]
    assert "first" not in marked[1]
    unclear = found_in("torch", changed("conv1.weight", lambda w: w * np.nan))
    json.dumps(unclear.to_dict(), allow_nan=False)


def test_long_reports_show_what_matters():
    from resattn.tracing.findings import Finding, Trace
    from weights import difference

    rows = [
        difference(
            np.ones(2),
            np.ones(2),
            tolerance=1,
            quantity="eval forward",
            tensor=f"s{n}",
            names=("m", "oracle"),
        )
        for n in range(100)
    ]
    finding = Finding("m", "eval", "s50", ("s49", 0.0), rows[50], "everywhere")
    lines = [line for line, _ in Trace("t", tuple(rows), (finding,)).lines()]
    assert sum(line.startswith("  s") for line in lines) < 15
    assert any(line.startswith("  s50 ") and "m diverges first" in line for line in lines)
    hidden = [int(line.split()[1]) for line in lines if line.startswith("  ... ")]
    assert sum(hidden) + sum(line.startswith("  s") for line in lines) == 101
    assert (
        sum(
            line.startswith("  s")
            for line, _ in Trace("t", tuple(rows), (finding,)).lines(every=True)
        )
        == 101
    )


def test_two_live_models(all_frameworks):
    """As in the issue: three models, one with another padding; the others agree."""
    arrays = random_arrays(BLOCK)
    models = {name: build(BLOCK, arrays, name) for name in all_frameworks}
    models["jax"].conv1.padding = "SAME"
    found = trace(models, images(), modes=("eval",))
    only(found, "conv1", "SAME padding")
    assert found.first.model == "jax"


def test_a_changed_copy_of_a_live_model(framework):
    """The first model says what the others should hold."""
    backend = Backend(framework, "cpu")
    model = backend.build(BLOCK, random_arrays(BLOCK))
    other = backend.build(BLOCK, random_arrays(BLOCK))
    arrays = copy.deepcopy(export(other))
    swapped("bn2.weight", "bn2.bias")(arrays)
    load(other, arrays)
    found = trace({"right": model, "wrong": other}, images(), modes=("eval",))
    only(found, "bn2", "gamma and beta swapped")
    assert found.first.model == "wrong"
    assert adapter(framework).is_training(other) is False
