"""The LTC's box of states is invariant: for every input, every dt in range and for all time.

It reads the emitted operations of the integer program, not the records they came from, finds in each repeat the update

    v' = v + mulshr(N - mulshr(G, v, m), inverse(D)),   D = cm_t + shr(G)

and checks, in exact integers, for each neuron with box [L, H] and overshoot o (the most by which one update can pass
its resting level, from the exact error of the division):

    sum_j max_s (asr(we_j*s) * 2**m - asr(w_j*s) * (H - o)) + leak * 2**m - gleak * (H - o) <= 2**(m-1),

s over all values the table can return (all 2**16 arguments), and its mirror image at L + o. Then N - mulshr(G, v) <= 0
for every v >= H - o, so no such v grows, and from below an update lands at most o above H - o: v' <= H.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np

from ncpc.errors import ProofFailed
from ncpc.ir.program import Carry, Op, Program, Repeat, statements
from ncpc.ir.quantized import I64
from ncpc.proofs import division
from ncpc.proofs.ranges import Interval
from ncpc.semantics import fixed

CHUNK = 128
"""Synapses whose contributions are enumerated at once: bounds the memory, changes nothing else."""


@dataclass(frozen=True, eq=False)
class Terms:
    """One synapse set's share of a sum: ``weight*s >> k`` for s in ``values``, added to neuron ``post``."""

    post: I64
    weight: I64
    k: int
    values: I64
    """All values the sigmoid's table can return, sorted."""


@dataclass(frozen=True, eq=False)
class Update:
    """The update of one repeat, as found: N and G as a constant plus terms (same synapses in the same order).

    delta is close to ``drive / divisor * 2**k_scale``, the divisor being ``cm_t + shr(G, k_divisor)``.
    """

    carry: Carry
    delta: str
    leak: I64
    gleak: I64
    currents: tuple[Terms, ...]
    conductances: tuple[Terms, ...]
    m: int
    k_scale: int
    k_divisor: int
    cm_t: str


def lemmas(program: Program, known: Mapping[str, Interval]) -> dict[str, Interval]:
    """What the interval analysis may assume of each LTC update, checked here: delta and the new state.

    ``known`` holds the intervals of cm_t where it is computed. Raises ``ProofFailed`` naming the neuron.
    """
    found: dict[str, Interval] = {}
    for stmt in program.body:
        if isinstance(stmt, Repeat):
            for carry in stmt.carried:
                update = _recognize(program, stmt, carry)
                if update is not None:
                    found.update(_check(program, update, known))
    return found


def _check(program: Program, u: Update, known: Mapping[str, Interval]) -> dict[str, Interval]:
    """The two inequalities per neuron."""
    state = next(s for s in program.states if s.inp.name == u.carry.init)
    if state.box is None:
        raise ProofFailed(f"state {state.inp.name}: no box to check")
    box = state.box.astype(np.int64)
    cm_t = known[u.cm_t].lo
    names = program.labels.get(state.inp.axes[0].name, tuple(map(str, range(len(box)))))
    over = np.array([_overshoot(u, i, int(cm_t[i]), int(box[i, 1] - box[i, 0]), names[i]) for i in range(len(box))])
    upper = _push(u, box[:, 1] - over, 1)
    lower = _push(u, -(box[:, 0] + over), -1)
    for i, (up, down) in enumerate(zip(upper, lower, strict=True)):
        half = 1 << u.m >> 1
        if up > half or down >= half or not box[i, 0] <= 0 <= box[i, 1]:
            side = "upper" if up > half or box[i, 1] < 0 else "lower"
            raise ProofFailed(f"neuron {names[i]}: its {side} bound {_bound(box[i], side)} (raw) is not invariant")
    reach = box[:, 1] - box[:, 0]
    return {u.delta: Interval(-reach, reach), u.carry.result: Interval(box[:, 0], box[:, 1])}


def _bound(row: I64, side: str) -> int:
    return int(row[1] if side == "upper" else row[0])


def _push(u: Update, level: I64, sign: int) -> list[int]:
    """Per neuron the exact maximum of ``sign*N*2**m - G*level`` over all presynaptic activities."""
    total = [(sign * int(n) << u.m) - int(g) * int(h) for n, g, h in zip(u.leak, u.gleak, level, strict=True)]
    for current, conductance in zip(u.currents, u.conductances, strict=True):
        for start in range(0, len(current.post), CHUNK):
            part = slice(start, start + CHUNK)
            worst = _worst(current, conductance, part, level, u.m, sign)
            for neuron, value in zip(current.post[part], worst, strict=True):
                total[int(neuron)] += int(value)
    return total


def _worst(current: Terms, conductance: Terms, part: slice, level: I64, m: int, sign: int) -> I64:
    """Per synapse the maximum over the table's values; |i| < 2**28, m <= 32 and |g*level| < 2**60: exact in int64."""
    s = current.values[None, :]
    i = current.weight[part, None] * s >> current.k
    g = conductance.weight[part, None] * s >> conductance.k
    worst: I64 = ((sign * i << m) - g * level[current.post[part], None]).max(axis=1)
    return worst


def _overshoot(u: Update, neuron: int, cm_t: int, width: int, name: str) -> int:
    """The most by which one update passes the resting level, raw; see the module's first lines."""
    least, most = (Fraction(g, 1 << u.k_divisor) for g in _conductance_range(u, neuron))
    half = Fraction(1, 2) if u.k_divisor else Fraction(0)
    divisor = cm_t + least - half
    if divisor < 1:
        raise ProofFailed(f"neuron {name}: its divisor cm_t + G can fall below 1 (cm, gleak and epsilon are too small)")
    factor = 1 + division.excess()
    if least < 0:
        raise ProofFailed(f"neuron {name}: its conductance can fall below 0")
    scale = Fraction(2) ** (u.k_scale + u.k_divisor - u.m)  # 1 where the shifts agree with the formats
    share = scale * max(least / divisor, most / (cm_t + most - half))
    unit = factor * Fraction(2) ** u.k_scale / divisor
    return ceil(max(factor * share - 1, Fraction(0)) * width + unit + Fraction(1, 2))


def _conductance_range(u: Update, neuron: int) -> tuple[int, int]:
    least = most = int(u.gleak[neuron])
    for terms in u.conductances:
        weight = terms.weight[terms.post == neuron]
        least += int((weight * terms.values[0] >> terms.k).sum())
        most += int((weight * terms.values[-1] >> terms.k).sum())
    return least, most


def _recognize(program: Program, repeat: Repeat, carry: Carry) -> Update | None:
    """The update behind a carried value, or None when the repeat computes something else."""
    defs = {op.out.name: op for op in statements(program.body)}
    new = defs.get(carry.result)
    if new is None or new.kind != "add" or new.args[0] != carry.inner.name:
        return None
    delta = defs.get(new.args[1])
    if delta is None or delta.kind != "mulshr" or defs[delta.args[1]].kind != "inverse":
        return None
    drive, inverse = defs[delta.args[0]], defs[delta.args[1]]
    divisor = defs[inverse.args[0]]
    pull = defs[drive.args[1]]
    if (drive.kind, pull.kind, divisor.kind) != ("sub", "mulshr", "add") or pull.args[1] != carry.inner.name:
        return None
    shifted = defs.get(divisor.args[1])
    k_divisor = _k(shifted) if shifted is not None and shifted.kind in ("shr", "shr_full") else 0
    g_name = pull.args[0]
    if (shifted.args[0] if k_divisor and shifted else divisor.args[1]) != g_name:
        return None
    leak, currents = _sum(program, defs, drive.args[0])
    gleak, conductances = _sum(program, defs, g_name)
    return Update(carry, delta.out.name, leak, gleak, currents, conductances, _k(pull),
                  46 + _k(inverse) - _k(delta), k_divisor, divisor.args[0])


def _k(op: Op) -> int:
    return int(op.attrs["k"] or 0)


def _sum(program: Program, defs: Mapping[str, Op], name: str) -> tuple[I64, tuple[Terms, ...]]:
    """A chain of segment sums down to the constant it starts from."""
    terms: list[Terms] = []
    while name in defs:
        op = defs[name]
        if op.kind != "segment_sum" or len(op.args) != 3:
            raise ProofFailed(f"{name}: expected a sum over synapses; this LTC update is not of the proved form")
        terms.append(_terms(program, defs, op))
        name = op.args[2]
    return program.constants[name][1].astype(np.int64), tuple(terms)


def _terms(program: Program, defs: Mapping[str, Op], total: Op) -> Terms:
    product, k = defs[total.args[0]], 0
    if product.kind == "asr":
        product, k = defs[product.args[0]], _k(product)
    lut = defs[product.args[1]]
    if (product.kind, lut.kind) != ("mul", "lut"):
        raise ProofFailed(f"{product.out.name}: expected weight times sigmoid table; not of the proved form")
    constants = program.constants
    table, shift = constants[lut.args[1]][1].astype(np.int64), _k(lut)
    arguments = np.arange((len(table) - 1) << shift, dtype=np.int64)
    post, weight = constants[total.args[1]][1].astype(np.int64), constants[product.args[0]][1].astype(np.int64)
    return Terms(post, weight, k, np.unique(fixed.lut(arguments, table, shift)))
