"""The checker of an error certificate: every inequality again, from policy and Program, in outward-rounded arithmetic.

With v the exact network's state and v' = N/D its next one, v^ the deployed state and s^ what its table returns, the
deployed update is exactly

    v^' - v' = ( cm_t^*(v^ - v) + sum_j (we^*s^ - w*E*s - v'*(w^*s^ - w*s)) + roundings ) / D^  +  roundings,

an identity, not a linearization (N - v'*D = 0 has been subtracted). |s^ - s| <= (table's error) + sigmoid'*(exp(d) - 1)
with d the distance of the arguments, since |ln sigmoid'|' < 1. So an error of at most e before each update is at most e
after it when, for each neuron, the numerator's largest value is at most H*D^ with H = e less what is rounded after the
division. That is a sum over synapses of maxima over the cells of the table; it is convex in v', so the ends of each
slice of v' decide. By induction from reset, where both states are 0, |v^ - v| <= e for all time.
Nothing here is shared with the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from ncpc.ir.policy import F64, Policy, Synapses
from ncpc.ir.program import Program
from ncpc.proofs.errors import identity
from ncpc.proofs.errors.cells import Cells, cells
from ncpc.proofs.errors.certificate import Certificate, Row
from ncpc.proofs.errors.facts import Facts, facts
from ncpc.proofs.errors.outward import Bounds, bounds, larger, sigmoid
from ncpc.proofs.errors.rows import row_excess, synapses_of


@dataclass(frozen=True)
class Checked:
    """How many inequalities were checked, and one line for each that does not hold (none: the certificate is valid)."""

    count: int
    failures: tuple[str, ...]


def check(policy: Policy, program: Program, certificate: Certificate) -> Checked:
    """Confirm a certificate; raises ``Unsupported`` for a build that none covers."""
    held = facts(policy, program)
    lines = _identity(policy, program, certificate) + _form(held, certificate)
    return Checked(len(lines), tuple(lines)) if lines else check_numbers(held, certificate)


def check_numbers(held: Facts, certificate: Certificate) -> Checked:
    """The inequalities alone, of a certificate of the right form."""
    table = cells(held.table)
    found = _box(held, certificate.box)
    for neuron, row in enumerate(certificate.rows):
        found.append(_row(held, table, certificate, neuron, row))
    found += _outputs(held, certificate)
    return Checked(len(found), tuple(line for line in found if line))


def _identity(policy: Policy, program: Program, c: Certificate) -> list[str]:
    pairs = (("policy", identity.of_policy(policy), c.policy), ("program", identity.of_program(program), c.program))
    return [f"the certificate is of another {what} (SHA-256)" for what, here, there in pairs if here != there]


def _form(held: Facts, c: Certificate) -> list[str]:
    """Shapes and order of what the certificate holds."""
    n, outputs = held.layer.neurons, held.layer.outputs
    parts = [part for r in c.rows for part in (r.levels, r.errors, r.pieces, r.multipliers)]
    numbers = [c.box, c.error, c.outputs, *parts]
    if c.box.shape != (n, 2) or c.error.shape != (n,) or c.outputs.shape != (outputs,) or len(c.rows) != n:
        return ["the certificate has not the shape of this network"]
    if not all(np.isfinite(part).all() for part in numbers) or (c.error < 0).any():
        return ["the certificate holds numbers that are not finite, or negative errors"]
    with np.errstate(over="ignore"):
        lines = [_splits(held.names[i], row, c.box[i]) or _concave(held.names[i], row, float(c.error[i]))
                 for i, row in enumerate(c.rows)]
    return [line for line in lines if line]


def _splits(name: str, row: Row, box: F64) -> str:
    """Slices and pieces must cover the box."""
    for part in (row.levels, row.pieces):
        if part.ndim != 1 or len(part) < 2 or (np.diff(part) <= 0).any() or part[0] > box[0] or part[-1] < box[1]:
            return f"neuron {name}: its slices do not cover its box"
    shape = (len(row.pieces) - 1, len(row.levels) - 1, 2, 2)
    return "" if row.multipliers.shape == shape else f"neuron {name}: not one multiplier for each part"


def _concave(name: str, row: Row, error: float) -> str:
    """Each line bounds the error over the whole box, so that it may stand for it before the update."""
    if row.errors.shape != row.levels.shape or (row.errors < 0).any() or row.errors.max() > error:
        return f"neuron {name}: its errors are not one for each level, within the one that is claimed"
    levels, errors = ([Fraction(float(v)) for v in part] for part in (row.levels, row.errors))
    slopes = [(errors[k + 1] - errors[k]) / (levels[k + 1] - levels[k]) for k in range(len(levels) - 1)]
    falling = all(after <= before for before, after in pairwise(slopes))
    return "" if falling else f"neuron {name}: its error is not concave over its state"


def _box(held: Facts, box: F64) -> list[str]:
    """Per neuron and end: no input and no state in the box pushes the exact state beyond it; and it contains reset."""
    lines = []
    layer = held.layer
    for i, name in enumerate(held.names):
        for end, sign in ((1, 1.0), (0, -1.0)):
            level = float(box[i, end])
            push = bounds(layer.gleak[i]) * (bounds(layer.vleak[i]) - level) - bounds(layer.epsilon) * level
            total = push * sign
            for part, lo, hi in _sources(held, box):
                for j in np.flatnonzero(part.post == i):
                    s = sigmoid(bounds(part.sigma[j]) * (Bounds(lo[part.pre[j]], hi[part.pre[j]]) - part.mu[j]))
                    pull = bounds(part.w[j]) * (bounds(part.erev[j]) - level) * sign
                    total = total + larger(pull * s.lo, pull * s.hi)
            holds = float(total.hi) <= 0.0 and box[i, 0] <= 0.0 <= box[i, 1]
            side = ("lower", "upper")[end]
            lines.append("" if holds else f"neuron {name}: its {side} bound {level:g} is not invariant")
    return lines


def _row(held: Facts, table: Cells, c: Certificate, neuron: int, row: Row) -> str:
    synapses = synapses_of(held, c, neuron)
    width = float((bounds(c.box[neuron, 1]) - c.box[neuron, 0]).hi)
    over = row_excess(held, table, synapses, width, neuron, row)
    if over <= 0.0:
        return ""
    return f"neuron {held.names[neuron]}: its error {c.error[neuron]:.4g} does not hold from one update to the next"


def _outputs(held: Facts, c: Certificate) -> list[str]:
    """Each output's error from its motor neuron's, and the rounding of the output."""
    motor = slice(0, held.layer.outputs)
    largest = (bounds(np.abs(c.box[motor]).max(axis=1)) + c.error[motor])
    need = bounds(held.y_slope) * c.error[motor] + largest * held.y_share + held.y_fixed
    return ["" if need.hi[i] <= c.outputs[i] else f"output {i}: its error {c.outputs[i]:.4g} is less than follows"
            for i in range(held.layer.outputs)]


def _sources(held: Facts, box: F64) -> tuple[tuple[Synapses, F64, F64], ...]:
    layer = held.layer
    u = Bounds(held.x_range[:, 0], held.x_range[:, 1]) * layer.input_w + layer.input_b
    return (layer.recurrent, box[:, 0], box[:, 1]), (layer.sensory, u.lo, u.hi)
