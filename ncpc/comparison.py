"""How far the targets of one command are from each other, and why."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Sequences
from ncpc.pipeline import Outcome
from ncpc.report.record import Json, plain
from ncpc.report.terminal import share
from ncpc.targets.base import PROGRAM
from ncpc.verify.verdict import Verification

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
    one, other = (v.deployed_trace.y[:rows, :length] for v in (first, second))
    apart, width = float(np.abs(one - other).max()), first.error.output_range
    record: Json = plain({**names, "steps": rows * length, "max_abs": apart, "max_range": apart / (width or 1.0),
                          "why": _why(first, second, apart)})
    return record


def _shared(a: Verification, b: Verification) -> tuple[int, int]:
    """Sequences and steps that both deployed traces cover; none where the inputs differ."""
    rows, length = (min(m, n) for m, n in zip(a.deployed_trace.y.shape[:2], b.deployed_trace.y.shape[:2], strict=True))
    same = all(np.array_equal(m[:rows, :length], n[:rows, :length])
               for m, n in zip(_arrays(a.setting.data), _arrays(b.setting.data), strict=True))
    return (rows, length) if same else (0, 0)


def _arrays(data: Sequences) -> list[NDArray[np.float64] | NDArray[np.bool_]]:
    return [a for a in (data.x, data.dt, data.reset) if a is not None]


def _why(a: Verification, b: Verification, apart: float) -> str:
    if apart == 0 and _runs_program(a) and _runs_program(b):
        return "both run the same program bit for bit"
    return f"{_how(a)}, {_how(b)}"


def _how(v: Verification) -> str:
    """What arithmetic a target computes with, and how far that is from float64."""
    scheme = v.setting.lowered.scheme
    kind = f"the {scheme} program" if _runs_program(v) else f"its own {scheme} arithmetic"
    if scheme == "float32" and v.error.fraction < FLOAT:
        kind = "binary32 rounding"
    return f"{v.setting.target.name} has {kind}, {share(v.error.fraction)} from float64"


def _runs_program(v: Verification) -> bool:
    link = v.chain.deployed
    return link is not None and v.chain.exact_root(link) == PROGRAM
