"""What people write in each framework is read as the same operations, and what cannot be read is
refused in one sentence.
"""

from __future__ import annotations

import warnings
from collections import Counter
from importlib import import_module

import numpy as np
import pytest

from resattn.benchmarks.libraries import import_library
from resattn.reading.form import label_of, size_of
from resattn.reading.models import read_model
from weights.errors import ModelError

SIZE = (12, 10)


def read_torch(torch, *layers, after=lambda x: x):
    """The steps of layers, and of a function, that follow a convolution of 8 channels."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.layers = torch.nn.Sequential(*layers)

        def forward(self, x):
            return after(self.layers(self.conv(x)))

    return read_model(Net(), SIZE).steps[2:]


def read_keras(keras, *layers):
    image = keras.Input((*SIZE, 3))
    y = keras.layers.Conv2D(8, 3, padding="same")(image)
    for layer in layers:
        y = layer(y)
    return read_model(keras.Model(image, y)).steps[2:]


def read_flax(jax, layer):
    nnx = import_module("flax.nnx")

    class Net(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 8, (3, 3), rngs=nnx.Rngs(0))
            self.layer = layer

        def __call__(self, x):
            return self.layer(self.conv(x))

    return read_model(Net(), SIZE).steps[2:]


def describe_norm(steps):
    (step,) = steps
    eps = step.settings["eps"]
    assert eps == pytest.approx(1e-4, rel=1e-3)
    return step.op, step.settings.get("groups"), set(step.roles)


ROLES = {
    (True, True): {"weight", "bias"},
    (True, False): {"weight"},
    (False, True): {"bias"},
    (False, False): set(),
}


@pytest.mark.parametrize(("scale", "center"), [*ROLES])
def test_norms_of_keras(keras, scale, center):
    roles, options = ROLES[scale, center], {"scale": scale, "center": center, "epsilon": 1e-4}
    plain = not (scale or center)
    layers = keras.layers
    found = describe_norm(read_keras(keras, layers.GroupNormalization(4, **options)))
    assert found == ("standardised" if plain else "group_norm", 4, roles)
    found = describe_norm(read_keras(keras, layers.LayerNormalization(**options)))
    assert found == ("standardised" if plain else "layer_norm", None, roles)
    found = describe_norm(read_keras(keras, layers.BatchNormalization(**options)))
    assert found == ("batch_norm", None, roles | {"mean", "variance"})


@pytest.mark.parametrize(("scale", "center"), [*ROLES])
@pytest.mark.parametrize("fast", [True, False])
def test_norms_of_flax(jax, scale, center, fast):
    from flax import nnx

    options = {"use_scale": scale, "use_bias": center, "epsilon": 1e-4, "rngs": nnx.Rngs(0)}
    roles, plain = ROLES[scale, center], not (scale or center)
    group = nnx.GroupNorm(8, num_groups=4, use_fast_variance=fast, **options)
    found = describe_norm(read_flax(jax, group))
    assert found == ("standardised" if plain else "group_norm", 4, roles)
    layer = nnx.LayerNorm(8, use_fast_variance=fast, **options)
    found = describe_norm(read_flax(jax, layer))
    assert found == ("standardised" if plain else "layer_norm", None, roles)
    found = describe_norm(read_flax(jax, nnx.BatchNorm(8, **options)))
    assert found == ("batch_norm", None, roles | {"mean", "variance"})


def test_norms_of_pytorch(torch):
    nn = torch.nn
    both = {"weight", "bias"}
    assert describe_norm(read_torch(torch, nn.GroupNorm(4, 8, 1e-4))) == ("group_norm", 4, both)
    found = read_torch(torch, nn.InstanceNorm2d(8, 1e-4, affine=True))
    assert describe_norm(found) == ("group_norm", 8, both)
    plain = read_torch(torch, nn.InstanceNorm2d(8, 1e-4))
    assert describe_norm(plain) == ("standardised", 8, set())
    found = read_torch(torch, nn.LayerNorm([8, *SIZE], 1e-4))
    assert describe_norm(found) == ("layer_norm", None, both)


def test_another_norm_is_none(torch):
    """Twice the deviation is not standardised."""
    steps = read_torch(
        torch, after=lambda x: (x - x.mean(1, True)) / (2 * x.var(1, False, True) + 1e-4).sqrt()
    )
    assert "standardised" not in [step.op for step in steps]


def test_prelu(torch, jax, keras):
    layers = keras.layers
    found = [
        read_torch(torch, torch.nn.PReLU()),
        read_flax(jax, import_module("flax.nnx").PReLU()),
        read_keras(keras, layers.PReLU(shared_axes=[1, 2])),
    ]
    for (step,) in found:
        assert (step.op, set(step.roles)) == ("prelu", {"weight"})


@pytest.mark.parametrize("factor", [0.1, 0.3])
def test_leaky_relu(torch, jax, keras, factor):
    found = [
        read_torch(torch, torch.nn.LeakyReLU(factor)),
        read_torch(torch, after=lambda x: torch.maximum(x, factor * x)),
        read_flax(jax, lambda x: jax.nn.leaky_relu(x, factor)),
        read_keras(keras, keras.layers.LeakyReLU(factor)),
    ]
    for (step,) in found:
        assert step.op == "leaky_relu"
        assert step.settings["factor"] == pytest.approx(factor)


def test_resizing_by_nearest_neighbour(torch, jax, keras):
    interpolate = torch.nn.functional.interpolate
    shape = (2, 24, 20, 8)
    found = [
        read_torch(torch, torch.nn.Upsample(scale_factor=2)),
        read_torch(torch, after=lambda x: interpolate(x, size=(24, 20))),
        read_torch(torch, after=lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, -1)),
        read_flax(jax, lambda x: jax.image.resize(x, shape, "nearest")),
        read_flax(jax, lambda x: jax.numpy.repeat(jax.numpy.repeat(x, 2, 1), 2, 2)),
        read_keras(keras, keras.layers.UpSampling2D(2)),
    ]
    for steps in found:
        assert [step.op for step in steps] == ["nearest"]
        sizes = {label_of(axis): size_of(axis) for axis in steps[-1].axes}
        assert sizes == {"batch": 2, "channels": 8, "rows": 24, "cols": 20}


@pytest.mark.parametrize(
    "average",
    [
        lambda x: x.mean([2, 3]),
        lambda x: x.mean((-1, -2), keepdim=True),
        lambda x: x.flatten(2).mean(2),
        lambda x: x.view(2, 8, -1).mean(-1),
        lambda x: x.sum((2, 3)) / 120,
        lambda x: import_module("torch").nn.functional.adaptive_avg_pool2d(x, 1),
        lambda x: import_module("torch").nn.functional.avg_pool2d(x, x.shape[2:]),
    ],
)
def test_averages(torch, average):
    (step,) = read_torch(torch, after=average)
    assert step.kind == "average over cols, rows"


def test_einsum(torch, jax):
    steps = read_torch(torch, after=lambda x: torch.einsum("bchw,bdhw->bcd", x, x))
    assert [step.op for step in steps] == ["matrix_product"]
    steps = read_flax(jax, lambda x: jax.numpy.einsum("bhwc,bhwd->bcd", x, x))
    assert [step.op for step in steps] == ["matrix_product"]
    steps = read_torch(
        torch, make_mixing(torch), after=lambda x: torch.einsum("bchw,bc->bchw", x, x.mean((2, 3)))
    )
    assert [step.op for step in steps] == ["linear", "average", "product"]


def make_mixing(torch):
    """A linear layer along channels, by einsum."""

    class Mixing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4, 8))

        def forward(self, x):
            return torch.einsum("bchw,dc->bdhw", x, self.weight)

    return Mixing()


def test_standardised_kernels(torch):
    class Standardised(torch.nn.Conv2d):
        def forward(self, x):
            w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            w = w / (w.std((1, 2, 3), keepdim=True) + 1e-5)
            return torch.nn.functional.conv2d(x, w, self.bias)

    (step,) = read_torch(torch, Standardised(8, 8, 3))
    assert step.settings["kernel"] == "standardised"
    assert "kernel standardised" in step.kind
    assert set(step.roles) == {"weight", "bias"}
    (plain,) = read_torch(torch, torch.nn.Conv2d(8, 8, 3))
    assert "kernel" not in plain.settings


def test_edges(torch, jax, keras):
    """A reflected edge belongs to the pooling; a repeated edge is none of zeros."""
    pool = torch.nn.AvgPool2d(3, 2)
    (step,) = read_torch(torch, torch.nn.ReflectionPad2d(1), pool)
    assert "padded with the image reflected" in step.kind
    (step,) = read_torch(torch, torch.nn.ReplicationPad2d(1), pool)
    assert "padded with the edge repeated" in step.kind
    edges = ((0, 0), (1, 1), (2, 2), (0, 0))
    (step,) = read_flax(
        jax, lambda x: import_module("flax.nnx").avg_pool(
            jax.numpy.pad(x, edges, mode="reflect"), (3, 3), (2, 2)
        )
    )  # fmt: skip
    assert "padding 1x2, padded with the image reflected" in step.kind


def test_groups_of_keras(keras):
    for strides in (1, (2, 1)):
        convolution = keras.layers.Conv2D(8, 3, strides, padding="same", groups=4)
        (step,) = read_keras(keras, convolution)
        assert (step.op, step.settings["groups"]) == ("convolution", 4)
        assert set(step.roles) == {"weight", "bias"}


def test_names_after_an_unknown_operation(torch):
    steps = read_torch(torch, after=lambda x: torch.cumsum(x, 2).mean((2, 3)))
    assert [step.op for step in steps] == ["unknown", "average"]
    steps = read_torch(torch, torch.nn.PixelShuffle(2), after=lambda x: x.mean((2, 3)))
    assert steps[-1].kind == "average over cols, rows"
    steps = read_torch(torch, after=lambda x: torch.median(x, 1)[0].mean(1))
    assert steps[-1].kind == "average over rows"


def test_shared_modules(torch):
    """A module that is called twice has its parameters both times."""
    shared = torch.nn.Conv2d(8, 8, 1)
    steps = read_torch(torch, shared, torch.nn.ReLU(), shared)
    assert [step.op for step in steps] == ["convolution", "relu", "convolution"]
    assert steps[0].roles == steps[2].roles


# Networks: convolutions, norms, sums
ZOO = {
    ("timm", "resnet18"): (20, 20, 8),
    ("timm", "resnet26d"): (31, 31, 8),
    ("timm", "resnetblur18"): (20, 20, 8),
    ("timm", "resnext26ts"): (31, 31, 8),
    ("timm", "ecaresnet26t"): (39, 31, 8),
    ("timm", "skresnet18"): (44, 36, 8),
    ("timm", "seresnet18"): (36, 20, 8),
    ("timm", "gcresnext26ts"): (55, 39, 16),
    ("timm", "resnetv2_18"): (21, 17, 8),
    ("timm", "resnetv2_50d_gn"): (56, 51, 16),
    ("torchvision", "resnet18"): (20, 20, 8),
    ("keras", "ResNet50"): (53, 53, 16),
    ("keras", "ResNet50V2"): (53, 49, 16),
}


@pytest.mark.parametrize(("library", "name"), [*ZOO])
def test_networks_of_libraries(library, name, request):
    if library == "keras":
        keras = request.getfixturevalue("keras")
        model, size = getattr(keras.applications, name)(weights=None), None
    else:
        request.getfixturevalue("torch")
        found = import_library(library)
        make = found.create_model if library == "timm" else found.models.get_model
        model, size = make(name), (64, 64)
    read = read_model(model, size)
    assert read.failure is None
    counts = Counter(step.op for step in read.steps)
    assert counts["unknown"] == 0
    norms = counts["batch_norm"] + counts["group_norm"] + counts["layer_norm"]
    convolutions = counts["convolution"] + counts["depthwise convolution"]
    assert (convolutions, norms, counts["sum"]) == ZOO[library, name]


# What cannot be read


def make_torch_model(torch, forward=None):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 1)

    if forward is not None:
        Own.forward = forward
    return Own()


def test_several_outputs_are_refused(torch, jax, keras):
    pair = make_torch_model(torch, lambda self, x: (self.conv(x), x))
    with pytest.raises(ModelError, match="gives 2 arrays, expected one; wrap it in a module"):
        read_model(pair, SIZE)
    nothing = make_torch_model(torch, lambda self, x: None)
    with pytest.raises(ModelError, match="gives no arrays, expected one"):
        read_model(nothing, SIZE)
    with pytest.raises(ModelError, match="gives 2 arrays, expected one"):
        read_flax(jax, lambda x: {"one": x, "other": 2 * x})
    image = keras.Input((*SIZE, 3))
    y = keras.layers.Conv2D(4, 1)(image)
    with pytest.raises(ModelError, match="gives 2 arrays, expected one"):
        read_model(keras.Model(image, [y, keras.layers.ReLU()(y)]))


def test_models_without_code_are_refused(torch, jax, keras):
    with pytest.raises(ModelError, match="Own: has no forward of its own"):
        read_model(make_torch_model(torch), SIZE)
    nnx = import_module("flax.nnx")

    class Silent(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0))

    with pytest.raises(ModelError, match="Silent: has no __call__ of its own"):
        read_model(Silent(), SIZE)
    with pytest.raises(ModelError, match="Layer: has no call of its own"):
        read_model(keras.layers.Layer(), SIZE)


def test_a_layer_that_was_never_called_is_refused(torch, keras):
    with pytest.raises(ModelError, match="Conv2D: was never called, so it has no variables"):
        read_model(keras.layers.Conv2D(4, 1), SIZE)
    with pytest.raises(ModelError, match="lazy modules that were never called; call it once"):
        read_model(torch.nn.LazyConv2d(4, 1), SIZE)


def test_scripted_models_and_those_on_meta_are_refused(torch):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU())
    with warnings.catch_warnings(action="ignore"):  # it is deprecated, but people have them
        traced = torch.jit.trace(model, torch.zeros(1, 3, 4, 4))
    with pytest.raises(ModelError, match=r"holds a scripted or traced module \(torch.jit\)"):
        read_model(traced, SIZE)
    with pytest.raises(ModelError, match=r"is on the meta device.*to_empty"):
        read_model(model.to("meta"), SIZE)


def test_wrapped_models_are_read_without_their_wrapper(torch):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU())
    for wrapped in (torch.compile(model), torch.nn.DataParallel(model)):
        found = read_model(wrapped, SIZE)
        assert [step.op for step in found.steps] == ["image", "convolution", "relu"]
        assert found.steps[1].module == "0"
        assert found.title == "Sequential"


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_precisions(torch, dtype):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    found = read_model(model.to(getattr(torch, dtype)), SIZE)
    assert [step.op for step in found.steps] == ["image", "convolution", "batch_norm"]


def test_a_flax_model_in_training_is_read_in_evaluation(jax):
    from flax import nnx

    model = nnx.Sequential(
        nnx.Conv(3, 4, (1, 1), rngs=nnx.Rngs(0)), nnx.BatchNorm(4, rngs=nnx.Rngs(0))
    )
    model.train()
    found = read_model(model, SIZE)
    assert [step.op for step in found.steps] == ["image", "convolution", "batch_norm"]
    assert not model.layers[1].use_running_average


def test_errors_of_the_users_own_code_are_raised_as_they_are(torch):
    def forward(self, x):
        return self.conv(x) + missing  # noqa: F821

    with pytest.raises(NameError, match="name 'missing' is not defined"):
        read_model(make_torch_model(torch, forward), SIZE)


def test_arrays_of_halves_are_numbers(torch):
    model = torch.nn.Conv2d(3, 4, 1).to(torch.bfloat16)
    assert np.isfinite(read_model(model, SIZE).arrays["weight"].astype("float32")).all()
