"""What the rounding of a number format explains, measured by Monte Carlo arithmetic.

The oracle repeats its passes with random errors after every operation, as large as the format's
rounding errors. How far the results move is how far a right model may be from the oracle: in this
network, for this input and tensor by tensor. No tolerance is chosen for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from resattn.checking.backends import Quantities
from resattn.checking.threads import Made, one_blas_thread, run_together
from resattn.oracle import evaluation as reference
from resattn.oracle.evaluation import Pass
from resattn.oracle.kinks import Kinks
from resattn.oracle.node import Array, Noise, disturbed, rounded_to
from weights.config import BlockConfig
from weights.convert import LOW
from weights.graph import Graph
from weights.language import mark

TensorKey = tuple[str, str]  # quantity and tensor


@dataclass(frozen=True)
class Format:
    """How numbers are held and rounded.

    name: of the format of the results of operations. sums: of the format of sums. mixed: whether
    parameters and images are held in float32 and rounded where they are used.

    TF32 is mixed, too: a product of float32 rounds both factors to 10 bits of mantissa and adds up
    in float32. The factors are parameters and results of other operations, so it is judged as if
    all of these were rounded. What is no product (norms apart, which are in float32 for every
    format) keeps 23 bits on the device: the rule allows for a few roundings that do not happen.
    """

    name: str
    sums: str
    mixed: bool = False

    @property
    def is_low(self) -> bool:
        return self.name in LOW or self.name == TF32

    @property
    def compute(self) -> str | None:
        """The lower format that a model in mixed precision is built with."""
        return self.name if self.mixed and self.name != TF32 else None

    @property
    def precision(self) -> str:
        """What `precise` is asked for."""
        return TF32 if self.name == TF32 else self.sums

    def hold(self, graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Parameters as a model holds them; running statistics are in float32 at least."""
        trainable = {parameter.name for parameter in graph.parameters if parameter.trainable}
        return {
            name: array.astype(self.held if name in trainable else self.sums)
            for name, array in arrays.items()
        }

    @property
    def held(self) -> str:
        """The dtype of parameters and images."""
        return self.sums if self.mixed else self.name

    def noise(self, rng: np.random.Generator) -> Noise:
        """Errors as large as those of rounding to the format."""
        info, sums = _limits(self.name), _limits(self.sums)
        tiny = info.smallest_subnormal / 2 if self.name in LOW else info.smallest_normal
        margin = FLOAT64_MARGIN if self.name == "float64" else 1
        units = (margin * float(info.eps) / 2, margin * float(sums.eps) / 2)
        return Noise(rng, *units, float(tiny), float(info.max), self.mixed)


TF32 = "tf32"


class _Limits(NamedTuple):
    eps: float
    smallest_normal: float
    max: float


def _limits(name: str) -> Any:
    """The eps, the smallest and the greatest number of a format."""
    if name == TF32:  # the exponents of float32
        wide = np.finfo(np.float32)
        return _Limits(2.0**-10, float(wide.smallest_normal), float(wide.max))
    return ml_dtypes.finfo(name)  # type: ignore[no-untyped-call]


FORMATS = {
    **{name: Format(name, name) for name in ("float64", "float32")},
    **{name: Format(name, "float32") for name in LOW},
    **{f"mixed_{name}": Format(name, "float32", mixed=True) for name in LOW},
    TF32: Format(TF32, "float32", mixed=True),
}

MODES = (mark("eval"), mark("train"))
MODE_NAMES = {"eval": mark("evaluation"), "train": mark("training")}
# In float64 libraries have slower and simpler kernels: sums that start at the bias (PyTorch), or
# run over thousands of terms (TensorFlow). There more room costs nothing, since the smallest
# mistake is much greater than any rounding.
FLOAT64_MARGIN = 8
# Passes with noise: pairs in which each undecided kink is on either side once.
RUNS, NETWORK_RUNS = 4, 2
# The few runs show a spread; the true one is below the upper end of its 99 % confidence interval.
CONFIDENCE = 2.326  # quantile 0.99 of the normal distribution
INDEPENDENT = 16  # at most so many errors of a tensor count as independent of each other


@dataclass(frozen=True)
class Exact:
    """What the oracle says of a network, its inputs and the slopes of its output, in float64.

    stored: the results where they were computed before, with their scales.
    """

    graph: Graph
    arrays: Mapping[str, Array]
    x: Array
    cotangent: Array
    stored: tuple[Quantities, Mapping[TensorKey, float]] | None = None

    def run(self, mode: str, kinks: Kinks | None = None) -> Pass:
        """A pass, forward and backward."""
        return reference.run(
            self.graph,
            self.arrays,
            self.x,
            self.cotangent,
            training=mode == "train",
            kinks=kinks,
        )

    def run_each(self, passes: Iterable[Callable[[], Made]]) -> list[Made]:
        """The outcomes of functions that each make a pass."""
        products = sum(operation.multiply_adds for operation in self.graph) * len(self.x)
        return run_together(list(passes), products)

    @cached_property
    def passes(self) -> dict[str, Pass]:
        """The passes in both modes."""

        def run(mode: str) -> Pass:
            with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
                return self.run(mode, Kinks())

        return dict(zip(MODES, self.run_each(partial(run, mode) for mode in MODES), strict=True))

    @cached_property
    def quantities(self) -> Quantities:
        """All that is compared, by quantity and tensor."""
        if self.stored is not None:
            return self.stored[0]
        return {"weights": dict(self.arrays), **list_quantities(self.passes)}

    @cached_property
    def is_finite(self) -> bool:
        """Whether all is finite that is computed."""
        computed = (tensors for name, tensors in self.quantities.items() if name != "weights")
        return all(np.isfinite(array).all() for tensors in computed for array in tensors.values())

    @cached_property
    def scales(self) -> Mapping[TensorKey, float]:
        """What relative differences are relative to: the greatest magnitude of the tensor.

        Of gradients that cancel, or are exactly zero: the sum of the magnitudes that cancel.
        """
        if self.stored is not None:
            return self.stored[1]
        scales = {key: float(np.abs(array).max()) for key, array in list_tensors(self.quantities)}
        for mode, outcome in self.passes.items():
            scales |= {(f"{mode} gradient", name): each for name, each in outcome.scales.items()}
        return scales

    def measure_rounding(self, dtype: str, seed: int = 0) -> Rounding:
        """What the rounding of a format of `FORMATS` explains."""
        runs = RUNS if isinstance(self.graph.config, BlockConfig) else NETWORK_RUNS
        unit = float(_limits(FORMATS[dtype].name).eps) / 2
        explained, undecided = {}, {}
        for mode in MODES:
            expected = dict(list_tensors(list_quantities({mode: self.passes[mode]})))
            each = (partial(self._disturb, mode, dtype, seed, run) for run in range(runs))
            moved, counts = zip(*self.run_each(each), strict=True)
            undecided[mode] = max(counts)
            for key, array in expected.items():
                last = unit**2 * float(np.square(array).mean()) / 3  # of rounding the result
                with one_blas_thread():
                    upper = _upper_end([errors.pop(key) for errors in moved])
                explained[key] = float(np.sqrt(upper + last))
        return Rounding(explained, undecided)

    def _disturb(
        self, mode: str, dtype: str, seed: int, run: int
    ) -> tuple[dict[TensorKey, Array], int]:
        """The errors of one pass with noise, and how many kinks a coin decided in it."""
        number = MODES.index(mode)
        coin = np.random.default_rng([seed, 5, run // 2, number])
        noise = FORMATS[dtype].noise(np.random.default_rng([seed, 6, run, number]))
        exact = self.passes[mode]
        kinks = Kinks(exact.kinks.distances, coin, inverted=run % 2 == 1, unit=noise.unit)
        with disturbed(noise), np.errstate(all="ignore"):
            moved = self.run(mode, kinks)
        expected = dict(list_tensors(list_quantities({mode: exact})))
        with np.errstate(invalid="ignore", over="ignore"):
            errors = {
                key: (array - expected[key]).ravel()
                for key, array in list_tensors(list_quantities({mode: moved}))
            }
        return errors, kinks.undecided

    def peer(self, dtype: str) -> Quantities:
        """What the oracle computes in a lower format: each result rounded, sums in float64."""

        def run(mode: str) -> Pass:
            with rounded_to(FORMATS[dtype].name), np.errstate(all="ignore"):
                return self.run(mode)

        made = self.run_each(partial(run, mode) for mode in MODES)
        return list_quantities(dict(zip(MODES, made, strict=True)))


@dataclass(frozen=True)
class Rounding:
    """explained: for each quantity and tensor the root mean square of the errors that rounding can
    make. undecided: for each mode, how many relus and maxima rounding puts on either side.
    """

    explained: Mapping[TensorKey, float]
    undecided: Mapping[str, int]


def list_quantities(passes: Mapping[str, Pass]) -> Quantities:
    """What is compared of passes in each mode, by quantity and tensor."""
    found: Quantities = {}
    for mode, outcome in passes.items():
        found[f"{mode} output"] = {"output": outcome.output}
        if mode == "train":
            found["train statistics"] = outcome.statistics
        found[f"{mode} gradient"] = outcome.every_gradient
    return found


def list_tensors(quantities: Quantities) -> Iterator[tuple[TensorKey, Array]]:
    """Every tensor with its quantity and its name."""
    for quantity, tensors in quantities.items():
        for tensor, array in tensors.items():
            yield (quantity, tensor), array


def _upper_end(errors: list[Array]) -> float:
    """The upper end of the confidence interval of a mean square error.

    errors: of a tensor, in each run. Errors of its values may depend on each other, as all channels
    do on one gate: then the errors of two runs have the same direction. The square of their cosine
    is on average 1 / (number of independent errors).
    """
    with np.errstate(invalid="ignore", over="ignore"):
        squares = [float(each @ each) for each in errors]
        square = sum(squares) / (len(errors) * errors[0].size)
    if not np.isfinite(square):
        return np.inf
    if square == 0:
        return 0.0
    cosines = [
        float(one @ other / np.sqrt(first) / np.sqrt(second)) ** 2
        for (one, first), (other, second) in combinations(zip(errors, squares, strict=True), 2)
        if min(first, second) > 0
    ]
    alike = max(float(np.mean(cosines)) if cosines else 1.0, 1 / INDEPENDENT)
    freedom = len(errors) / alike
    # The quantile of the chi-squared distribution (Wilson & Hilferty 1931), exact for 2 degrees.
    spread = 2 / (9 * freedom)
    quantile = freedom * max(1 - spread - CONFIDENCE * spread**0.5, 0) ** 3
    upper: float = square * freedom / max(quantile, -2 * float(np.log(0.99)))
    return upper
