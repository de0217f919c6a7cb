"""Points, sizes and lines of a picture. Lengths are pixels at natural size; y grows downwards."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Position = tuple[float, float]
Bounds = tuple[float, float, float, float]  # left, top, right, bottom

CLEAR = 9  # between a line and the words beside it


@dataclass(frozen=True)
class Size:
    """The size of a node. label: the width of the words beside the arrow that leaves it."""

    width: float
    height: float
    label: float = 0
    round: bool = False


def measure_travel(line: Sequence[Position]) -> float:
    """The length of a line of level and upright segments."""
    return sum(abs(x - next_x) + abs(y - next_y) for (x, y), (next_x, next_y) in pairwise(line))


def find_common_start(one: Sequence[Position], other: Sequence[Position]) -> list[Position]:
    """The part that two lines from one point have in common."""
    common = [one[0]]
    for (start, here), (_, there) in zip(pairwise(one), pairwise(other), strict=False):
        if _direction(start, here) != _direction(start, there):
            break
        common.append(min(here, there, key=lambda end: measure_travel([start, end])))
        if here != there:
            break
    return common


def find_forks(lines: Sequence[Sequence[Position]]) -> Iterator[Position]:
    """The corners of lines from one point where three or more segments meet."""
    segments = [segment for line in lines for segment in pairwise(line)]
    for corner in dict.fromkeys(point for line in lines for point in line[1:-1]):
        directions = {
            direction for segment in segments for direction in _list_directions(segment, corner)
        }
        if len(directions) > 2:
            yield corner


def _direction(start: Position, end: Position) -> tuple[int, int]:
    return (end[0] > start[0]) - (end[0] < start[0]), (end[1] > start[1]) - (end[1] < start[1])


def _list_directions(
    segment: tuple[Position, Position], point: Position
) -> Iterable[tuple[int, int]]:
    """The directions in which a segment leaves a point that is on it."""
    (x, y), ((x0, y0), (x1, y1)) = point, segment
    if min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
        for end in segment:
            if end != point:
                yield _direction(point, end)
