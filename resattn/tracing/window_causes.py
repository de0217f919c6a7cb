"""Mistakes of what published networks pad, pool, filter and drop, and of groups of channels."""

from __future__ import annotations

import numpy as np

from resattn.tracing.cause import Variants
from resattn.tracing.computation import StageSpec
from weights.language import say


def vary_same(spec: StageSpec) -> Variants:
    """Another padding where SAME is right."""
    before, after = spec["before"], spec["after"]
    if before != after:
        both = tuple(max(pair) for pair in zip(before, after, strict=True))
        words = say("pads by {both} on both sides, as PyTorch does, instead of as SAME", both=both)
        yield words, spec.with_settings(before=both, after=both)
        words = say("pads the odd pixel at the start instead of the end (SAME_LOWER)")
        yield words, spec.with_settings(before=after, after=before)


def vary_average(spec: StageSpec) -> Variants:
    if any(spec["after"]):
        words = say("counts the zeros beyond the edge (count_include_pad)")
        beyond = spec.with_settings(padding=(0, 0))
        yield words, beyond.with_settings(pooling="counting")
    size = " x ".join(map(str, spec["kernel"]))
    words = say("the maximum of {size} pixels instead of their average", size=size)
    yield words, spec.with_settings(pooling="maximum")
    words = say("the first of {size} pixels instead of their average", size=size)
    yield words, spec.with_settings(kernel=(1, 1), after=(0, 0))
    wide = {"kernel": (3, 3), "padding": (1, 1), "after": None}
    for pooling, words in (
        (
            "counting",
            say("averages 3 x 3 pixels, counting the padding, instead of {size}", size=size),
        ),
        (
            "present",
            say("averages 3 x 3 pixels, not counting the padding, instead of {size}", size=size),
        ),
    ):
        yield words, spec.with_settings(**wide, pooling=pooling)


def vary_blur(spec: StageSpec) -> Variants:
    for mode, words in (
        ("constant", say("pads with zeros instead of by reflection")),
        ("edge", say("pads by repeating the edge instead of by reflection")),
    ):
        yield words, spec.with_settings(padding_mode=mode)
    for name, values in (
        (say("the first pixel instead of the filter"), (0, 1, 0)),
        (say("a mean of 3 x 3 pixels instead of the binomial filter"), (1, 1, 1)),
    ):
        yield name, spec.with_settings(filter=values)


def vary_subsample(spec: StageSpec) -> Variants:
    before, after = spec["before"], spec["after"]
    total = before + after
    for first, words in (
        (0, say("all channels of zeros are after the others")),
        (total, say("all channels of zeros are before the others")),
        (after, say("the odd channel of zeros is before the others")),
    ):
        if first != before:
            yield words, spec.with_settings(before=first, after=total - first)
    if max(spec["stride"]) > 1:
        steps = " x ".join(map(str, spec["stride"]))
        yield (
            say("takes the mean of {steps} pixels instead of the first", steps=steps),
            spec.with_settings(mean=True),
        )
        first_pixel = tuple(min(1, step - 1) for step in spec["stride"])
        words = say("reads pixels 1, 3, ... instead of 0, 2, ...")
        yield words, spec.with_settings(first_pixel=first_pixel)


def vary_groups(spec: StageSpec) -> Variants:
    """Groups of other channels."""
    groups, weight = spec["groups"] or 1, spec.parameters["weight"]
    each = weight.shape[1]
    if groups == 1:
        return
    inputs = np.arange(groups * each)
    if each > 1:
        shuffled = inputs.reshape(each, groups).T.ravel()
        words = say(
            "group g of {groups} has the input channels g, g + {groups}, ... (interleaved)",
            groups=groups,
        )
        yield words, spec.with_settings(group_order=shuffled)
        dealt = inputs.reshape(groups, each).T.ravel()
        words = say(
            "its input channels are dealt out to the {groups} groups, one of each in turn",
            groups=groups,
        )
        yield words, spec.with_settings(group_order=dealt)
    words = say(
        "its {groups} groups have the input channels in reverse order of the groups", groups=groups
    )
    turned = inputs.reshape(groups, each)[::-1].ravel()
    yield words, spec.with_settings(group_order=turned)
    words = say("every group has the input channels of the first one")
    yield words, spec.with_settings(group_order=np.tile(inputs[:each], groups))
