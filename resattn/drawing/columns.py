"""The columns of a layout: which nodes share one, in which one each edge runs, and their x.

The rows of a scene are the longest ways from the input. A level is twice the row; odd levels are
between two rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, product

from resattn.drawing.geometry import CLEAR, Size
from resattn.drawing.scene import Edge, Scene

COLUMN_GAP, ASIDE_GAP, IDENTITY_ROOM, FRAME_SIDE = 24, 34, 100, 16
# The cost of a crossing, and of a pixel of width, in pixels of travel.
CROSSING, WIDTH = 300.0, 0.5
MANY_CHAINS = 14  # of more, no better order is searched for: the search takes too long


@dataclass(eq=False)
class Chain:
    """Nodes in one column, or the lane of an edge. top, bottom: its first and its last row."""

    nodes: list[str]
    top: int
    bottom: int


@dataclass
class Route:
    """The way of an edge.

    chain: the column in which it runs down. straight: whether source and target are neighbours in
    that column. side: whether it enters its target from the side if no node is in the way. points:
    its corners, as x and level.
    """

    edge: Edge
    chain: Chain
    straight: bool
    side: bool = False
    points: list[tuple[float, int]] = field(default_factory=list)

    @property
    def enters_side(self) -> bool:
        return self.points[-1][1] == self.points[-2][1]

    @property
    def origin(self) -> float:
        """The x at which it turns towards its target."""
        end = self.points[-1][0]
        return next((x for x, _ in reversed(self.points) if x != end), end)

    def move_end(self, x: float) -> None:
        """Moves the last upright segment."""
        old = self.points[-1][0]
        number = len(self.points) - 1
        while number > 0 and self.points[number][0] == old:
            self.points[number] = (x, self.points[number][1])
            number -= 1


def assign_rows(scene: Scene) -> dict[str, int]:
    """The longest way to each node; nodes on the shortcut are half way down."""
    row: dict[str, int] = {}
    for node in scene.nodes:
        row[node.name] = max((row[source] + 1 for source in scene.inputs(node.name)), default=0)
    if scene.aside:
        first = row[scene.inputs(scene.aside[0])[0]] + 1
        last = row[next(edge.target for edge in scene.edges if edge.source == scene.aside[-1])] - 1
        start = first + (last - first + 1 - len(scene.aside)) // 2
        row |= {name: start + number for number, name in enumerate(scene.aside)}
    return row


class Columns:
    """The columns of a scene.

    The trunk is at x = 0, the shortcut to its left, and the chains of the attention module to its
    right, in the order with the fewest crossings and the least travel. An edge runs down in the
    column of a chain or in a lane of its own, and across between two rows or straight into the side
    of a circle, so never through a box.
    """

    def __init__(self, scene: Scene, sizes: Mapping[str, Size]):
        self.scene, self.sizes = scene, sizes
        self.row = assign_rows(scene)
        self.trunk = Chain(list(scene.trunk), 0, self.row[scene.trunk[-1]])
        self.aside = self._make_aside()
        self.chains = self._make_chains()
        every = [self.trunk, *([self.aside] if self.aside else []), *self.chains]
        self.chain_of = {name: chain for chain in every for name in chain.nodes}
        self.routes = [self._make_route(edge) for edge in scene.edges]
        self.x: dict[int, float] = {}  # by the chain's id
        self._set_x(self._find_order())

    def x_of(self, name: str) -> float:
        return self.x[id(self.chain_of[name])]

    # Chains and routes

    def _make_aside(self) -> Chain | None:
        names = list(self.scene.aside)
        return Chain(names, self.row[names[0]], self.row[names[-1]]) if names else None

    def _make_chains(self) -> list[Chain]:
        """Each node continues the chain of its nearest input that no other node continues."""
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

    def _make_route(self, edge: Edge) -> Route:
        """An edge runs down in its source's column while that is free, else in its target's, else
        in a lane of its own.
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
        return Route(edge, self._make_lane(edge, start + 1, end if side else end - 1), False, side)

    def _make_lane(self, edge: Edge, top: int, bottom: int) -> Chain:
        lane = Chain([], top, bottom)
        if edge.path == "shortcut":
            self.aside = lane
        else:
            self.chains.append(lane)
        return lane

    # The x of the chains and the corners of the routes

    def _find_order(self) -> list[Chain]:
        """Moves one chain at a time as long as that lowers the cost; many stay in their order."""
        best = list(self.chains)
        if len(best) > MANY_CHAINS:
            return best
        cost = self._measure_cost(best)
        improved = True
        while improved:
            improved = False
            for number, place in product(range(len(best)), repeat=2):
                tried = best[:number] + best[number + 1 :]
                tried.insert(place, best[number])
                found = self._measure_cost(tried)
                if found < cost - 1e-6:
                    best, cost, improved = tried, found, True
        return best

    def _set_x(self, order: Sequence[Chain]) -> None:
        """Sets the x of each chain for an order, and the corners of each route."""
        self.x = {id(self.trunk): 0.0}
        for number, chain in enumerate(order):
            self.x[id(chain)] = self._find_x(chain, order[:number])
        if self.aside:
            self.x[id(self.aside)] = self._find_aside_x(self.aside)
        taken: set[tuple[str, float]] = set()
        for route in self.routes:
            self._set_corners(route, taken)

    def _find_x(self, chain: Chain, before: Iterable[Chain]) -> float:
        """As far left as the chains before it in the order allow."""
        least = float(COLUMN_GAP)
        for other in (self.trunk, *before):
            if max(chain.top, other.top) > min(chain.bottom, other.bottom) + 1:
                continue  # a row is between them
            for row in range(max(chain.top, other.top) - 1, min(chain.bottom, other.bottom) + 2):
                if other is self.trunk and not chain.top <= row <= chain.bottom:
                    continue  # a wide box of the main path may be above or below a frame
                apart = (
                    self._extent(other, row, True) + COLUMN_GAP + self._extent(chain, row, False)
                )
                least = max(least, self.x[id(other)] + apart)
        return least

    def _extent(self, chain: Chain, row: int, right: bool) -> float:
        """How far a chain extends to the right or left in a row, with the words below its node."""
        for name in chain.nodes:
            if self.row[name] == row:
                half = self.sizes[name].width / 2
                label = self.sizes[name].label
                return max(half, CLEAR + label) if right and label else half
        return 0

    def _find_aside_x(self, aside: Chain) -> float:
        """To the left of the trunk and of its frame."""
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
        sizes = [self.sizes[name] for name in aside.nodes]
        reach = [max(size.width / 2 + ASIDE_GAP, size.label + 2 * CLEAR) for size in sizes]
        return -(max(rest, framed) + max(reach, default=IDENTITY_ROOM))

    def _set_corners(self, route: Route, taken: set[tuple[str, float]]) -> None:
        """taken: the sides of targets that routes enter already; it is added to."""
        start, end = 2 * self.row[route.edge.source], 2 * self.row[route.edge.target]
        source, target = self.x_of(route.edge.source), self.x_of(route.edge.target)
        run = self.x[id(route.chain)]
        if route.straight:
            route.points = [(source, start), (target, end)]
            return
        direction = 1.0 if run > target else -1.0
        side = (route.edge.target, direction)
        if route.side and side not in taken and not self._is_blocked(run, target, end):
            taken.add(side)
            last = [(run, end), (target, end)]
        elif run == target:
            last = [(target, end)]
        else:
            last = [(run, end - 1), (target, end - 1), (target, end)]
        first = [(source, start)]
        if run != source:
            first += [(source, start + 1), (run, start + 1)]
        route.points = first + last

    def _is_blocked(self, start: float, end: float, level: int) -> bool:
        """Whether a node of that level is between two x."""
        low, high = min(start, end), max(start, end)
        return any(
            2 * row == level and low < self.x_of(name) < high for name, row in self.row.items()
        )

    def _measure_cost(self, order: Sequence[Chain]) -> float:
        """The cost of an order: travel across, once for each source, crossings, and width."""
        self._set_x(order)
        lines = [
            (route.edge.source, *line) for route in self.routes for line in pairwise(route.points)
        ]
        across = [
            (source, level, min(x, end), max(x, end))
            for source, (x, level), (end, same) in lines
            if level == same
        ]
        down = [(source, x, level, end) for source, (x, level), (_, end) in lines if level != end]
        spans: dict[tuple[str, int], list[float]] = {}
        for source, level, low, high in across:
            spans.setdefault((source, level), []).extend((low, high))
        travel = sum(max(ends) - min(ends) for ends in spans.values())
        crossings = sum(
            source != other and low < x < high and top <= level <= bottom
            for source, level, low, high in across
            for other, x, top, bottom in down
        )
        # A route that cannot enter the side counts as a crossing.
        crossings += sum(route.side and not route.enters_side for route in self.routes)
        return travel + CROSSING * crossings + WIDTH * max(self.x.values())
