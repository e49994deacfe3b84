"""From a policy and its Program to an outcome: CERTIFIED(e), NOT CERTIFIED, or NOT CERTIFIED with two rest points."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ncpc.errors import BadInput
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.proofs.errors import certificate as files
from ncpc.proofs.errors import identity, witness
from ncpc.proofs.errors.certificate import Certificate
from ncpc.proofs.errors.check import check
from ncpc.proofs.errors.facts import facts
from ncpc.proofs.errors.rest import search_witness
from ncpc.proofs.errors.search import search
from ncpc.proofs.errors.witness import Witness

TWO = "the exact network has two rest points under one constant input, so that no small bound can hold from every state"


@dataclass(frozen=True, eq=False)
class Certification:
    """``certificate`` where it was confirmed; else why not, and the two rest points where there are some.

    ``count`` is how many inequalities were checked.
    """

    certificate: Certificate | None
    count: int = 0
    reason: str = ""
    witness: Witness | None = None


def certify(policy: Policy, program: Program) -> Certification:
    """Search a certificate and check it; raises ``Unsupported`` for what none covers."""
    held = facts(policy, program)
    found = search(held, identity.of_policy(policy), identity.of_program(program))
    if found.certificate is not None:
        return confirmed(policy, program, found.certificate)
    two, names = search_witness(held.layer, held.x_range), ", ".join(found.open)
    if two is not None:
        return Certification(None, reason=f"{TWO}; the errors of {names} do not close", witness=two)
    reason = f"the errors of {names} do not close: they may feed on each other, or the bound is too coarse to see it"
    return Certification(None, reason=f"{reason}; no two rest points were found")


def confirmed(policy: Policy, program: Program, given: Certificate) -> Certification:
    """What the checker says of a certificate."""
    checked = check(policy, program, given)
    if checked.failures:
        more = f" (and {len(checked.failures) - 1} more)" if len(checked.failures) > 1 else ""
        return Certification(None, checked.count, f"the certificate does not hold: {checked.failures[0]}{more}")
    return Certification(given, checked.count)


def read(policy: Policy, program: Program, text: str, where: str) -> Certification:
    """Check what a file holds, a certificate or an outcome without one; nothing is searched. Raises BadInput,
    ``Unsupported``. A file that certifies nothing is believed in that; a witness in it is checked.
    """
    found = files.parsed(text, where)
    if "rows" in found:
        return confirmed(policy, program, files.loads(text, where))
    reason, rest = found.get("reason"), found.get("witness")
    if found.get("certified") is not False or not isinstance(reason, str):
        raise BadInput(f"{where}: no error certificate: it holds neither 'rows' nor why it certifies nothing; "
                       "certify again")
    two = None if rest is None else witness.from_json(rest, where)
    held = None if two is None else facts(policy, program)
    if two is not None and held is not None and not witness.proves(held.layer, held.x_range, two):
        return Certification(None, reason="the witness does not hold: its boxes prove no two rest points")
    return Certification(None, reason=reason, witness=two)


def dumps(outcome: Certification) -> str:
    """error_certificate.json: the certificate, or the outcome without one."""
    if outcome.certificate is not None:
        return files.dumps(outcome.certificate)
    two = outcome.witness
    record: dict[str, Any] = {"schema": files.SCHEMA, "certified": False, "reason": outcome.reason,
                              "witness": None if two is None else witness.as_json(two)}
    return json.dumps(record, separators=(",", ":")) + "\n"
