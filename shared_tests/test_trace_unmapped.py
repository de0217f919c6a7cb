"""A trace of models of a user's own needs no mapping."""

from __future__ import annotations

import numpy as np
import pytest

from resattn import Mapped, map_model, read_model, recognise_model, trace
from resattn.recognition.endings import leave_out_activations
from resattn.recognition.proof import prove_recognition
from shared_tests.handmade_cases import make_net, make_sketch, scramble
from weights.errors import ModelError
from weights.live import adapter


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def in_evaluation(framework, model):
    if framework != "tf":
        model.eval()
    return model


@pytest.fixture
def sketch(framework):
    return in_evaluation(framework, make_sketch(framework, 2, 1))


def test_one_model(framework, sketch):
    """It is compared with the oracle of what it was taken for, with its own weights."""
    found = trace({"mine": sketch}, images(2, 32, 12, 10), modes=("eval",))
    assert found.ok
    compared = {row.tensor for row in found.rows}
    assert {"conv1", "bn1", "conv2", "bn2", "shortcut.0", "shortcut.1", "output"} <= compared
    (note,) = [note for note in found.notes if note.startswith("mine:")]
    assert "is a residual block, 32 to 64 channels, kernel 3x3, stride 2, attention se" in note


def test_beside_one_of_ours(framework, sketch):
    """With the weights that ours has, the first stage that differs is named."""
    recognition = recognise_model(read_model(sketch, (12, 10)))
    ours = adapter(framework).create(recognition.config, dtype="float32")
    adapter(framework).set_training(ours, False)
    other = {name: array.copy() for name, array in recognition.arrays.items()}
    other["bn2.running_var"] = other["bn2.running_var"][::-1].copy()
    from weights import load

    load(ours, other)
    found = trace({"ours": ours, "mine": sketch}, images(2, 32, 12, 10), modes=("eval",))
    assert not found.ok
    assert found.first is not None
    assert (found.first.model, found.first.stage) == ("mine", "bn2")


def test_several_frameworks(all_frameworks):
    """The same sketch in three frameworks, with three sets of weights: each is itself."""
    models = {name: in_evaluation(name, make_sketch(name, 2, 1)) for name in sorted(all_frameworks)}
    found = trace(models, images(2, 32, 12, 10), modes=("eval",))
    first, *others = models
    assert {finding.model for finding in found.findings} == set(others), "they have other weights"
    assert sum(first in note for note in found.notes) == 1


def test_a_model_with_a_mistake_is_refused_in_words(torch):
    sketch = make_sketch("torch", 1)
    sketch.norm_b.eps = 1e-3
    config = recognise_model(read_model(make_sketch("torch", 1))).config
    ours = adapter("torch").create(config, dtype="float32")
    with pytest.raises(ModelError, match=r"norm_b .*eps 0.001, ours 1e-05"):
        trace({"ours": ours, "mine": sketch}, images(2, 32, 8, 8))


def test_a_network(framework):
    net = in_evaluation(framework, make_net(framework))
    found = trace({"net": net}, images(2, 3, 20, 18), modes=("eval",))
    assert found.ok
    compared = {row.tensor for row in found.rows}
    assert {"stages.0.0", "stages.1.0.attention", "classifier"} <= compared


def test_a_softmax_at_the_end_is_left_out(keras):
    """The activation of Keras' last layer, which belongs to no stage, and is restored."""
    net = make_net("tf")
    logits = net.layers[-1]
    logits.activation = keras.activations.softmax
    softmaxed = keras.Model(net.input, logits(net.layers[-2].output))
    recognition = recognise_model(read_model(softmaxed, (20, 18)))
    mapped = map_model(softmaxed, recognition)
    assert mapped.bare == (logits.name,)
    x = images(2, 3, 20, 18)
    assert trace({"net": softmaxed}, x, modes=("eval",)).ok
    assert prove_recognition(recognition, softmaxed, inputs=x).ok
    assert logits.activation is keras.activations.softmax
    with leave_out_activations(softmaxed, mapped.bare):
        assert logits.activation is keras.activations.linear
    assert logits.activation is keras.activations.softmax


def test_a_function_at_the_end_cannot_be_left_out(torch):
    class Doubled(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = make_net("torch")
            self.net.head = torch.nn.Identity()
            self.weight = torch.nn.Parameter(torch.randn(10, 64))

        def forward(self, x):
            return torch.softmax(torch.nn.functional.linear(self.net(x), self.weight), 1)

    found = recognise_model(read_model(Doubled(), (20, 18)))
    if found.config is not None:
        with pytest.raises(ModelError, match="is the output of no module, so what the model"):
            map_model(Doubled(), found)


def test_a_mapping_stays_possible(torch):
    sketch = make_sketch("torch", 1).eval()
    recognition = recognise_model(read_model(sketch, (8, 8)))
    stages = {"conv1": "conv_a", "bn1": "norm_a", "conv2": "conv_b"}
    target = {"config": recognition.config, "arrays": recognition.arrays}
    found = trace({"mine": Mapped(sketch, stages)}, images(2, 32, 8, 8), modes=("eval",), **target)
    assert found.ok
    scramble("torch", sketch, seed=1)
    found = trace({"mine": Mapped(sketch, stages)}, images(2, 32, 8, 8), modes=("eval",), **target)
    assert found.first is not None
    assert found.first.stage == "conv1"


def test_two_stages_whose_names_are_numbered(keras):
    """Two relus of a block are "relu" and "relu 2". Each is called once."""
    from weights.errors import ArgumentError

    image = keras.Input((8, 8, 3))
    first, second, twice = (keras.layers.ReLU(name=name) for name in ("one", "two", "twice"))
    y = second(first(keras.layers.Conv2D(4, 1, name="conv1")(image)))
    model = keras.Model(image, twice(twice(y)))
    from tf_impl.bridge.recorder import trace as record

    x = images(2, 3, 8, 8)
    settings = {"training": False, "last": "output"}
    stages = {"relu": "one", "relu 2": "two"}
    found = record(model, x, lambda shape: np.ones(shape, "float32"), stages=stages, **settings)
    assert set(stages) < set(found.values)
    with pytest.raises(ArgumentError, match="calls the module of relu more than once"):
        record(model, x, np.ones, stages={"relu": "twice"}, **settings)
