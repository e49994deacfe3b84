"""What a certificate is bound to: the exact numbers of the policy and of the Program."""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass

import numpy as np

from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.ir.text import to_text


def of_policy(policy: Policy) -> str:
    """SHA-256 of layers, wires, input ranges and dt; names and calibration data do not matter."""
    digest = hashlib.sha256()
    for part in (*policy.layers, *policy.wires, *policy.initial, policy.input_range, policy.dt):
        _feed(digest, part)
    return digest.hexdigest()


def of_program(program: Program) -> str:
    """SHA-256 of its printed operations and all constants."""
    digest = hashlib.sha256(to_text(program).encode())
    for name, (value, data) in sorted(program.constants.items()):
        digest.update(f"{name} {value.type} {data.shape}".encode())
        digest.update(np.ascontiguousarray(data.astype("<i8" if data.dtype.kind == "i" else "<f8")).tobytes())
    return digest.hexdigest()


def _feed(digest: hashlib._Hash, part: object) -> None:
    if is_dataclass(part):
        digest.update(type(part).__name__.encode())
        for field in fields(part):
            digest.update(field.name.encode())
            _feed(digest, getattr(part, field.name))
    elif isinstance(part, np.ndarray):
        digest.update(f"{part.shape}{part.dtype.kind}".encode())
        digest.update(np.ascontiguousarray(part.astype("<i8" if part.dtype.kind == "i" else "<f8")).tobytes())
    else:
        digest.update(repr(part).encode())
