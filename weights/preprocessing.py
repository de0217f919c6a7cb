"""How an image becomes the input of a network, as data, and how other libraries write it down.

`weights.resize` applies it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import floor, nextafter
from typing import Any

from weights.checks import (
    Pair,
    is_integer,
    is_number,
    list_names,
    one_of,
    pair_of,
    positive,
    quote,
    real_number,
)
from weights.errors import ArgumentError
from weights.fields import Checked, Plain

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
CROP_MODES = ("center", "squash")
CHANNEL_ORDERS = ("RGB", "BGR")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

LEAST_CROP = 1e-3

Three = tuple[float, float, float]


def _crop(name: str, value: object) -> float:
    if not is_number(value) or not 0 < value <= 1:
        raise ArgumentError(
            f"{name}: expected the part of the resized image that is kept, more than 0 and at most "
            f"1, got {quote(value)}"
        )
    if value < LEAST_CROP:
        raise ArgumentError(
            f"{name}: expected at least {LEAST_CROP}, since the image is resized to size / {name}, "
            f"got {quote(value)}"
        )
    return float(value)


def _three(convert: Callable[[str, object], float], name: str, value: object) -> Three:
    each = value if isinstance(value, (tuple, list)) else (value,) * 3
    if len(each) != 3:
        raise ArgumentError(f"{name}: expected a number, or one for each of 3, got {quote(value)}")
    first, second, third = (convert(name, item) for item in each)
    return first, second, third


_number = partial(real_number, expected="a number, or one for each of 3")


@dataclass(frozen=True)
class Preprocessing(Plain):
    """How an image becomes the input of a network. The defaults are those of timm.

    size: (height, width) of the input. crop: the image is resized to size / crop, rounded down,
        and its centre is kept (timm's crop_pct). crop_mode: "center" keeps the proportions, so that
        the shorter side fits; "squash" resizes both sides.
    interpolation: one of `INTERPOLATIONS`, as Pillow defines them, which smooths before it shrinks.
    channels: the order of the input's channels, "RGB" or "BGR".
    scale: what the bytes are multiplied by; then mean is subtracted, and the rest divided by std.
        Both have one number for each channel of the input, in its order.
    Raises ArgumentError, naming the field, what was expected and what came.
    """

    size: Checked[int | Pair, Pair] = Checked(pair_of, 224)
    crop: Checked[float, float] = Checked(_crop, 0.875)
    crop_mode: Checked[str, str] = Checked(partial(one_of, choices=CROP_MODES), "center")
    interpolation: Checked[str, str] = Checked(partial(one_of, choices=INTERPOLATIONS), "bicubic")
    channels: Checked[str, str] = Checked(partial(one_of, choices=CHANNEL_ORDERS), "RGB")
    scale: Checked[float, float] = Checked(positive, 1 / 255)
    mean: Checked[float | Three, Three] = Checked(partial(_three, _number), IMAGENET_MEAN)
    std: Checked[float | Three, Three] = Checked(partial(_three, positive), IMAGENET_STD)

    def describe(self) -> str:
        """One line for people."""
        height, width = self.size
        if self.crop_mode == "squash":
            resize = f"both sides resized to {height} x {width}"
            resize += f" / {self.crop:g}, centre crop" if self.crop < 1 else ""
        else:
            resize = f"shorter side resized to {height} x {width} / {self.crop:g}, centre crop"
        mean, std = (", ".join(f"{each:.6g}" for each in part) for part in (self.mean, self.std))
        return (
            f"{resize}, {self.interpolation}, {self.channels} x {self.scale:.6g}, "
            f"mean ({mean}), std ({std})"
        )


# timm


def from_timm(pretrained_cfg: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in timm's `pretrained_cfg`, or in a `config.json` of timm that holds it.

    Missing fields have timm's defaults (`timm.data.resolve_data_config`).
    Raises ArgumentError for what `Preprocessing` cannot express: other than 3 channels, crop_mode
    "border", interpolations other than `INTERPOLATIONS`.
    """
    values = pretrained_cfg.get("pretrained_cfg", pretrained_cfg)
    if not isinstance(values, Mapping):
        raise ArgumentError(
            f"pretrained_cfg: expected a mapping of its fields, got {quote(values)}"
        )
    channels, height, width = _image_shape(values.get("input_size") or (3, 224, 224))
    if channels != 3:
        raise ArgumentError(f"input_size: expected an image of 3 channels, got {channels}")
    names = {"crop": "crop_pct", "crop_mode": "crop_mode", "interpolation": "interpolation"}
    names |= {"mean": "mean", "std": "std"}
    given = {ours: values[theirs] for ours, theirs in names.items() if values.get(theirs)}
    return Preprocessing(size=(height, width), **given)


def _image_shape(value: object) -> tuple[int, int, int]:
    if isinstance(value, (tuple, list)) and len(value) == 3 and all(map(is_integer, value)):
        channels, height, width = value
        return channels, height, width
    raise ArgumentError(f"input_size: expected (channels, height, width), got {quote(value)}")


def to_timm(preprocessing: Preprocessing) -> dict[str, Any]:
    """The fields of timm's `pretrained_cfg` that say the same, as plain values.

    timm always divides by 255, so another scale goes into mean and std.
    Raises ArgumentError for BGR, which timm cannot express.
    """
    if preprocessing.channels != "RGB":
        raise ArgumentError(
            "pretrained_cfg: timm has no field for the order of the channels, and this is "
            f"{preprocessing.channels}; reverse the input channels of the first convolution, mean "
            "and std, and say RGB"
        )
    unit = preprocessing.scale * 255
    mean, std = (
        [each / unit if unit != 1 else each for each in part]
        for part in (preprocessing.mean, preprocessing.std)
    )
    return {
        "input_size": [3, *preprocessing.size],
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop,
        "crop_mode": preprocessing.crop_mode,
        "mean": mean,
        "std": std,
    }


# Keras

# keras.applications.imagenet_utils.preprocess_input
KERAS_MODES: dict[str, dict[str, Any]] = {
    "caffe": {"channels": "BGR", "scale": 1.0, "mean": (103.939, 116.779, 123.68), "std": 1.0},
    "torch": {"channels": "RGB", "scale": 1 / 255, "mean": IMAGENET_MEAN, "std": IMAGENET_STD},
    "tf": {"channels": "RGB", "scale": 1 / 127.5, "mean": 1.0, "std": 1.0},
}


def from_keras(mode: str, size: int | Pair = 224, interpolation: str = "nearest") -> Preprocessing:
    """The preprocessing of `keras.applications`, by its mode: "caffe", "torch" or "tf".

    The mode says nothing about resizing, which is that of `keras.utils.load_img(path,
    target_size=size, interpolation=interpolation)` and its default, "nearest": both sides are
    resized. Raises ArgumentError for another mode.
    """
    values = KERAS_MODES[one_of("mode", mode, KERAS_MODES)]
    return Preprocessing(size, 1.0, "squash", interpolation, **values)


# Transformers

# Pillow's numbers of its filters.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_KNOWN_FLAGS = {"do_resize", "do_rescale", "do_normalize", "do_center_crop"}
_KNOWN_FLAGS |= {"do_flip_channel_order", "do_convert_rgb", "do_reduce_labels"}


def from_transformers(preprocessor_config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in Transformers' `preprocessor_config.json`.

    Raises ArgumentError for missing fields and for those that `Preprocessing` cannot express.
    """
    config = preprocessor_config
    flags = {name for name, value in config.items() if name.startswith("do_") and value is True}
    strange = sorted(flags - _KNOWN_FLAGS)
    strange += [name for name in ("rescale_offset", "include_top") if config.get(name)]
    if strange:
        raise ArgumentError(
            f"{list_names(strange, quoted=False)}: cannot be expressed; prepare these images with "
            "Transformers"
        )
    if config.get("do_resize") is False:
        raise ArgumentError("do_resize: false leaves no size of the input; expected true")
    number = config.get("resample")
    if not is_integer(number) or number not in _RESAMPLE:
        known = ", ".join(f"{key} ({name})" for key, name in _RESAMPLE.items())
        raise ArgumentError(f"resample: expected one of {known}, got {quote(number)}")
    rescales, normalizes = (config.get(f"do_{what}", True) for what in ("rescale", "normalize"))
    return Preprocessing(
        **_transformers_size(config),
        interpolation=_RESAMPLE[number],
        channels="BGR" if config.get("do_flip_channel_order") else "RGB",
        scale=config.get("rescale_factor", 1 / 255) if rescales else 1.0,
        mean=_statistics(config, "image_mean") if normalizes else 0.0,
        std=_statistics(config, "image_std") if normalizes else 1.0,
    )


def _statistics(config: Mapping[str, Any], name: str) -> Any:
    if config.get(name) is None:
        raise ArgumentError(f"{name}: missing, and do_normalize is not false")
    return config[name]


def _transformers_size(config: Mapping[str, Any]) -> dict[str, Any]:
    """size, crop and crop_mode. An integer is one side, of which kind the class decides."""
    size, crops = config.get("size"), config.get("crop_size") is not None
    crops = config.get("do_center_crop", crops) is True
    part = config.get("crop_pct")
    if is_integer(size):
        if crops and part is None:
            raise ArgumentError(
                f'size: {size} with do_center_crop has two meanings; write {{"shortest_edge": '
                f'{size}}} or {{"height": {size}, "width": {size}}}, as the class of the processor '
                "takes it"
            )
        sides = ("height", "width") if part is None else ("shortest_edge",)
        size = dict.fromkeys(sides, size)
    if not isinstance(size, Mapping) or set(size) not in ({"shortest_edge"}, {"height", "width"}):
        raise ArgumentError(
            f'size: expected {{"shortest_edge": ...}} or {{"height": ..., "width": ...}}, got '
            f"{quote(size)}"
        )
    if part is not None and "shortest_edge" in size:  # ConvNextImageProcessor
        side = size["shortest_edge"]
        squashed = is_integer(side) and side >= 384
        whole = {"crop": 1.0, "crop_mode": "squash"} if squashed else {"crop": part}
        return {"size": side, **whole}
    if crops:
        return _crop_of(config.get("crop_size"), size)
    if "shortest_edge" in size:
        raise ArgumentError(
            "size: the shorter side alone, without crop_pct or do_center_crop, gives inputs of "
            f"several sizes, got {quote(size)}"
        )
    return {"size": (size["height"], size["width"]), "crop": 1.0, "crop_mode": "squash"}


def _crop_of(kept: object, size: Mapping[str, Any]) -> dict[str, Any]:
    """The crop that resizes to `size` and keeps `kept`."""
    if isinstance(kept, Mapping):
        kept = (kept.get("height"), kept.get("width"))
    kept = pair_of("crop_size", kept)
    edge = size.get("shortest_edge")
    resized = pair_of("size", edge if edge is not None else (size["height"], size["width"]))
    crop = kept[0] / resized[0]
    if floor(kept[0] / crop) < resized[0]:
        crop = nextafter(crop, 0)
    if tuple(floor(side / crop) for side in kept) != resized or crop > 1:
        raise ArgumentError(
            f"crop_size: expected the same part of both sides, at most 1, got {kept} of {resized}"
        )
    return {"size": kept, "crop": crop, "crop_mode": "squash" if edge is None else "center"}


def read_preprocessing(values: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a JSON object: timm's or Transformers', or that of `to_dict`.

    Raises ArgumentError for objects that are none of these, and what their readers raise.
    """
    if "image_mean" in values or "resample" in values:
        return from_transformers(values)
    if "pretrained_cfg" in values or "input_size" in values:
        return from_timm(values)
    if "interpolation" in values:
        return Preprocessing.from_dict(values)
    raise ArgumentError(
        "preprocessing: expected the fields of timm's pretrained_cfg (input_size, mean, ...) or of "
        "Transformers' preprocessor_config.json (size, resample, image_mean, ...), got "
        f"{quote(list(values))[1:-1] or 'none'}"
    )
