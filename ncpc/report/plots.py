"""Small charts as SVG text: lines, bars, ranges, a histogram. Colours are classes that the page's style sheet fills in.

Coordinates are written with two decimals, so the same numbers give the same text everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import ArrayLike, NDArray

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 600.0, 52.0, 14.0, 10.0, 26.0
ROW = 19.0
NAMES = 134.0
ROOM = 74.0
"""For the number behind a bar."""


@dataclass(frozen=True, eq=False)
class Line:
    """One curve: values at 0, 1, 2, ...; ``style`` is its CSS class."""

    label: str
    values: NDArray[np.float64]
    style: str


@dataclass(frozen=True)
class Bar:
    """One row of a bar chart: a wide light bar (``value``) and a narrow dark one inside it (``inner``)."""

    name: str
    value: float
    inner: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Span:
    """One row of a range chart: an outer range (proved) and an inner one (observed)."""

    name: str
    outer: tuple[float, float]
    inner: tuple[float, float] | None = None


@dataclass(frozen=True)
class Frame:
    """The plot area and the linear maps from data to its coordinates."""

    x: tuple[float, float]
    y: tuple[float, float]
    height: float
    log: bool = field(default=False)

    def at_x(self, value: float) -> float:
        return LEFT + (value - self.x[0]) / ((self.x[1] - self.x[0]) or 1.0) * (WIDTH - LEFT - RIGHT)

    def at_y(self, value: float) -> float:
        lo, hi = self.y
        return self.height - BOTTOM - (value - lo) / ((hi - lo) or 1.0) * (self.height - TOP - BOTTOM)


def lines(curves: Sequence[Line], title: str, *, height: float = 190.0, marks: Iterable[int] = ()) -> str:
    """Curves over steps on a common linear scale; ``marks`` are steps to mark by a vertical line."""
    values = np.concatenate([finite(curve.values) for curve in curves])
    frame = Frame((0, max(len(curve.values) for curve in curves) - 1), padded(values), height)
    parts = [_grid(frame, [(t, number(t)) for t in ticks(*frame.y)]), _steps(frame)]
    parts += [f'<line class="mark" x1="{c(frame.at_x(m))}" x2="{c(frame.at_x(m))}" y1="{c(TOP)}" '
              f'y2="{c(height - BOTTOM)}"/>' for m in marks]
    parts += [f'<polyline class="{line.style}" points="{_points(frame, line.values)}"/>' for line in curves]
    return svg(parts, height, title)


def decades(curves: Sequence[Line], title: str, *, height: float = 190.0) -> str:
    """Positive curves over steps on a logarithmic scale of at most nine decades; zeros lie on the lower edge."""
    values = np.concatenate([finite(curve.values) for curve in curves])
    top = math.ceil(math.log10(max(values.max(initial=0.0), 1e-300)))
    positive = values[values > 0]
    low = max(top - 9, math.floor(math.log10(positive.min()))) if positive.size else top - 1
    frame = Frame((0, max(len(curve.values) for curve in curves) - 1), (min(low, top - 1), top), height, log=True)
    every = max(1, (top - low) // 5)
    labels = [(float(d), f"1e{d}") for d in range(low, top + 1, every)]
    parts = [_grid(frame, labels), _steps(frame)]
    parts += [f'<polyline class="{line.style}" points="{_points(frame, _log10(line.values, frame.y))}"/>'
              for line in curves]
    return svg(parts, height, title)


def bars(rows: Sequence[Bar], title: str, full: float = 1e-300) -> str:
    """Horizontal bars with their names on the left and their numbers on the right; ``full`` is at least the scale."""
    height, most = ROW * len(rows) + 6, max([full, *(row.value for row in rows if math.isfinite(row.value))])
    parts = []
    for i, row in enumerate(rows):
        y, width = 3 + i * ROW, (WIDTH - NAMES - ROOM) * min(row.value, most) / most
        parts.append(_name(row.name, y))
        parts.append(f'<rect class="bar" x="{c(NAMES)}" y="{c(y + 3)}" width="{c(width)}" height="{c(ROW - 6)}" '
                     'rx="2"/>')
        if row.inner is not None:
            inner = (WIDTH - NAMES - ROOM) * min(row.inner, most) / most
            parts.append(f'<rect class="bar-inner" x="{c(NAMES)}" y="{c(y + 6.5)}" width="{c(inner)}" '
                         f'height="{c(ROW - 13)}" rx="1"/>')
        note = escape(row.note or number(row.value))
        parts.append(f'<text class="value" x="{c(NAMES + width + 6)}" y="{c(y + 13.5)}">{note}</text>')
    return svg(parts, height, title)


def spans(rows: Sequence[Span], title: str) -> str:
    """Horizontal ranges on a common scale, the inner one drawn inside the outer one."""
    known = [bound for row in rows for bound in (*row.outer, *(row.inner or ())) if math.isfinite(bound)]
    lo, hi = padded(np.array(known or [0.0]))
    height, scale = ROW * len(rows) + 26, (WIDTH - NAMES - RIGHT) / (hi - lo)
    def x(value: float) -> float:
        return NAMES + (min(max(value, lo), hi) - lo) * scale
    parts = [f'<line class="grid" x1="{c(x(t))}" x2="{c(x(t))}" y1="0" y2="{c(height - 20)}"/>'
             f'<text class="tick" x="{c(x(t))}" y="{c(height - 6)}" text-anchor="middle">{number(t)}</text>'
             for t in ticks(lo, hi, 7)]
    for i, row in enumerate(rows):
        y = 3 + i * ROW
        parts.append(_name(row.name, y))
        parts.append(_span(x, row.outer, y + 4, ROW - 8, "span"))
        if row.inner is not None:
            parts.append(_span(x, row.inner, y + 6.5, ROW - 13, "span-inner"))
    return svg(parts, height, title)


def histogram(low: NDArray[np.int64], high: NDArray[np.int64], title: str, *, height: float = 170.0) -> str:
    """How often each count occurs: upper bounds filled, lower bounds as an outline where they differ."""
    start, stop = int(min(low.min(), high.min())), int(max(low.max(), high.max()))
    edges = np.linspace(start - 0.5, stop + 0.5, min(60, stop - start + 1) + 1)
    upper, lower = np.histogram(high, edges)[0], np.histogram(low, edges)[0]
    shown = [upper] if np.array_equal(low, high) else [upper, lower]
    frame = Frame((float(edges[0]), float(edges[-1])), (0.0, float(max(h.max() for h in shown)) * 1.06), height)
    parts = [_grid(frame, [(t, number(t)) for t in ticks(*frame.y, 4)])]
    for counts, style in zip(shown, ("hist", "hist-low"), strict=False):
        for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
            if count:
                x, y = frame.at_x(left), frame.at_y(count)
                parts.append(f'<rect class="{style}" x="{c(x)}" y="{c(y)}" width="{c(frame.at_x(right) - x)}" '
                             f'height="{c(height - BOTTOM - y)}"/>')
    parts += [f'<text class="tick" x="{c(frame.at_x(t))}" y="{c(height - 8)}" text-anchor="middle">{t:,.0f}</text>'
              for t in ticks(*frame.x, 7)]
    return svg(parts, height, title)


def svg(parts: Iterable[str], height: float, title: str, width: float = WIDTH) -> str:
    """An SVG element that scales with the page; ``title`` is what a screen reader says."""
    label = escape(title)
    return (f'<svg viewBox="0 0 {c(width)} {c(height)}" role="img" aria-label="{label}">\n'
            + "\n".join(parts) + "\n</svg>")


def ticks(lo: float, hi: float, count: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) inside [lo, hi], about ``count`` of them."""
    if not hi > lo:
        return [lo]
    raw = (hi - lo) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [float(i * step) for i in range(math.ceil(lo / step - 1e-9), math.floor(hi / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number in few characters."""
    if value == 0:
        return "0"
    if not math.isfinite(value):
        return "∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """The finite ones."""
    array = np.asarray(values, np.float64)
    return array[np.isfinite(array)]


def padded(values: NDArray[np.float64]) -> tuple[float, float]:
    """Their range, a little wider; never empty."""
    lo, hi = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    extra = 0.06 * (hi - lo) or max(abs(lo), 1.0) * 0.1
    return lo - extra, hi + extra


def c(value: float) -> str:
    """A coordinate."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _points(frame: Frame, values: NDArray[np.float64]) -> str:
    kept = [(i, float(v)) for i, v in enumerate(values) if math.isfinite(v)]
    return " ".join(f"{c(frame.at_x(i))},{c(frame.at_y(v))}" for i, v in kept)


def _log10(values: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    return np.clip(np.log10(np.maximum(values, 1e-300)), *limits)


def _grid(frame: Frame, labels: Sequence[tuple[float, str]]) -> str:
    return "".join(
        f'<line class="grid" x1="{c(LEFT)}" x2="{c(WIDTH - RIGHT)}" y1="{c(frame.at_y(v))}" y2="{c(frame.at_y(v))}"/>'
        f'<text class="tick" x="{c(LEFT - 7)}" y="{c(frame.at_y(v) + 3.5)}" text-anchor="end">{escape(text)}</text>'
        for v, text in labels)


def _steps(frame: Frame) -> str:
    return "".join(
        f'<text class="tick" x="{c(frame.at_x(t))}" y="{c(frame.height - 8)}" text-anchor="middle">{t:,.0f}</text>'
        for t in ticks(*frame.x, 8))


def _name(name: str, y: float) -> str:
    shown = name if len(name) <= 22 else name[:21] + "…"
    return (f'<text class="name" x="{c(NAMES - 8)}" y="{c(y + 13.5)}" text-anchor="end">{escape(shown)}'
            f"<title>{escape(name)}</title></text>")


def _span(x: Callable[[float], float], bounds: tuple[float, float], y: float, height: float, style: str) -> str:
    width = max(x(bounds[1]) - x(bounds[0]), 1.5)
    return (f'<rect class="{style}" x="{c(x(bounds[0]))}" y="{c(y)}" width="{c(width)}" height="{c(height)}" rx="2">'
            f"<title>{number(bounds[0])} .. {number(bounds[1])}</title></rect>")
