"""Where the nodes of a scene are and where its edges run: a layered layout for this one shape."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from resattn.drawing.columns import FRAME_SIDE, Columns
from resattn.drawing.geometry import CLEAR, Bounds, Position, Size, find_forks
from resattn.drawing.scene import Edge, Scene
from resattn.drawing.tracks import assign_tracks, spread_ports

GAP, TRACK, ARROW_ROOM, LABEL_ROOM, FORK_ROOM = 26, 11, 15, 22, 10
FRAME_HEAD, FRAME_FOOT = 38, 14

Routes = Sequence[tuple[Edge, Sequence[Position]]]


@dataclass(frozen=True)
class Layout:
    """centres: of the nodes. routes: the corners of each edge, in the order of the scene's edges.
    dots: where edges fork. frames: in the order of the scene's.
    """

    centres: Mapping[str, Position]
    routes: Routes
    dots: tuple[Position, ...]
    frames: tuple[Bounds, ...]


def place(scene: Scene, sizes: Mapping[str, Size], titles: Sequence[float] = ()) -> Layout:
    """The layout of a scene. sizes: of the nodes. titles: the widths of the frames' titles."""
    columns = Columns(scene, sizes)
    spread_ports(columns)
    tracks, counts = assign_tracks(columns.routes)
    heights = _Heights(columns, counts)
    centres = {name: (columns.x_of(name), heights.y[2 * row]) for name, row in columns.row.items()}
    routes = []
    for route in columns.routes:
        source = route.edge.source
        points = [
            (x, heights.y[level] + tracks.get((source, level), 0) * TRACK)
            for x, level in route.points
        ]
        routes.append((route.edge, tuple(_clip(route.edge, points, sizes, centres))))
    frames = _place_frames(columns, heights, titles)
    return Layout(centres, tuple(routes), tuple(_find_dots(routes)), tuple(frames))


class _Heights:
    """The y of the levels and of the frames. counts: the number of tracks by level.

    y: of each level; of an odd one, that of its first track. heads, feet: by the frame's number.
    """

    def __init__(self, columns: Columns, counts: Mapping[int, int]):
        self.columns = columns
        self.y: dict[int, float] = {}
        self.heads: dict[int, float] = {}
        self.feet: dict[int, float] = {}
        top = 0.0
        for row in range(max(columns.row.values()) + 1):
            height = max(columns.sizes[name].height for name in self._list_row(row))
            self.y[2 * row] = top + height / 2
            top = self._leave_room(row, top + height, counts.get(2 * row + 1, 0))

    def _list_row(self, row: int) -> list[str]:
        return [name for name, its in self.columns.row.items() if its == row]

    def _leave_room(self, row: int, bottom: float, tracks: int) -> float:
        """The y at which the next row begins.

        Between two rows are, from the top: words, the feet and the heads of frames, tracks, the
        tips of arrows.
        """
        frames = self.columns.scene.frames
        spans = [_find_rows(self.columns, frame.members) for frame in frames]
        closing = [number for number, (_, last) in enumerate(spans) if last == row]
        opening = [number for number, (first, _) in enumerate(spans) if first == row + 1]
        labelled = any(self.columns.sizes[name].label for name in self._list_row(row))
        at = bottom + (LABEL_ROOM if labelled and (tracks or closing or opening) else 0)
        for number in closing:
            at += FRAME_FOOT
            self.feet[number] = at
        for number in opening:
            self.heads[number] = at + TRACK
            at += FRAME_HEAD
        at += FORK_ROOM if tracks and not labelled and not opening else 0
        self.y[2 * row + 1] = at
        return max(at + max(tracks - 1, 0) * TRACK + ARROW_ROOM, bottom + GAP)


def _find_rows(columns: Columns, members: Iterable[str]) -> tuple[int, int]:
    """The first and the last row of some nodes."""
    inside = [columns.row[name] for name in members]
    return min(inside), max(inside)


def _clip(
    edge: Edge,
    points: list[Position],
    sizes: Mapping[str, Size],
    centres: Mapping[str, Position],
) -> list[Position]:
    """A line between two centres, from the border of the source to the border of the target."""
    source, target = sizes[edge.source], sizes[edge.target]
    points[0] = (points[0][0], points[0][1] + source.height / 2)
    (before, at), (x, y) = points[-2:]
    if at == y and x != before:
        points[-1] = (x + (target.width / 2 if before > x else -target.width / 2), y)
    else:
        off = x - centres[edge.target][0]
        half = target.height / 2
        reach = (half**2 - off**2) ** 0.5 if target.round else half
        points[-1] = (x, y - reach)
    return [
        point for number, point in enumerate(points) if number == 0 or point != points[number - 1]
    ]


def _find_dots(routes: Routes) -> Iterator[Position]:
    by_source: dict[str, list[Sequence[Position]]] = {}
    for edge, points in routes:
        by_source.setdefault(edge.source, []).append(points)
    for lines in by_source.values():
        yield from find_forks(lines)


def _place_frames(columns: Columns, heights: _Heights, titles: Sequence[float]) -> list[Bounds]:
    """The bounds of the frames. All frames of a picture have one width."""
    widths = [
        _bound_frame(columns, set(frame.members), title)
        for frame, title in zip(columns.scene.frames, titles, strict=True)
    ]
    left = min((width[0] for width in widths), default=0)
    right = max((width[1] for width in widths), default=0)
    return [
        (left - FRAME_SIDE, heights.heads[number], right + FRAME_SIDE, heights.feet[number])
        for number in range(len(widths))
    ]


def _bound_frame(columns: Columns, inside: set[str], title: float) -> tuple[float, float]:
    """The left and the right of a frame, without a margin."""
    top, _ = _find_rows(columns, inside)
    lefts = [columns.x_of(name) - columns.sizes[name].width / 2 for name in inside]
    rights = []
    for name in inside:
        size = columns.sizes[name]
        reach = max(size.width / 2, CLEAR + size.label if size.label else 0)
        rights.append(columns.x_of(name) + reach)
    # Lines that come in above the first row belong to the trunk.
    lanes = [
        x
        for route in columns.routes
        if route.edge.target in inside
        for x, level in route.points
        if level > 2 * top
    ]
    left, right = min(lefts + lanes), max(rights + lanes)
    return left, max(right, max(left, 0) + title)
