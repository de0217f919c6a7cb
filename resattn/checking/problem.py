"""A problem for the cross-check: weights, images, slopes, and what the oracle says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from resattn.checking.backends import Backend, Quantities, measure, precise
from resattn.checking.draws import random_cotangent, random_input
from resattn.checking.rounding import FORMATS, Exact, Format, Rounding, TensorKey
from weights.checks import check_format
from weights.config import Config
from weights.convert import LOW
from weights.errors import ArgumentError
from weights.graph import Graph, check_size, graph, output_shape
from weights.language import say
from weights.live import LiveModel


@dataclass(frozen=True)
class Problem:
    """What is computed, in which format, and what the oracle says of it.

    exact: the oracle's passes in float64. dtype: the format to compute in; it holds the numbers of
    `exact` without rounding. seed: of the slopes and of the noise.
    """

    exact: Exact
    dtype: str
    seed: int = 0

    @property
    def graph(self) -> Graph:
        return self.exact.graph

    @property
    def config(self) -> Config:
        return self.exact.graph.config

    @property
    def format(self) -> Format:
        return FORMATS[self.dtype]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as a model in the format holds them."""
        return self.format.hold(self.graph, self.exact.arrays)

    @cached_property
    def x(self) -> np.ndarray:
        """The images in the format."""
        return self.exact.x.astype(self.format.held)

    @cached_property
    def cotangent(self) -> np.ndarray:
        """The slopes of the output, in float32 at least."""
        return self.exact.cotangent.astype(self.format.sums)

    @property
    def expected(self) -> Quantities:
        return self.exact.quantities

    @property
    def scales(self) -> Mapping[TensorKey, float]:
        return self.exact.scales

    def measure(
        self,
        backend: Backend,
        arrays: Mapping[str, np.ndarray] | None = None,
        prepare: Callable[[LiveModel], LiveModel] = lambda live: live,
    ) -> Quantities:
        """What a framework computes, in the format. arrays: other weights than those given.
        prepare: changes how the model computes, before it does.
        """
        form = self.format
        held = self.arrays if arrays is None else form.hold(self.graph, arrays)
        with precise((backend.framework,), form.precision):
            live = backend.build_live(self.config, held, form.compute)
            return measure(prepare(live), self.x, self.cotangent)

    @cached_property
    def rounding(self) -> Rounding:
        """What the rounding of the format explains."""
        return self.exact.measure_rounding(self.dtype, self.seed)


def graph_for(config: Config | Graph, x: np.ndarray) -> Graph:
    """The graph for these images. Raises ArgumentError where an attention cannot use them."""
    if isinstance(config, Graph):
        return config
    size = (x.shape[2], x.shape[3])
    check_size(config, size)
    return graph(config, size)


def pose(
    config: Config | Graph,
    arrays: Mapping[str, np.ndarray],
    x: np.ndarray,
    seed: int = 0,
    dtype: str | None = None,
) -> Problem:
    """The problem for given images. config: or its graph for images of their size.

    dtype: to compute in, by default that of the images; all numbers are rounded to it.
    """
    dtype = dtype or x.dtype.name
    found = graph_for(config, x)
    form = FORMATS[dtype]
    slopes = random_cotangent(output_shape(found.config, x.shape), form.sums, seed)
    if form.is_low:
        slopes = slopes.round(1) * 8 // 1 / 8  # so few digits are exact in every format
    held = {name: _widen(array) for name, array in form.hold(found, arrays).items()}
    return Problem(Exact(found, held, _widen(x.astype(form.held)), slopes), dtype, seed)


def _widen(array: np.ndarray) -> np.ndarray:
    """The same numbers in float32 at least, which NumPy computes with."""
    return array.astype(np.float32) if array.dtype.name in LOW else array


def draw_problem(
    config: Config,
    arrays: Mapping[str, np.ndarray],
    size: tuple[int, int],
    batch: int,
    dtype: str,
    seed: int = 0,
) -> Problem:
    """The problem for random images."""
    return pose(config, arrays, random_input(config, size, batch, dtype, seed), seed)


def checked_inputs(inputs: np.ndarray, config: Config | None, dtype: str) -> np.ndarray:
    """The images in the dtype to compute in; config: None if they may have any channels.

    Raises ArgumentError for what is not a batch of images.
    """
    if isinstance(inputs, np.ndarray) and inputs.dtype.kind not in "OSUc":
        check_format(inputs.dtype.name, "inputs")
    else:
        found = (
            say("an array of {dtype}", dtype=inputs.dtype.name)
            if isinstance(inputs, np.ndarray)
            else type(inputs).__name__
        )
        raise ArgumentError(
            say("inputs: expected a NumPy array of real numbers, got {found}", found=found)
        )
    channels = "channels" if config is None else config.in_channels
    if inputs.ndim != 4 or (config is not None and inputs.shape[1] != channels) or not inputs.size:
        raise ArgumentError(
            say(
                "inputs: expected (batch, {channels}, height, width), got {shape}",
                channels=channels,
                shape=inputs.shape,
            )
        )
    with np.errstate(over="ignore"):
        inputs = inputs.astype(dtype)
    if not np.isfinite(inputs).all():
        raise ArgumentError(
            say(
                "inputs: expected finite numbers in {dtype}, got NaN or infinity among them",
                dtype=dtype,
            )
        )
    return inputs
