"""Mistakes in how the image is prepared and laid out."""

from __future__ import annotations

from itertools import product

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.cause import Variants, list_orders, shorten_list
from resattn.tracing.computation import Inputs, StageSpec, compute
from weights.language import join_texts, mark, say


def vary_image_order(spec: StageSpec) -> Variants:
    for order in list_orders(spec["channels"]):
        words = mark("the image's channels are in the order {order}")
        if order == (2, 1, 0):
            words = mark("the image's channels are in the order {order} (BGR instead of RGB)")
        yield say(words, order=shorten_list(order)), spec.with_settings(order=order)


# Mean and deviation that are usual for images in [0, 1], or in [0, 255].
NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    mark("normalised with the mean and deviation of ImageNet"): (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    ),
    mark("normalised with the mean and deviation of CIFAR-10"): (
        (0.4914, 0.4822, 0.4465),
        (0.2470, 0.2435, 0.2616),
    ),
    mark("scaled from [0, 1] to [-1, 1]"): ((0.5,), (0.5,)),
    mark("divided by 255"): ((0.0,), (255.0,)),
    mark("scaled from [0, 255] to [-1, 1]"): ((127.5,), (127.5,)),
}


def vary_normalisation(spec: StageSpec) -> Variants:
    for words, (mean, deviation) in NORMALISATIONS.items() if spec.kind == "input" else ():
        if len(mean) in (1, spec["channels"]):
            scale, offset = 1 / np.array(deviation), -np.array(mean) / np.array(deviation)
            yield (
                say("the image is {words}", words=say(words)),
                spec.with_settings(scale=scale, offset=offset),
            )
            yield (
                say("the image is not {words}, but it should be", words=say(words)),
                spec.with_settings(scale=1 / scale, offset=-offset / scale),
            )


# Ways to prepare an image of values in [0, 1]: mean and deviation. The last ones are mistakes.
USUAL = 6
PREPARATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    mark("left in [0, 1]"): ((0.0,), (1.0,)),
    mark("left in [0, 255]"): ((0.0,), (1 / 255,)),
    mark("scaled to [-1, 1]"): ((0.5,), (0.5,)),
    mark("normalised for ImageNet"): ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    mark("normalised for CIFAR-10"): ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    mark("left in [0, 255] minus (123.68, 116.779, 103.939), as in Caffe"): (
        (123.68 / 255, 116.779 / 255, 103.939 / 255),
        (1 / 255,),
    ),
    mark("divided by 255 twice"): ((0.0,), (255.0,)),
    mark("normalised for ImageNet twice"): (  # (x - m) / s, then minus m and divided by s
        (0.485 * 1.229, 0.456 * 1.224, 0.406 * 1.225),
        (0.229**2, 0.224**2, 0.225**2),
    ),
    mark("normalised for ImageNet without dividing by 255"): (
        (0.485 / 255, 0.456 / 255, 0.406 / 255),
        (0.229 / 255, 0.224 / 255, 0.225 / 255),
    ),
}


def vary_preparation(spec: StageSpec) -> Variants:
    """Another preparation than the one that the image had, in either order of the channels."""
    channels = spec["channels"]
    ways = {
        name: tuple(np.broadcast_to(part, channels) for part in way)
        for name, way in PREPARATIONS.items()
        if all(len(part) in (1, channels) for part in way)
    }
    plain = {"scale": np.ones(channels), "offset": np.zeros(channels)}
    seen = {_name_change(plain), _name_change({"order": np.array((2, 1, 0)), **plain})}
    for (was, old), (name, new) in product(list(ways.items())[:USUAL], ways.items()):
        words = (
            say("the image is {name} instead of {was}", name=say(name), was=say(was))
            if name != was
            else say("the image is {name}", name=say(name))
        )
        for more, change in _combine_preparations(old, new).items():
            key = _name_change(change)
            if key not in seen and (channels == 3 or not more):
                seen.add(key)
                yield join_texts((words, say(more))), spec.with_settings(**change)


def _name_change(change: dict[str, Array]) -> str:
    """The same for changes that are the same but for rounding."""
    return str({setting: np.round(value, 9) + 0.0 for setting, value in change.items()})


def _combine_preparations(
    old: tuple[Array, ...], new: tuple[Array, ...]
) -> dict[str, dict[str, Array]]:
    """The scale and the offset that make of one preparation the other, by words on the order of the
    channels.
    """
    (mean, deviation), (other_mean, other_deviation) = old, new
    scale, offset = deviation / other_deviation, (mean - other_mean) / other_deviation
    order = np.array((2, 1, 0))
    return {
        "": {"scale": scale, "offset": offset},
        mark(", and BGR instead of RGB"): {
            "order": order,
            "scale": deviation[::-1] / other_deviation,
            "offset": (mean[::-1] - other_mean) / other_deviation,
        },
        mark(", then its channels are reversed"): {
            "order": order,
            "scale": scale[::-1],
            "offset": offset[::-1],
        },
    }


def solve_normalisation(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """A scale and an offset for each channel of the image, by least squares on the output."""
    x = inputs[0]
    if not all(np.isfinite(array).all() for array in (x, actual, *spec.parameters.values())):
        return
    if spec.kind == "input":
        scale, offset = _fit_channels(x, actual)
    elif spec["of_image"] and x.shape[1] <= 16:
        scale, offset = _fit_convolution(spec, x, actual)
    else:
        return
    words = say(
        "the image is scaled by {scale} and shifted by {offset}",
        scale=shorten_list(map(float, scale)),
        offset=shorten_list(map(float, offset)),
    )
    yield words, spec.with_settings(scale=scale, offset=offset)


def _fit_channels(x: Array, actual: Array) -> Array:
    """The scale and the offset of each channel between two images: (2, channels)."""
    fits = []
    for channel in range(x.shape[1]):
        given, found = x[:, channel].ravel(), actual[:, channel].ravel()
        fits.append(np.polyfit(given, found, 1) if np.ptp(given) > 0 else np.array([1.0, 0.0]))
    return np.transpose(fits)


def _fit_convolution(spec: StageSpec, x: Array, actual: Array) -> Array:
    """The scale and the offset of each channel of the image, from a convolution's output:
    (2, channels).
    """
    bias = spec.parameters.get("bias")
    bare = spec if bias is None else spec.with_parameters(bias=np.zeros_like(bias))
    shift = compute(spec, (np.zeros_like(x),))
    channels = np.arange(x.shape[1])
    columns = [
        compute(bare, (np.where(channels[None, :, None, None] == channel, part, 0.0),)).ravel()
        for part in (x, np.ones_like(x))
        for channel in channels
    ]
    found: Array = np.linalg.lstsq(np.stack(columns, 1), (actual - shift).ravel(), rcond=None)[0]
    return found.reshape(2, -1)


LAST_AS_FIRST = mark("(height, width, channels) values are read as (channels, height, width)")
FIRST_AS_LAST = mark("(channels, height, width) values are read as (height, width, channels)")
TURNED = mark("height and width of the image are swapped")
UPSIDE_DOWN = mark("the image is upside down")
MIRRORED = mark("the image is mirrored from left to right")
TURNED_OUTPUT = mark("height and width of its output are swapped")
LAST = mark(
    "the axes (batch, height, width, channels) are taken for (batch, channels, height, width)"
)


def vary_layout(spec: StageSpec) -> Variants:
    if spec.kind == "input":
        yield say(LAST_AS_FIRST), spec.with_settings(input_layout="last as first")
        yield say(FIRST_AS_LAST), spec.with_settings(input_layout="first as last")
        yield say(TURNED), spec.with_settings(input_layout="turned")
        yield say(UPSIDE_DOWN), spec.with_settings(input_layout="upside down")
        yield say(MIRRORED), spec.with_settings(input_layout="mirrored")
    elif spec.kind == "linear":
        yield from vary_flattening(spec)
    else:
        yield say(LAST_AS_FIRST), spec.with_settings(output_layout="last as first")
        yield say(LAST), spec.with_settings(output_layout="last")
        yield say(TURNED_OUTPUT), spec.with_settings(output_layout="turned")


def vary_flattening(spec: StageSpec) -> Variants:
    weight = spec.parameters["weight"]
    outputs, features = weight.shape
    for channels in (size for size in range(2, features) if features % size == 0):
        turned = weight.reshape(outputs, channels, -1).swapaxes(1, 2).reshape(weight.shape)
        words = say(
            "the {features} features are flattened channels last, but the weights have their "
            "{channels} channels first",
            features=features,
            channels=channels,
        )
        yield words, spec.with_parameters(weight=turned)
