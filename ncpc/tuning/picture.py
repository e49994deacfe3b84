"""The points as a picture: what each costs against what it errs by, the chosen one marked."""

from __future__ import annotations

import math

import numpy as np

from ncpc.report.plots import BOTTOM, LEFT, RIGHT, TOP, WIDTH, Frame, c, number, padded, svg, ticks
from ncpc.report.record import Json
from ncpc.report.terminal import share

HEIGHT = 230.0
STYLE = """<style>
text{font:11px system-ui,sans-serif;fill:#48525c}.grid{stroke:#dfe3e7}.limit{stroke:#d1582f;stroke-dasharray:4 3}
.point{fill:#b4bcc4}.front{fill:#2a78c6}.chosen{fill:none;stroke:#d1582f;stroke-width:2}
</style>"""


def front_svg(record: Json) -> str:
    """A file of its own: one chart for each cost, errors on a logarithmic scale, tolerance and budgets as lines."""
    rows = [(row, "front" if k in record["front"] else "point") for k, row in enumerate(record["points"])
            if row["error"] is not None]
    rows += [(row, "chosen") for row in (record["chosen"],) if row is not None and row["error"] is not None]
    charts = [_chart(record, rows, name) for name in record["costs"]] if rows else []
    parts = [f'<g transform="translate(0 {c(k * HEIGHT)})">\n{chart}\n</g>' for k, chart in enumerate(charts)]
    words = f"{record['policy']} on {record['target']}: costs and errors"
    text = svg([STYLE, *parts], HEIGHT * max(1, len(charts)), words)
    return text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _chart(record: Json, rows: list[tuple[Json, str]], name: str) -> str:
    points = [(row["costs"][name], math.log10(max(row["error"], 1e-9)), row, style) for row, style in rows]
    level, limit = math.log10(record["tolerance"]), record["budget"].get(name, -1)
    x, y = padded(np.array([p[0] for p in points])), padded(np.array([level, *(p[1] for p in points)]))
    frame, bottom = Frame(x, y, HEIGHT), HEIGHT - BOTTOM
    parts = [f'<text x="{c(LEFT - 4)}" y="{c(frame.at_y(t) + 3)}" text-anchor="end">{share(10.0**t)}</text>'
             + _line("grid", LEFT, WIDTH - RIGHT, frame.at_y(t), frame.at_y(t)) for t in ticks(*y, 4)]
    parts += [f'<text x="{c(frame.at_x(t))}" y="{c(HEIGHT - 10)}" text-anchor="middle">{number(t)}</text>'
              for t in ticks(*x, 6)]
    parts.append(_line("limit", LEFT, WIDTH - RIGHT, frame.at_y(level), frame.at_y(level)))
    parts += [_line("limit", frame.at_x(limit), frame.at_x(limit), TOP, bottom)] if x[0] <= limit <= x[1] else []
    parts += [f'<circle class="{style}" cx="{c(frame.at_x(cost))}" cy="{c(frame.at_y(error))}" '
              f'r="{7 if style == "chosen" else 4}"><title>{" ".join(row["point"].values())}</title></circle>'
              for cost, error, row, style in points]
    return "\n".join([*parts, f'<text x="{c(WIDTH - RIGHT)}" y="{c(TOP + 8)}" text-anchor="end">{name}</text>'])


def _line(style: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{style}" x1="{c(x1)}" x2="{c(x2)}" y1="{c(y1)}" y2="{c(y2)}"/>'
