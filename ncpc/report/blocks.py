"""A policy's layers as boxes and what each reads as lines: the picture of a policy that is no row."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from ncpc.ir.cells import RECURRENT
from ncpc.ir.policy import INPUT, ChannelGroup, Policy, Tap
from ncpc.ir.wires import is_row, taps_of
from ncpc.report.plots import c, svg

WIDTH, STEP, TOP, BOX = 960.0, 46.0, 18.0, 26.0
MARGIN, MOST_WIDE = 16.0, 150.0


@dataclass(frozen=True)
class Block:
    """A box: its place, what stands in it, its class (``inter``: a layer, ``command``: a cell, else an end)."""

    x: float
    y: float
    width: float
    text: str
    role: str


def blocks(policy: Policy) -> str | None:
    """Inputs at the left, outputs at the right, every layer behind all that it reads; None for a row."""
    if is_row(policy):
        return None
    taps = taps_of(policy)
    depth = _depths(policy)
    columns: dict[int, list[int]] = {}
    for node, column in depth.items():
        columns.setdefault(column, []).append(node)
    pitch = (WIDTH - 2 * MARGIN) / len(columns)
    tall = max(map(len, columns.values()))
    placed = {node: _block(policy, node, MARGIN + column * pitch, TOP + (k + (tall - len(members)) / 2) * STEP,
                           min(0.7 * pitch, MOST_WIDE))
              for column, members in columns.items() for k, node in enumerate(members)}
    lines = [_line(policy, placed[tap.source], placed[reader], tap)
             for reader, read in enumerate(taps) for tap in read]
    boxes = [part for block in placed.values() for part in _box(block)]
    return svg([*lines, *boxes], TOP + tall * STEP, f"{len(policy.layers)} layers and what each of them reads", WIDTH)


def _depths(policy: Policy) -> dict[int, int]:
    """The column of every node: the inputs 0, a layer one behind the last of what it reads, the outputs the last."""
    depth = {INPUT: 0}
    for node, read in enumerate(taps_of(policy)):
        depth[node] = 1 + max(depth[tap.source] for tap in read)
    depth[len(policy.layers)] = max(depth.values())
    if sum(column == depth[len(policy.layers)] for column in depth.values()) > 1:
        depth[len(policy.layers)] += 1
    return depth


def _block(policy: Policy, node: int, x: float, y: float, width: float) -> Block:
    if node == INPUT:
        return Block(x, y, width, _told("inputs", policy.input_groups, policy.inputs), "sensory")
    if node == len(policy.layers):
        return Block(x, y, width, _told("outputs", policy.output_groups, policy.outputs), "motor")
    layer = policy.layers[node]
    return Block(x, y, width, f"{node} {layer.kind}", "command" if layer.kind in RECURRENT else "inter")


def _told(what: str, groups: tuple[ChannelGroup, ...], width: int) -> str:
    return ", ".join(group.name for group in groups) or f"{width} {what}"


def _box(block: Block) -> list[str]:
    x, y = block.x, block.y
    return [f'<rect class="node {block.role}" x="{c(x)}" y="{c(y)}" width="{c(block.width)}" height="{c(BOX)}"/>',
            f'<text class="node-name" x="{c(x + block.width / 2)}" y="{c(y + BOX - 8)}" '
            f'text-anchor="middle">{escape(block.text)}</text>']


def _line(policy: Policy, a: Block, b: Block, tap: Tap) -> str:
    """From the right of one box to the left of another; thicker where more channels go."""
    x, y, ex, ey = a.x + a.width, a.y + BOX / 2, b.x, b.y + BOX / 2
    bend = 0.5 * (ex - x)
    names = policy.input_names[tap.start : tap.stop] if tap.source == INPUT else ()
    told = ", ".join(names[:8]) or f"channels {tap.start} to {tap.stop - 1}"
    path = f"M{c(x)} {c(y)}C{c(x + bend)} {c(y)} {c(ex - bend)} {c(ey)} {c(ex)} {c(ey)}"
    return (f'<path class="edge exc" d="{path}" stroke-width="{c(1.0 + min(tap.width, 32) / 16)}" opacity="0.55">'
            f"<title>{escape(told)}</title></path>")
