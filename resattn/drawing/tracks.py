"""Edges beside each other: where they meet a node, and how they share the room between two rows."""

from collections.abc import Mapping, Sequence
from itertools import pairwise, permutations

from resattn.drawing.columns import Columns, Route
from resattn.drawing.geometry import CLEAR

PORT, CIRCLE_PORT = 30, 11

# For each segment across: the x where it begins, and the x where it turns down.
Spans = Sequence[tuple[float, float]]


def spread_ports(columns: Columns) -> None:
    """Moves the ends of the routes so that they meet a node side by side, one from straight above
    in the middle.
    """
    for node in columns.scene.nodes:
        coming = [
            route
            for route in columns.routes
            if route.edge.target == node.name and not route.enters_side
        ]
        straight = [route for route in coming if route.straight]
        turning = sorted(
            (route for route in coming if not route.straight), key=lambda route: route.origin
        )
        size, middle = columns.sizes[node.name], columns.x_of(node.name)
        left = sum(route.origin < middle for route in turning)
        beside = [*range(-left, 0), *range(1, len(turning) - left + 1)]
        spread = [number - (len(turning) - 1) / 2 for number in range(len(turning))]
        ports = beside if straight else spread
        most = max([1.0, *map(abs, ports)])
        step = CIRCLE_PORT / most if size.round else min(PORT, (size.width / 2 - CLEAR) / most)
        for route, port in zip(turning, ports, strict=True):
            route.move_end(middle + step * port)


def assign_tracks(routes: Sequence[Route]) -> tuple[dict[tuple[str, int], int], dict[int, int]]:
    """The track of each source at each odd level, and the number of tracks of each level.

    Edges of one source share a track. Others have tracks below each other where they overlap, in
    the order with the fewest crossings.
    """
    levels: dict[int, dict[str, list[tuple[float, float]]]] = {}
    for route in routes:
        for (x, level), (next_x, next_level) in pairwise(route.points):
            if level == next_level and level % 2:
                spans = levels.setdefault(level, {}).setdefault(route.edge.source, [])
                spans.append((x, next_x))
    tracks: dict[tuple[str, int], int] = {}
    counts: dict[int, int] = {}
    for level, by_source in levels.items():
        depth: dict[str, int] = {}
        for source in _find_order(by_source):
            above = [
                depth[other] + 1 for other in depth if _overlap(by_source[source], by_source[other])
            ]
            depth[source] = max(above, default=0)
        tracks |= {(source, level): number for source, number in depth.items()}
        counts[level] = max(depth.values()) + 1
    return tracks, counts


def _find_order(by_source: Mapping[str, Spans]) -> tuple[str, ...]:
    """The order with the fewest crossings; of six sources or more, the given one."""
    if len(by_source) >= 6:
        return tuple(by_source)
    return min(permutations(by_source), key=lambda order: _count_crossings(order, by_source))


def _count_crossings(order: Sequence[str], by_source: Mapping[str, Spans]) -> int:
    """The upper edge crosses the lower one where it turns down, and the lower one crosses the upper
    one where it comes from above.
    """
    found = 0
    for number, upper in enumerate(order):
        for lower in order[number + 1 :]:
            low, high = _bound(by_source[lower])
            found += sum(low <= span[1] <= high for span in by_source[upper])
            low, high = _bound(by_source[upper])
            found += sum(low <= span[0] <= high for span in by_source[lower])
    return found


def _bound(spans: Spans) -> tuple[float, float]:
    ends = [x for span in spans for x in span]
    return min(ends), max(ends)


def _overlap(one: Spans, other: Spans) -> bool:
    (low, high), (other_low, other_high) = _bound(one), _bound(other)
    return low <= other_high + CLEAR and other_low <= high + CLEAR
