"""The outcome of an error certificate in words, and as the report has it."""

from __future__ import annotations

from math import ceil, log10
from typing import Any

import numpy as np

from ncpc.ir.policy import F64, Ltc, Policy
from ncpc.ir.program import Program
from ncpc.proofs.errors.certify import Certification

CLAIM = "from reset on, for all time, for every input in its declared range and"


def words(policy: Policy, program: Program, found: Certification) -> str:
    """One line, and one more per output or rest point."""
    lines = [_head(policy, program, found)]
    if found.certificate is not None:
        lines += [f"  {name}: at most {above(error)} from the exact network, {above(percent)} % of its range"
                  for name, error, percent in _outputs(policy, program, found)]
    if found.witness is not None:
        x = ", ".join(f"{value:.6g}" for value in found.witness.x)
        apart = float(np.abs(found.witness.states[0] - found.witness.states[1]).max())
        lines += [f"  two rest points of the exact network, proved, for the constant input ({x}):",
                  *(f"    v = {', '.join(f'{value:.4f}' for value in state)}" for state in found.witness.states),
                  f"  {apart:.3g} apart: no small bound holds from every state; rounding can decide between them"]
    return "\n".join(lines) + "\n"


def record(policy: Policy, program: Program, found: Certification) -> dict[str, Any]:
    """What report.json says under ``extra.error_certificate``: ``bounds`` by output, in physical units and in percent
    of the output's range, and ``note``, one line.
    """
    outputs = [] if found.certificate is None else _outputs(policy, program, found)
    return {"certified": found.certificate is not None, "note": _head(policy, program, found),
            "bounds": {name: {"error": error, "percent": percent} for name, error, percent in outputs},
            "two_rest_points": found.witness is not None}


def _head(policy: Policy, program: Program, found: Certification) -> str:
    if found.certificate is None:
        return f"NOT CERTIFIED: {policy.name}: {found.reason}"
    dt, outputs = policy.dt, _outputs(policy, program, found)
    span = f"every dt in [{dt.lo:g}, {dt.hi:g}]" if program.dt is not None else f"dt {dt.nominal:g}"
    _, error, percent = max(outputs, key=lambda one: one[2])
    return (f"CERTIFIED({above(error)}): {policy.name}: outputs stay within {above(percent)} % of their range of the "
            f"exact network's, {CLAIM} {span}; {found.count} inequalities hold")


def _outputs(policy: Policy, program: Program, found: Certification) -> list[tuple[str, float, float]]:
    """Name, bound, and bound in percent of the output's range."""
    assert found.certificate is not None
    width = output_range(policy, found.certificate.box)
    return [(name, float(error), float(100 * error / full) if full > 0 else float("inf"))
            for name, error, full in zip(program.y.names, found.certificate.outputs, width, strict=True)]


def above(value: float) -> str:
    """A positive number in three digits, never less than it is."""
    if not 0 < value < float("inf"):
        return f"{value:g}"
    unit = 10.0 ** (int(np.floor(log10(value))) - 2)
    rounded = f"{ceil(value / unit) * unit:.3g}"
    return rounded if float(rounded) >= value else f"{(ceil(value / unit) + 1) * unit:.3g}"


def output_range(policy: Policy, box: F64) -> F64:
    """The width of each output's range over the box of the exact network's state, (outputs,)."""
    layer = policy.layers[0]
    assert isinstance(layer, Ltc)
    width: F64 = abs(layer.output_w) * (box[: layer.outputs, 1] - box[: layer.outputs, 0])
    return width
