"""Canonical arrays <-> the arrays a framework holds. Bit-exact, strict, and it never touches what
it was given.
"""

from collections.abc import Mapping
from itertools import permutations
from typing import overload

import ml_dtypes
import numpy as np

from weights.copying import Arena
from weights.errors import ArgumentError, WeightsError
from weights.frameworks import framework_named
from weights.parameters import Parameter, Parameters
from weights.stored import StoredArray, as_stored, read_arrays

Arrays = dict[str, np.ndarray]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)  # NumPy itself has none
DTYPES = ("bfloat16", "float16", "float32", "float64")
LOW = DTYPES[:2]


@overload
def reorder(array: np.ndarray, source: str, target: str) -> np.ndarray: ...


@overload
def reorder(array: StoredArray, source: str, target: str) -> StoredArray: ...


def reorder(array: np.ndarray | StoredArray, source: str, target: str) -> np.ndarray | StoredArray:
    """A copy of `array`, whose axes are named by `source`, with its axes in the order that `target`
    names. Of a stored array, the same values, seen in that order.

    `reorder(w, "out in row col", "row col in out")`. Raises ArgumentError when the names are not
    the same.
    """
    names = source.split()
    if sorted(names) != sorted(target.split()) or len(names) != array.ndim:
        raise ArgumentError(f"cannot reorder {array.ndim} axes named {source!r} to {target!r}")
    order = [names.index(name) for name in target.split()]
    if isinstance(array, StoredArray):
        get, shape = array.get, tuple(array.shape[axis] for axis in order)
        return StoredArray(shape, array.dtype, lambda: np.transpose(get(), order))
    return Arena(array.nbytes).copy(np.transpose(array, order))  # in native byte order


def faults(
    parameters: Parameters, arrays: Mapping[str, object], dtypes: Mapping[str, str] | None = None
) -> list[str]:
    """Everything about `arrays` that does not fit `parameters`: missing, unexpected, misshapen, of
    another dtype. They may be stored arrays, too.

    dtypes: the dtype each array must have, by name; without it any of `DTYPES` will do.
    """
    expected = {parameter.name: parameter for parameter in parameters}
    found = [f"{name}: unexpected" for name in sorted(set(arrays) - set(expected), key=str)]
    for name, parameter in expected.items():
        if name not in arrays:
            found.append(f"{name}: missing, expected {parameter.shape} ({parameter.axes})")
            continue
        array = arrays[name]
        if not isinstance(array, (np.ndarray, StoredArray)):
            found.append(
                f"{name}: expected a NumPy array, got "
                f"{type(array).__module__}.{type(array).__qualname__}"
            )
            continue
        if array.shape != parameter.shape:
            found.append(
                f"{name}: expected {parameter.shape} ({parameter.axes}), got "
                f"{array.shape}{_hint(parameter, array.shape)}"
            )
        if dtypes is None and array.dtype.name not in DTYPES:
            found.append(f"{name}: expected one of {', '.join(DTYPES)}, got {array.dtype.name}")
        elif dtypes is not None and array.dtype.name != dtypes[name]:
            found.append(f"{name}: expected {dtypes[name]}, got {array.dtype.name}")
    return found


def _hint(parameter: Parameter, shape: tuple[int, ...]) -> str:
    """Names the axis order in which a kernel of this shape would fit, if there is just one."""
    names = parameter.axes.split()
    sizes = dict(zip(names, parameter.shape, strict=True))
    orders = [
        order for order in permutations(names) if tuple(sizes[name] for name in order) == shape
    ]
    return f", which would fit as {' '.join(orders[0])}" if len(orders) == 1 else ""


def check(
    parameters: Parameters,
    arrays: Mapping[str, object],
    dtypes: Mapping[str, str] | None = None,
    headline: str = "the arrays do not fit the config",
) -> None:
    """Raises WeightsError with every fault, if there is one."""
    found = faults(parameters, arrays, dtypes)
    if found:
        raise WeightsError(
            f"{headline} ({len(found)} {'fault' if len(found) == 1 else 'faults'}):", found
        )


def to_native(framework: str, parameters: Parameters, arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Canonical arrays -> new arrays with the framework's names and axis orders."""
    return read_arrays(see_natively(framework, parameters, arrays))


def see_natively(
    framework: str, parameters: Parameters, arrays: Mapping[str, np.ndarray | StoredArray]
) -> dict[str, StoredArray]:
    """The same as `to_native`, but nothing is copied before its values are needed."""
    target = framework_named(framework)
    check(parameters, arrays)
    return {
        target.path(each): reorder(as_stored(arrays[each.name]), each.axes, target.axes(each))
        for each in parameters
    }


def to_canonical(
    framework: str, parameters: Parameters, natives: Mapping[str, np.ndarray]
) -> Arrays:
    """A framework's arrays, by its own names, -> new arrays with canonical names and axis
    orders.
    """
    source = framework_named(framework)
    parameters_by_name = {source.path(parameter): parameter for parameter in parameters}
    strange = [f"{name}: unexpected" for name in set(natives) - set(parameters_by_name)]
    absent = [f"{name}: missing" for name in set(parameters_by_name) - set(natives)]
    if strange or absent:
        raise WeightsError(f"the {source.label} arrays do not fit the config:", strange + absent)
    arrays = {
        parameter.name: reorder(natives[name], source.axes(parameter), parameter.axes)
        for name, parameter in parameters_by_name.items()
    }
    check(parameters, arrays)
    return arrays
