"""Causes that are solved for from the output: dropout left on, a factor for each channel, and other
weights, where there are more values than unknowns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.computation import POSITION_AXES, StageSpec, compute, find_margins
from resattn.tracing.explanations import CauseExplanation, measure_misfit
from resattn.tracing.steps import ImpossibleChange, Program
from weights.language import mark, say

Solutions = Iterator[CauseExplanation]
RATES = (0.1, 0.2, 0.3, 0.5, 0.05, 0.25, 0.4, 0.15, 0.6)
ACTIVE = ("relu", "hard_swish")


def solve_target(program: Program, target: str, actual: Array, limit: float) -> Solutions:
    """The causes of the target itself, and of a sum right before it."""
    yield from _solve_branch(program, target, actual, limit)
    yield from _solve_drop_path(program, target, actual, limit)
    yield from _solve_mask(program, target, actual, limit)
    if program.reach(target) == [target]:
        yield from _solve_weights(program, target, actual, limit)


def _fits(y: Array, actual: Array, limit: float) -> float | None:
    return measure_misfit(StageSpec("input"), y, actual, limit)


# Branches of a sum


def _find_sum(program: Program, target: str) -> tuple[str, Callable[[Array], Array]] | None:
    """The sum that the target is or activates, and the activation."""
    step = program.steps[target]
    if step.spec.kind == "sum":
        return target, lambda x: x
    before = step.inputs[0] if step.inputs else ""
    known = before in program.fixed
    if step.spec.kind in ACTIVE and program.steps[before].spec.kind == "sum" and not known:
        return before, lambda x: compute(step.spec, (x,))
    return None


def _solve_branch(program: Program, target: str, actual: Array, limit: float) -> Solutions:
    found = _find_sum(program, target)
    if found is None or len(program.steps[found[0]].inputs) != 2:
        return
    total, activate = found
    names = program.steps[total].inputs
    for number, title in enumerate((say("the main path"), say("the shortcut"))):
        scaled, other = (program.values[name] for name in (names[number], names[1 - number]))
        if scaled.shape != actual.shape:
            continue
        full, rest = f"{title} ({names[number]})", (scaled, other, activate, actual, limit)
        for each in (*_solve_channels(title, *rest), *_solve_dropout(full, *rest)):
            yield replace(each, places=(names[number],))


def _solve_channels(
    title: str,
    scaled: Array,
    other: Array,
    activate: Callable[[Array], Array],
    actual: Array,
    limit: float,
) -> Solutions:
    """A factor for each channel (layer scale)."""
    axes = (0, *POSITION_AXES)
    seen = np.where(actual > 0, 1.0, 0.0) if actual.min() >= 0 else np.ones_like(actual)
    energy = (seen * scaled**2).sum(axes, keepdims=True)
    if actual.shape[1] < 2 or (seen * (scaled != 0)).sum(axes).min() < 4:
        return
    factors = (seen * scaled * (actual - other)).sum(axes, keepdims=True) / energy
    left = _fits(activate(factors * scaled + other), actual, limit)
    if left is not None:
        shown = ", ".join(f"{factor:.4g}" for factor in factors.ravel()[:6])
        shown += ", ..." if factors.size > 6 else ""
        words = say(
            "{title} is multiplied by a factor for each channel ({shown})", title=title, shown=shown
        )
        yield CauseExplanation(mark("layer scale"), words, StageSpec("sum"), left)


def _solve_dropout(
    title: str,
    scaled: Array,
    other: Array,
    activate: Callable[[Array], Array],
    actual: Array,
    limit: float,
) -> Solutions:
    """Each value without the branch, or with the branch times one factor over 1."""
    without = activate(other)
    bound = limit * (np.abs(actual).max() or 1)
    dropped = np.abs(actual - without) <= bound
    clear = ~dropped & (np.abs(scaled) > 1e-3 * np.abs(scaled).max()) & (actual != 0)
    if clear.sum() < 4 or not dropped.any():
        return
    factor = float(np.median((actual - other)[clear] / scaled[clear]))
    kept = activate(factor * scaled + other)
    y = np.where(dropped, without, kept)
    left = _fits(y, actual, limit)
    lost = dropped & (np.abs(kept - without) > bound)  # those that the branch would change
    if left is not None and factor > 1.001 and lost.any():
        rate = f"{1 - 1 / factor:.3g}"
        whole = lost.reshape(len(lost), -1).any(1)
        partly = (~dropped & (np.abs(kept - without) > bound)).reshape(len(lost), -1).any(1)
        if not (whole & partly).any():
            words = _describe_drop_path(title, np.flatnonzero(whole).tolist(), factor)
            yield CauseExplanation(mark("drop path left on"), words, StageSpec("sum"), left)
        else:
            words = say(
                "dropout is left on in {title}: some of its values are 0 and the others are "
                "multiplied by {factor:.4g}, as with a rate of {rate}",
                title=title,
                factor=factor,
                rate=rate,
            )
            yield CauseExplanation(mark("dropout left on"), words, StageSpec("sum"), left)


def _describe_drop_path(title: str, images: list[int], factor: float) -> str:
    return say(
        "drop path (stochastic depth) is left on: {title} is missing in image {images} "
        "and multiplied by {factor:.4g} in the others, as with a rate of {rate:.3g}",
        title=title,
        images=", ".join(map(str, images)),
        factor=factor,
        rate=1 - 1 / factor,
    )


def _solve_drop_path(program: Program, target: str, actual: Array, limit: float) -> Solutions:
    """Through steps that were not recorded: with some images that lack the branch."""
    region = program.reach(target)
    sums = [name for name in region if program.steps[name].spec.kind == "sum"]
    if program.training or len(region) < 3 or len(actual) < 2:
        return
    for name in sums:
        try:
            without = _scale_main(program, name, 0, target)
        except ImpossibleChange:
            continue
        lost = [_fits(y, part, limit) is not None for y, part in _by_image(without, actual)]
        if any(lost) and not all(lost):
            for rate in RATES:
                y = _scale_main(program, name, 1 / (1 - rate), target)
                y = np.where(np.reshape(lost, (-1, *(1,) * (y.ndim - 1))), without, y)
                left = _fits(y, actual, limit)
                if left is not None:
                    images = np.flatnonzero(lost).tolist()
                    title = say("the main path before {name}", name=name)
                    words = _describe_drop_path(title, images, 1 / (1 - rate))
                    cause, spec = mark("drop path left on"), StageSpec("sum")
                    yield CauseExplanation(cause, words, spec, left, places=(name,))
                    return


def _scale_main(program: Program, name: str, factor: float, target: str) -> Array:
    step = program.steps[name]
    changed = replace(step, spec=step.spec.with_settings(factors=(factor, 1)))
    return program.evaluate({name: changed}, target)


def _by_image(y: Array, actual: Array) -> Iterator[tuple[Array, Array]]:
    return ((y[n : n + 1], actual[n : n + 1]) for n in range(len(actual)))


# Dropout before a product


def _solve_mask(
    program: Program, target: str, actual: Array, limit: float, most: int = 600
) -> Solutions:
    step = program.steps[target]
    if step.spec.kind not in ("convolution", "linear"):
        return
    (x,) = (program.values[name] for name in step.inputs)
    size = x[0].size
    if size > most or (program.training and len(x) == 1):
        return
    base = compute(step.spec, (np.zeros_like(x[:1]),))
    eye = np.eye(size).reshape(size, *x.shape[1:])
    matrix = (compute(step.spec, (eye,)) - base).reshape(size, -1).T
    wanted = (actual - base).reshape(len(x), -1)
    given = x.reshape(len(x), -1)
    found = _solve_by_equations(matrix, wanted, given, limit)
    if found is None and size <= 12:
        found = _solve_by_trial(matrix, wanted, given, limit)
    if found is not None:
        masked, rate = found
        y = (masked @ matrix.T).reshape(actual.shape) + base
        left = _fits(y, actual, limit)
        if left is not None:
            words = say(
                "dropout is left on before {target}: some of the values in {name} are 0 and the "
                "others are multiplied by {factor:.4g}, as with a rate of {rate:.3g}",
                target=target,
                name=step.inputs[0],
                factor=1 / (1 - rate),
                rate=rate,
            )
            yield CauseExplanation(mark("dropout left on"), words, StageSpec("linear"), left)


def _solve_by_equations(
    matrix: Array, wanted: Array, given: Array, limit: float
) -> tuple[Array, float] | None:
    """For each image the values that are not 0, by least squares; each must be 0 or all others
    times one factor.
    """
    masked = np.zeros_like(given)
    for row, (x, y) in enumerate(zip(given, wanted, strict=True)):
        part = matrix[:, x != 0]
        if len(part) < part.shape[1] or np.linalg.matrix_rank(part) < part.shape[1]:
            return None
        masked[row, x != 0] = np.linalg.lstsq(part, y, rcond=None)[0]
    live = np.abs(given) > 1e-3 * np.abs(given).max()
    ratios = masked[live] / given[live]
    kept = np.abs(ratios) > 0.5
    if not kept.any() or kept.all():
        return None
    factor = float(np.median(ratios[kept]))
    clean = np.where(np.abs(masked) > 0.5 * np.abs(given), factor * given, 0)
    return (np.where(live, clean, masked), 1 - 1 / factor) if factor > 1.001 else None


def _solve_by_trial(
    matrix: Array, wanted: Array, given: Array, limit: float
) -> tuple[Array, float] | None:
    masks = np.array(list(product((0.0, 1.0), repeat=matrix.shape[1])))
    for rate in RATES:
        rows = []
        for x, y in zip(given, wanted, strict=True):
            tried = masks * x / (1 - rate)
            apart = np.abs(tried @ matrix.T - y).max(1)
            if apart.min() > limit * (np.abs(wanted).max() or 1) * 4:
                break
            rows.append(tried[apart.argmin()])
        if len(rows) == len(given):
            return np.array(rows), rate
    return None


# Other weights


def _solve_weights(program: Program, target: str, actual: Array, limit: float) -> Solutions:
    step = program.steps[target]
    spec = step.spec
    if not all(np.isfinite(program.values[name]).all() for name in step.inputs):
        return
    inputs = tuple(program.values[name] for name in step.inputs)
    if spec.kind == "batch_norm":
        solve = _solve_fast_variance if program.training else _solve_norm
        yield from solve(spec, inputs[0], actual, limit)
    if (spec.kind == "convolution" and spec["groups"] == 1) or spec.kind == "linear":
        extent = spec.parameters["weight"].shape[2:]
        for more in (0, 2) if max(extent, default=1) > 1 else (0,):
            found = _fit_kernel(spec, inputs[0], actual, more)
            if found is None:
                continue
            kernel, y = found
            left = _fits(y, actual, limit)
            if left is None:
                continue
            words = _describe_kernel(spec, kernel, more)
            name = mark("kernel of another size") if more else mark("other weights")
            yield CauseExplanation(name, words, spec, left)
            return


def _describe_kernel(spec: StageSpec, kernel: Array, more: int) -> str:
    right = spec.parameters["weight"]
    if more:
        rows, cols = right.shape[2:]
        return say(
            "the output is that of a kernel of {larger_rows} x {larger_cols} instead of "
            "{rows} x {cols}",
            larger_rows=rows + more,
            larger_cols=cols + more,
            rows=rows,
            cols=cols,
        )
    apart = np.linalg.norm(kernel - right) / (np.linalg.norm(right) or 1)
    return say(
        "all its weights are other ones than those given, by {apart:.1%} or more: from "
        "another checkpoint (such as EMA instead of raw weights), or changed",
        apart=apart,
    )


def _solve_fast_variance(spec: StageSpec, x: Array, actual: Array, limit: float) -> Solutions:
    """Variances that are off by no more than float32 rounds the mean of the squares."""
    axes = (0, *POSITION_AXES)
    gamma, beta = (spec.parameters[leaf].reshape(1, -1, 1, 1) for leaf in ("weight", "bias"))
    mean, variance = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    if not gamma.all() or not variance.all():
        return
    scale = ((x - mean) * (actual - beta)).sum(axes, keepdims=True) / variance / x[:, 0].size
    offset = actual.mean(axes, keepdims=True) - beta  # of a mean that is rounded as well
    left = _fits((x - mean) * scale + beta + offset, actual, limit)
    if (np.abs(offset) > 1e-6 * np.abs(mean * scale)).any():
        return
    other = (gamma / scale) ** 2 - spec["eps"]
    if left is not None and (np.abs(other - variance) <= 1e-6 * (mean**2 + variance)).all():
        words = say(
            "the variance is computed as the mean of the squares minus the square of the "
            "mean (fast variance), which loses digits where the mean is large"
        )
        yield CauseExplanation(mark("fast variance"), words, spec, left)


def _solve_norm(spec: StageSpec, x: Array, actual: Array, limit: float) -> Solutions:
    """A scale and an offset for each channel, of the input."""
    if x[:, 0].size < 12 or x.shape[1] < 2:
        return
    axes = (0, *POSITION_AXES)
    right = compute(spec, (x,))
    means = x.mean(axes, keepdims=True), actual.mean(axes, keepdims=True)
    centred = x - means[0]
    energy = (centred**2).sum(axes, keepdims=True)
    scale = (centred * (actual - means[1])).sum(axes, keepdims=True) / np.where(energy, energy, 1)
    left = _fits(scale * centred + means[1], actual, limit)
    if left is not None:
        apart = np.linalg.norm(actual - right) / (np.linalg.norm(right) or 1)
        words = say(
            "all its parameters, or some, are other ones than those given: each channel has "
            "another scale or offset, by {apart:.1%} of the output: from another checkpoint "
            "(such as EMA instead of raw weights), or changed",
            apart=apart,
        )
        yield CauseExplanation(mark("other weights"), words, spec, left)


def _fit_kernel(
    spec: StageSpec, x: Array, actual: Array, more: int, most: int = 2500
) -> tuple[Array, Array] | None:
    """The kernel, and the bias if there is one, by least squares; None if there are not clearly
    more values than unknowns.
    """
    shape = spec.parameters["weight"].shape
    if spec.kind == "linear":
        rows, wanted = x.reshape(len(x), -1), actual
        shape = shape[:2]
    else:
        extent = tuple(size + more for size in shape[2:])
        margins = find_margins(spec, x.shape, shape[2:])
        reach = (spec["dilation"] or 1) * (more // 2)
        padded = np.pad(x, ((0, 0), (0, 0), *((a + reach, b + reach) for a, b in margins)))
        rows = _list_patches(padded, extent, spec)
        wanted = np.moveaxis(actual, 1, -1).reshape(-1, actual.shape[1])
        shape = (*shape[:2], *extent)
    if len(rows) != len(wanted) or rows.shape[1] > most:
        return None
    columns = np.hstack([rows, np.ones((len(rows), 1))]) if "bias" in spec.parameters else rows
    right = _spread(spec, shape) if columns is rows else _spread(spec, shape, bias=True)
    # The smallest change of the weights: where inputs are dead, any weights would do.
    change, _, rank, _ = np.linalg.lstsq(columns, wanted - columns @ right, rcond=None)
    if len(columns) < rank + max(8, rank // 8):
        return None
    found = right + change
    y = (columns @ found).reshape(len(x), *actual.shape[2:], actual.shape[1])
    return found[: rows.shape[1]].T.reshape(shape), np.moveaxis(y, -1, 1)


def _spread(spec: StageSpec, shape: tuple[int, ...], bias: bool = False) -> Array:
    """The weights as columns, zeros around a kernel of a smaller size."""
    weight = spec.parameters["weight"]
    more = [(wide - size) // 2 for wide, size in zip(shape, weight.shape, strict=True)]
    columns = np.pad(weight, [(size, size) for size in more]).reshape(len(weight), -1).T
    return np.vstack([columns, spec.parameters["bias"]]) if bias else columns


def _list_patches(padded: Array, extent: tuple[int, ...], spec: StageSpec) -> Array:
    apart, (step, leap) = spec["dilation"] or 1, spec["stride"]
    reach = tuple(apart * (size - 1) + 1 for size in extent)
    views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=POSITION_AXES)
    views = views[:, :, ::step, ::leap, ::apart, ::apart]
    return views.transpose(0, 2, 3, 1, 4, 5).reshape(-1, padded.shape[1] * int(np.prod(extent)))
