"""The error certificate: what is claimed, and the numbers by which a checker confirms it without searching."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.ir.policy import F64

ERROR_CERTIFICATE = "error_certificate.json"
ERROR_EXTRA = "error_certificate"
"""Where the report says what came of it."""
SCHEMA = 1
PARTS = ("levels", "errors", "pieces", "multipliers")


@dataclass(frozen=True, eq=False)
class Row:
    """One neuron's error as a function of the exact network's state, and how its inequality is split.

    ``errors`` (K + 1) are its values at ``levels`` of the state, straight lines between them, concave. ``pieces``
    (P + 1) split the state before the update. ``multipliers`` (P, K, 2, 2) weigh the identity ``N = v*D`` in each
    part, for either sign of the error after and before the update.
    """

    levels: F64
    errors: F64
    pieces: F64
    multipliers: F64


@dataclass(frozen=True, eq=False)
class Certificate:
    """``box`` (neurons, 2) holds the exact network's state, ``error`` (neurons,) the most that the deployed one
    is away, ``outputs`` the same of each output: for all time from reset, every input and dt in range. Physical units.
    """

    policy: str
    program: str
    box: F64
    error: F64
    outputs: F64
    rows: tuple[Row, ...]


def as_json(c: Certificate) -> dict[str, Any]:
    """JSON, doubles in full."""
    rows = [{name: getattr(row, name).tolist() for name in PARTS} for row in c.rows]
    return {"schema": SCHEMA, "policy": c.policy, "program": c.program, "box": c.box.tolist(),
            "error": c.error.tolist(), "outputs": c.outputs.tolist(), "rows": rows}


def dumps(c: Certificate) -> str:
    """The file's text."""
    return json.dumps(as_json(c), indent=None, separators=(",", ":")) + "\n"


def parsed(text: str, where: str) -> dict[str, Any]:
    """The file's JSON object, of the schema that is read here; raises BadInput for anything else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput(f"{where}: no error certificate: it is not JSON; certify again") from None
    if not isinstance(found, dict):
        raise BadInput(f"{where}: no error certificate: it is no JSON object; certify again")
    if found.get("schema") != SCHEMA:
        raise BadInput(f"{where}: schema {found.get('schema')!r}, this ncpc reads {SCHEMA}; certify again")
    return found


def loads(text: str, where: str = ERROR_CERTIFICATE) -> Certificate:
    """A certificate from its file's text; raises BadInput for anything else."""
    found = parsed(text, where)
    rows = found.get("rows")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadInput(f"{where}: no error certificate: 'rows' is no list of objects; certify again")
    parts = tuple(Row(*(numbers(row, part, where) for part in PARTS)) for row in rows)
    box, error, outputs = (numbers(found, name, where) for name in ("box", "error", "outputs"))
    return Certificate(str(found.get("policy")), str(found.get("program")), box, error, outputs, parts)


def numbers(record: Mapping[str, Any], name: str, where: str) -> F64:
    """A field's numbers, in lists of equal lengths where there are lists; raises BadInput for anything else."""
    try:
        found = np.asarray(record[name])
    except (KeyError, ValueError, RecursionError):
        found = np.array("")
    if found.dtype.kind not in "iuf":
        raise BadInput(f"{where}: no error certificate: '{name}' is missing or holds no numbers; certify again")
    return found.astype(np.float64)
