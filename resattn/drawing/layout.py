"""Where the nodes of a scene stand and where its edges run: a layered layout made for this one
shape.

Rows are the longest ways from the input. The trunk stands one below the other at x = 0, the
shortcut at its left, the chains of the attention module at its right, in the order that crosses and
travels least. Edges run down inside the column of a chain or in a lane of their own, and across
between two rows, or straight into the side of a circle: never through a box. Lengths are pixels at
natural size, y downwards; a level is twice the row, odd between two rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations, product

from resattn.drawing.scene import Edge, Scene

GAP, COLUMN_GAP, TRACK, ARROW_ROOM, LABEL_ROOM, FORK_ROOM = 26, 24, 11, 15, 22, 10
FRAME_HEAD, FRAME_FOOT, FRAME_SIDE = 38, 14, 16
CLEAR, ASIDE_GAP, IDENTITY_ROOM = 9, 34, 100
PORT, CIRCLE_PORT = 30, 11
CROSSING, WIDTH = 300.0, 0.5  # what a crossing costs, and a pixel of width, in pixels of travel

Point = tuple[float, float]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class Size:
    """Of a node. label: the width of the words beside the arrow that leaves it."""

    width: float
    height: float
    label: float = 0
    round: bool = False


@dataclass(eq=False)
class Chain:
    """Nodes in one column, or the lane of an edge. top, bottom: the first and the last row that are
    its own.
    """

    nodes: list[str]
    top: int
    bottom: int


@dataclass
class Route:
    """The way of an edge. chain: in whose column it runs down. straight: whether source and target
    are neighbours in it.

    side: whether it enters its target from the side, if nothing stands between. points: its
    corners, as x and level.
    """

    edge: Edge
    chain: Chain
    straight: bool
    side: bool = False
    points: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Placed:
    """centres: of the nodes. routes: corner points by edge, in the order of the scene's. dots:
    where an edge forks. frames: left, top, right, bottom."""

    centres: Mapping[str, Point]
    routes: tuple[tuple[Edge, tuple[Point, ...]], ...]
    dots: tuple[Point, ...]
    frames: tuple[Bounds, ...]


def rows(scene: Scene) -> dict[str, int]:
    """The longest way to each node; the shortcut's stand half way down."""
    row: dict[str, int] = {}
    for node in scene.nodes:
        row[node.name] = max((row[source] + 1 for source in scene.inputs(node.name)), default=0)
    if scene.aside:
        first = row[scene.inputs(scene.aside[0])[0]] + 1
        last = row[next(edge.target for edge in scene.edges if edge.source == scene.aside[-1])] - 1
        start = first + (last - first + 1 - len(scene.aside)) // 2
        row |= {name: start + number for number, name in enumerate(scene.aside)}
    return row


def place(scene: Scene, sizes: Mapping[str, Size], titles: Sequence[float] = ()) -> Placed:
    """sizes: of the nodes. titles: the widths of the frames' titles."""
    return _Layout(scene, sizes, titles).placed()


class _Layout:
    def __init__(self, scene: Scene, sizes: Mapping[str, Size], titles: Sequence[float]):
        self.scene, self.sizes, self.titles = scene, sizes, titles
        self.row = rows(scene)
        self.trunk = Chain(list(scene.trunk), 0, self.row[scene.trunk[-1]])
        self.aside = Chain(list(scene.aside), *self._ends(scene.aside)) if scene.aside else None
        self.chains = self._chains()
        self.chain_of = {name: chain for chain in self._all() for name in chain.nodes}
        self.routes = [self._route(edge) for edge in scene.edges]
        self.x: dict[int, float] = {}  # by the chain's id
        self.y: dict[int, float] = {}  # by level
        self.heads: dict[int, float] = {}  # by the frame's number
        self.feet: dict[int, float] = {}
        self.order = self._ordered()
        self._aim(self.order)

    def _all(self) -> list[Chain]:
        return [self.trunk, *([self.aside] if self.aside else []), *self.chains]

    def _ends(self, names: Sequence[str]) -> tuple[int, int]:
        return self.row[names[0]], self.row[names[-1]]

    def _chains(self) -> list[Chain]:
        """Each node continues the chain of the nearest input that nothing else continues."""
        fixed = {*self.scene.trunk, *self.scene.aside}
        chains: list[Chain] = []
        for node in self.scene.nodes:
            if node.name in fixed:
                continue
            inputs = self.scene.inputs(node.name)
            open_ends = [chain for chain in chains if chain.nodes[-1] in inputs]
            nearest = max(open_ends, key=lambda chain: self.row[chain.nodes[-1]], default=None)
            if nearest is None:
                chains.append(Chain([node.name], self.row[node.name], self.row[node.name]))
            else:
                nearest.nodes.append(node.name)
                nearest.bottom = self.row[node.name]
        return chains

    def _route(self, edge: Edge) -> Route:
        """In whose column an edge runs down: its source's while that is free, else its target's,
        else its own.
        """
        above, below = self.chain_of[edge.source], self.chain_of[edge.target]
        start, end = self.row[edge.source], self.row[edge.target]
        following = above.nodes[above.nodes.index(edge.source) + 1 :][:1]
        if following == [edge.target]:
            return Route(edge, above, True)
        side = self.sizes[edge.target].round
        free = self.row[following[0]] - 1 if following else end
        if free >= end - 1:
            side = side and free >= end
            above.bottom = max(above.bottom, end if side else end - 1)
            return Route(edge, above, False, side)
        if below.nodes[0] == edge.target and not side:
            below.top = min(below.top, start + 1)
            return Route(edge, below, False)
        return Route(edge, self._lane(edge, start + 1, end if side else end - 1), False, side)

    def _lane(self, edge: Edge, top: int, bottom: int) -> Chain:
        lane = Chain([], top, bottom)
        if edge.path == "shortcut":
            self.aside = lane
        else:
            self.chains.append(lane)
        return lane

    # Columns

    def _extent(self, chain: Chain, row: int, right: bool) -> float:
        """How far a chain reaches to a side in a row, with the words below it."""
        for name in chain.nodes:
            if self.row[name] == row:
                half = self.sizes[name].width / 2
                label = self.sizes[name].label
                return max(half, CLEAR + label) if right and label else half
        return 0

    def _columns(self, order: Sequence[Chain]) -> dict[int, float]:
        """The x of each chain: as far left as those before it in the order allow."""
        x = {id(self.trunk): 0.0}
        for number, chain in enumerate(order):
            least = float(COLUMN_GAP)
            for other in (self.trunk, *order[:number]):
                for row in range(
                    max(chain.top, other.top) - 1, min(chain.bottom, other.bottom) + 2
                ):
                    if other is self.trunk and not chain.top <= row <= chain.bottom:
                        continue  # a wide box of the main path may stand over a frame
                    apart = (
                        self._extent(other, row, True)
                        + COLUMN_GAP
                        + self._extent(chain, row, False)
                    )
                    least = max(least, x[id(other)] + apart)
            x[id(chain)] = least
        return x

    def _ordered(self) -> list[Chain]:
        """Moves one chain at a time for as long as it helps."""
        best = list(self.chains)
        cost = self._cost(best)
        improved = True
        while improved:
            improved = False
            for number, place in product(range(len(best)), repeat=2):
                tried = best[:number] + best[number + 1 :]
                tried.insert(place, best[number])
                found = self._cost(tried)
                if found < cost - 1e-6:
                    best, cost, improved = tried, found, True
        return best

    def _aim(self, order: Sequence[Chain]) -> None:
        self.x = self._columns(order)
        if self.aside:
            self.x[id(self.aside)] = self._left_of_the_rest()
        taken: set[tuple[str, float]] = set()
        for route in self.routes:
            self._draft(route, taken)

    def _left_of_the_rest(self) -> float:
        assert self.aside
        rest = max(self._extent(self.trunk, row, False) for row in range(self.trunk.bottom + 1))
        inside = {name for frame in self.scene.frames for name in frame.members}
        framed = max(
            (
                FRAME_SIDE + self.sizes[name].width / 2
                for name in self.trunk.nodes
                if name in inside
            ),
            default=0,
        )
        sizes = [self.sizes[name] for name in self.aside.nodes]
        reach = [max(size.width / 2 + ASIDE_GAP, size.label + 2 * CLEAR) for size in sizes]
        return -(max(rest, framed) + max(reach, default=IDENTITY_ROOM))

    def x_of(self, name: str) -> float:
        return self.x[id(self.chain_of[name])]

    def _draft(self, route: Route, taken: set[tuple[str, float]]) -> None:
        """Corner points as (x, level)."""
        start, end = 2 * self.row[route.edge.source], 2 * self.row[route.edge.target]
        source, target, run = (
            self.x_of(route.edge.source),
            self.x_of(route.edge.target),
            self.x[id(route.chain)],
        )
        if route.straight:
            route.points = [(source, start), (target, end)]
            return
        direction = 1.0 if run > target else -1.0
        key = (route.edge.target, direction)
        if route.side and key not in taken and not self._blocked(run, target, end):
            taken.add(key)
            last = [(run, end), (target, end)]
        elif run == target:
            last = [(target, end)]
        else:
            last = [(run, end - 1), (target, end - 1), (target, end)]
        first = (
            [(source, start)]
            if run == source
            else [(source, start), (source, start + 1), (run, start + 1)]
        )
        route.points = first + last

    def _blocked(self, start: float, end: float, level: int) -> bool:
        """Whether a node of that row stands between two places."""
        low, high = min(start, end), max(start, end)
        return any(
            2 * row == level and low < self.x_of(name) < high for name, row in self.row.items()
        )

    def _cost(self, order: Sequence[Chain]) -> float:
        """What is bad about an order: the ways across, counted once for each source, the crossings,
        and the width.
        """
        self._aim(order)
        lines = [
            (route.edge.source, *line) for route in self.routes for line in pairwise(route.points)
        ]
        across = [
            (net, level, min(x, end), max(x, end))
            for net, (x, level), (end, same) in lines
            if level == same
        ]
        down = [(net, x, level, end) for net, (x, level), (_, end) in lines if level != end]
        nets: dict[tuple[str, int], list[float]] = {}
        for net, level, low, high in across:
            nets.setdefault((net, level), []).extend((low, high))
        travel = sum(max(ends) - min(ends) for ends in nets.values())
        crossings = sum(
            net != other and low < x < high and top <= level <= bottom
            for net, level, low, high in across
            for other, x, top, bottom in down
        )
        crossings += sum(
            route.side and not _from_side(route) for route in self.routes
        )  # no way into the side: as bad
        return travel + CROSSING * crossings + WIDTH * max(self.x.values())

    # Heights

    def placed(self) -> Placed:
        self._spread_ports()
        tracks, counts = self._tracks()
        self._heights(counts)
        y = self.y
        centres = {name: (self.x_of(name), y[2 * row]) for name, row in self.row.items()}
        routes = []
        for route in self.routes:
            net = route.edge.source
            points = [
                (x, y[level] + tracks.get((net, level), 0) * TRACK) for x, level in route.points
            ]
            routes.append((route.edge, tuple(self._clipped(route.edge, points, centres))))
        return Placed(centres, tuple(routes), tuple(_forks(routes)), tuple(self._frames()))

    def _spread_ports(self) -> None:
        """Edges that come to a node from above meet it side by side; one from straight above in the
        middle.
        """
        for node in self.scene.nodes:
            coming = [
                route
                for route in self.routes
                if route.edge.target == node.name and not _from_side(route)
            ]
            straight = [route for route in coming if route.straight]
            turning = sorted((route for route in coming if not route.straight), key=_origin)
            size = self.sizes[node.name]
            middle = self.x_of(node.name)
            left = sum(_origin(route) < middle for route in turning)
            beside = [*range(-left, 0), *range(1, len(turning) - left + 1)]
            spread = [number - (len(turning) - 1) / 2 for number in range(len(turning))]
            ports = beside if straight else spread
            most = max([1.0, *map(abs, ports)])
            step = CIRCLE_PORT / most if size.round else min(PORT, (size.width / 2 - CLEAR) / most)
            for route, port in zip(turning, ports, strict=True):
                _shift_end(route, middle + step * port)

    def _tracks(self) -> tuple[dict[tuple[str, int], int], dict[int, int]]:
        """How far down between two rows each edge runs across: edges of one source together, others
        where they overlap one below the other, in the order that crosses least."""
        levels: dict[int, dict[str, list[tuple[float, float]]]] = {}
        for route in self.routes:
            for (x, level), (next_x, next_level) in pairwise(route.points):
                if level == next_level and level % 2:
                    levels.setdefault(level, {}).setdefault(route.edge.source, []).append(
                        (x, next_x)
                    )
        tracks: dict[tuple[str, int], int] = {}
        counts: dict[int, int] = {}
        for level, nets in levels.items():
            best = (
                min(permutations(nets), key=lambda order: _track_crossings(order, nets))
                if len(nets) < 6
                else tuple(nets)
            )
            depth: dict[str, int] = {}
            for net in best:
                above = [depth[other] + 1 for other in depth if _overlap(nets[net], nets[other])]
                depth[net] = max(above, default=0)
            tracks |= {(net, level): number for net, number in depth.items()}
            counts[level] = max(depth.values()) + 1
        return tracks, counts

    def _heights(self, counts: Mapping[int, int]) -> None:
        """Sets the y of each level, of its first track if it is odd. counts: of the tracks."""
        at = 0.0
        for row in range(max(self.row.values()) + 1):
            height = max(self.sizes[name].height for name in self._in_row(row))
            self.y[2 * row] = at + height / 2
            at = self._below(row, at + height, counts.get(2 * row + 1, 0))

    def _below(self, row: int, top: float, tracks: int) -> float:
        """Where the next row begins. From the top down: words, the feet and heads of frames,
        tracks, the tips of arrows.
        """
        spans = [self._frame_rows(frame.members) for frame in self.scene.frames]
        closing = [number for number, (_, last) in enumerate(spans) if last == row]
        opening = [number for number, (first, _) in enumerate(spans) if first == row + 1]
        labelled = any(self.sizes[name].label for name in self._in_row(row))
        at = top + (LABEL_ROOM if labelled and (tracks or closing or opening) else 0)
        for number in closing:
            at += FRAME_FOOT
            self.feet[number] = at
        for number in opening:
            self.heads[number] = at + TRACK
            at += FRAME_HEAD
        at += FORK_ROOM if tracks and not labelled and not opening else 0
        self.y[2 * row + 1] = at
        return max(at + max(tracks - 1, 0) * TRACK + ARROW_ROOM, top + GAP)

    def _in_row(self, row: int) -> list[str]:
        return [name for name, its in self.row.items() if its == row]

    def _frame_rows(self, members: Iterable[str]) -> tuple[int, int]:
        inside = [self.row[name] for name in members]
        return min(inside), max(inside)

    def _clipped(
        self, edge: Edge, points: list[Point], centres: Mapping[str, Point]
    ) -> list[Point]:
        """From the edge of the source to the edge of the target."""
        source, target = self.sizes[edge.source], self.sizes[edge.target]
        points[0] = (points[0][0], points[0][1] + source.height / 2)
        (before, at), (x, y) = points[-2:]
        if at == y and x != before:
            points[-1] = (x + (target.width / 2 if before > x else -target.width / 2), y)
        else:
            off = x - centres[edge.target][0]
            reach = (
                ((target.height / 2) ** 2 - off**2) ** 0.5 if target.round else target.height / 2
            )
            points[-1] = (x, y - reach)
        return [
            point
            for number, point in enumerate(points)
            if number == 0 or point != points[number - 1]
        ]

    def _frames(self) -> list[Bounds]:
        """Those of stages have one width."""
        widths = [
            self._frame(set(frame.members), title)
            for frame, title in zip(self.scene.frames, self.titles, strict=True)
        ]
        left, right = min((w[0] for w in widths), default=0), max((w[1] for w in widths), default=0)
        return [
            (left - FRAME_SIDE, self.heads[number], right + FRAME_SIDE, self.feet[number])
            for number in range(len(widths))
        ]

    def _frame(self, inside: set[str], title: float) -> tuple[float, float]:
        """Its left and its right, without a margin."""
        top, _ = self._frame_rows(inside)
        lefts = [self.x_of(name) - self.sizes[name].width / 2 for name in inside]
        # The lines that come in above the first row are the trunk's.
        lanes = [
            x
            for r in self.routes
            if r.edge.target in inside
            for x, level in r.points
            if level > 2 * top
        ]
        left, right = min(lefts + lanes), max([self._right(name) for name in inside] + lanes)
        return left, max(right, max(left, 0) + title)

    def _right(self, name: str) -> float:
        size = self.sizes[name]
        return self.x_of(name) + max(size.width / 2, CLEAR + size.label if size.label else 0)


def _from_side(route: Route) -> bool:
    return route.points[-1][1] == route.points[-2][1]


def _origin(route: Route) -> float:
    """From where an edge comes when it turns to its target."""
    return next(
        (x for x, _ in reversed(route.points) if x != route.points[-1][0]), route.points[-1][0]
    )


def _shift_end(route: Route, x: float) -> None:
    old = route.points[-1][0]
    number = len(route.points) - 1
    while number > 0 and route.points[number][0] == old:
        route.points[number] = (x, route.points[number][1])
        number -= 1


Spans = Sequence[
    tuple[float, float]
]  # the x at which a line begins to run across, and that at which it turns down


def _bounds(spans: Spans) -> tuple[float, float]:
    ends = [x for span in spans for x in span]
    return min(ends), max(ends)


def _overlap(one: Spans, other: Spans) -> bool:
    (low, high), (other_low, other_high) = _bounds(one), _bounds(other)
    return low <= other_high + CLEAR and other_low <= high + CLEAR


def _track_crossings(order: Sequence[str], nets: Mapping[str, Spans]) -> int:
    """Above another, an edge crosses it where it leaves downwards, and is crossed where the other
    comes from above.
    """
    found = 0
    for number, upper in enumerate(order):
        for lower in order[number + 1 :]:
            low, high = _bounds(nets[lower])
            found += sum(low <= span[1] <= high for span in nets[upper])
            low, high = _bounds(nets[upper])
            found += sum(low <= span[0] <= high for span in nets[lower])
    return found


def _forks(routes: Iterable[tuple[Edge, Sequence[Point]]]) -> Iterable[Point]:
    """Where three or more lines of one source meet."""
    nets: dict[str, list[Sequence[Point]]] = {}
    for edge, points in routes:
        nets.setdefault(edge.source, []).append(points)
    for ways in nets.values():
        segments = [segment for way in ways for segment in pairwise(way)]
        for point in dict.fromkeys(point for way in ways for point in way[1:-1]):
            if (
                len(
                    {direction for segment in segments for direction in _directions(segment, point)}
                )
                > 2
            ):
                yield point


def _directions(segment: tuple[Point, Point], point: Point) -> Iterable[tuple[int, int]]:
    (x, y) = point
    (x0, y0), (x1, y1) = segment
    if min(x0, x1) <= x <= max(x0, x1) and min(y0, y1) <= y <= max(y0, y1):
        for end in segment:
            if end != point:
                yield (end[0] > x) - (end[0] < x), (end[1] > y) - (end[1] < y)
