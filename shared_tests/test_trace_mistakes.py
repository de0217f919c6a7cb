"""Mistakes in the weights and in the layers of a block, alone and several at once."""

from __future__ import annotations

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from resattn.tracing.trace import trace
from shared_tests.cases import marked_like
from shared_tests.trace_cases import (
    BLOCK,
    IN_WEIGHTS,
    change_array,
    check_explained,
    check_only,
    images,
    trace_changed,
)
from weights import BlockConfig
from weights.frameworks import FRAMEWORKS
from weights.live import build

# In the weights


@pytest.mark.parametrize("mistake", IN_WEIGHTS)
def test_in_weights(torch, mistake):
    stage, cause, change = IN_WEIGHTS[mistake]
    check_only(trace_changed("torch", change), stage, cause)


def test_several_at_once_in_every_framework(framework):
    """Mistakes at different stages are found separately, and two at one stage together."""
    names = ("transposed", "gamma and beta", "mirrored", "no bias in attention", "no offset")
    found = trace_changed(framework, *(IN_WEIGHTS[name][2] for name in names))
    assert [finding.stage for finding in found.findings] == [
        IN_WEIGHTS[name][0] for name in names
    ], str(found)
    for finding, name in zip(found.findings, names, strict=True):
        check_explained(finding, IN_WEIGHTS[name][1])
    both = trace_changed(
        framework,
        change_array("conv1.weight", lambda w: w.transpose(1, 0, 2, 3)),
        change_array("conv1.bias", np.zeros_like),
    )
    check_only(both, "conv1", "missing bias and transposed kernel")
    assert (
        "reads the kernel's axes (out in row col) as (in out row col)"
        in both.first.explanations[0].words
    )


def test_noise_in_a_kernel_is_unexplained(framework):
    def noisy(arrays):
        arrays["conv2.weight"] += (
            np.random.default_rng(0).normal(0, 1e-3, arrays["conv2.weight"].shape).astype("f")
        )

    found = trace_changed(framework, noisy)
    check_only(found, "conv2")
    assert "unexplained: no known cause computes this" in str(found)
    assert found.first.agrees[0] == "relu"


# Mistakes in what layers compute, planted in PyTorch, where layers are easy to replace


def plant_forward(model, path, forward):
    """Replaces what the layer at a path computes."""
    layer = model.get_submodule(path)
    layer.forward = lambda x: forward(layer, x)


def import_functional():
    from torch.nn import functional

    return functional


def pad_same(layer, x):
    f = import_functional()
    return f.conv2d(f.pad(x, (0, 1, 0, 1)), layer.weight, layer.bias, layer.stride)


def lower(form, outcome):
    def forward(layer, x):
        import torch

        from resattn.tracing.formats import round_to

        x, weight = (
            t + torch.tensor(round_to(t.detach().numpy(), form) - t.detach().numpy()).float()
            for t in (x, layer.weight)
        )
        y = import_functional().conv2d(x, weight, layer.bias, layer.stride, layer.padding)
        lost = torch.tensor(round_to(y.detach().numpy(), form), dtype=torch.float32) - y.detach()
        return y + lost if outcome else y

    return forward


def normalise_unbiased(layer, x):
    x = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), keepdim=True) + layer.eps).sqrt()
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def fix_mode(training):
    def forward(layer, x):
        f = import_functional()
        mean, variance = (None, None) if training else (layer.running_mean, layer.running_var)
        return f.batch_norm(x, mean, variance, layer.weight, layer.bias, training, 0.1, layer.eps)

    return forward


def plant_attribute(name, value):
    def plant(model, path):
        setattr(model.get_submodule(path), name, value)

    return plant


def plant_forwarding(forward):
    return lambda model, path: plant_forward(model, path, forward)


IN_LAYERS = {
    "SAME padding": ("conv1", "eval", "SAME padding", plant_forwarding(pad_same)),
    "eps of Keras": ("bn1", "eval", "batch norm eps", plant_attribute("eps", 1e-3)),
    "eps of none": ("bn2", "eval", "batch norm eps", plant_attribute("eps", 3.7e-4)),
    "eps in training": ("bn1", "train", "batch norm eps", plant_attribute("eps", 1e-2)),
    "train mode left on": (
        "bn2",
        "eval",
        "train or evaluation mode",
        plant_forwarding(fix_mode(True)),
    ),
    "evaluation mode left on": (
        "bn1",
        "train",
        "train or evaluation mode",
        plant_forwarding(fix_mode(False)),
    ),
    "unbiased variance": (
        "bn2",
        "train",
        "biased or unbiased variance",
        plant_forwarding(normalise_unbiased),
    ),
    "TF32": ("conv2", "eval", "reduced precision", plant_forwarding(lower("TF32", False))),
    "bfloat16": ("conv2", "eval", "reduced precision", plant_forwarding(lower("bfloat16", False))),
    "bfloat16 throughout": (
        "conv1",
        "eval",
        "reduced precision",
        plant_forwarding(lower("bfloat16", True)),
    ),
    "float16 throughout": (
        "conv2",
        "eval",
        "reduced precision",
        plant_forwarding(lower("float16", True)),
    ),
    "no kernel bias": ("conv1", "train", "missing bias", plant_attribute("bias", None)),
}


@pytest.mark.parametrize("mistake", IN_LAYERS)
def test_in_layers(torch, mistake):
    stage, mode, cause, plant = IN_LAYERS[mistake]
    found = trace_planted([(plant, stage)], mode)
    found = [finding for finding in found.findings if "running" not in finding.stage]
    assert [finding.stage for finding in found] == [stage]
    check_explained(found[0], cause)


def trace_planted(plants, mode, config=BLOCK, x=None, precision="float32"):
    arrays = random_arrays(config, precision)
    model = build(config, arrays, "torch")
    for plant, stage in plants:
        plant(model, stage)
    x = images(config).astype(precision) if x is None else x
    return trace({"theirs": model}, x, config=config, arrays=arrays, modes=(mode,))


def test_several_in_layers(torch):
    names = ("SAME padding", "eps of Keras", "TF32", "train mode left on")
    found = trace_planted([(IN_LAYERS[name][3], IN_LAYERS[name][0]) for name in names], "eval")
    assert [(finding.stage, finding.explanations[0].cause) for finding in found.findings] == [
        (IN_LAYERS[name][0], IN_LAYERS[name][2]) for name in names
    ]
    assert "only in the" not in found.findings[0].where  # at stride 2 SAME shifts the whole map


def test_it_says_where(torch):
    """At stride 1, wrong padding changes only the border."""

    def reflecting(layer, x):
        f = import_functional()
        return f.conv2d(f.pad(x, (1, 1, 1, 1), "reflect"), layer.weight, layer.bias)

    def deaf(layer, x):
        y = import_functional().conv2d(x, layer.weight, layer.bias, 1, 1)
        return y * (y.new_tensor([1, 1, 1.5, 1])[:, None, None])

    config = BlockConfig(4, 4, attention="none")
    found = trace_planted([(plant_forwarding(reflecting), "conv2")], "eval", config)
    check_only(found, "conv2", "padding mode")
    assert found.first.where == "only in the first row, last row, first column and last column"
    assert (
        trace_planted([(plant_forwarding(deaf), "conv1")], "eval", config).first.where
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
    """Every call is found, in the block and in its attention."""
    import pytorch_impl.attention.se
    import pytorch_impl.block

    other = torch.tanh if name == "tanh" else getattr(import_functional(), name)
    for module in (pytorch_impl.block, pytorch_impl.attention.se):
        monkeypatch.setattr(module, "relu", marked_like(module.relu, other))
    found = trace_planted([], "eval", x=3 * images())
    hidden = [] if name == "relu6" else ["attention.relu"]  # nothing there comes to 6
    assert [finding.stage for finding in found.findings] == ["relu", *hidden, "output"], str(found)
    for finding in found.findings:
        check_explained(finding, "activation")
        assert name[:3] in finding.explanations[0].words.replace("leaky ", "lea").replace(
            "hard_", "har"
        )


def test_gates(torch, monkeypatch):
    import pytorch_impl.layers

    other = marked_like(pytorch_impl.layers.sigmoid, lambda x: (0.2 * x + 0.5).clamp(0, 1))
    monkeypatch.setattr(pytorch_impl.layers, "sigmoid", other)
    found = trace_planted([], "eval")
    check_only(found, "attention.sigmoid", "activation")
    assert "hard_sigmoid (0.2 x + 0.5) instead of sigmoid" in str(found)


def test_a_missing_shortcut(torch):
    def nothing(model, path):
        model.shortcut[1].register_forward_hook(lambda layer, x, y: y * 0)

    found = trace_planted([(nothing, "shortcut.1")], "eval")
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
    check_only(found, "sum", "missing term")


def test_single_precision_in_a_double_model(torch):
    import torch as pytorch

    def single(layer, x):
        y = import_functional().conv2d(
            x.float(), layer.weight.float(), layer.bias.float(), layer.stride, layer.padding
        )
        return y.to(pytorch.float64)

    found = trace_planted([(plant_forwarding(single), "conv1")], "eval", precision="float64")
    assert found.first.stage == "conv1"
    assert found.first.explanations[0].words == "computes in float32 instead of float64"


STATISTICS = {
    "momentum of Keras": (0.99, "decay 0.99 instead of 0.9"),
    "momentum for decay": (0.1, "(1 - decay: momentum and decay are confused)"),
    "another": (0.83, "decay 0.83 instead of 0.9"),
}


@pytest.mark.parametrize("mistake", STATISTICS)
def test_decay(torch, mistake):
    decay, words = STATISTICS[mistake]
    found = trace_planted([(plant_attribute("momentum", 1 - decay), "bn1")], "train")
    assert [finding.stage for finding in found.findings] == ["bn1.running_mean", "bn1.running_var"]
    for finding in found.findings:
        check_explained(finding, "batch norm decay")
        assert words in finding.explanations[0].words


def test_biased_statistics(framework, monkeypatch):
    config = BlockConfig.from_dict({**BLOCK.to_dict(), "bn_decay": 0.8})
    model = build(config, random_arrays(config), framework)
    if framework == "torch":
        from shared_tests.test_sensitivity import keep_biased_variance

        for bn in (model.bn1, model.bn2, model.shortcut[1]):
            bn.register_forward_hook(keep_biased_variance)
    else:
        normalization = __import__(
            f"{FRAMEWORKS[framework].package}.normalization", fromlist=["unbias_variance"]
        )
        monkeypatch.setattr(normalization, "unbias_variance", lambda variance, n: variance)
    found = trace({"theirs": model}, images(), modes=("train",))
    assert [finding.stage for finding in found.findings] == [
        f"{bn}.running_var" for bn in ("bn1", "bn2", "shortcut.1")
    ]
    for finding in found.findings:
        check_explained(finding, "biased or unbiased variance")


def test_other_configs_in_every_framework(framework):
    """The eps and decay that another constructor has by default, in every batch norm."""
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
    """The forward pass agrees, and the gradient differs from one stage backwards."""

    def stopped(layer, x):
        return import_functional().conv2d(
            x.detach() + 0.5 * (x - x.detach()), layer.weight, layer.bias, 1, 1
        )

    found = trace_planted([(plant_forwarding(stopped), "conv2")], "eval")
    assert [(finding.stage, finding.backward) for finding in found.findings] == [("relu", True)]
    assert found.first.agrees[0] == "conv2"
    assert "diverges at gradient of relu" in str(found)
