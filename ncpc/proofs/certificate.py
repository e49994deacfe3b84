"""The certificate of an integer program's C, and the checker that goes with it: files for the build folder.

Boxes come from the prover's program; ranges and inequalities are those that ``certify.py`` finds in the emitted C, so
that prover and certificate meet in the boxes and share nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ncpc.ir.program import Program
from ncpc.proofs import certify

CHECKER = "certify.py"
CERTIFICATE = certify.CERTIFICATE
TESTED = 26_000
"""Operations of a step up to which the self test is carried out at compile time too; the checker always does that."""
EXTRA = "certificate"
"""Where the report says what came of it."""


@dataclass(frozen=True)
class Certified:
    """``files`` for the build folder; ``note`` in words, which begins with "not certified" where ``holds`` is false."""

    files: Mapping[str, bytes]
    note: str
    holds: bool


def checker() -> bytes:
    """The checker's text, which is copied into builds."""
    return Path(certify.__file__).read_bytes()


def certified(program: Program, emitted: Mapping[str, bytes], name: str, members: Sequence[str]) -> Certified:
    """certificate.json and certify.py for an integer program's emitted NAME.c and NAME.h; ``members`` are what its
    states are called there.
    """
    c, h = (emitted[f"{name}.{ending}"].decode() for ending in "ch")
    record, note, holds = _record(name, c, h, _boxes(program, members))
    text = json.dumps(record, separators=(",", ":")).replace("},{", "},\n{") + "\n"
    return Certified({CERTIFICATE: text.encode(), CHECKER: checker()}, note, holds)


def _record(name: str, c: str, h: str, boxes: dict[str, list[list[int]]]) -> tuple[dict[str, object], str, bool]:
    """The certificate, or why there is none."""
    try:
        found = certify.certificate(name, c, h, boxes, TESTED)
    except certify.Refused as error:
        return {"format": 1, "name": name, "not_certified": str(error)}, f"not certified: {error}", False
    except certify.UNKNOWN as error:
        why = f"the checker does not know C of this form ({type(error).__name__}: {error})"
        return {"format": 1, "name": name, "not_certified": why}, f"not certified: {why}", False
    ranges = len(found["values"]) + len(found["intermediates"])
    return found, f"{ranges:,} ranges, {len(found['inequalities']):,} box inequalities, checked from the C", True


def _boxes(program: Program, members: Sequence[str]) -> dict[str, list[list[int]]]:
    """Each state's box, (n, 2), under the state's name in C."""
    pairs = zip(members, program.states, strict=True)
    return {member: np.asarray(state.box, np.int64).reshape(-1, 2).tolist() for member, state in pairs}
