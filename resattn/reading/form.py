"""What a graph consists of before it is normalized: primitives, and the operands between them.

An operand is one of four: values that depend on the image, something held (computed from parameters
alone), a constant, or the place of a maximum. Values have named axes: an axis keeps the name that
it has in the image, whatever the layout and wherever it is moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, count, pairwise
from math import prod
from typing import Any, TypeVar

import numpy as np

Atom = tuple[str, int]  # a name, "" for a mere repetition, and a size above 1
Axis = tuple[Atom, ...]  # the atoms of an axis, outermost first; () is an axis of size 1
Margin = tuple[int, int, str]  # how much is padded before and after, and with what

BATCH = 2
CHANNELS_FIRST = ("batch", "channels", "rows", "cols")
CHANNELS_LAST = ("batch", "rows", "cols", "channels")


@dataclass(frozen=True)
class Origin:
    """Where a framework's computation comes from.

    module: the path of the innermost module that was running, "" for the model itself or if it is
    not known. kind: the class of that module. file, line: of the model's own code, not of the
    framework's; "" and 0 if not known.
    """

    module: str = ""
    kind: str = ""
    file: str = ""
    line: int = 0


@dataclass(eq=False, repr=False)
class Primitive:
    """One computation of a framework, from values that depend on the image.

    number: its position in the order of execution. op: what it computes, in the words of this room.
    inputs: the primitives whose values it takes. held: the parameters that take part. function: of
    NumPy arrays, if it computes value by value. settings: everything else. name: of the drawn
    operation that it is a part of, "" in a graph that a framework executes. origin: where it comes
    from in a model's code. axes: of its values, where the reader of a graph took note of them.
    """

    number: int
    op: str
    inputs: tuple[Primitive, ...]
    held: Held | None = None
    function: Callable[..., Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    origin: Origin = Origin()
    axes: tuple[Axis, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.number}: {self.op}>"  # without everything that it is computed from


@dataclass(frozen=True)
class Held:
    """Something computed from parameters (by name) and numbers alone.

    functions: what was computed of which parameter, (name, function) of `FUNCTIONS`; "moved" if it
    is not known where its entries went. index: which entry of the parameter each entry is, flat;
    None if that is not known.
    """

    names: frozenset[str]
    numbers: frozenset[float] = frozenset()
    shape: tuple[int, ...] = ()
    functions: frozenset[tuple[str, str]] = frozenset()
    index: np.ndarray | None = field(default=None, compare=False, repr=False)

    def moved(self) -> Held:
        """With the note that the entries of its parameters are at unknown places."""
        functions = self.functions | {(name, "moved") for name in self.names}
        return replace(self, functions=functions, index=None)

    @property
    def is_in_order(self) -> bool:
        """Whether its entries are those of one parameter in their order, or none is known."""
        if self.index is None:
            return not self.shape or len(self.names) != 1
        flat = self.index.reshape(-1)
        return bool(np.array_equal(flat, np.arange(flat.size)))


@dataclass(frozen=True)
class FixedArray:
    """An array that is the same for every image; its value is None where nothing asks for it."""

    value: np.ndarray | None
    shape: tuple[int, ...] = ()

    @property
    def number(self) -> float | None:
        """The number that all its entries are equal to, or None."""
        if self.value is None or not self.value.size:
            return None
        first = self.value.flat[0]
        return float(first) if np.all(self.value == first) else None


@dataclass(frozen=True)
class Place:
    """Where the greatest value is: of which primitive's values, along which axis."""

    producer: Primitive
    axis: Axis
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class ImageValues:
    """Values that depend on the image.

    producer: the primitive that computes them. axes: their axes, without what follows. margins: of
    each dim that is padded. strides: of each dim of which only every n-th entry is taken.
    dilation: how far apart the convolution that comes next takes its pixels; () if that convolution
    says so itself.
    """

    producer: Primitive
    axes: tuple[Axis, ...]
    margins: dict[int, Margin] = field(default_factory=dict)
    strides: dict[int, int] = field(default_factory=dict)
    dilation: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [size_of(axis) for axis in self.axes]
        for dim, (before, after, _) in self.margins.items():
            sizes[dim] += before + after
        return tuple(-(-size // self.strides.get(dim, 1)) for dim, size in enumerate(sizes))

    def rearrange(self, axes: Iterable[Axis], dims: Mapping[int, int]) -> ImageValues:
        """The same values with other axes. dims: the new position of each old axis."""
        return replace(
            self,
            axes=tuple(axes),
            margins={dims[dim]: margin for dim, margin in self.margins.items()},
            strides={dims[dim]: stride for dim, stride in self.strides.items()},
        )


Operand = ImageValues | Held | FixedArray | Place
Wanted = TypeVar("Wanted")


def constant(value: Any) -> FixedArray:
    array = np.asarray(value)
    return FixedArray(array, array.shape)


def as_operand(value: Any) -> Operand:
    """An operand as it is; anything else, such as a Python number, as a constant."""
    return value if isinstance(value, Operand) else constant(value)


def first_of(operands: Iterable[Operand], kind: type[Wanted]) -> Wanted | None:
    """The first operand of a kind, or None."""
    return next((operand for operand in operands if isinstance(operand, kind)), None)


def flatten(values: Iterable[Any]) -> list[Any]:
    """The values, and those in lists among them."""
    found: list[Any] = []
    for value in values:
        found += flatten(value) if isinstance(value, (list, tuple)) else [value]
    return found


def held_or_unknown(name: str | None, shape: Sequence[int]) -> Held | FixedArray:
    """An array of a model: the parameter of that name, or without a name a constant."""
    if name is None:
        return FixedArray(None, tuple(shape))
    index = np.arange(prod(shape), dtype=np.int32).reshape(tuple(shape))
    return Held(frozenset([name]), shape=tuple(shape), index=index)


def merge_held(held: Sequence[Held]) -> Held | None:
    """Several in one, of the first one's shape; None if there are none.

    The entries of vectors must be in their order, which is that of the channels.
    """
    if not held:
        return None
    held = [one if one.is_in_order or not _is_vector(one) else one.moved() for one in held]
    return Held(
        frozenset[str]().union(*(one.names for one in held)),
        frozenset[float]().union(*(one.numbers for one in held)),
        held[0].shape,
        frozenset[tuple[str, str]]().union(*(one.functions for one in held)),
        held[0].index if len(held) == 1 else None,
    )


def _is_vector(held: Held) -> bool:
    return sum(size > 1 for size in held.shape) <= 1


def describe_kernel(kernel: Held) -> dict[str, str]:
    """What is computed of a kernel before it is used, if anything is: "standardised", or another
    computation.
    """
    done = {function for _, function in kernel.functions} - {"to", "copy"}
    standardised = "batch_norm" in done or {"average", "difference"} <= done
    words = "standardised" if standardised else f"computed by {', '.join(sorted(done))}"
    return {"kernel": words} if done else {}


def size_of(axis: Axis) -> int:
    return prod(size for _, size in axis)


def axis_of(name: str, size: int) -> Axis:
    return ((name, size),) if size > 1 else ()


def axes_of(names: Sequence[str], sizes: Sequence[int]) -> tuple[Axis, ...]:
    return tuple(axis_of(name, size) for name, size in zip(names, sizes, strict=True))


def names_of(axis: Axis) -> tuple[str, ...]:
    """The names of its atoms; the neighbouring atoms of a split name count once."""
    names = [name for name, _ in axis]
    return tuple(
        name for at, name in enumerate(names) if name and (at == 0 or names[at - 1] != name)
    )


def guess_axes(given: Sequence[Sequence[Axis]], shape: Sequence[int]) -> tuple[Axis, ...]:
    """The axes of what an unknown operation gives.

    given: the axes of its inputs. Of the same rank, each axis keeps its name. If axes have gone,
    those that are left are known by their sizes, unless these fit several.
    """
    for axes in given:
        if tuple(map(size_of, axes)) == tuple(shape):
            return tuple(axes)
    same_rank = next((axes for axes in given if len(axes) == len(shape)), None)
    if same_rank is not None:
        return tuple(
            axis if size_of(axis) == size else axis_of(label_of(axis), size)
            for axis, size in zip(same_rank, shape, strict=True)
        )
    kept = {
        left
        for axes in given
        if len(axes) > len(shape)
        for left in combinations(axes, len(shape))
        if tuple(map(size_of, left)) == tuple(shape)
    }
    if len(kept) == 1:
        return kept.pop()
    return tuple(axis_of("", size) for size in shape)


def label_of(axis: Axis) -> str:
    return "/".join(names_of(axis))


def disagree(axes: Iterable[Axis]) -> bool:
    """Whether axes that have to be the same have different names."""
    return len({names_of(axis) for axis in axes if is_named(axis)}) > 1


def is_named(axis: Axis) -> bool:
    return bool(axis) and all(name for name, _ in axis)


class Piece(str):
    """The name of a part of an axis that was split: equal to the axis' own name.

    whole: the same for all parts of one axis. place: where in it the part is.
    """

    whole: int = 0
    place: tuple[int, ...] = ()


def _split_name(name: str) -> tuple[str, str]:
    """The names of the outer and the inner part of an axis."""
    whole = name.whole if isinstance(name, Piece) else next(_SPLITS)
    before = name.place if isinstance(name, Piece) else ()
    outer, inner = Piece(name), Piece(name)
    for place, piece in enumerate((outer, inner)):
        piece.whole, piece.place = whole, (*before, place)
    return outer, inner


_SPLITS = count()


def is_rearranged(axes: Iterable[Axis]) -> bool:
    """Whether parts of an axis stand beside each other in another order than they had."""
    for axis in axes:
        names = [name for name, _ in axis if isinstance(name, Piece)]
        if any(a.whole == b.whole and a.place > b.place for a, b in pairwise(names)):
            return True
    return False


def regroup(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[Axis, ...]:
    """The same atoms in axes of other sizes; an atom is split where an axis ends within it."""
    atoms = [atom for axis in axes for atom in axis]
    found = []
    for size in shape:
        group: list[Atom] = []
        while size > 1:
            name, length = atoms.pop(0)
            if size % length:
                name, inner = _split_name(name)
                atoms.insert(0, (inner, length // size))
                length = size
            group.append((name, length))
            size //= length
        found.append(tuple(group))
    return tuple(found)
