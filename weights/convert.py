"""Canonical arrays <-> the arrays a framework holds. Bit-exact, strict, and it never touches what
it was given.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import overload

import ml_dtypes
import numpy as np

from weights.copying import Arena
from weights.errors import ArgumentError, WeightsError
from weights.frameworks import framework_named
from weights.language import mark, say
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
        raise ArgumentError(
            say(
                "cannot reorder {count} axes named {source!r} to {target!r}",
                count=array.ndim,
                source=source,
                target=target,
            )
        )
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
    found = [
        say("{name}: unexpected", name=name)
        for name in sorted(set(arrays) - set(expected), key=str)
    ]
    for name, parameter in expected.items():
        if name in arrays:
            found += _find_faults(parameter, arrays[name], dtypes)
            continue
        words = mark("{name}: missing, expected {shape} ({axes})")
        found.append(say(words, name=name, shape=parameter.shape, axes=parameter.axes))
    return found


def _find_faults(
    parameter: Parameter, array: object, dtypes: Mapping[str, str] | None
) -> Iterator[str]:
    name, kind = parameter.name, type(array)
    if not isinstance(array, (np.ndarray, StoredArray)):
        words = mark("{name}: expected a NumPy array, got {module}.{kind}")
        yield say(words, name=name, module=kind.__module__, kind=kind.__qualname__)
        return
    if array.shape != parameter.shape:
        yield say(
            "{name}: expected {shape} ({axes}), got {found}{hint}",
            name=name,
            shape=parameter.shape,
            axes=parameter.axes,
            found=array.shape,
            hint=_hint(parameter, array.shape),
        )
    wanted = "" if dtypes is None else dtypes[name]
    if dtypes is None and array.dtype.name not in DTYPES:
        wanted = say("one of {known}", known=", ".join(DTYPES))
    elif wanted == array.dtype.name or dtypes is None:
        return
    words = mark("{name}: expected {kind}, got {found}")
    yield say(words, name=name, kind=wanted, found=array.dtype.name)


def _hint(parameter: Parameter, shape: tuple[int, ...]) -> str:
    """Names the axis order in which a kernel of this shape would fit, if there is just one."""
    names = parameter.axes.split()
    sizes = dict(zip(names, parameter.shape, strict=True))
    orders = [
        order for order in permutations(names) if tuple(sizes[name] for name in order) == shape
    ]
    if len(orders) != 1:
        return ""
    return say(", which would fit as {order}", order=" ".join(orders[0]))


def check(
    parameters: Parameters,
    arrays: Mapping[str, object],
    dtypes: Mapping[str, str] | None = None,
    headline: str = mark("the arrays do not fit the config"),
) -> None:
    """Raises WeightsError with every fault, if there is one."""
    found = faults(parameters, arrays, dtypes)
    if found:
        one, several = mark("{headline} (1 fault):"), mark("{headline} ({count} faults):")
        words = one if len(found) == 1 else several
        raise WeightsError(say(words, headline=say(headline), count=len(found)), found)


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
    strange = [
        say("{name}: unexpected", name=name) for name in set(natives) - set(parameters_by_name)
    ]
    absent = [say("{name}: missing", name=name) for name in set(parameters_by_name) - set(natives)]
    if strange or absent:
        raise WeightsError(
            say("the {framework} arrays do not fit the config:", framework=source.label),
            strange + absent,
        )
    arrays = {
        parameter.name: reorder(natives[name], source.axes(parameter), parameter.axes)
        for name, parameter in parameters_by_name.items()
    }
    check(parameters, arrays)
    return arrays
