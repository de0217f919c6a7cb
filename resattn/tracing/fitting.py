"""Numbers that are solved for through steps that were not recorded: an eps, a slope, a factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from resattn.oracle.node import Array
from resattn.tracing.cause import NORMS, shorten_list
from resattn.tracing.computation import StageSpec, compute
from resattn.tracing.places import Sets
from resattn.tracing.steps import ImpossibleChange, Program, Steps, TracedStep
from weights.graph import IMAGE
from weights.language import mark, say

Fit = tuple[str, str, str, list[str], Callable[[Program], Steps]]  # label, cause, words, places


@dataclass(frozen=True)
class Number:
    """A number that a cause is made of.

    apply: the specification with it. grid: where the search for it starts. describe: its words.
    """

    cause: str
    kinds: tuple[str, ...]
    grid: tuple[float, ...]
    apply: Callable[[StageSpec, float], StageSpec]
    describe: Callable[[StageSpec, float], str]


SCALES = (0.05, 0.2, 0.5, 0.8, 1.3, 2.0, -1.0)
NUMBERS = (
    Number(
        mark("batch norm eps"),
        NORMS,
        (1e-6, 1e-4, 1e-3, 1e-2, 0.1, 1.0),
        lambda spec, value: spec.with_settings(eps=abs(value)),
        lambda spec, value: say("eps {eps:g} instead of {old:g}", eps=abs(value), old=spec["eps"]),
    ),
    Number(
        "activation",
        ("relu",),
        (0.01, 0.1, 0.3, -0.1),
        lambda spec, value: spec.with_settings(activation="leaky relu", slope=value),
        lambda spec, value: say(
            "leaky relu with a slope of {slope:g} instead of relu", slope=value
        ),
    ),
    Number(
        mark("scaled branch"),
        ("sum",),
        SCALES,
        lambda spec, value: spec.with_settings(factors=(value, 1)),
        lambda spec, value: say(
            "the main path is multiplied by {factor:g} before the sum", factor=value
        ),
    ),
    Number(
        mark("scaled branch"),
        ("sum",),
        SCALES,
        lambda spec, value: spec.with_settings(factors=(1, value)),
        lambda spec, value: say(
            "the shortcut is multiplied by {factor:g} before the sum", factor=value
        ),
    ),
    Number(
        "gate",
        ("product",),
        SCALES,
        lambda spec, value: spec.with_settings(factor=value),
        lambda spec, value: say(
            "the product with the gate is multiplied by {factor:g}", factor=value
        ),
    ),
)


def fit_numbers(
    small: Program, exact: Program, sets: Sets, target: str, actual: Array, most: int = 4
) -> Iterator[Fit]:
    """Causes with numbers that bring the target near to what it is in one image, the nearest first.

    small: what starts are tried on; exact: the same in float64.
    """
    tried: list[tuple[float, int, float, str, list[str]]] = []
    before = float(np.linalg.norm(small.expect(target) - actual))
    seen = set()
    for label, places in sets:
        for number, each in enumerate(NUMBERS):
            able = [name for name in places if small.steps[name].spec.kind in each.kinds]
            if able and (number, frozenset(able)) not in seen:
                seen.add((number, frozenset(able)))
                distance, value = _start(small, each, able, target, actual)
                if distance < 0.7 * before:
                    tried.append((distance, number, value, label, able))
    for _, number, value, label, able in sorted(tried, key=lambda each: each[0])[:most]:
        each = NUMBERS[number]
        solved = _refine(exact, each, able, value, target, actual)
        for digits in (1, 2, 3, 5, 7):
            rounded = float(f"{solved:.{digits}g}")
            words = each.describe(small.steps[able[0]].spec, rounded)
            yield label, each.cause, words, able, _make_number_change(each, able, rounded)


def fit_image(program: Program, target: str, actual: Array) -> list[Fit]:
    """A scale and an offset for each channel of the image, by the method of Levenberg and Marquardt
    on the target; none if it has too few values. program: in float64.
    """
    spec = program.steps[IMAGE].spec
    channels = spec["channels"]
    if actual.size < 2 * channels:
        return []

    def change_to(numbers: Array) -> Callable[[Program], Steps]:
        scale, offset = np.split(numbers, 2)
        changed = spec.with_settings(scale=scale, offset=offset)
        return lambda program: {IMAGE: replace(program.steps[IMAGE], spec=changed)}

    def evaluate(numbers: Array) -> Array:
        return program.evaluate(change_to(numbers)(program), target).ravel()

    start = np.concatenate([np.ones(channels), np.zeros(channels)])
    solved = minimise(lambda numbers: evaluate(numbers) - actual.ravel(), start)
    found: list[Fit] = []
    for digits in (2, 3, 5, 7):
        rounded = np.array([float(f"{number:.{digits}g}") for number in solved])
        scale, offset = np.split(rounded, 2)
        words = say(
            "the image is scaled by {scale} and shifted by {offset}",
            scale=shorten_list(map(float, scale)),
            offset=shorten_list(map(float, offset)),
        )
        found.append(("", mark("normalisation of the image"), words, [IMAGE], change_to(rounded)))
    return found


def minimise(residual: Callable[[Array], Array], start: Array, rounds: int = 15) -> Array:
    """The numbers at which the sum of the squares of the residuals is least (Marquardt 1963).

    It ends where a round gains little: at the least, or where it leads nowhere.
    """
    at, damping, step = start, 1e-2, 1e-6
    off = residual(at)
    for _ in range(rounds):
        slopes = np.stack(
            [(residual(at + step * axis) - off) / step for axis in np.eye(len(at))], axis=1
        )
        normal = slopes.T @ slopes
        scale = np.diag(np.diag(normal) + 1e-12)
        for _ in range(8):
            moved = at - np.linalg.solve(normal + damping * scale, slopes.T @ off)
            there = residual(moved)
            if there @ there < off @ off:
                break
            damping *= 4
        else:
            return at
        gained = off @ off - there @ there
        at, off, damping = moved, there, damping / 9
        if gained <= 1e-2 * (off @ off) or off @ off < 1e-24:
            break
    return at


def _make_number_change(
    number: Number, places: list[str], value: float
) -> Callable[[Program], Steps]:
    def change(program: Program) -> Steps:
        found: dict[str, TracedStep] = {}
        for name in places:
            step = program.steps[name]
            found[name] = replace(step, spec=number.apply(step.spec, value))
        return found

    return change


def _start(
    program: Program, number: Number, places: list[str], target: str, actual: Array
) -> tuple[float, float]:
    """The value of the grid in whose direction the target is, and how far that leads past it."""

    def make_site(name: str) -> Callable[..., Iterator[tuple[int, Array]]]:
        spec = program.steps[name].spec

        def run(inputs: Callable[[int], tuple[Array, ...]]) -> Iterator[tuple[int, Array]]:
            for row, value in enumerate(number.grid):
                yield row, compute(number.apply(spec, value), inputs(row))

        return run

    try:
        sites = {name: make_site(name) for name in places}
        y = program.evaluate_rows(sites, len(number.grid), target)
    except ImpossibleChange:
        return np.inf, 0.0
    base = program.expect(target)
    steps, rest = (y - base).reshape(len(y), -1), (actual - base).ravel()
    with np.errstate(all="ignore"):
        size = (steps**2).sum(1)
        along = np.clip((steps @ rest) / size, 0, 3)
        apart = np.linalg.norm(along[:, None] * steps - rest, axis=1)
    best = int(np.nan_to_num(apart, nan=np.inf).argmin())
    return float(apart[best]), number.grid[best]


def _refine(
    program: Program, number: Number, places: list[str], value: float, target: str, actual: Array
) -> float:
    """Gauss-Newton's method in one number; of a positive grid in its logarithm."""
    logarithmic = min(number.grid) > 0 and max(number.grid) / min(number.grid) > 1e3

    def evaluate(at: float) -> Array:
        tried = float(np.exp(at)) if logarithmic else at
        changed = _make_number_change(number, places, tried)(program)
        return program.evaluate(changed, target)

    at = float(np.log(value)) if logarithmic else value
    for _ in range(12):
        y = evaluate(at)
        slope = (evaluate(at + 1e-6) - y) / 1e-6
        size = float((slope**2).sum())
        step = float((slope * (actual - y)).sum()) / size if size > 0 else 0.0
        at += float(np.clip(step, -2, 2))
        if not np.isfinite(at) or abs(step) < 1e-11:
            break
    return float(np.exp(at)) if logarithmic else at
