"""Charts as inline SVG: a few hundred bytes each, sharp on paper, readable without a network.

A `Chart` maps data to a 480-wide drawing and collects marks; `render` adds axes and a description
for readers who cannot see it. Colours are CSS variables of the page, so that dark mode and print
need no second drawing. Everything a caller passes is escaped here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from climb_opt.text import in_html

WIDTH = 480.0
ROOM = 0.06  # of the data's range, left free at both ends of an axis
Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Scale:
    """Data in [low, high] -> drawing units from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


def element(name: str, content: str | None = None, **attributes: str | float) -> str:
    """One SVG element. Attribute values are escaped here; `content` must be already."""
    parts = [name]
    for key, value in attributes.items():
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{in_html(shown)}"')
    head = " ".join(parts)
    return f"<{head}/>" if content is None else f"<{head}>{content}</{name}>"


def label(
    x: float, y: float, text: str, *, anchor: Anchor = "start", css: str = "tick", **more: str
) -> str:
    """A line of text at (x, y) of the drawing; `more` are attributes of its element."""
    return element("text", in_html(text), x=x, y=y, text_anchor=anchor, class_=css, **more)


def title(text: str) -> str:
    """What a pointer held over the enclosing element shows."""
    return element("title", in_html(text))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that cover [low, high], about as many as asked for."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - rough))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [0.0 if k == 0 else k * step for k in range(first, last + 1)]


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of `values` with some room at both ends; of width 1 around a constant."""
    finite = [v for v in values if math.isfinite(v)] or [0.0]
    low, high = min(finite), max(finite)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        half = abs(low) * 0.05 or 0.5
        return low - half, high + half
    return low - ROOM * (high - low), high + ROOM * (high - low)


@dataclass
class Chart:
    """A plot with two axes. Marks take data coordinates.

    Args:
        x, y: limits of the data.
        x_label, y_label: what the axes measure, with the unit.
    """

    x: tuple[float, float]
    y: tuple[float, float]
    x_label: str = ""
    y_label: str = ""
    height: float = 300.0
    left: float = 58.0
    bottom: float = 40.0
    top: float = 24.0
    right: float = 12.0
    marks: list[str] = field(default_factory=list)

    @property
    def across(self) -> Scale:
        """The horizontal scale."""
        return Scale(*self.x, self.left, WIDTH - self.right)

    @property
    def up(self) -> Scale:
        """The vertical scale."""
        return Scale(*self.y, self.height - self.bottom, self.top)

    def dot(self, at: Point, text: str, css: str, radius: float = 3.5) -> None:
        """A point that tells `text` when pointed at."""
        x, y = self.across(at[0]), self.up(at[1])
        self.marks.append(element("circle", title(text), cx=x, cy=y, r=radius, class_=css))

    def line(self, points: Sequence[Point], css: str) -> None:
        """A line through `points`."""
        if points:
            self.marks.append(element("polyline", points=self._path(points), class_=css))

    def steps(self, points: Sequence[Point], css: str) -> None:
        """A line that keeps its value until the next point."""
        path: list[Point] = []
        for point in points:
            if path:
                path.append((point[0], path[-1][1]))
            path.append(point)
        self.line(path, css)

    def band(self, upper: Sequence[Point], lower: Sequence[Point], css: str) -> None:
        """The area between two lines over the same x."""
        if points := [*upper, *reversed(lower)]:
            self.marks.append(element("polygon", points=self._path(points), class_=css))

    def levels(self, named: Mapping[str, float], css: str) -> None:
        """Horizontal lines across the plot, named in the margin at its right."""
        end, free = WIDTH - self.right, self.height
        inside = [(v, n) for n, v in named.items() if self.y[0] <= v <= self.y[1]]
        for value, text in sorted(inside, key=lambda pair: -self.up(pair[0])):
            y = self.up(value)
            self.marks.append(element("line", x1=self.left, x2=end, y1=y, y2=y, class_=css))
            free = min(y + 4, free - 14)
            self.marks.append(label(end + 5, free, text, css="note"))

    def divide(self, value: float, text: str) -> None:
        """A vertical line, for example between rounds, with `text` above it."""
        x = self.across(value)
        self.marks.append(
            element("line", x1=x, x2=x, y1=self.top, y2=self.height - self.bottom, class_="divide")
        )
        self.marks.append(label(x + 3, self.top - 8, text, css="note"))

    def render(self, description: str, *, x_ticks: Sequence[float] | None = None) -> str:
        """The SVG element; `description` says in words what the figure shows."""
        return drawing(self.axes(x_ticks) + self.marks, self.height, description)

    def axes(
        self, x_ticks: Sequence[float] | None = None, y_ticks: Sequence[float] | None = None
    ) -> list[str]:
        """Grid, ticks and names of the axes; ticks are round numbers where None."""
        floor, end = self.height - self.bottom, WIDTH - self.right
        parts = []
        values = list(ticks(*self.y) if y_ticks is None else y_ticks)
        for value in values:
            y = self.up(value)
            parts.append(element("line", x1=self.left, x2=end, y1=y, y2=y, class_="grid"))
            parts.append(label(self.left - 6, y + 4, tick_text(value, values), anchor="end"))
        values = list(ticks(*self.x) if x_ticks is None else x_ticks)
        for value in values:
            text = tick_text(value, values)
            parts.append(label(self.across(value), floor + 16, text, anchor="middle"))
        parts.append(element("line", x1=self.left, x2=end, y1=floor, y2=floor, class_="axis"))
        middle = (self.left + end) / 2
        parts.append(label(middle, self.height - 4, self.x_label, anchor="middle", css="name"))
        y = (self.top + floor) / 2
        upright = f"rotate(-90 12 {y:.0f})"
        name = label(12.0, y, self.y_label, anchor="middle", css="name", transform=upright)
        return [*parts, name]

    def _path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{self.across(x):.1f},{self.up(y):.1f}" for x, y in points)


def drawing(parts: Sequence[str], height: float, description: str) -> str:
    """An SVG of the usual width that scales with the page."""
    return element(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {WIDTH:.0f} {height:.0f}",
        role="img",
        aria_label=description,
        xmlns="http://www.w3.org/2000/svg",
    )


def tick_text(value: float, values: Sequence[float]) -> str:
    """A tick's number, with as many decimals as tell the ticks apart."""
    step = min((abs(b - a) for a, b in itertools.pairwise(values)), default=abs(value))
    if step == 0:
        return f"{value:g}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    if abs(round(step, decimals) - step) > 1e-9 * step:  # a step of 0.25 needs two
        decimals += 1
    return f"{value:.{decimals}f}" if decimals < 6 else f"{value:.2g}"
