"""Every planted mistake in the preprocessing is named, and a right tensor is not accused.

Where another library makes the mistake in real life, it makes it here.
"""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from resattn.cli.app import app
from resattn.tracing.preparation import explain_preparation, list_changes
from resattn.tracing.resizing import Resizing, find_taps, resize_image, resizing_of
from weights import BlockConfig, Preprocessing, write
from weights.errors import ArgumentError, FileError, MissingFileError, MissingFramework
from weights.preprocessing import INTERPOLATIONS, KERAS_MODES, from_keras
from weights.resize import preprocess, resample, taps

BASE = Preprocessing(64)
BILINEAR = replace(BASE, interpolation="bilinear")


def draw_image(height, width, seed):
    """Smooth shapes and some noise, as in photographs."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (1, height // 7 + 2, width // 7 + 2, 3)).astype(np.int32)
    for axis, size in ((1, height), (2, width)):
        coarse = resample(coarse, taps("bicubic", coarse.shape[axis], size), axis)
    return np.clip(coarse[0] + rng.integers(-8, 9, coarse.shape[1:]), 0, 255).astype(np.uint8)


IMAGES = [draw_image(121, 163, 0), draw_image(157, 105, 1)]


def prepare(preprocessing, images=IMAGES):
    return np.concatenate([preprocess(image[None], preprocessing) for image in images])


def explain(actual, preprocessing=BASE, images=IMAGES):
    return explain_preparation(images, actual, preprocessing)


RIGHT = prepare(BASE)

# What another preprocessing is in words.
OTHER = [
    ({"interpolation": "bilinear"}, "was resized with bilinear interpolation, not bicubic"),
    ({"interpolation": "nearest"}, "was resized with nearest interpolation, not bicubic"),
    ({"interpolation": "lanczos"}, "was resized with lanczos interpolation, not bicubic"),
    ({"crop": 1.0}, "the crop keeps 1 of the resized image, not 0.875"),
    ({"crop": 0.95}, "the crop keeps 0.95 of the resized image, not 0.875"),
    ({"crop": 0.8}, "the shorter side was resized to 80 before the crop, not 73"),
    ({"crop_mode": "squash", "crop": 1.0}, "squashed to 64 x 64 instead of cropped"),
    ({"crop_mode": "squash"}, "both sides were resized, not the shorter one, before the crop"),
    ({"size": 70}, "the size is 70 x 70, not 64 x 64"),
    ({"size": (64, 60)}, "the size is 64 x 60, not 64 x 64"),
    ({"channels": "BGR"}, "the channels are BGR, not RGB"),
    ({"mean": 0.0, "std": 1.0}, "the image is left in [0, 1], not normalised for ImageNet"),
    ({"mean": 0.5, "std": 0.5}, "the image is scaled to [-1, 1], not normalised for ImageNet"),
    ({"mean": 0.0}, "mean was not subtracted"),
    ({"std": 1.0}, "the values were not divided by std"),
    ({"scale": 1.0}, "the values were not multiplied by 0.00392157"),
    ({"scale": 1 / 255**2}, "the values were multiplied by 0.00392157 twice"),
    ({"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)}, "in the reverse order"),
    ({"mean": 0.31, "std": 0.27}, "the image is (0.014524, 0.014524, 0.014524) times its bytes"),
]


@pytest.mark.parametrize(("fields", "words"), OTHER, ids=lambda each: str(each)[:60])
def test_another_preprocessing(fields, words):
    found = explain(prepare(replace(BASE, **fields)))
    assert not found.right
    assert len(found.changes) == 1
    assert words in found.changes[0]
    assert found.rest < 0.02
    assert str(found) == f"The tensor is wrong: {found.changes[0]}."
    assert (found.difference is None) == ("size" in fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"interpolation": "bilinear", "crop": 1.0}, ("bilinear", "the crop keeps 1 ")),
        ({"interpolation": "nearest", "channels": "BGR"}, ("nearest", "the channels are BGR")),
        ({"size": 59, "crop_mode": "squash", "crop": 1.0}, ("squashed", "the size is 59 x 59")),
        ({"interpolation": "lanczos", "mean": 0.0}, ("lanczos", "mean was not subtracted")),
        (KERAS_MODES["caffe"], ("the channels are BGR", "as in Caffe, not normalised")),
        ({"interpolation": "bilinear", "crop_mode": "squash", "crop": 1.0, "mean": 0.5,
          "std": 0.5}, ("bilinear", "squashed", "scaled to [-1, 1]")),
    ],
    ids=lambda each: str(each)[:60],
)  # fmt: skip
def test_several_changes(fields, words):
    found = explain(prepare(replace(BASE, **fields)))
    assert not found.right
    assert len(found.changes) == len(words)
    assert all(any(each in change for change in found.changes) for each in words)


def test_what_timm_does_where_keras_was_meant():
    found = explain(RIGHT, from_keras("torch", 64))
    assert len(found.changes) == 3
    assert "bicubic interpolation, not nearest" in str(found)
    assert "the shorter side was resized and the centre cropped, not squashed to 64 x 64" in str(
        found
    )


LAYOUTS = {
    "upside down": RIGHT[:, :, ::-1],
    "mirrored": RIGHT[..., ::-1],
    "turned by 180": RIGHT[:, :, ::-1, ::-1],
    "height and width of the image are swapped": RIGHT.swapaxes(2, 3),
    "turned by 90 degrees to the right": np.rot90(RIGHT, -1, (2, 3)),
    "turned by 90 degrees to the left": np.rot90(RIGHT, 1, (2, 3)),
    "(height, width, channels) values are read": np.moveaxis(RIGHT, 1, -1).reshape(RIGHT.shape),
    "(channels, height, width) values are read": RIGHT.reshape(2, 64, 64, 3),
    "the channels were reversed after the normalisation": RIGHT[:, ::-1],
    "the channels are GRB, not RGB": prepare(replace(BASE, mean=0.4, std=0.2))[:, [1, 0, 2]],
}


@pytest.mark.parametrize("words", LAYOUTS)
def test_layouts(words):
    p = replace(BASE, mean=0.4, std=0.2) if "GRB" in words else BASE
    found = explain(LAYOUTS[words], p)
    assert len(found.changes) == 1
    assert words in found.changes[0]


def normalise(levels, p=BASE):
    """Levels (batch, height, width, 3) -> the input of a network, in float32."""
    values = (levels * p.scale - np.array(p.mean)) / np.array(p.std)
    return np.moveaxis(values, -1, 1).astype(np.float32)


def with_torch(torch, interpolation, rounded=False, **options):
    """Resized by F.interpolate and cropped as torchvision does."""
    made = []
    for image in IMAGES:
        height, width = image.shape[:2]
        size = (73, int(73 * width / height)) if height <= width else (73 * height // width, 73)
        x = torch.tensor(image).permute(2, 0, 1)[None].float()
        x = torch.nn.functional.interpolate(x, size, mode=interpolation, **options)
        x = x.clamp(0, 255).round() if rounded else x
        top, left = (round((side - 64) / 2) for side in size)
        made.append(x[0, :, top : top + 64, left : left + 64].permute(1, 2, 0).numpy())
    return normalise(np.stack(made).astype(np.float64))


@pytest.mark.parametrize("p", [BASE, BILINEAR], ids=["bicubic", "bilinear"])
def test_torch_resizes(torch, p):
    name = p.interpolation
    found = explain(with_torch(torch, name, antialias=False), p)
    assert "without antialiasing, as OpenCV, TensorFlow and F.interpolate" in found.changes[0]
    assert len(found.changes) == 1
    found = explain(with_torch(torch, name, antialias=True), p)
    assert found.changes == ("the image was resized as floats, not rounded to bytes",)
    found = explain(with_torch(torch, name, antialias=False, align_corners=True), p)
    assert found.changes == ("the image was resized with its corners aligned (align_corners=True)",)


def test_torch_rounds(torch):
    """Another library's rounding leaves a level at some pixels, and the cause is still named."""
    found = explain(with_torch(torch, "bilinear", rounded=True, antialias=False), BILINEAR)
    assert "without antialiasing" in found.changes[0]
    assert len(found.changes) == 1
    found = explain(with_torch(torch, "bicubic", rounded=True, antialias=True))
    assert found.right or found.changes == (
        "the resized image was rounded once, not after each axis",
    )


def test_torch_nearest(torch):
    p = replace(BASE, interpolation="nearest")
    found = explain(with_torch(torch, "nearest"), p)
    assert found.changes == (
        "the nearest pixel was taken without half a pixel's offset, as PyTorch and OpenCV do",
    )


def test_tensorflow_resizes(keras):
    """Squashed, as tf.image.resize and keras.ops.image.resize do."""
    p = Preprocessing(60, 1.0, "squash", "bilinear")

    def resize(**options):
        made = [
            keras.ops.image.resize(image.astype("float32"), (60, 60), **options) for image in IMAGES
        ]
        return normalise(np.stack([np.asarray(each) for each in made]).astype(np.float64), p)

    found = explain(resize(interpolation="bilinear", antialias=False), p)
    assert "without antialiasing" in found.changes[0]
    assert len(found.changes) == 1
    found = explain(resize(interpolation="bilinear", antialias=True), p)
    assert found.changes == ("the image was resized as floats, not rounded to bytes",)


def test_keras_smart_resize(keras):
    """Cut to the proportions first; without antialiasing."""
    p = Preprocessing((60, 48), 1.0, "squash", "bilinear")
    made = [
        np.asarray(keras.preprocessing.image.smart_resize(image.astype("float32"), (60, 48)))
        for image in IMAGES
    ]
    found = explain(normalise(np.stack(made).astype(np.float64), p), p)
    assert len(found.changes) == 2
    assert "cut to the proportions of 60 x 48 first" in str(found)
    assert "without antialiasing" in str(found)


def test_an_older_pillow():
    """Which starts with the width, always."""
    tall = [draw_image(400, 150, 2)]
    p = Preprocessing(64, 1.0, "squash", "bicubic")
    other = resize_image(tall[0], replace(resizing_of(p), swapped=True))
    found = explain(normalise(other[None], p), p, tall)
    assert found.changes == (
        "width and height were resized in the other order, as Pillow before version 13 may do",
    )


@pytest.mark.parametrize("p", [BASE, from_keras("tf", (60, 48), "bilinear")], ids=["timm", "keras"])
def test_each_change_is_found(p):
    """With the words of a change that makes the same tensor."""
    right = resizing_of(p)
    changes = list(list_changes(p))
    made = {}
    for change in changes:
        levels = np.stack(
            [resize_image(image, replace(right, **change.fields)) for image in IMAGES]
        )
        made[change.words, str(change.fields)] = normalise(levels, p)
    for (words, fields), tensor in made.items():
        found = explain(tensor, p)
        assert found.right == (np.abs(tensor - prepare(p)).max() < 1e-3), (words, fields)
        if not found.right:
            assert len(found.changes) == 1, (words, fields, str(found))
            same = [
                other for (other, _), each in made.items() if np.abs(each - tensor).max() < 1e-3
            ]
            assert found.changes[0] in same or "before the crop" in found.changes[0], words
    assert len(made) > 20


RIGHTS = [
    BASE,
    BILINEAR,
    Preprocessing((50, 71), 0.9, interpolation="lanczos"),
    Preprocessing(40, 1.0, "squash", "nearest"),
    replace(BASE, **KERAS_MODES["caffe"]),
    from_keras("tf", (61, 40), "bicubic"),
    Preprocessing(200, 0.8, "squash"),
]
FLAT = [np.full((90, 70, 3), 200, np.uint8)]
GREY = [IMAGES[0][..., :1].repeat(3, axis=2)]
TINY = [draw_image(9, 7, 3)]


@pytest.mark.parametrize("images", [IMAGES, FLAT, GREY, TINY], ids=["both", "flat", "grey", "tiny"])
@pytest.mark.parametrize("p", RIGHTS, ids=Preprocessing.describe)
def test_what_is_right(p, images):
    made = prepare(p, images)
    for tensor in (made, np.moveaxis(made, 1, -1), made.astype(np.float64)):
        found = explain(tensor, p, images)
        assert found.right, str(found)
        assert found.changes == ()
        assert str(found) == "The tensor is right; the greatest difference is 0."
    half = explain(made.astype(np.float16), p, images)
    assert half.right, str(half)
    noise = np.random.default_rng(0).normal(size=made.shape)
    assert explain((made * (1 + 1e-7 * noise)).astype(np.float32), p, images).right


def test_an_image_without_batch():
    assert explain(RIGHT[0], images=IMAGES[:1]).right
    assert explain(RIGHT[:1], images=IMAGES[:1]).right


def test_what_nothing_explains():
    noise = np.random.default_rng(0).normal(size=RIGHT.shape)
    found = explain(RIGHT + 0.3 * noise)
    assert not found.right
    assert found.changes == ()
    greatest = np.abs(0.3 * noise).max()
    assert found.difference == pytest.approx(greatest, rel=1e-5)
    assert str(found) == (
        "The tensor is wrong, and no known mistake explains it; the greatest difference is "
        f"{greatest:.3g}."
    )
    other = explain(prepare(BASE, IMAGES[::-1]))
    assert not other.right
    assert other.changes == ()
    assert not explain(np.zeros_like(RIGHT)).right
    assert not explain(np.where(noise > 2, np.nan, RIGHT)).right


def test_a_few_wrong_pixels():
    """One row is enough."""
    wrong = RIGHT.copy()
    wrong[1, :, 57] += 0.1
    found = explain(wrong)
    assert not found.right
    assert found.changes == ()


@pytest.mark.parametrize(
    "actual",
    [RIGHT[:1], RIGHT[0], RIGHT[:, :2], RIGHT[0, 0], RIGHT[:, :, :0], RIGHT[..., None]],
    ids=lambda each: str(each.shape),
)
def test_tensors_of_another_kind(actual):
    message = r"the tensor to explain: expected \(2, 3, height, width\) or \(2, height, width, 3\)"
    with pytest.raises(ArgumentError, match=message):
        explain(actual)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("length", "resized"), [(40, 17), (17, 40), (64, 32)])
def test_taps_without_rounding_are_pillows(interpolation, length, resized):
    """So that what differs between the two is the rounding alone."""
    how = Resizing((1, 1), 1.0, "squash", interpolation, rounding="never")
    dense = np.zeros((2, resized, length))
    for number, found in enumerate(
        (find_taps(how, length, resized), taps(interpolation, length, resized))
    ):
        for position, weight in zip(found.positions, found.weights, strict=True):
            dense[number, np.arange(resized), position] += weight
    np.testing.assert_allclose(dense[0] * (1 << 22), dense[1], rtol=0, atol=0.51)


# The command line


def run(*arguments):
    return CliRunner().invoke(app, ["prepare", *map(str, arguments)])


@pytest.fixture
def files(images, tmp_path):
    from PIL import Image

    for name, image in zip("ab", IMAGES, strict=True):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_prepare(files, tmp_path):
    result = run(*files, tmp_path / "x.npy", "--mode", "caffe", "--size", "60x48")
    assert result.exit_code == 0, result.output
    assert "both sides resized to 60 x 48, nearest, BGR" in result.output
    assert "x.npy: 2 x 3 x 60 x 48, float32" in result.output
    made = np.load(tmp_path / "x.npy")
    assert (made == prepare(from_keras("caffe", (60, 48)))).all()
    again = run(*files, tmp_path / "x.npy", "--mode", "caffe")
    assert isinstance(again.exception, ArgumentError)
    assert "exists already; pass --force" in str(again.exception)
    assert run(*files, tmp_path / "x.npy", "--mode", "tf", "--force").exit_code == 0
    assert np.load(tmp_path / "x.npy").shape == (2, 3, 224, 224)


def test_compare(files, tmp_path):
    np.save(tmp_path / "right.npy", np.moveaxis(prepare(from_keras("torch", 64)), 1, -1))
    options = ("--mode", "torch", "--size", "64x64", "--compare", tmp_path / "right.npy")
    result = run(*files, *options)
    assert result.exit_code == 0, result.output
    assert "The tensor is right" in result.output
    result = run(*files, *options, "--interpolation", "bicubic")
    assert result.exit_code == 1
    assert "resized with nearest interpolation, not bicubic." in " ".join(result.output.split())


def test_preprocessing_from_files(files, tmp_path):
    import json

    from weights.preprocessing import to_timm

    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": to_timm(BASE)}))
    result = run(*files, tmp_path / "x.npy", "--preprocessor", tmp_path / "config.json")
    assert result.exit_code == 0, result.output
    assert (np.load(tmp_path / "x.npy") == RIGHT).all()


def test_preprocessing_of_weights(files, tmp_path, monkeypatch):
    class Config:
        preprocessing = BASE

    monkeypatch.setattr("weights.files.formats.read", lambda path: (Config, {}))
    assert run(*files, tmp_path / "x.npy", "--weights", "any").exit_code == 0
    assert (np.load(tmp_path / "x.npy") == RIGHT).all()


def test_options(files, tmp_path, monkeypatch):
    from resattn.checking.draws import random_arrays

    def fails(error, message, *arguments):
        result = run(*arguments)
        assert isinstance(result.exception, error), repr(result.exception)
        assert message in str(result.exception)

    block = BlockConfig(3, 4)
    write(tmp_path / "block.npz", block, random_arrays(block))
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "list.json").write_text("[1]")
    out = tmp_path / "x.npy"
    fails(ArgumentError, "expected images and the .npy file", files[0], "--mode", "tf")
    fails(ArgumentError, "expected images and the .npy file", out, "--mode", "tf")
    fails(ArgumentError, "expected one of --weights FILE, --mode", files[0], out)
    both = ("--mode", "tf", "--weights", tmp_path / "block.npz")
    fails(ArgumentError, "expected one of --weights FILE, --mode", files[0], out, *both)
    fails(ArgumentError, "its config has no preprocessing; name it", files[0], out, *both[2:])
    fails(ArgumentError, "mode: expected one of caffe, torch, tf", files[0], out, "--mode", "x")
    listed = ("--preprocessor", tmp_path / "list.json")
    fails(ArgumentError, "list.json: expected a JSON object, got [1]", files[0], out, *listed)
    fails(MissingFileError, "there is no such file", tmp_path / "c.png", out, "--mode", "tf")
    fails(FileError, "text.png: cannot be read as an image", tmp_path / "text.png", out, *both[:2])
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    message = 'reading images needs Pillow; install it with: pip install "resattn[images]"'
    fails(MissingFramework, message, files[0], out, "--mode", "tf")
    assert not out.exists()
