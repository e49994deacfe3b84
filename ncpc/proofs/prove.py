"""The guarantee that goes into a report: what was proved of an integer program, and under which assumptions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Program, Repeat
from ncpc.ir.types import Fixed
from ncpc.proofs.invariance import lemmas
from ncpc.proofs.ranges import Interval, analyse, analysis_of
from ncpc.semantics.formed import TermRange


@dataclass(frozen=True, eq=False)
class Proof:
    """``box`` maps a state to its (n, 2) physical range, ``intervals`` every value to its raw one.

    It holds for every input the storage type can carry (those outside ``input_range`` are saturated and flagged), every
    dt word (limited to ``dt_range`` and flagged), every state in the box, and for all time.
    """

    box: Mapping[str, NDArray[np.float64]]
    input_range: NDArray[np.float64]
    dt_range: tuple[float, float] | None
    intervals: Mapping[str, Interval]
    formed: Mapping[str, Sequence[TermRange]]
    """By the name of an op's result: every integer that C forms for it (``ncpc.ir.formed``), and its interval."""


def prove(program: Program) -> Proof:
    """Check that no op of an integer program can overflow or divide by zero; raises ``ProofFailed`` naming where."""
    found = analysis_of(program, lemmas(program, _before_updates(program)))
    box = {s.inp.name: np.asarray(s.box, np.float64) * s.inp.type.lsb
           for s in program.states if isinstance(s.inp.type, Fixed)}
    dt = None if program.dt is None else (float(program.dt.range[0, 0]), float(program.dt.range[0, 1]))
    return Proof(box, program.x.range, dt, found.found, found.formed)


def _before_updates(program: Program) -> dict[str, Interval]:
    """Intervals of what no repeat has a part in, and of the constants: where every layer's cm_t comes from."""
    ports = (port.value.name for port in (program.x, program.dt) if port)
    known, body = {*program.constants, *ports, *(s.inp.name for s in program.states)}, []
    for stmt in program.body:
        if not isinstance(stmt, Repeat) and known.issuperset(stmt.args):
            known.add(stmt.out.name)
            body.append(stmt)
    unchanged = tuple(dataclasses.replace(s, out=s.inp.name) for s in program.states)
    return analyse(dataclasses.replace(program, body=tuple(body), states=unchanged), {})
