"""Maxima: a plain forward pass, and a slope that goes to one place, by index."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jax_impl.shapes import AnyValues, Values
from weights.stages import stage


@stage
def maximum(x: AnyValues, over: list[int]) -> AnyValues:
    """The maximum over some axes, which keep size 1. Its gradient goes to one place, by index.

    Not x.max: its gradient looks for values equal to the maximum. XLA computes x a second time for
    that, with other rounding, and in triplet attention found none (jax 0.10.2 on CPU: gradients
    wrong by 0.2, or infinite).
    """
    return _greatest(x, tuple(over))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _greatest(x: AnyValues, over: tuple[int, ...]) -> AnyValues:
    return x.max(axis=over, keepdims=True)


@_greatest.defjvp
def _greatest_jvp(
    over: tuple[int, ...], primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    """The maximum, and the tangent at its place. The transpose is the gradient."""
    y = _greatest(primals[0], over)
    x, peak = jax.lax.stop_gradient((primals[0], y))
    number: Any = 0  # of each place, row by row
    for axis in over:
        number = number * x.shape[axis] + jax.lax.broadcasted_iota(jnp.int32, x.shape, axis)
    place = jax.lax.platform_dependent(
        x, peak, number, cpu=partial(_find_equal, over), default=partial(_find_greatest, over)
    )
    return y, jnp.where(number == place, tangents[0], 0).sum(axis=over, keepdims=True)


def _find_equal(over: tuple[int, ...], x: Array, y: Array, number: Array) -> Array:
    """The first place where x equals y; by comparing all values if XLA's two x differ somewhere.

    `_find_greatest` alone takes 3 ms for 8 x 28 x 28 x 128 values on CPU, and this 0.2.
    """
    nowhere = jnp.iinfo(number.dtype).max
    place = jnp.where(x == y, number, nowhere).min(axis=over, keepdims=True)
    return jax.lax.cond(
        (place < nowhere).all(), lambda: place, lambda: _find_greatest(over, x, y, number)
    )


def _find_greatest(over: tuple[int, ...], x: Array, y: Array, number: Array) -> Array:
    """The first place of the greatest value, in one pass over values and places."""

    def first(one: Any, other: Any) -> Any:
        (a, i), (b, j) = one, other
        wins = (a > b) | (a != a) | ((a == b) & (i < j))
        return jnp.where(wins, a, b), jnp.where(wins, i, j)

    start = (jnp.array(-jnp.inf, x.dtype), jnp.array(jnp.iinfo(number.dtype).max, number.dtype))
    _, place = jax.lax.reduce((x, number), start, first, over)
    return jnp.expand_dims(place, over)


@stage
def greater(x: Values, y: Values) -> Values:
    """The greater of x and y, value by value.

    Not jnp.maximum: its gradient looks for equal values, as that of x.max does.
    """
    return jnp.where(x > y, x, y)
