"""A problem for the cross-check: weights, images, slopes, and what the oracle says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from resattn.checking.backends import Quantities
from resattn.checking.draws import random_cotangent, random_input
from resattn.checking.tolerances import tolerance
from resattn.oracle import evaluation as reference
from weights import difference
from weights.config import Config
from weights.errors import ArgumentError
from weights.graph import Graph, check_size, graph, output_shape

Scales = dict[tuple[str, str], float]  # by quantity and tensor


@dataclass(frozen=True)
class Problem:
    """What is computed, and what the oracle says of it.

    margin: how near a relu comes to its kink or a maximum to a tie, relative to the tensor. There,
    rounding decides between two right gradients. movement: how far each tensor moves, relative to
    its scale, when weights and input move by half a unit in the last place: no computation in this
    dtype can be expected to do better.
    """

    graph: Graph
    arrays: Mapping[str, np.ndarray]
    x: np.ndarray
    cotangent: np.ndarray
    expected: Quantities
    scales: Mapping[tuple[str, str], float]
    margin: float
    movement: Mapping[tuple[str, str], float]

    @property
    def config(self) -> Config:
        return self.graph.config

    @property
    def dtype(self) -> str:
        return self.x.dtype.name

    def ill_conditioned(self, quantity: str, tensor: str) -> bool:
        return self.movement.get((quantity, tensor), 0) > tolerance(self.dtype, quantity) / 10

    @property
    def risk(self) -> float:
        """How likely it is that rounding alone decides something: up to 1 is clear of kinks and
        well conditioned.
        """
        movements = (
            10 * moved / tolerance(self.dtype, quantity)
            for (quantity, _), moved in self.movement.items()
            if quantity != "weights"
        )
        return max(_clearance(self.dtype) / max(self.margin, 1e-300), *movements)


def _clearance(dtype: str) -> float:
    return 32 * float(np.finfo(dtype).eps)


def graph_for(config: Config | Graph, x: np.ndarray) -> Graph:
    """The graph for these images. Raises ArgumentError where an attention cannot use them."""
    if isinstance(config, Graph):
        return config
    size = (x.shape[2], x.shape[3])
    check_size(config, size)
    return graph(config, size)


def pose(
    config: Config | Graph, arrays: Mapping[str, np.ndarray], x: np.ndarray, seed: int = 0
) -> Problem:
    """The problem for given images. config: or its graph for images of their size."""
    found, dtype = graph_for(config, x), x.dtype.name
    cotangent = random_cotangent(output_shape(found.config, x.shape), dtype, seed)
    expected, scales, margin = oracle(found, arrays, x, cotangent)
    nudge = np.random.default_rng([seed, 3])

    def nudged(array: np.ndarray) -> np.ndarray:
        moved: np.ndarray = nudge.choice([-1.0, 1.0], array.shape) * np.finfo(dtype).eps / 2
        nudged_array: np.ndarray = array * (1 + moved)
        return nudged_array

    wide = {name: nudged(array.astype(np.float64)) for name, array in arrays.items()}
    moved, _, _ = oracle(found, wide, nudged(x.astype(np.float64)), cotangent)
    movement = {
        (quantity, tensor): difference(
            moved[quantity][tensor], array, tolerance=0, scale=scales[quantity, tensor]
        ).relative
        for quantity, tensors in expected.items()
        for tensor, array in tensors.items()
    }
    return Problem(found, arrays, x, cotangent, expected, scales, margin, movement)


def draw_problem(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    size: tuple[int, int],
    batch: int,
    dtype: str,
    seed: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> Problem:
    """The first of ten problems with random inputs that is clear of kinks and well conditioned,
    else the nearest to it.
    """
    check_size(config, size)
    found = graph(config, size)
    problems: list[Problem] = []
    inputs: list[tuple[float, int, np.ndarray]] = []
    for attempt in range(10):
        tell(f"oracle, draw {attempt + 1}")
        x = random_input(config, size, batch, dtype, seed + 1000 * attempt)
        # Forward alone first: it shows the kinks, and backward costs four times as much.
        margin = min(
            reference.run(found, arrays, x, training=training).margin for training in (False, True)
        )
        inputs.append((margin, -attempt, x))
        if margin >= _clearance(dtype):
            problems.append(pose(found, arrays, x, seed))
            if problems[-1].risk <= 1:
                break
    return (
        min(problems, key=lambda problem: problem.risk)
        if problems
        else pose(found, arrays, max(inputs)[2], seed)
    )


def near_kink(margin: float, dtype: str) -> str:
    """What to say of gradients that differ where a relu or maximum is that near to its kink;
    nothing if none is.
    """
    if margin >= _clearance(dtype):
        return ""
    return (
        f"a relu or maximum comes within {margin:.0e} of its kink, relative to its tensor: {dtype} "
        "rounding may put it on the other side, and gradients differ for that alone; try another "
        "seed, or float64"
    )


def oracle(
    config: Config | Graph, arrays: Mapping[str, np.ndarray], x: np.ndarray, cotangent: np.ndarray
) -> tuple[Quantities, Scales, float]:
    """What the oracle says of everything that is compared, what each is relative to, and the margin
    to kinks.
    """
    found = graph_for(config, x)
    inference = reference.run(found, arrays, x, cotangent, training=False)
    training = reference.run(found, arrays, x, cotangent, training=True)
    quantities: Quantities = {
        "weights": dict(arrays),
        "eval output": {"output": inference.output},
        "eval gradient": inference.every_gradient,
        "train output": {"output": training.output},
        "train statistics": training.statistics,
        "train gradient": training.every_gradient,
    }
    scales = {
        (quantity, tensor): float(np.abs(array).max())
        for quantity, tensors in quantities.items()
        for tensor, array in tensors.items()
    }
    # Gradients that cancel, or are exactly zero: a convolution's bias in front of a batch norm,
    # say.
    for mode, outcome in (("eval", inference), ("train", training)):
        scales.update(
            {(f"{mode} gradient", tensor): scale for tensor, scale in outcome.scales.items()}
        )
    return quantities, scales, min(inference.margin, training.margin)


def checked_inputs(inputs: np.ndarray, config: Config | None, dtype: str) -> np.ndarray:
    """The images in the dtype to compute in; config: None if they may have any channels.

    Raises ArgumentError for what is not a batch of images.
    """
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind not in "fiu":
        found = (
            f"an array of {inputs.dtype.name}"
            if isinstance(inputs, np.ndarray)
            else type(inputs).__name__
        )
        raise ArgumentError(f"inputs: expected a NumPy array of real numbers, got {found}")
    channels = "channels" if config is None else config.in_channels
    if inputs.ndim != 4 or (config is not None and inputs.shape[1] != channels) or not inputs.size:
        raise ArgumentError(
            f"inputs: expected (batch, {channels}, height, width), got {inputs.shape}"
        )
    with np.errstate(over="ignore"):
        inputs = inputs.astype(dtype)
    if not np.isfinite(inputs).all():
        raise ArgumentError(
            f"inputs: expected finite numbers in {dtype}, got NaN or infinity among them"
        )
    return inputs
