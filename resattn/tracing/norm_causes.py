"""Mistakes of norms and of their running statistics."""

from __future__ import annotations

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.cause import Variants
from resattn.tracing.computation import ALL_BUT_CHANNELS, Inputs, StageSpec
from weights.language import say


def drop_bias(spec: StageSpec) -> Variants:
    bias = spec.parameters.get("bias")
    if bias is not None and np.any(bias):
        yield say("the bias is missing"), spec.with_parameters(bias=np.zeros_like(bias))


def reset_parameters(spec: StageSpec) -> Variants:
    """Parameters that were never loaded: a norm starts as the identity."""
    weight, bias = np.ones_like(spec.parameters["weight"]), np.zeros_like(spec.parameters["bias"])
    yield (
        say("the scale is missing or was never loaded: it is 1"),
        spec.with_parameters(weight=weight),
    )
    yield (
        say("scale and offset were never loaded: they are 1 and 0"),
        spec.with_parameters(weight=weight, bias=bias),
    )
    if spec.kind == "batch_norm" and not spec["training"]:
        statistics = {"running_mean": bias, "running_var": weight}
        yield (
            say("the running statistics were never loaded: they are 0 and 1"),
            spec.with_parameters(**statistics),
        )
        yield (
            say("the running mean was never loaded: it is 0"),
            spec.with_parameters(running_mean=bias),
        )
        yield (
            say("the running variance was never loaded: it is 1"),
            spec.with_parameters(running_var=weight),
        )
        yield (
            say("none of its parameters was loaded"),
            spec.with_parameters(weight=weight, bias=bias, **statistics),
        )


EPS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-7, 1e-8, 1.001e-5, 2e-5, 1e-2, 0.0)


def vary_eps(spec: StageSpec) -> Variants:
    for eps in EPS:
        if eps != spec["eps"]:
            yield (
                say("eps {eps:g} instead of {old:g}", eps=eps, old=spec["eps"]),
                spec.with_settings(eps=eps),
            )


def solve_eps(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    """The eps by which the channel with the least variance was normalised."""
    if spec.kind != "batch_norm":
        return
    x, leaves = inputs[0], spec.parameters
    mean, variance = leaves["running_mean"], leaves["running_var"]
    if spec["training"]:
        mean, variance = x.mean(ALL_BUT_CHANNELS), x.var(ALL_BUT_CHANNELS)
    shape = (1, -1, 1, 1)
    centred = (x - mean.reshape(shape)) * leaves["weight"].reshape(shape)
    scaled = actual - leaves["bias"].reshape(shape)
    energy = (centred**2).sum(ALL_BUT_CHANNELS)
    alive = energy > 1e-6 * energy.max()  # a channel with gamma 0 does not depend on eps
    if len(variance) < 2 or not alive.any():  # in one channel, any scale looks like an eps
        return
    with np.errstate(all="ignore"):
        found = (energy / (centred * scaled).sum(ALL_BUT_CHANNELS)) ** 2 - variance
    eps = float(found[np.argmin(np.where(alive & (variance > 0), variance, np.inf))])
    if np.isfinite(eps) and eps > 0:
        for digits in (1, 2, 3, 5):
            tried = float(f"{eps:.{digits}g}")
            yield (
                say("eps {eps:g} instead of {old:g}", eps=tried, old=spec["eps"]),
                spec.with_settings(eps=tried),
            )


def swap_scale_and_offset(spec: StageSpec) -> Variants:
    weight, bias = spec.parameters["weight"], spec.parameters["bias"]
    yield (
        say("gamma and beta (weight and bias) are swapped"),
        spec.with_parameters(weight=bias, bias=weight),
    )


def swap_statistics(spec: StageSpec) -> Variants:
    if not spec["training"]:
        mean, variance = spec.parameters["running_mean"], spec.parameters["running_var"]
        yield (
            say("running mean and variance are swapped"),
            spec.with_parameters(running_mean=variance, running_var=mean),
        )


def switch_mode(spec: StageSpec) -> Variants:
    if spec["training"]:
        words = say("normalises by the running statistics: it is still in evaluation mode")
        yield words, spec.with_settings(training=False)
    else:
        words = say("normalises by the batch's statistics: it is still in training mode")
        yield words, spec.with_settings(training=True)


def vary_variance(spec: StageSpec) -> Variants:
    if spec.kind == "running variance":
        words = say("keeps the biased variance (divided by n), as Flax and Keras do")
        yield words, spec.with_settings(biased=True)
    elif spec["training"]:
        words = say("normalises by the unbiased variance (divided by n - 1)")
        yield words, spec.with_settings(unbiased=True)


DECAYS = (0.99, 0.9, 0.1, 0.999, 0.95, 0.01, 0.0)


def vary_decay(spec: StageSpec) -> Variants:
    for decay in DECAYS:
        if decay != spec["decay"]:
            words = say("decay {decay:g} instead of {old:g}", decay=decay, old=spec["decay"])
            if decay == round(1 - spec["decay"], 12):
                words = say("{words} (1 - decay: momentum and decay are confused)", words=words)
            yield words, spec.with_settings(decay=decay)
    yield say("is not updated in training"), spec.with_settings(decay=1.0)


def solve_decay(spec: StageSpec, inputs: Inputs, actual: Array) -> Variants:
    running, batch, n = inputs
    batch = batch if spec["biased"] or spec.kind == "running mean" else batch * n / (n - 1)
    apart = running - batch
    decay = float(((actual - batch) * apart).sum() / (apart**2).sum())
    if len(running) < 2 or not 0 <= decay <= 1:  # in one channel, any number looks like a decay
        return
    for digits in (2, 3, 5):
        tried = float(f"{decay:.{digits}g}")
        yield (
            say("decay {decay:g} instead of {old:g}", decay=tried, old=spec["decay"]),
            spec.with_settings(decay=tried),
        )


def vary_stored_variance(spec: StageSpec) -> Variants:
    """Something else than the variance where the variance should be."""
    if spec["training"]:
        return
    variance = spec.parameters["running_var"]
    with np.errstate(all="ignore"):
        stored = {
            say("the running variance holds the deviation, its root"): np.sqrt(variance),
            say("divides by the running variance instead of its root"): variance**2,
            say("the running variance holds its inverse"): 1 / variance,
            say("the running variance holds the inverse of the deviation"): 1 / np.sqrt(variance),
            say("the running variance holds 1 / sqrt(variance + eps)"): (variance + spec["eps"])
            ** -0.5,
        }
        inverse = 1 / (variance + spec["eps"])
    for words, other in stored.items():
        yield words, spec.with_parameters(running_var=other)
    words = say("multiplies by the deviation instead of dividing by it")
    yield words, spec.with_parameters(running_var=inverse).with_settings(eps=0.0)


def vary_gamma(spec: StageSpec) -> Variants:
    weight = spec.parameters["weight"]
    yield say("multiplies by 1 + gamma instead of gamma"), spec.with_parameters(weight=weight + 1)
    yield say("multiplies by gamma - 1 instead of gamma"), spec.with_parameters(weight=weight - 1)
    if spec.kind in ("batch_norm", "group_norm"):
        words = say("adds eps to the deviation instead of the variance")
        yield words, spec.with_settings(eps_outside=True)


def vary_norm(spec: StageSpec) -> Variants:
    yield say("the norm is missing"), spec.with_settings(norm="identity")
    yield say("the norm is applied twice"), spec.with_settings(again=True)
    if spec.kind == "group_norm":
        yield from _vary_groups(spec)
    if spec.kind == "batch_norm":
        channels = len(spec.parameters["weight"])
        yield say("an instance norm instead of a batch norm"), spec.with_settings(norm="instance")
        words = say("a layer norm of each position instead of a batch norm")
        yield words, spec.with_settings(norm="position")
        words = say("a layer norm of each image instead of a batch norm")
        yield words, spec.with_settings(norm=1)
        for groups in (2, 4, 8, 16, 32):
            if groups < channels and channels % groups == 0:
                words = say(
                    "a group norm of {groups} groups instead of a batch norm", groups=groups
                )
                yield words, spec.with_settings(norm=groups)


def _vary_groups(spec: StageSpec) -> Variants:
    """Other numbers of groups, and the norms that these are."""
    channels, groups = len(spec.parameters["weight"]), spec["groups"]
    for count in range(1, min(channels, 64) + 1):
        if count != groups and channels % count == 0:
            yield (
                say("{count} groups instead of {groups}", count=count, groups=groups),
                spec.with_settings(norm=count),
            )
    if groups != channels:
        yield say("an instance norm instead of a group norm"), spec.with_settings(norm="instance")
    words = say("a layer norm of each position instead of a group norm")
    yield words, spec.with_settings(norm="position")
    words = say("the statistics of the batch (a batch norm) instead of a group norm")
    yield words, spec.with_settings(norm="batch")
