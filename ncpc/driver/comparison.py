"""How far the targets of one command are from each other, and why."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ncpc.driver.pipeline import Outcome
from ncpc.ir.sequences import Sequences
from ncpc.report.record import Json, plain
from ncpc.report.terminal import share
from ncpc.targets.base import PROGRAM
from ncpc.verification.verdict import Verification

FLOAT = 1e-5
"""Below this share of the output range a difference is binary32 rounding, not a number format."""


def between(outcomes: list[Outcome]) -> list[Json]:
    """One record for each pair of verified targets: the largest difference of outputs, and its reason in words."""
    return [_pair(a, b) for a, b in combinations([o for o in outcomes if o.verification is not None], 2)]


def lines(records: list[Json]) -> list[str]:
    """The records as text, one line each."""
    return [f"{r['a']} and {r['b']}: {_apart(r)}; {r['why']}" for r in records]


def _apart(record: Json) -> str:
    if record["max_abs"] == 0:
        return f"equal outputs on {record['steps']:,} steps"
    if record["steps"] == 0:
        return "not compared"
    return f"at most {share(record['max_range'])} of the output range apart on {record['steps']:,} steps"


def _pair(a: Outcome, b: Outcome) -> Json:
    first, second = a.verification, b.verification
    assert first is not None
    assert second is not None
    names = {"a": a.report["target"]["name"], "b": b.report["target"]["name"]}
    rows, length = _shared(first, second)
    if rows == 0:
        return {**names, "steps": 0, "max_abs": None, "max_range": None, "why": "they were run on different sequences"}
    one, other = (v.generated.trace.y[:rows, :length] for v in (first, second))
    apart, width = float(np.abs(one - other).max()), first.generated.error.output_range
    record: Json = plain({**names, "steps": rows * length, "max_abs": apart, "max_range": apart / (width or 1.0),
                          "why": _why(first, second, apart)})
    return record


def _shared(a: Verification, b: Verification) -> tuple[int, int]:
    """Generated sequences and their steps that both traces cover; none where the inputs differ."""
    one, other = a.generated.ran, b.generated.ran
    rows, length = (min(m, n) for m, n in zip(one.x.shape[:2], other.x.shape[:2], strict=True))
    same = all(np.array_equal(m[:rows, :length], n[:rows, :length])
               for m, n in zip(_arrays(one), _arrays(other), strict=True))
    return (rows, length) if same else (0, 0)


def _arrays(data: Sequences) -> list[NDArray[np.float64] | NDArray[np.bool_]]:
    return [a for a in (data.x, data.dt, data.reset) if a is not None]


def _why(a: Verification, b: Verification, apart: float) -> str:
    if apart == 0 and _runs_program(a) and _runs_program(b):
        return "both run the same program bit for bit"
    return f"{_how(a)}, {_how(b)}"


def _how(v: Verification) -> str:
    """What arithmetic a target computes with, and how far that is from float64."""
    scheme = v.setting.lowered.numbers
    kind = f"the {scheme.name} program" if _runs_program(v) else f"its own {scheme.name} arithmetic"
    if scheme.arithmetic == "float" and v.generated.error.fraction < FLOAT:
        kind = "binary32 rounding"
    return f"{v.setting.target.name} has {kind}, {share(v.generated.error.fraction)} from float64"


def _runs_program(v: Verification) -> bool:
    (chain,) = (chain for chain in v.chains if chain.data is v.generated.data)
    return chain.deployed is not None and chain.exact_root(chain.deployed) == PROGRAM
