"""Models of your own in PyTorch, Flax and Keras, and images that were prepared in other ways."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from resattn.checking.draws import random_arrays
from resattn.oracle import evaluation as reference
from resattn.tracing.trace import Mapped, trace
from shared_tests.trace_cases import PLAIN, check_explained, check_only, images, make_torch_model
from weights import BlockConfig
from weights.live import build
from weights.stages import Recording

STAGES = ("conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1")


def test_a_torch_model_of_your_own(torch):
    arrays = random_arrays(PLAIN)
    model, stages = make_torch_model(torch, PLAIN, arrays)
    ours = build(PLAIN, arrays, "torch")
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN))
    assert found.ok, str(found)
    assert {row.tensor for row in found.rows if row.actual == "theirs"} >= {
        *stages,
        "bn1.running_var",
    }
    model, stages = make_torch_model(torch, PLAIN, arrays, eps=1e-3)
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, images(PLAIN), modes=("eval",))
    assert {(finding.model, finding.stage) for finding in found.findings} == {
        ("theirs", "bn1"), ("theirs", "bn2"), ("theirs", "shortcut.1"),
    }  # fmt: skip
    # If only some stages are known, the mistake is in one between them: here, in all that can have
    # it.
    few = {"conv1": "body.0", "output": "last"}
    found = trace({"ours": ours, "theirs": Mapped(model, few)}, images(PLAIN), modes=("eval",))
    check_only(found, "output", "batch norm eps")
    assert "in all of bn1, bn2, shortcut.1" in found.first.explanations[0].words


def make_in_place_model(torch, arrays, eps=1e-5):
    """The same with activations and the sum in place, as in torchvision."""

    class BasicBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, _ = make_torch_model(torch, PLAIN, arrays, eps)
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
    model, stages = make_in_place_model(torch, arrays)
    x = images(PLAIN)
    ours = build(PLAIN, arrays, "torch")
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, x, modes=("eval",))
    assert [finding for finding in found.findings if not finding.backward] == [], str(found)
    model, stages = make_in_place_model(torch, arrays, 1e-3)
    found = trace({"ours": ours, "theirs": Mapped(model, stages)}, x, modes=("eval",))
    assert {finding.stage for finding in found.findings} == {"bn1", "bn2", "shortcut.1"}, str(found)
    for finding in found.findings:
        check_explained(finding, "batch norm eps")


def test_a_prefix_is_not_judged(torch):
    """A prefix that keeps the shape of the image is noted; our models get its output."""
    arrays = random_arrays(PLAIN)
    inner, stages = make_torch_model(torch, PLAIN, arrays)
    whole = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, 1, 1), inner)
    inside = {stage: f"1.{path}" for stage, path in stages.items()}
    found = trace(
        {"ours": build(PLAIN, arrays, "torch"), "theirs": Mapped(whole, inside)}, images(PLAIN)
    )
    assert found.ok, str(found)
    assert any("theirs changes its input before its first stage" in note for note in found.notes)
    later = {name: path for name, path in stages.items() if name in ("bn1", "conv2", "output")}
    assert trace(
        {"theirs": Mapped(inner, later)},
        images(PLAIN),
        config=PLAIN,
        arrays=arrays,
        modes=("eval",),
    ).ok


def test_a_block_inside_a_model(torch):
    """The block gets the output of the layers before it, and so do our models."""
    arrays = random_arrays(PLAIN)
    inner, stages = make_torch_model(torch, PLAIN, arrays)
    inner.body[3].weight.data = inner.body[3].weight.data.flip(2, 3)
    whole = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 5), torch.nn.Sequential(inner), torch.nn.Flatten()
    )
    inside = {stage: f"1.0.{path}" for stage, path in stages.items()}
    x = np.random.default_rng(0).normal(size=(2, 3, 12, 11)).astype("f")
    models = {"ours": build(PLAIN, arrays, "torch"), "theirs": Mapped(whole, inside)}
    found = trace(models, x, modes=("eval",))
    check_only(found, "conv2", "flipped kernel")
    assert {row.actual for row in found.rows} == {"ours", "theirs"}


IMAGENET = (
    np.array([0.485, 0.456, 0.406])[:, None, None],
    np.array([0.229, 0.224, 0.225])[:, None, None],
)
IN_IMAGES = {
    "BGR": ("channel order of the image", "(BGR instead of RGB)", lambda x: x[:, [2, 1, 0]]),
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
        "layout",
        "values are read as",
        lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape),
    ),
}


# An unusual scale cannot be found through a whole block.
@pytest.mark.parametrize(
    ("mistake", "seen"),
    [
        each
        for each in product(IN_IMAGES, ("input", "conv1", "output"))
        if each != ("another", "output")
    ],
)
def test_in_images(torch, mistake, seen):
    """Found from the input of the first stage, from its output, or from the last output alone."""
    cause, words, how = IN_IMAGES[mistake]
    config = BlockConfig(3, 5, 3, 2, attention_options={"hidden_channels": 4})
    arrays = random_arrays(config)
    x = np.random.default_rng(0).uniform(0, 1, (3, 3, 8, 6)).astype("f")
    state = reference.stages(config, arrays, how(x.astype(np.float64)), training=False)
    values = {
        name: stage.output.value.astype("f")
        for name, stage in state.stages.items()
        if name != "input"
    }
    theirs = {
        "input": Recording(values, received=how(x.astype(np.float64)).astype("f")),
        "conv1": Recording(values),
        "output": Recording({"output": values["output"]}),
    }[seen]
    found = trace({"theirs": theirs}, x, config=config, arrays=arrays, modes=("eval",))
    stages = [finding.stage for finding in found.findings]
    # If its input is unknown, both branches of the block differ.
    assert (
        stages == {"input": ["input"], "conv1": ["conv1", "shortcut.0"], "output": ["output"]}[seen]
    ), str(found)
    first = found.first.explanations[0]
    assert first.cause == cause or (
        (mistake, seen, first.cause) == ("BGR", "conv1", "permuted channels")
    ), str(found)
    assert words in " ".join(each.words for each in found.first.explanations)


def test_a_flax_model_of_your_own(jax):
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
    model.eval()
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


def test_a_keras_model_of_your_own(keras):
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
