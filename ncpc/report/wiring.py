"""The wiring as a picture: inputs, inter, command and motor neurons in columns, synapses coloured by polarity."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from ncpc.ir.policy import ROLES, Ltc, Policy, Synapses
from ncpc.report.blocks import blocks
from ncpc.report.drawing import Drawing, drawings
from ncpc.report.plots import c, svg

WIDTH, STEP, RADIUS, TOP = 960.0, 34.0, 9.0, 34.0
LEGEND = 22.0
"""Height of the line that says what the curves mean."""
MOST_EDGES = 2500
CROWD = 400
"""Synapses beyond which curves become thinner and paler, and their ends are no longer marked."""
STYLE = """<style>
.edge{fill:none;stroke-linecap:round}.exc{stroke:#2a78c6}.inh{stroke:#d1582f}.node{stroke:#fff;stroke-width:1.5}
.sensory{fill:#7a8794}.inter{fill:#3f9e8f}.command{fill:#8a63c9}.motor{fill:#c9962a}
.node-name,.column{font:11px system-ui,sans-serif;fill:#48525c}.column{font-weight:600;text-anchor:middle}
.node-name{paint-order:stroke;stroke:#fff;stroke-width:3px}.end.exc{fill:#2a78c6}.end.inh{fill:#d1582f}.end{stroke:none}
</style>"""
"""For the picture on its own; the report's page has its own colours."""


@dataclass(frozen=True)
class Marker:
    """A place in the picture."""

    x: float
    y: float
    column: int
    role: str
    name: str


@dataclass(frozen=True)
class Curve:
    """A synapse: its path, and where it ends."""

    path: str
    x: float
    y: float


def wiring_svg(policy: Policy) -> str | None:
    """The picture of every wired cell, one below the other, behind that of the layers where they are no row, as a file
    of its own; None where there is none.
    """
    found, layers = drawings(policy), blocks(policy)
    if not found and layers is None:
        return None
    parts = [wiring(layer, names) for layer, names in found]
    told = f"wirings of {len(parts)} cells" if len(parts) > 1 else "wiring"
    legend = _legend(any('class="end' in part for part in parts), sum(left_out(layer) for layer, _ in found))
    drawn = _below_each_other([*([layers] if layers else []), *parts, *([legend] if parts else [])], told)
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">", f">{STYLE}", 1) + "\n"


def _below_each_other(parts: list[str], told: str) -> str:
    placed, y = [], 0.0
    for part in parts:
        box = re.search(r'viewBox="0 0 (\S+) (\S+)"', part)
        assert box is not None
        placed.append(part.replace("<svg ", f'<svg y="{c(y)}" width="{box[1]}" height="{box[2]}" ', 1))
        y += float(box[2])
    return svg(placed, y, told, WIDTH)


def wiring(layer: Ltc | Drawing, input_names: Sequence[str] = ()) -> str:
    """One layer: nodes in columns by role, every synapse a curve as strong as its weight."""
    names = list(input_names) or [f"u{i}" for i in range(layer.inputs)]
    columns = [("sensory", "inputs", [(i, name) for i, name in enumerate(names)])]
    for role in ROLES:
        members = [(i, layer.names[i]) for i, r in enumerate(layer.roles) if r == role]
        if members:
            columns.append((role, role, members))
    tall = max(len(members) for _, _, members in columns)
    step = min(STEP, 900.0 / tall)
    height = TOP + tall * step + 16
    left = 40.0 + 6.2 * max(len(name) for name in names)
    inputs, neurons = _place(columns, step, height, left)
    share = CROWD / max(CROWD, len(layer.sensory) + len(layer.recurrent))
    edges = [edge for synapses, pre in ((layer.sensory, inputs), (layer.recurrent, neurons))
             for edge in _edges(synapses, pre, neurons, (step, share))]
    kept = sorted(edges, key=lambda e: -e[0])[:MOST_EDGES]
    parts = [text for _, text in reversed(kept)]
    parts += [_node(node, step) for node in (*inputs.values(), *neurons.values())]
    parts += [f'<text class="column" x="{c(_column_x(i, len(columns), left))}" y="16">{title} ({len(members)})</text>'
              for i, (_, title, members) in enumerate(columns)]
    return svg(parts, height, f"wiring: {layer.neurons} neurons, {len(edges)} synapses", WIDTH)


def _legend(ends: bool, missing: int) -> str:
    """What colours, strengths and dots mean, where there are dots; how many of the weakest synapses are missing."""
    found, x, y = [], 40.0, LEGEND - 8
    for kind, meaning in (("exc", "excitatory"), ("inh", "inhibitory")):
        found.append(f'<path class="{kind}" d="M{c(x)} {c(y - 4)}c{c(8)} {c(0)} {c(16)} {c(0)} {c(24)} {c(0)}" '
                     f'stroke-width="2.4" opacity="0.8"/>'
                     f'<text class="node-name" x="{c(x + 30)}" y="{c(y)}" text-anchor="start">{meaning}</text>')
        x += 110.0
    words = "the stronger a curve, the larger its weight"
    words += "; a dot is where a synapse ends" if ends else ""
    words += f"; the {missing:,} weakest synapses are not drawn" if missing else ""
    found.append(f'<text class="node-name" x="{c(x)}" y="{c(y)}" text-anchor="start">{words}</text>')
    return svg(found, LEGEND, "legend", WIDTH)


def left_out(layer: Ltc | Drawing) -> int:
    """How many of the weakest synapses the picture leaves out."""
    return max(0, len(layer.sensory) + len(layer.recurrent) - MOST_EDGES)


def _column_x(index: int, count: int, left: float) -> float:
    return left + index * (WIDTH - 90.0 - left) / max(1, count - 1)


def _place(
    columns: list[tuple[str, str, list[tuple[int, str]]]], step: float, height: float, left: float
) -> tuple[dict[int, Marker], dict[int, Marker]]:
    """Nodes of the inputs and of the neurons by index, each column centred."""
    inputs: dict[int, Marker] = {}
    neurons: dict[int, Marker] = {}
    for column, (role, title, members) in enumerate(columns):
        top = TOP + (height - 16 - TOP - len(members) * step) / 2 + step / 2
        for row, (index, name) in enumerate(members):
            node = Marker(_column_x(column, len(columns), left), top + row * step, column, role, name)
            (inputs if title == "inputs" else neurons)[index] = node
    return inputs, neurons


def _edges(synapses: Synapses, pre: dict[int, Marker], post: dict[int, Marker],
           room: tuple[float, float]) -> list[tuple[float, str]]:
    """(weight, path) of every synapse. ``room``: the distance of nodes, and ``CROWD`` over the synapses, 1 at most."""
    strongest = float(np.max(synapses.w, initial=0.0)) or 1.0
    found = []
    for i in range(len(synapses)):
        a, b = pre[int(synapses.pre[i])], post[int(synapses.post[i])]
        share, title = float(synapses.w[i]) / strongest, f"{a.name} → {b.name}: {_told(synapses, i)}"
        kind = "exc" if synapses.erev[i] > 0 else "inh"
        found.append((share, _edge(_curve(a, b, min(RADIUS, room[0] * 0.38)), kind, title, (share, room[1]))))
    return found


def _edge(curve: Curve, kind: str, title: str, how: tuple[float, float]) -> str:
    """``how``: the share of the largest weight, and ``CROWD`` over the synapses."""
    share, thin = how[0], how[1] ** 0.5
    width, opacity = (0.6 + 1.8 * share) * thin, (0.18 + 0.62 * share) * thin
    path = (f'<path class="edge {kind}" d="{curve.path}" stroke-width="{c(width)}" opacity="{c(opacity)}">'
            f"<title>{escape(title)}</title></path>")
    end = f'<circle class="end {kind}" cx="{c(curve.x)}" cy="{c(curve.y)}" r="3" opacity="{c(max(opacity, 0.6))}"/>'
    return path + end if thin == 1.0 else path


def _told(synapses: Synapses, i: int) -> str:
    if np.isnan(synapses.sigma[i]):
        return f"weight {synapses.w[i] * synapses.erev[i]:.3g}"
    return (f"w {synapses.w[i]:.3g}, sigma {synapses.sigma[i]:.3g}, mu {synapses.mu[i]:.3g}, "
            f"erev {synapses.erev[i]:.3g}")


def _curve(a: Marker, b: Marker, radius: float) -> Curve:
    """Forward to the next columns as an S, inside a column as a bow to its right, to itself as a loop, back below."""
    if a is b:
        x, y = a.x + radius * 0.7, a.y - radius * 0.7
        return Curve(f"M{c(x)} {c(y)}c{c(14)} {c(-12)} {c(16)} {c(14)} {c(2)} {c(10)}", x + 2, y + 10)
    if a.column == b.column:
        bow, x = 24 + 0.28 * abs(b.y - a.y), a.x + radius
        return Curve(f"M{c(x)} {c(a.y)}C{c(x + bow)} {c(a.y)} {c(x + bow)} {c(b.y)} {c(x)} {c(b.y)}", x, b.y)
    forward = 1 if b.column > a.column else -1
    x1, x2 = a.x + forward * radius, b.x - forward * radius
    bend = 0.45 * (x2 - x1)
    return Curve(f"M{c(x1)} {c(a.y)}C{c(x1 + bend)} {c(a.y)} {c(x2 - bend)} {c(b.y)} {c(x2)} {c(b.y)}", x2, b.y)


def _node(node: Marker, step: float) -> str:
    radius = min(RADIUS, step * 0.38)
    shape = (f'<rect class="node sensory" x="{c(node.x - radius)}" y="{c(node.y - radius)}" width="{c(2 * radius)}" '
             f'height="{c(2 * radius)}" rx="2"/>' if node.role == "sensory" and node.column == 0
             else f'<circle class="node {node.role}" cx="{c(node.x)}" cy="{c(node.y)}" r="{c(radius)}"/>')
    if step < 11:
        return shape
    beside = node.column == 0 or step < 30
    x, anchor = (node.x - radius - 6, "end") if beside else (node.x, "middle")
    y = node.y + 4 if beside else node.y - radius - 4
    size = "" if step > 13 else ' style="font-size:8px"'
    return (f'{shape}<text class="node-name" x="{c(x)}" y="{c(y)}" text-anchor="{anchor}"{size}>{escape(node.name)}'
            "</text>")
