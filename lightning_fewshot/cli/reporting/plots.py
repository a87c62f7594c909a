"""Line plots as inline SVG: nothing to load, sharp in print, coloured by the page's style."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 52, 20, 26, 38  # margins
MOST_POINTS = 300  # of one line; more cannot be told apart on this width
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b")  # Okabe and Ito, 2008
DASHES = ("", "6 3", "2 2", "8 2 2 2")  # for the ninth line on


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Args:
        run: Number of the run: it has one colour in all plots.
        label: What a reader sees.
        x: Where.
        y: What; as long as ``x``.
    """

    run: int
    label: str
    x: list[float]
    y: list[float]


def line_plot(title: str, x_label: str, lines: list[Line], limits: tuple[float, float] | None = None) -> str:
    """Return an ``<svg>`` with axes, grid and lines.

    Args:
        title: Above the plot.
        x_label: Below it.
        lines: With finite numbers only.
        limits: Of y; by default those of the lines.
    """
    lines = [_thinned(line) for line in lines if line.x]
    xs = [x for line in lines for x in line.x]
    x_span = (min(xs), max(xs))
    y_ticks = ticks(*(limits or _range(lines)))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="16">{escape(title)}</text>',
        *(_x_tick(x, x_span) for x in ticks(*x_span) if x_span[0] <= x <= x_span[1]),
        *(_y_tick(y, y_ticks) for y in y_ticks),
        f'<text class="axis" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>',
        *(_path(line, x_span, y_ticks) for line in lines),
        "</svg>",
    ]
    return "".join(parts)


def interval_bar(value: float, low: float | None, high: float | None, span: tuple[float, float]) -> str:
    """Return a dot with its interval on a common scale, as a small ``<svg>``."""
    width = 110

    def place(number: float) -> float:
        extent = span[1] - span[0]
        return 4 + (width - 8) * ((number - span[0]) / extent if extent else 0.5)

    whisker = ""
    if low is not None and high is not None:
        whisker = f'<line x1="{place(low):.1f}" x2="{place(high):.1f}" y1="7" y2="7"/>'
    return f'<svg class="bar" viewBox="0 0 {width} 14">{whisker}<circle cx="{place(value):.1f}" cy="7" r="3"/></svg>'


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers that enclose a range.

    >>> ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(3.0, 3.0)
    [2.0, 3.0, 4.0]
    """
    if high <= low:
        low, high, count = low - 1, high + 1, 2
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def style(run: int) -> str:
    """Return the look of a run's line, as SVG attributes."""
    dash = DASHES[run // len(COLORS) % len(DASHES)]
    return f'stroke="{COLORS[run % len(COLORS)]}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _range(lines: list[Line]) -> tuple[float, float]:
    ys = [y for line in lines for y in line.y]
    return min(ys), max(ys)


def _thinned(line: Line) -> Line:
    """Average neighbours of a long line, so that a page of forty runs stays small."""
    size = math.ceil(len(line.x) / MOST_POINTS)
    if size <= 1:
        return line

    def means(values: list[float]) -> list[float]:
        return [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]

    return Line(line.run, line.label, means(line.x), means(line.y))


def _x(value: float, span: tuple[float, float]) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (value - span[0]) / ((span[1] - span[0]) or 1)


def _y(value: float, tick_values: list[float]) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - tick_values[0]) / (tick_values[-1] - tick_values[0])


def _x_tick(value: float, span: tuple[float, float]) -> str:
    x = _x(value, span)
    return f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{_number(value)}</text>'


def _y_tick(value: float, tick_values: list[float]) -> str:
    y = _y(value, tick_values)
    grid = f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{grid}<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{_number(value)}</text>'


def _number(value: float) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"


def _path(line: Line, x_span: tuple[float, float], y_ticks: list[float]) -> str:
    points = [f"{_x(x, x_span):.1f} {_y(y, y_ticks):.1f}" for x, y in zip(line.x, line.y, strict=True)]
    label = f"<title>{escape(line.label)}</title>"
    return f'<path class="line" data-run="{line.run}" {style(line.run)} d="M{"L".join(points)}">{label}</path>'
