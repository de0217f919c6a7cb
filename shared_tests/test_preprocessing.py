"""From an image to the input of a network: Pillow, timm and Keras are the references, to the last
bit, and the three frameworks do as NumPy does.
"""

import importlib
import json
from dataclasses import replace

import numpy as np
import pytest

from weights import Preprocessing
from weights import resize as resizing
from weights.errors import ArgumentError
from weights.frameworks import FRAMEWORKS
from weights.preprocessing import (
    INTERPOLATIONS,
    KERAS_MODES,
    from_keras,
    from_timm,
    from_transformers,
    read_preprocessing,
    to_timm,
)
from weights.resize import centre, plan, preprocess, resized_size, rows_first

SIZES = [  # of the image, of the result
    ((37, 52), (24, 31)),
    ((52, 37), (31, 24)),
    ((64, 48), (32, 24)),
    ((17, 23), (40, 61)),
    ((40, 30), (80, 60)),
    ((31, 64), (50, 13)),
    (
        (90, 41),
        (11, 60),
    ),  # the height shrinks and the width grows: Pillow 13 starts with the height
    ((90, 41), (12, 30)),
    ((60, 50), (40, 40)),  # the height shrinks by exactly twice as much as the width
    ((60, 50), (39, 40)),  # and by more
    ((29, 40), (29, 17)),
    ((29, 40), (13, 40)),
    ((21, 35), (21, 35)),
    ((200, 300), (7, 5)),
    ((1, 1), (5, 3)),
    ((3, 200), (1, 1)),
]


def draw_images(height, width, count=1, seed=0):
    """Bytes of noise, the last image with nothing but black and white, which overshoots most."""
    drawn = np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)
    drawn[-1, :, : width // 2] = np.where(drawn[-1, :, : width // 2] < 128, 0, 255)
    return drawn


def order_of_passes(monkeypatch):
    """Pillow before 13 never starts with the height."""
    import PIL

    if int(PIL.__version__.split(".")[0]) < 13:
        monkeypatch.setattr(resizing, "rows_first", lambda size, resized: False)


def resize_with_pillow(image, size, interpolation):
    from PIL import Image

    filters = {name: getattr(Image.Resampling, name.upper()) for name in INTERPOLATIONS}
    return np.asarray(Image.fromarray(image).resize(size[::-1], filters[interpolation]))


def resize_alone(images, size, interpolation):
    resizing._plan.cache_clear()
    bare = Preprocessing(size, 1, "squash", interpolation, scale=1, mean=0, std=1)
    values = preprocess(images, bare)
    return np.moveaxis(values, 1, -1)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_resizing_is_pillows(images, monkeypatch, size, target, interpolation):
    order_of_passes(monkeypatch)
    drawn = draw_images(*size, count=2)
    expected = [resize_with_pillow(image, target, interpolation) for image in drawn]
    np.testing.assert_array_equal(resize_alone(drawn, target, interpolation), expected)


def test_many_sizes(images, monkeypatch):
    order_of_passes(monkeypatch)
    rng = np.random.default_rng(1)
    for number in range(150):
        height, width, rows, cols = map(int, rng.integers(1, 120, 4))
        drawn = draw_images(height, width, seed=number)
        interpolation = INTERPOLATIONS[number % 4]
        expected = resize_with_pillow(drawn[0], (rows, cols), interpolation)
        actual = resize_alone(drawn, (rows, cols), interpolation)[0]
        assert (actual == expected).all(), (height, width, rows, cols, interpolation)


def test_that_the_order_of_the_axes_matters(images, monkeypatch):
    """So that the tests above would find a wrong one."""
    drawn = draw_images(90, 41)
    right = resize_alone(drawn, (12, 30), "bicubic")
    monkeypatch.setattr(resizing, "rows_first", lambda size, resized: not rows_first(size, resized))
    wrong = resize_alone(drawn, (12, 30), "bicubic")
    resizing._plan.cache_clear()
    assert 1 <= np.abs(right - wrong).max() <= 60
    assert (right == wrong).mean() > 0.3


@pytest.mark.parametrize(
    ("size", "resized", "first"),
    [((60, 50), (39, 40), True), ((60, 50), (40, 40), False), ((60, 50), (59, 90), True),
     ((60, 50), (60, 40), False), ((60, 50), (61, 90), False)],
)  # fmt: skip
def test_rows_first(size, resized, first):
    assert rows_first(size, resized) is first


@pytest.mark.parametrize(
    ("length", "kept", "start"), [(10, 8, 1), (9, 8, 0), (11, 8, 2), (12, 9, 2), (14, 9, 2)]
)
def test_the_centre_is_torchvisions(length, kept, start):
    """Halves go to the even number."""
    assert centre(length, kept) == start


TIMM = [
    {"input_size": (3, 32, 32), "crop_pct": 0.875, "interpolation": "bicubic"},
    {"input_size": (3, 33, 33), "crop_pct": 0.95, "interpolation": "bilinear"},
    {"input_size": (3, 28, 41), "crop_pct": 0.9, "interpolation": "lanczos"},
    {"input_size": (3, 41, 28), "crop_pct": 0.8, "interpolation": "nearest"},
    {"input_size": (3, 30, 20), "crop_pct": 1.0, "crop_mode": "squash"},
    {"input_size": (3, 31, 31), "crop_pct": 0.7, "crop_mode": "squash", "mean": (0.5, 0.4, 0.3)},
    {"input_size": (3, 64, 64), "crop_pct": 0.96, "std": (0.5, 0.25, 0.3)},
]


@pytest.mark.parametrize("size", [(45, 70), (70, 45), (51, 51), (20, 27), (200, 61)])
@pytest.mark.parametrize("cfg", TIMM, ids=str)
def test_timms_transform(timm, monkeypatch, cfg, size):
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    order_of_passes(monkeypatch)
    resizing._plan.cache_clear()
    drawn = draw_images(*size, count=2)
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=cfg))
    expected = np.stack([transform(Image.fromarray(image)).numpy() for image in drawn])
    np.testing.assert_array_equal(preprocess(drawn, from_timm(cfg)), expected)


def test_timms_defaults(timm):
    from timm.data import resolve_data_config

    assert Preprocessing() == from_timm({})
    resolved = resolve_data_config({}, pretrained_cfg={"url": ""})
    assert to_timm(Preprocessing()) == {
        name: list(value) if isinstance(value, tuple) else value for name, value in resolved.items()
    }


@pytest.mark.parametrize("cfg", TIMM, ids=str)
def test_pretrained_cfg_there_and_back(cfg):
    written = to_timm(from_timm(cfg))
    assert json.loads(json.dumps(written)) == written
    assert from_timm(written) == from_timm(cfg)
    for name, value in cfg.items():
        assert written[name] == (list(value) if isinstance(value, tuple) else value)
    hub = {"architecture": "resnet50", "num_classes": 10, "pretrained_cfg": written}
    assert read_preprocessing(hub) == from_timm(hub) == from_timm(cfg)


def test_another_scale_goes_into_mean_and_std():
    keras = from_keras("tf", 30)
    written = to_timm(keras)
    assert written["mean"] == written["std"] == [0.5, 0.5, 0.5]
    x = draw_images(40, 50)
    np.testing.assert_allclose(
        preprocess(x, from_timm(written)), preprocess(x, keras), rtol=0, atol=2e-7
    )


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("mode", KERAS_MODES)
def test_keras(keras, images, monkeypatch, tmp_path, mode, interpolation):
    """A file, as the examples of keras.applications read it. All 256 bytes are in it."""
    from PIL import Image

    order_of_passes(monkeypatch)
    resizing._plan.cache_clear()
    drawn = draw_images(40, 33)[0]
    drawn[:16, :16] = np.arange(256).reshape(16, 16, 1)
    Image.fromarray(drawn).save(tmp_path / "image.png")
    for size in ((40, 33), (24, 31)):
        loaded = keras.utils.load_img(
            tmp_path / "image.png", target_size=size, interpolation=interpolation
        )
        array = keras.utils.img_to_array(loaded)[None]
        expected = keras.applications.imagenet_utils.preprocess_input(array, mode=mode)
        actual = preprocess(drawn[None], from_keras(mode, size, interpolation))
        np.testing.assert_array_equal(np.moveaxis(actual, 1, -1), expected)


EXAMPLES = [
    Preprocessing((24, 31), interpolation="lanczos"),
    Preprocessing(32, 0.9, interpolation="bilinear", channels="BGR"),
    from_keras("caffe", (17, 90)),
    from_keras("tf", (30, 29), "bicubic"),
    Preprocessing((20, 12), 0.8, "squash", "bicubic", "RGB", 0.01, (0.1, 0.2, 0.3), 0.7),
]


def run(framework, images, preprocessing):
    """The result in the canonical order of axes."""
    package = importlib.import_module(FRAMEWORKS[framework].package)
    result = package.preprocess(images, preprocessing)
    array = result.cpu().numpy() if framework == "torch" else np.asarray(result)
    return array if framework == "torch" else np.moveaxis(array, -1, 1)


@pytest.mark.parametrize("size", [(45, 70), (90, 23)])
@pytest.mark.parametrize("preprocessing", EXAMPLES, ids=Preprocessing.describe)
def test_frameworks_agree_to_the_last_bit(framework, preprocessing, size):
    drawn = draw_images(*size, count=2)
    before = drawn.copy()
    expected = preprocess(drawn, preprocessing)
    assert expected.dtype == np.float32
    assert expected.shape == (2, 3, *preprocessing.size)
    for given in (drawn, list(drawn)):
        actual = run(framework, given, preprocessing)
        assert actual.dtype == np.float32
        np.testing.assert_array_equal(actual, expected)
    assert (drawn == before).all()


def test_channels_and_normalisation():
    """By hand, on one pixel."""
    pixel = np.array([[[[10, 20, 30]]]], np.uint8)
    given = Preprocessing(1, 1, "squash", "nearest", "BGR", 0.1, (1, 2, 3), (2, 4, 8))
    np.testing.assert_allclose(preprocess(pixel, given).ravel(), [1.0, 0.0, -0.25])


def test_tensors_of_torch(torch):
    import pytorch_impl

    drawn = draw_images(40, 33, count=2)
    expected = preprocess(drawn, EXAMPLES[0])
    for given in (torch.tensor(drawn), list(torch.tensor(drawn))):
        assert (pytorch_impl.preprocess(given, EXAMPLES[0]).numpy() == expected).all()


def test_compiled_by_jax(jax):
    import jax_impl

    drawn = draw_images(40, 33, count=2)
    compiled = jax.jit(jax_impl.preprocess, static_argnums=1)
    for preprocessing in EXAMPLES:
        actual = np.moveaxis(np.asarray(compiled(drawn, preprocessing)), -1, 1)
        assert (actual == preprocess(drawn, preprocessing)).all()


def test_in_a_model_of_keras(keras):
    """Whose batch is not known before it runs."""
    import tf_impl

    drawn = draw_images(40, 33, count=2)
    inputs = keras.Input((40, 33, 3), dtype="uint8")
    model = keras.Model(inputs, tf_impl.preprocess(inputs, EXAMPLES[0]))
    actual = np.moveaxis(np.asarray(model(drawn)), -1, 1)
    assert (actual == preprocess(drawn, EXAMPLES[0])).all()


# Data


def test_json_and_hash():
    for given in EXAMPLES:
        values = json.loads(json.dumps(given.to_dict()))
        assert Preprocessing.from_dict(values) == given
        assert read_preprocessing(values) == given
        assert hash(Preprocessing.from_dict(values)) == hash(given)
    assert Preprocessing(32) == Preprocessing((32, 32)) == Preprocessing([32, 32])
    assert Preprocessing(mean=0.5).mean == (0.5, 0.5, 0.5)
    assert Preprocessing(224).describe() == (
        "shorter side resized to 224 x 224 / 0.875, centre crop, bicubic, RGB x 0.00392157, mean "
        "(0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)"
    )


MEAN = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "resample": 2}
TRANSFORMERS = {  # the fields of a class of processor, and what it does
    "ViT": ({"size": {"height": 224, "width": 200}}, ((224, 200), 1.0, "squash")),
    "ViT before 4.26": ({"size": 224}, ((224, 224), 1.0, "squash")),
    "ConvNeXt": ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 0.875, "center")),
    "ConvNeXt before 4.26": ({"size": 224, "crop_pct": 0.875}, (224, 0.875, "center")),
    "ConvNeXt 384": ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 1.0, "squash")),
    "CLIP": (
        {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}},
        (224, 1.0, "center"),
    ),
    "LeViT": (
        {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
         "do_center_crop": True},
        (224, 0.875, "center"),
    ),
    "DeiT": (
        {"size": {"height": 256, "width": 256}, "crop_size": 224, "do_center_crop": True},
        (224, 0.875, "squash"),
    ),
    "no crop": (
        {"size": {"height": 256, "width": 256}, "crop_size": 224, "do_center_crop": False},
        (256, 1.0, "squash"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name):
    fields, (size, crop, mode) = TRANSFORMERS[name]
    expected = Preprocessing(
        size, crop, mode, "bilinear", mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)
    )
    assert from_transformers({**MEAN, **fields}) == expected
    assert read_preprocessing({**MEAN, **fields}) == expected


@pytest.mark.parametrize("crop", range(1, 120))
def test_the_crop_gives_back_the_size(crop):
    """Through a fraction, and its rounding."""
    for size in (120, 121, 181, 256):
        fields = {"size": {"shortest_edge": size}, "crop_size": crop}
        found = from_transformers({**MEAN, **fields})
        assert resized_size(found, (300, 300)) == (size, size)


def test_transformers_flags():
    fields = {**MEAN, "size": 32}
    assert from_transformers({**fields, "do_normalize": False}).mean == (0, 0, 0)
    assert from_transformers({**fields, "do_normalize": False}).std == (1, 1, 1)
    assert from_transformers({**fields, "do_rescale": False}).scale == 1
    assert from_transformers({**fields, "rescale_factor": 0.01}).scale == 0.01
    assert from_transformers({**fields, "do_flip_channel_order": True}).channels == "BGR"
    names = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
    for number, name in names.items():
        assert from_transformers({**fields, "resample": number}).interpolation == name


# Errors


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, "size: expected a positive integer or a (height, width) pair"),
        ({"crop": 1.1}, "crop: expected the part of the resized image that is kept"),
        ({"crop": 0}, "crop: expected the part of the resized image that is kept"),
        ({"crop_mode": "border"}, "crop_mode: expected one of center, squash, got 'border'"),
        ({"interpolation": "box"}, "interpolation: expected one of nearest, bilinear, bicubic"),
        ({"channels": "GRB"}, "channels: expected one of RGB, BGR, got 'GRB'"),
        ({"scale": 0}, "scale: expected a positive number, got 0"),
        ({"mean": (1, 2)}, "mean: expected a number, or one for each of 3, got (1, 2)"),
        ({"mean": "x"}, "mean: expected a number, or one for each of 3, got 'x'"),
        ({"std": (1, 0, 1)}, "std: expected a positive number, got 0"),
    ],
)
def test_fields(fields, message):
    with pytest.raises(ArgumentError) as raised:
        Preprocessing(**fields)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("read", "values", "message"),
    [
        (from_timm, {"input_size": (1, 28, 28)}, "input_size: expected an image of 3 channels"),
        (from_timm, {"input_size": 28}, "input_size: expected (channels, height, width), got 28"),
        (from_timm, {"crop_mode": "border"}, "crop_mode: expected one of center, squash"),
        (from_timm, {"interpolation": "random"}, "interpolation: expected one of nearest"),
        (from_timm, {"pretrained_cfg": None}, "pretrained_cfg: expected a mapping"),
        (from_keras, "pytorch", "mode: expected one of caffe, torch, tf, got 'pytorch'"),
        (from_transformers, {**MEAN, "size": 32, "do_pad": True}, "do_pad: cannot be expressed"),
        (from_transformers, {**MEAN, "size": 32, "include_top": True}, "include_top: cannot be"),
        (from_transformers, {**MEAN, "size": 32, "do_resize": False}, "do_resize: false leaves"),
        (from_transformers, {"size": 32}, "resample: expected one of 0 (nearest), 1 (lanczos)"),
        (from_transformers, {"size": 32, "resample": 3}, "image_mean: missing"),
        (from_transformers, MEAN, 'size: expected {"shortest_edge": ...} or'),
        (from_transformers, {**MEAN, "size": {"shortest_edge": 32}}, "size: the shorter side"),
        (
            from_transformers,
            {**MEAN, "size": 32, "crop_size": 30, "do_center_crop": True},
            "size: 32 with do_center_crop has two meanings",
        ),
        (
            from_transformers,
            {**MEAN, "size": {"shortest_edge": 30}, "crop_size": 32},
            "crop_size: expected the same part of both sides, at most 1",
        ),
        (
            from_transformers,
            {**MEAN, "size": {"height": 40, "width": 50}, "crop_size": 32},
            "crop_size: expected the same part of both sides, at most 1",
        ),
        (read_preprocessing, {"a": 1}, "preprocessing: expected the fields of timm's"),
        (read_preprocessing, {"interpolation": "bilinear", "a": 1}, "no field 'a'"),
        (to_timm, from_keras("caffe"), "pretrained_cfg: timm has no field for the order"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed(read, values, message):
    with pytest.raises(ArgumentError) as raised:
        read(values)
    assert message in str(raised.value)


BYTES = draw_images(20, 24)
BAD_IMAGES = [
    (BYTES[0], "got uint8 of shape (20, 24, 3)"),
    (BYTES[..., :1], "got uint8 of shape (1, 20, 24, 1)"),
    (BYTES[:, :0], "got uint8 of shape (1, 0, 24, 3)"),
    (BYTES.astype(np.float32), "got float32 of shape (1, 20, 24, 3)"),
    ([BYTES[0], BYTES[0, :10]], "images: expected a list of images of one size, got (10, 24, 3)"),
    ([], "images: expected a list of images of one size, got none"),
]


@pytest.mark.parametrize(("given", "message"), BAD_IMAGES)
def test_images(given, message):
    with pytest.raises(ArgumentError) as raised:
        preprocess(given, Preprocessing(8))
    assert message in str(raised.value)


@pytest.mark.parametrize(("given", "message"), BAD_IMAGES)
def test_images_of_frameworks(framework, given, message):
    """The same words everywhere."""
    with pytest.raises(ArgumentError) as raised:
        run(framework, given, Preprocessing(8))
    assert message in str(raised.value)


def test_a_size_that_is_not_known():
    with pytest.raises(ArgumentError, match=r"got uint8 of shape \(None, None, 24, 3\)"):
        plan(Preprocessing(8), (None, None, 24, 3), "uint8")
    assert plan(Preprocessing(8), (None, 20, 24, 3), "uint8").passes


def test_a_change_changes_the_result():
    """Every field is used."""
    drawn = draw_images(61, 45)
    base = Preprocessing(24)
    right = preprocess(drawn, base)
    changes = {"crop": 0.9, "crop_mode": "squash", "interpolation": "bilinear", "channels": "BGR",
               "scale": 1.0, "mean": 0.5, "std": 0.5}  # fmt: skip
    assert {*changes, "size"} == set(base.to_dict())
    for name, value in changes.items():
        assert (preprocess(drawn, replace(base, **{name: value})) != right).any(), name
