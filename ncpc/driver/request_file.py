"""request.json: what was asked of a build, by which it is made and verified again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncpc.driver import builds
from ncpc.driver.job import MOST_STEPS, Job, Request, own_options
from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes
from ncpc.ir.schemes import ALIASES, SCHEMES
from ncpc.report.validate import read_json

SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "schema": {"const": 1},
        "policy_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        "target": {"type": "string"},
        "quant": {"enum": [None, *SCHEMES, *ALIASES]},
        "dt": {"enum": [None, "fixed", "runtime"]},
        "cc": {"type": "string"},
        "tolerance": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "verdict": {"enum": ["data", "data+generated", "all"]},
        "steps": {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_STEPS},
        "certify": {"enum": ["range", "error", "none"]},
        "prove": {"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": "^off$"},
        "extra": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "additionalProperties": False,
}
"""One property for each field of ``Request``, and ``policy_sha256``: the policy's container without number formats."""


def request_bytes(job: Job) -> bytes:
    """request.json of a job: its request as it was given, and the policy's SHA-256."""
    asked = {**dataclasses.asdict(job.request), "extra": own_options(job.request, job.target)}
    head = {"schema": 1, "policy_sha256": builds.sha256(policy_bytes(job.policy))}
    return (json.dumps({**head, **asked}, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_request(folder: Path) -> tuple[Request, str]:
    """The request of the build in ``folder``, and the SHA-256 of its policy. Raises BadInput."""
    schema = {**SCHEMA, "required": list(SCHEMA["properties"])}
    try:
        values = read_json(folder / builds.REQUEST, schema)
    except FileNotFoundError:
        raise BadInput(f"{folder}: has no {builds.REQUEST}, which says what was asked for; compile again") from None
    sha256: str = values.pop("policy_sha256")
    del values["schema"]
    return Request(**values), sha256
