"""A network in columns side by side: as one column it would be four times as tall as wide."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from resattn.drawing.geometry import CLEAR, Bounds, Position, Size
from resattn.drawing.layout import LABEL_ROOM, Layout
from resattn.drawing.scene import Scene

_GUTTER = 44  # between columns
_RATIO = 1.5  # of width and height, which the number of columns is chosen for
_MOST_COLUMNS = 5
_ABOVE = 16  # of an arrow above the first node of a column


@dataclass(frozen=True)
class _Section:
    """What stays in one column: a stage, or a node outside of them."""

    nodes: tuple[str, ...]
    top: float
    bottom: float


def arrange_columns(layout: Layout, scene: Scene, sizes: Mapping[str, Size]) -> Layout:
    """The layout with the sections of a network in columns, from left to right.

    A scene with a shortcut beside its main path, as that of a block, stays as it is.
    """
    if scene.aside or len(scene.frames) < 2:
        return layout
    sections = _find_sections(layout, scene, sizes)
    width = _find_width(layout, scene, sizes)
    split = min(
        (_split(sections, count) for count in range(1, min(_MOST_COLUMNS, len(sections)) + 1)),
        key=lambda columns: _strangeness(columns, width),
    )
    shifts: dict[str, Position] = {}
    for number, column in enumerate(split):
        for section in column:
            for name in section.nodes:
                shifts[name] = (number * (width + _GUTTER), -column[0].top)
    return _move(layout, scene, sizes, shifts, (width + _GUTTER, _find_left(layout, scene, sizes)))


def _find_sections(layout: Layout, scene: Scene, sizes: Mapping[str, Size]) -> list[_Section]:
    frames = {name: number for number, frame in enumerate(scene.frames) for name in frame.members}
    sections: list[_Section] = []
    for name in scene.trunk:
        y, half = layout.centres[name][1], sizes[name].height / 2
        number = frames.get(name)
        if number is None:
            room = LABEL_ROOM if scene[name].shape else 0
            sections.append(_Section((name,), y - half, y + half + room))
        elif name == scene.frames[number].members[0]:
            _, top, _, bottom = layout.frames[number]
            sections.append(_Section(scene.frames[number].members, top, bottom))
    return sections


def _split(sections: Sequence[_Section], count: int) -> list[list[_Section]]:
    """So many columns, one after the other, of which the tallest is as short as can be."""
    best: dict[tuple[int, int], tuple[float, list[list[_Section]]]] = {}

    def solve(start: int, left: int) -> tuple[float, list[list[_Section]]]:
        if (start, left) not in best:
            whole = list(sections[start:])
            options = [(_height(whole), [whole])] if left == 1 else []
            for end in range(start + 1, len(sections) - left + 2 if left > 1 else 0):
                first = list(sections[start:end])
                rest, columns = solve(end, left - 1)
                options.append((max(_height(first), rest), [first, *columns]))
            best[start, left] = min(options, key=lambda option: option[0])
        return best[start, left]

    return solve(0, count)[1]


def _height(column: Sequence[_Section]) -> float:
    return column[-1].bottom - column[0].top


def _strangeness(columns: Sequence[Sequence[_Section]], width: float) -> float:
    """How far the picture's ratio of width and height is from `_RATIO`."""
    across = len(columns) * width + (len(columns) - 1) * _GUTTER
    ratio = across / max(map(_height, columns)) / _RATIO
    return max(ratio, 1 / ratio)


def _find_left(layout: Layout, scene: Scene, sizes: Mapping[str, Size]) -> float:
    lefts = [layout.centres[name][0] - sizes[name].width / 2 for name in scene.trunk]
    return min(*lefts, *(frame[0] for frame in layout.frames))


def _find_width(layout: Layout, scene: Scene, sizes: Mapping[str, Size]) -> float:
    """Of a column, with the words beside its arrows."""
    rights = [
        layout.centres[name][0] + max(sizes[name].width / 2, CLEAR + sizes[name].label)
        for name in scene.trunk
    ]
    return max(*rights, *(frame[2] for frame in layout.frames)) - _find_left(layout, scene, sizes)


def _move(
    layout: Layout,
    scene: Scene,
    sizes: Mapping[str, Size],
    shifts: Mapping[str, Position],
    columns: tuple[float, float],
) -> Layout:
    """columns: from the left of one to the left of the next, and the left of the first."""

    def moved(name: str) -> Callable[[Position], Position]:
        across, down = shifts[name]
        return lambda point: (point[0] + across, point[1] + down)

    routes = []
    for edge, points in layout.routes:
        source, target = moved(edge.source), moved(edge.target)
        if shifts[edge.source] == shifts[edge.target]:
            routes.append((edge, tuple(map(source, points))))
            continue
        start, end = source(points[0]), target(points[-1])
        step, left = columns
        number = round(shifts[edge.target][0] / step)
        between = left + number * step - _GUTTER / 2
        ends = [frame[3] for each, frame in zip(scene.frames, layout.frames, strict=True)
                if edge.source in each.members]  # fmt: skip
        bottom = source((0.0, max([points[0][1] + LABEL_ROOM, *ends])))[1]
        low, high = bottom + _ABOVE, min(-_ABOVE, end[1] - _ABOVE)
        corners = [start, (start[0], low), (between, low), (between, high), (end[0], high), end]
        routes.append((edge, tuple(corners)))
    frames: list[Bounds] = []
    for frame, bounds in zip(scene.frames, layout.frames, strict=True):
        across, down = shifts[frame.members[0]]
        left, top, right, bottom = bounds
        frames.append((left + across, top + down, right + across, bottom + down))
    centres = {name: moved(name)(at) for name, at in layout.centres.items()}
    return Layout(centres, tuple(routes), layout.dots, tuple(frames))
