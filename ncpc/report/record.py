"""report.json, schema 1: what was compiled, what was checked, what it costs. Deterministic: no dates, no durations."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Trace
from ncpc.report.anatomy import anatomy, parameters
from ncpc.semantics.ops import FLAGS
from ncpc.targets.base import Built, CompileOptions, CycleCounts, Memory, RunResult, Target
from ncpc.verify.links import Link
from ncpc.verify.verdict import Verdict, Verification

SCHEMA = 1
SCHEMA_FILE = Path(__file__).with_name("schema.json")

Json = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Facts:
    """What a report is made of. ``verification`` is None when there was nothing to verify (see the verdict).

    ``formats`` and ``proof`` are JSON as quantization gives them; ``policy_sha256`` that of the policy's container;
    ``files`` name -> sha256; ``data`` says in words which sequences the error was measured on.
    """

    policy: Policy
    policy_sha256: str
    target: Target
    options: CompileOptions
    verdict: Verdict
    tolerance: float
    strict: bool = False
    formats: Mapping[str, str] = field(default_factory=dict)
    proof: Mapping[str, Any] | None = None
    built: Built = field(default_factory=Built)
    verification: Verification | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    data: str = "generated sequences"


def build_report(facts: Facts) -> Json:
    """The report as plain JSON values; numbers that are not finite become null."""
    check, device = facts.verification, device_run(facts.verification)
    record: Json = plain({
        "schema": SCHEMA,
        "policy": policy_record(facts.policy, facts.policy_sha256),
        "target": {
            "name": facts.target.name, "core": facts.target.core, "timing_class": facts.target.timing_class,
            "dt": facts.options.dt, "cc": facts.options.cc, "options": dict(facts.options.extra),
        },
        "quant": {"scheme": facts.options.quant, "formats": dict(facts.formats)},
        "error": None if check is None else _error(check, facts.data),
        "links": [] if check is None else [_link(link) for link in check.chain.links],
        "instructions": None if device is None else spread(device.instructions),
        "cycles": None if device is None or device.cycles is None else device_cycles(device.cycles),
        "memory": _memory(facts.built.memory, device),
        "proof": None if facts.proof is None else dict(facts.proof),
        "verdict": {
            "holds": facts.verdict.holds, "reasons": list(facts.verdict.reasons), "tolerance": facts.tolerance,
            "strict": facts.strict, "not_run": [*facts.built.missing, *facts.verdict.not_run],
        },
        "extra": _extra(facts.target.name, facts.built.extra, check),
        "files": dict(sorted(facts.files.items())),
        "tools": dict(sorted({**facts.tools, **facts.built.tools}.items())),
    })
    return record


def policy_record(policy: Policy, sha256: str) -> Json:
    """Size and identity of a policy."""
    found = [anatomy(layer) for layer in policy.layers]
    return {
        "name": policy.name,
        "neurons": sum(layer.neurons for layer in found),
        "synapses": sum(layer.synapses for layer in found),
        "sensory_synapses": sum(layer.sensory_synapses for layer in found),
        "parameters": sum(parameters(layer) for layer in policy.layers),
        "sha256": sha256,
    }


def device_run(check: Verification | None) -> RunResult | None:
    """The last run that counted instructions or cycles."""
    runs = [] if check is None else [link.result for link in check.chain.links if link.result is not None]
    return next((r for r in reversed(runs) if r.cycles is not None or r.instructions is not None), None)


def dumps(report: Json) -> str:
    """The text of report.json."""
    return json.dumps(report, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def plain(value: Any) -> Any:
    """NumPy numbers and arrays as Python's; infinite and undefined numbers as None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _error(check: Verification, data: str) -> Json:
    error = check.error
    return {
        "reference": "policy in float64",
        "deployed": check.deployed,
        "data": data,
        "steps": error.steps,
        "max_abs": error.max_abs,
        "rmse": error.rmse,
        "output_range": error.output_range,
        "output_std": error.output_std,
        "max_range": error.fraction,
        "nrmse_range": _ratio(error.rmse, error.output_range),
        "nrmse_std": _ratio(error.rmse, error.output_std),
        "worst_neuron": error.worst_neuron,
        "worst_step": error.worst_step,
        "neurons": [{"name": n, "max_abs": m, "rmse": r} for n, m, r in error.neurons],
        "status": _status(check.deployed_trace),
        "search": _search(check),
    }


def _status(trace: Trace) -> Json:
    """In how many steps each status bit was set; bits that never were are left out."""
    counts = {flag: int((trace.flags >> bit & 1).sum()) for bit, flag in enumerate(FLAGS)}
    return {flag: steps for flag, steps in counts.items() if steps}


def _search(check: Verification) -> Json | None:
    worst = check.worst
    if worst is None:
        return None
    share = _ratio(worst.max_abs, check.error.output_range)
    return {"max_abs": worst.max_abs, "max_range": share, "evaluations": worst.evaluations, "steps": worst.steps}


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0 else None


def _link(link: Link) -> Json:
    difference, result = link.difference, link.result
    first = None if difference is None else difference.first
    return {
        "from": link.spec.source,
        "to": link.spec.runtime,
        "kind": link.spec.kind,
        "tolerance": link.spec.tolerance if link.spec.kind == "tolerance" else None,
        "runtime": None if result is None else result.runtime,
        "runtime_version": None if result is None else result.runtime_version,
        "options": None if result is None else result.options,
        "steps": 0 if difference is None else difference.steps,
        "mismatches": None if difference is None else difference.mismatches,
        "max_abs": None if difference is None else difference.max_abs,
        "first_divergent": None if first is None else {
            "step": first.step, "sequence": first.sequence, "time": first.time, "neuron": first.neuron,
            "neurons": list(first.neurons),
            "expected": first.expected, "found": first.found, "context": first.context,
        },
        "holds": link.holds,
        "not_run": link.not_run or None,
        "fault": link.fault or None,
    }


def spread(counts: NDArray[np.int64] | None) -> Json | None:
    """Smallest, largest and mean of counts per step."""
    if counts is None or counts.size == 0:
        return None
    return {"min": int(counts.min()), "max": int(counts.max()), "mean": float(counts.mean())}


def device_cycles(cycles: CycleCounts) -> Json:
    """Cycle counts as the report has them; no worst-case execution time is claimed."""
    return {
        "lower": spread(cycles.lower),
        "upper": spread(cycles.upper),
        "wcet": None,
        "wcet_method": None,
        "per_function": dict(cycles.per_function),
        "per_neuron": dict(cycles.per_neuron),
    }


def _memory(memory: Memory | None, device: RunResult | None) -> Json | None:
    known = [m for m in (memory, None if device is None else device.memory) if m is not None]
    if not known:
        return None
    stack = next((m.stack_bytes for m in reversed(known) if m.stack_bytes is not None), None)
    return {"flash_bytes": known[0].flash_bytes, "ram_bytes": known[0].ram_bytes, "stack_bytes": stack}


def _extra(target: str, built: Mapping[str, Any], check: Verification | None) -> Json:
    """What the target says of its build, and under its name what its runs measured, in the place of estimates."""
    runs = [] if check is None else [link.result for link in check.chain.links if link.result is not None]
    measured = {key: value for run in runs for key, value in run.extra.items()}
    return {**built, target: {**built.get(target, {}), **measured}} if measured else dict(built)
