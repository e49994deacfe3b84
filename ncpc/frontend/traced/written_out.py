"""Recurrent cells that are written out in elementary functions, found in a traced step whose states are inputs.

The equations are those of ``ncpc.ir.gated`` (Hochreiter and Schmidhuber 1997 with the forget gate of Gers et al. 2000;
Cho et al. 2014 as cuDNN has it; Elman 1990), whatever the order of gates, their packing, and the form of a convex sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.traced.channels import F64, I64, MOST_TAPS, Traced, TracedGraph
from ncpc.frontend.traced.polynomials import Polynomial, Polynomials, scaled, total
from ncpc.ir.gated import Gru, Lstm, Rnn
from ncpc.ir.policy import Layer

Rows = list[Polynomial]


class CellUnknown(Unsupported):
    """What is taken for a state is none of a cell that a policy holds."""


@dataclass(frozen=True, eq=False)
class CarriedState:
    """A state: the channels it enters by, and what is carried to the next step."""

    entering: I64
    leaving: Traced


def replace_cells(graph: TracedGraph, first: int, states: Sequence[CarriedState]) -> None:
    """Put an LSTM, GRU or RNN in the place of the layer that gives its state. The states are inputs from ``first`` on.

    Raises CellUnknown for a state that no such cell computes.
    """
    left = list(states)
    while left:
        found = next((taken for state in left if (taken := _replaced(graph, first, state, left))), None)
        if found is None:
            raise CellUnknown("what is carried from step to step is computed otherwise than an LSTM, a GRU or an RNN "
                              "does; a policy holds the cells that it knows")
        left = [state for state in left if state not in found]


def _replaced(graph: TracedGraph, first: int, state: CarriedState, left: Sequence[CarriedState]) -> list[CarriedState]:
    """The states whose cell now stands in the graph; none where ``state`` is no cell's output."""
    at = Polynomials(graph, first)
    channels = np.asarray(state.leaving.channel, np.int64).reshape(-1)
    place = graph.source(int(channels[0])) - 1
    own = np.arange(graph.firsts[place + 1], graph.ends[place + 1])
    if place < 0 or not state.leaving.plain or not np.array_equal(channels, own) or len(own) != len(state.entering):
        return []
    out = at.of(state.leaving)
    others = [other for other in left if other is not state and len(other.entering) == len(own)]
    for cell in others:
        if (gates := _lstm(at, cell.entering, out, at.of(cell.leaving))) and _put(
                at, place, "lstm", gates, state.entering):
            return [state, cell]
    for kind, rows in (("gru", _gru(at, state.entering, out)), ("tanh", _rnn(at, out, "tanh")),
                       ("relu", _rnn(at, out, "relu"))):
        if rows and _put(at, place, kind, rows, state.entering):
            return [state]
    return []


def _lstm(at: Polynomials, entering: I64, h: Rows, c: Rows) -> list[Rows] | None:
    """Arguments of the gates i, f, g, o."""
    gates: list[Rows] = [[], [], [], []]
    for own, out, cell in zip(entering, h, c, strict=True):
        kept = [term for term in cell if int(own) in term]
        new = [term for term in cell if int(own) not in term]
        if len(kept) != 1 or len(new) != 1 or len(out) != 1 or {*cell.values(), *out.values()} != {1.0}:
            return None
        pairs = [_gated(at, new[0], "tanh"), _gated(at, next(iter(out)), "tanh")]
        rest = [k for k in kept[0] if k != int(own)]
        forget = at.argument(rest[0], "sigmoid") if len(rest) == 1 else None
        if forget is None or pairs[0] is None or pairs[1] is None or total([(1.0, pairs[1][1]), (-1.0, cell)]):
            return None
        for gate, row in zip(gates, (pairs[0][0], forget, pairs[0][1], pairs[1][0]), strict=True):
            gate.append(row)
    return gates


def _gated(at: Polynomials, term: tuple[int, ...], function: str) -> tuple[Polynomial, Polynomial] | None:
    """Of ``sigmoid(a)*function(b)``, a and b."""
    if len(term) != 2:
        return None
    for a, b in (term, term[::-1]):
        one, other = at.argument(a, "sigmoid"), at.argument(b, function)
        if one is not None and other is not None:
            return one, other
    return None


def _gru(at: Polynomials, entering: I64, h: Rows) -> list[Rows] | None:
    """Arguments of r and u, and of n the part without the state and that with it."""
    gates: list[Rows] = [[], [], [], []]
    for own, out in zip(entering, h, strict=True):
        parts = {k: at.function(k) for term in out for k in term}
        new, gate = ([k for k, name in parts.items() if name == kind] for kind in ("tanh", "sigmoid"))
        if len(new) != 1 or len(gate) != 1 or parts.keys() != {*new, *gate, int(own)}:
            return None
        kept, made = (tuple(sorted((gate[0], k))) for k in (int(own), new[0]))
        sign = 1.0 if (new[0],) in out else -1.0
        if out != {(new[0],) if sign > 0 else (int(own),): 1.0, kept: sign, made: -sign}:
            return None
        argument = at.argument(new[0], "tanh") or {}
        reset = {k for term in argument if len(term) == 2 for k in term if at.function(k) == "sigmoid"}
        if len(reset) != 1:
            return None
        (r,) = reset
        inner = {tuple(k for k in term if k != r): c for term, c in argument.items() if r in term}
        plain = {term: c for term, c in argument.items() if r not in term}
        update = scaled(at.argument(gate[0], "sigmoid") or {}, sign, 0.0)
        for target, row in zip(gates, (at.argument(r, "sigmoid") or {}, update, plain, inner), strict=True):
            target.append(row)
    return gates


def _rnn(at: Polynomials, h: Rows, function: str) -> list[Rows] | None:
    rows = [at.argument(next(iter(out))[0], function) if list(out.values()) == [1.0] and len(next(iter(out))) == 1
            else None for out in h]
    return None if None in rows else [[row for row in rows if row is not None]]


def _put(at: Polynomials, place: int, kind: str, gates: list[Rows], entering: I64) -> bool:
    """Replace the layer; False where a gate is no affine function of the state and of other channels."""
    graph, rows = at.graph, [row for gate in gates for row in gate]
    states = range(at.first, graph.inputs)
    if any(len(term) > 1 for row in rows for term in row):
        return False
    rows = _cheaper(graph, rows, [at.opened(row) for row in rows], states)
    terms = {term[0] for row in rows for term in row if term}
    read = _reading(graph, sorted(terms - set(states)))
    if read is None or not {k for k in terms if k in states} <= set(entering.tolist()):
        return False
    columns = {int(k): n for n, k in enumerate([*read, *entering])}
    matrix, bias = np.zeros((len(rows), len(columns))), np.array([row.get((), 0.0) for row in rows])
    for n, row in enumerate(rows):
        for term, coefficient in row.items():
            if term:
                matrix[n, columns[term[0]]] = coefficient
    layer = _layer(kind, matrix[:, : len(read)], matrix[:, len(read) :], bias)
    if layer is None:
        return False
    graph.wires[place] = graph.taps(read)
    graph.layers[place] = layer
    return True


def _cheaper(graph: TracedGraph, rows: Rows, opened: Rows, states: range) -> Rows:
    """Rows that read what matrices give, or those that read what these read, if that takes fewer products."""
    now, then = ({term[0] for row in some for term in row if term} - set(states) for some in (rows, opened))
    layers = {graph.source(k) - 1 for k in now - then if graph.source(k)}
    saved = sum(graph.layers[k].inputs * graph.layers[k].outputs for k in layers)
    return opened if len(rows) * len(then) <= len(rows) * len(now) + saved else rows


def _layer(kind: str, x: F64, h: F64, bias: F64) -> Layer | None:
    if kind == "lstm":
        return Lstm(x, h, bias)
    if kind != "gru":
        return Rnn(x, h, bias, kind)
    n = len(x) // 4
    if x[3 * n :].any() or h[2 * n : 3 * n].any():
        return None
    state, zeros = np.concatenate([h[: 2 * n], h[3 * n :]]), np.zeros(2 * n)
    return Gru(x[: 3 * n], state, bias[: 3 * n], np.concatenate([zeros, bias[3 * n :]]))


def _reading(graph: TracedGraph, channels: list[int]) -> I64 | None:
    """Channels that hold these and come in few pieces: they alone, or all of their sources."""
    if not channels:
        return None
    sources = sorted({graph.source(k) for k in channels})
    whole = [np.arange(graph.firsts[s], graph.ends[s]) for s in sources]
    pieces = int(np.sum(np.diff(channels) != 1)) + len(sources)
    if pieces <= MOST_TAPS:
        return np.array(channels, np.int64)
    return np.concatenate(whole) if len(whole) <= MOST_TAPS and sources[0] > 0 else None
