"""A computation as a picture: the server above, the clients below."""

import itertools
from collections.abc import Iterator
from typing import Any

from fedlearn.core.aggregates import AGGREGATES
from fedlearn.core.program import Program
from fedlearn.core.types import CLIENTS, SERVER, FederatedType, tensors
from fedlearn.plot import style

# From top to bottom. What goes from one lane to the other is between them.
_BETWEEN = "between"
_LANES = (SERVER, _BETWEEN, CLIENTS)
_WIDTH, _HEIGHT = 1.8, 0.7  # of a box, in inches
_COLUMN, _ROW, _PASSING, _MARGIN = 2.3, 0.9, 0.3, 0.35
_MOST_LETTERS = 25


class _Node:
    """A box; or, without lines, a place where an arrow passes others."""

    def __init__(self, lane: str, *lines: str, colour: str = style.GREY):
        self.lane, self.lines, self.colour = lane, lines, colour
        self.sources: list[_Node] = []
        self.column, self.x, self.y = 0, 0.0, 0.0

    @property
    def height(self) -> float:
        return _ROW if self.lines else _PASSING


def draw(program: Program, ax: Any = None) -> Any:
    """The axes with a program's operators: `FederatedComputation.draw`."""
    nodes = _nodes(program)
    nodes += _passings(nodes)
    columns = [
        [node for node in nodes if node.column == i]
        for i in range(1 + max(node.column for node in nodes))
    ]
    tops, bottom = _place(columns)
    width = _COLUMN * len(columns)
    if ax is None:
        (ax,) = style.new_axes(width + 0.2, bottom + 1.0)
    style.title(ax, program.name, _cut(f"-> {program.type}", 12 * len(columns)))
    ax.set(xlim=(-0.02, width + 0.1), ylim=(bottom + 0.1, -0.02))
    ax.set_aspect("equal")
    ax.axis("off")
    _draw_lane(ax, SERVER, 0, width, tops[_BETWEEN])
    _draw_lane(ax, CLIENTS, tops[CLIENTS], width, bottom)
    for node in nodes:
        for source in node.sources if node.lines else ():
            _draw_arrow(ax, source, node)
        if node.lines:
            _draw_box(ax, node)
    return ax


def _nodes(program: Program) -> list[_Node]:
    """Parameters, operators and results, in columns from left to right."""
    owners: list[_Node] = []  # by tensor
    types: list[FederatedType] = []

    def add(node: _Node, inputs: Any) -> None:
        node.sources = list(dict.fromkeys(owners[i] for i in inputs))
        node.column = max((s.column + 1 for s in node.sources), default=0)
        nodes.append(node)

    def own(t: FederatedType) -> None:
        owners.extend([nodes[-1]] * len(tensors(t)))
        types.extend([t] * len(tensors(t)))

    nodes: list[_Node] = []
    for name, t in program.parameters.items():
        add(_Node(t.placement, name, _member(t)), ())
        own(t)
    for op in program.ops:
        names = [fn.__name__ for fn in op.functions[:1]]
        lines = (*names, op.kind, _member(op.type))
        lane, colour = op.type.placement, style.GREY
        if op.kind in AGGREGATES:
            lane, colour = _BETWEEN, style.ORANGE
        elif any(types[i].placement != lane for i in op.inputs):
            lane, colour = _BETWEEN, style.BLUE
        add(_Node(lane, *lines, colour=colour), op.inputs)
        own(op.type)
    inner, start = nodes[len(program.parameters) :], 0
    for name, t in _results(program.type, "result"):
        end = start + len(tensors(t))
        add(_Node(t.placement, name, _member(t)), program.results[start:end])
        start = end
    last = max(node.column for node in nodes)
    for node in nodes[len(program.parameters) + len(inner) :]:
        node.column = last
    for node in reversed(inner):  # as late as may be: arrows are short
        users = [n.column for n in nodes if node in n.sources]
        node.column = max(node.column, min(users, default=1) - 1)
    return nodes


def _results(t: Any, name: str) -> Iterator[tuple[str, FederatedType]]:
    if isinstance(t, FederatedType):
        yield name, t
    else:
        for part, element in t.items():
            dot = "." * (not part.startswith("["))
            yield from _results(element, f"{name}{dot}{part}")


def _passings(nodes: list[_Node]) -> list[_Node]:
    """Puts places on the way of arrows that go past a column."""
    found: dict[Any, _Node] = {}
    for node in nodes:
        for i, source in enumerate(node.sources):
            lane = node.lane if source.lane == _BETWEEN else source.lane
            for column in range(source.column + 1, node.column):
                passing = found.setdefault((source, lane, column), _Node(lane))
                passing.column, passing.colour = column, source.colour
                passing.sources = [node.sources[i]]
                node.sources[i] = passing
    return list(found.values())


def _place(columns: list[list[_Node]]) -> tuple[dict[str, float], float]:
    """Gives nodes their places; where lanes begin, and where the last ends."""
    tops, top = {}, 0.0
    for lane in _LANES:
        tops[lane] = top
        heights = (
            sum(node.height for node in column if node.lane == lane)
            for column in columns
        )
        top += max(heights) + _MARGIN * (lane != _BETWEEN)
    ends = [*tops.values(), top][1:]
    for number, column in enumerate(columns):
        for lane, end in zip(_LANES, ends, strict=True):
            here = [node for node in column if node.lane == lane]
            start = tops[lane] + _MARGIN * (lane != _BETWEEN)
            _stack(here, start, end, first=number == 0)
            for node in here:
                node.x = _COLUMN * (number + 0.5)
    return tops, top


def _stack(nodes: list[_Node], start: float, end: float, first: bool) -> None:
    """Heights of nodes one above another, each near what it takes."""

    def mean(heights: list[float], otherwise: float) -> float:
        return sum(heights) / len(heights) if heights else otherwise

    middle = (start + end) / 2
    nodes.sort(key=lambda n: mean([s.y for s in n.sources], middle))
    rest = sum(node.height for node in nodes)
    y = (start + end - rest) / 2 if first else start
    for node in nodes:
        beside = [s.y for s in node.sources if s.lane == node.lane]
        # Places on the way keep to the edge that arrows come from.
        wanted = mean(beside, middle if node.lines else start)
        latest = end - rest + node.height / 2
        node.y = max(y + node.height / 2, min(wanted, latest))
        rest -= node.height
        y = node.y + node.height / 2


def _draw_lane(
    ax: Any, name: str, top: float, width: float, bottom: float
) -> None:
    from matplotlib.patches import Rectangle

    for shift in (0.08, 0.04, 0.0) if name == CLIENTS else (0.0,):
        ax.add_patch(
            Rectangle(
                (shift, top + shift),
                width,
                bottom - top,
                facecolor="#F5F7F9",
                edgecolor=style.FAINT,
                zorder=0,
            )
        )
    font = {"fontsize": 8.5, "fontweight": "bold", "color": style.GREY}
    ax.text(0.12, top + 0.1, name, ha="left", va="top", **font)


def _draw_box(ax: Any, node: _Node) -> None:
    from matplotlib.patches import FancyBboxPatch

    crosses = node.lane == _BETWEEN
    value = len(node.lines) == 2 and not node.lines[0].startswith("federated_")
    rounding = _HEIGHT / 2 if value else 0.08
    ax.add_patch(
        FancyBboxPatch(
            (node.x - _WIDTH / 2, node.y - _HEIGHT / 2),
            _WIDTH,
            _HEIGHT,
            boxstyle=f"round,pad=0,rounding_size={rounding}",
            facecolor="white",
            edgecolor=node.colour if crosses else style.GREY,
            linewidth=1.4 if crosses else 0.9,
            zorder=2,
        )
    )
    step = 0.19
    y = node.y - step * (len(node.lines) - 1) / 2
    for i, line in enumerate(node.lines):
        is_type = i == len(node.lines) - 1
        ax.text(
            node.x,
            y + i * step,
            _cut(line, _MOST_LETTERS),
            ha="center",
            va="center",
            fontsize=9 if i == 0 else 8,
            fontweight="bold" if i == 0 else "normal",
            color=style.INK if i == 0 else style.GREY,
            family="monospace" if is_type else None,
            zorder=3,
        )


def _draw_arrow(ax: Any, source: _Node, node: _Node) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    way = [source, node]
    while not way[0].lines:
        way.insert(0, way[0].sources[0])
    colour = way[0].colour if way[0].lane == _BETWEEN else node.colour
    # Arrows into one box arrive one below another.
    heights = sorted(s.y for s in node.sources)
    port = heights.index(source.y) - (len(heights) - 1) / 2
    points, codes = [], [Path.MOVETO]
    for start, end in itertools.pairwise(way):
        left, right = start.x + _WIDTH / 2, end.x - _WIDTH / 2
        middle, to = (left + right) / 2, end.y + 0.13 * port * (end is node)
        points += [(left, start.y), (middle, start.y), (middle, to)]
        points.append((right, to))
        codes += [Path.CURVE4] * 3 + [Path.LINETO]
    codes.pop()
    ax.add_patch(
        FancyArrowPatch(
            path=Path(points, codes),
            arrowstyle="-|>",
            mutation_scale=9,
            color=colour,
            linewidth=1.2,
            shrinkA=0,
            shrinkB=0,
            zorder=1,
        )
    )


def _member(t: FederatedType) -> str:
    """A type without its place, which the lane shows."""
    differs = t.placement == CLIENTS and not t.all_equal
    return f"{{{t.member}}}" if differs else str(t.member)


def _cut(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    return f"{text[: most - 8]}…{text[-7:]}"
