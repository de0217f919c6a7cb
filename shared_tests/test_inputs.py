"""Images that a model cannot use: the same words in all three frameworks."""

from importlib import import_module

import ml_dtypes
import numpy as np
import pytest

from resattn.checking.crosscheck import crosscheck
from resattn.checking.draws import random_arrays
from weights import BlockConfig, NetworkConfig
from weights.checks import IMAGE_FORMATS
from weights.config import BottleneckConfig
from weights.errors import ArgumentError
from weights.live import build

MODELS = {
    "block": BlockConfig(4, 6, stride=2),
    "bottleneck": BottleneckConfig(4, 8),
    "variant": BlockConfig(4, 6, relu_before_attention=True),
    "network": NetworkConfig(4, 3, widths=(4, 8), depths=(1, 1)),
}
FOREIGN = ("int64", "int32", "uint8", "bool", "complex64", "float8_e4m3fn", "float8_e5m2")


@pytest.fixture(scope="module", params=MODELS)
def config(request):
    return MODELS[request.param]


def images(framework: str, shape: tuple[int, ...], dtype: str):
    """Ones of a canonical shape in the framework's own order and type."""
    batch, channels, *sides = shape
    if framework == "torch":
        torch = import_module("torch")
        return torch.ones(shape, dtype=getattr(torch, dtype))
    array = np.ones((batch, *sides, channels), getattr(ml_dtypes, dtype, dtype))
    if framework == "jax":
        return import_module("jax.numpy").asarray(array)
    return import_module("keras").ops.convert_to_tensor(array)


def call(framework: str, config, shape: tuple[int, ...], dtype: str):
    """The output of a new model, in evaluation mode, and of its features where it has any."""
    model = build(config, random_arrays(config), framework)
    x = images(framework, shape, dtype)
    if isinstance(config, NetworkConfig):
        with pytest.raises(ArgumentError):
            model.features(x)
    return model(x)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((0, 4, 9, 8), "batch 0, height 9, width 8"),
        ((2, 4, 0, 8), "batch 2, height 0, width 8"),
        ((2, 4, 9, 0), "batch 2, height 9, width 0"),
    ],
)
def test_images_without_pixels(framework, config, shape, found):
    expected = f"input: expected one image or more, of one pixel or more, got {found}"
    with pytest.raises(ArgumentError) as caught:
        call(framework, config, shape, "float32")
    assert expected in str(caught.value)


@pytest.mark.parametrize("dtype", FOREIGN)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_images_in_other_dtypes(framework, config, dtype):
    if framework == "tf" and dtype.startswith("float8"):
        return  # see the test below
    if framework == "jax" and dtype == "int64":
        dtype = "int32"  # JAX has no others unless it is set up for them
    with pytest.raises(ArgumentError) as caught:
        call(framework, config, (2, 4, 9, 8), dtype)
    expected = "input: expected images in bfloat16, float16, float32 or float64, got "
    assert f"{expected}{dtype}; convert them first" in str(caught.value)


@pytest.mark.parametrize("dtype", IMAGE_FORMATS)
def test_every_format_of_a_model_takes_images_in_it(framework, dtype):
    if dtype == "float64" and framework == "jax":
        pytest.skip("JAX is not set up for float64 here")
    config = MODELS["block"]
    model = build(
        config, {name: each.astype(getattr(ml_dtypes, dtype, dtype))
                 for name, each in random_arrays(config).items()}, framework
    )  # fmt: skip
    assert model(images(framework, (2, 4, 9, 8), dtype)) is not None


@pytest.mark.parametrize("compute", ["bfloat16", "float16"])
def test_mixed_precision_takes_float32(framework, compute):
    config = MODELS["network"]
    model = build(config, random_arrays(config), framework, compute=compute)
    assert compute in str(model(images(framework, (2, 4, 9, 8), "float32")).dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float8_e4m3fn"])
def test_the_cross_check_refuses_the_same(dtype):
    inputs = np.ones((2, 4, 9, 8), getattr(ml_dtypes, dtype, dtype))
    with pytest.raises(ArgumentError, match=f"inputs: expected images in .*, got {dtype}; convert"):
        crosscheck(MODELS["block"], inputs=inputs, frameworks="torch")


@pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float64", "float16"])
def test_keras_casts_floating_images_before_the_model_sees_them(keras, dtype):
    """Its autocast does, in `Layer.__call__`; nothing that we write is called before."""
    model = build(MODELS["block"], random_arrays(MODELS["block"]), "tf")
    y = model(images("tf", (2, 4, 9, 8), dtype))
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
