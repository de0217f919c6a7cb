"""Models that no images of any size can be read of: the message says why, not that the size is."""

from __future__ import annotations

import pytest

from resattn import read_model
from weights.errors import ModelError

BRANCHES = "branches on values of the image, .*which a graph cannot show"
TWO = "takes 2 inputs, expected one batch of images; wrap it in a module"


@pytest.mark.parametrize(
    "condition",
    [
        lambda x: x.mean() > 0,
        lambda x: (x > 0).any(),
        lambda x: x.mean().item() > 0,
        lambda x: int(x.sum()) > 3,
        lambda x: float(x.mean()) > 0,
    ],
)
def test_a_branch_on_values(torch, condition):
    class Branches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x) if condition(x) else x

    with pytest.raises(ModelError, match=f"Branches: its forward {BRANCHES}"):
        read_model(Branches())


def test_a_branch_on_the_shape_is_read(torch):
    class Shape(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x):
            return self.conv(x) if x.shape[-1] > 3 else x

    assert read_model(Shape(), (8, 8)).failure is None


def test_two_inputs_of_a_torch_module(torch):
    class Pair(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x, y):
            return self.conv(x) + self.conv(y)

    with pytest.raises(ModelError, match=f"Pair: {TWO}"):
        read_model(Pair(), (8, 8))


def test_two_inputs_of_a_flax_module(jax):
    from flax import nnx

    class Pair(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))

        def __call__(self, x, y):
            return self.conv(x) + self.conv(y)

    with pytest.raises(ModelError, match=f"Pair: {TWO}"):
        read_model(Pair(), (8, 8))


def test_two_inputs_of_a_keras_model(keras):
    one, other = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    model = keras.Model([one, other], keras.layers.Conv2D(4, 3)(one + other), name="pair")
    with pytest.raises(ModelError, match=f"pair: {TWO}"):
        read_model(model)


def test_another_failure_still_names_the_size(torch):
    class Fails(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)

        def forward(self, x):
            raise RuntimeError("not for these")

    said = r"cannot be read with images of 8 x 8 x 3 .*--size.* \(--channels\): not for these"
    with pytest.raises(ModelError, match=said):
        read_model(Fails(), (8, 8))
