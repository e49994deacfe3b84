"""report.json, schema 1: what was compiled, what was checked, what it costs. Deterministic: no dates, no durations."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.frontend.ranges import short_calibration
from ncpc.ir.held_out import calibrating
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Trace
from ncpc.quant.inputs import remark
from ncpc.report.anatomy import anatomy, parameters
from ncpc.semantics.ops import FLAGS
from ncpc.targets.base import Built, CompileOptions, CycleCounts, Memory, RunResult, Target
from ncpc.verification.data import Counting
from ncpc.verification.errors import ErrorStats
from ncpc.verification.explain import Explanation
from ncpc.verification.links import Link
from ncpc.verification.verdict import Criteria, Measured, Verdict, Verification

SCHEMA = 1
SCHEMA_FILE = Path(__file__).with_name("schema.json")

Json = dict[str, Any]


def schema() -> Json:
    """The JSON Schema of reports, with the names of the number schemes that there are."""
    found: Json = json.loads(SCHEMA_FILE.read_text())
    found["properties"]["quant"]["properties"]["scheme"]["enum"] = list(SCHEMES)
    return found


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """What a report is made of. ``verification`` is None when there was nothing to verify (see the verdict).

    ``asked`` are the options that were given and are no defaults; ``formats`` and ``proof`` are JSON as quantization
    gives them; ``policy_sha256`` that of the policy's container; ``files`` name -> sha256; ``counting`` is what counts
    towards the verdict; ``theorem``, what was proved of the linked step (``report.theorem``); ``time``, how long that
    takes on a board (``verification.deadline``), absent from the report where it was not asked for.
    """

    policy: Policy
    policy_sha256: str
    target: Target
    options: CompileOptions
    verdict: Verdict
    tolerance: float
    counting: Counting = "data+generated"
    asked: Mapping[str, Any] = field(default_factory=dict)
    formats: Mapping[str, str] = field(default_factory=dict)
    proof: Mapping[str, Any] | None = None
    built: Built = field(default_factory=Built)
    verification: Verification | None = None
    explanation: Explanation | None = None
    theorem: Json | None = None
    time: Json | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)


def build_report(facts: ReportFacts) -> Json:
    """The report as plain JSON values; numbers that are not finite become null."""
    check, device = facts.verification, device_run(facts.verification)
    record: Json = plain({
        "schema": SCHEMA,
        "policy": policy_record(facts.policy, facts.policy_sha256),
        "target": {
            "name": facts.target.name, "core": facts.target.core, "timing_class": facts.target.timing_class,
            "dt": facts.options.dt, "cc": facts.options.cc, "options": dict(facts.options.extra),
        },
        "asked": dict(facts.asked),
        "quant": {"scheme": facts.options.quant, "inputs": remark(calibrating(facts.policy), facts.options.quant),
                  "formats": dict(facts.formats)},
        "error": None if check is None else _error(check),
        "data": [] if check is None else [_measured(m, check.demand) for m in check.measured],
        "links": [] if check is None else [_link(links) for links in check.by_link()],
        "theorem": facts.theorem,
        "instructions": None if device is None else spread(device.instructions),
        "cycles": None if device is None or device.cycles is None else device_cycles(device.cycles, facts.theorem),
        "memory": memory_record(facts.built.memory, device),
        "proof": None if facts.proof is None else dict(facts.proof),
        "verdict": {
            "holds": facts.verdict.holds, "reasons": list(facts.verdict.reasons), "tolerance": facts.tolerance,
            "strict": facts.counting == "all", "counts": facts.counting,
            "worst": None if check is None else check.deciding.data.name,
            "not_run": [*facts.built.missing, *facts.verdict.not_run],
        },
        "explanation": None if facts.explanation is None else _explanation(facts.explanation),
        "extra": _extra(facts.target.name, facts.built.extra, check),
        "files": dict(sorted(facts.files.items())),
        "tools": dict(sorted({**facts.tools, **facts.built.tools}.items())),
    })
    return record if facts.time is None else {**record, "time": plain(facts.time)}


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
        "dt": dataclasses.asdict(policy.dt),
        "compared": policy.compared,
        "input_range": {"source": "guessed" if policy.range_guessed else "declared",
                        "short": short_calibration(policy)},
    }


def device_run(check: Verification | None) -> RunResult | None:
    """The last runtime that counted instructions or cycles, its runs on all data sets as one."""
    runs = [] if check is None else [
        [link.result for link in links if link.result is not None and link.result.instructions is not None]
        for links in check.by_link()]
    counted = next((found for found in reversed(runs) if found), [])
    return joined(counted) if counted else None


def joined(runs: Sequence[RunResult]) -> RunResult:
    """Runs of one runtime as one: counts one after the other, profiles averaged over all steps, the deepest stack."""
    counts = [run.instructions for run in runs if run.instructions is not None]
    cycles = [run.cycles for run in runs if run.cycles is not None]
    memories = [run.memory for run in runs if run.memory is not None]
    return dataclasses.replace(runs[-1], instructions=np.concatenate([c.reshape(-1) for c in counts]),
                               cycles=_joined_cycles(cycles) if cycles else None, memory=_deepest(memories))


def _deepest(memories: Sequence[Memory]) -> Memory | None:
    """The memory of several runs: of each stack the deepest."""
    if not memories:
        return None
    return dataclasses.replace(memories[-1], stack_bytes=_largest(m.stack_bytes for m in memories),
                               step_stack_bytes=_largest(m.step_stack_bytes for m in memories))


def _largest(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)


def _joined_cycles(parts: Sequence[CycleCounts]) -> CycleCounts:
    steps = np.array([len(part.lower) for part in parts]) / sum(len(part.lower) for part in parts)

    def mean(profiles: Sequence[Mapping[str, float]]) -> dict[str, float]:
        names = dict.fromkeys(name for profile in profiles for name in profile)
        return {name: float(steps @ [profile.get(name, 0.0) for profile in profiles]) for name in names}

    return CycleCounts(np.concatenate([p.lower for p in parts]), np.concatenate([p.upper for p in parts]),
                       mean([p.per_function for p in parts]), mean([p.per_neuron for p in parts]))


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


def _error(check: Verification) -> Json:
    """That of the data set which decides."""
    found, error = check.deciding, check.deciding.error
    return {
        "reference": "policy in float64",
        "deployed": found.runtime,
        "set": found.data.name,
        "data": found.data.words,
        "steps": error.steps,
        **_sizes(error),
        "output_std": error.output_std,
        "nrmse_std": _ratio(error.rmse, error.output_std),
        "worst_neuron": error.worst_neuron,
        "worst_step": error.worst_step,
        "neurons": [{"name": n, "max_abs": m, "rmse": r} for n, m, r in error.neurons],
        "status": _status(found.trace),
        "search": _search(check),
    }


def _sizes(error: ErrorStats) -> Json:
    return {"max_abs": error.max_abs, "rmse": error.rmse, "output_range": error.output_range,
            "max_range": error.fraction, "nrmse_range": _ratio(error.rmse, error.output_range)}


def _measured(found: Measured, demand: Criteria) -> Json:
    error = found.error
    return {
        "name": found.data.name, "purpose": found.data.purpose, "words": found.data.words, "counts": found.counts,
        "steps": error.steps, "sequences": len(found.ran.x), **_sizes(error),
        "worst": _worst(error),
        "status": _status(found.trace),
        "agreement": None if found.agreement is None else dataclasses.asdict(found.agreement),
        "recorded": None if found.recorded is None else {
            "steps": found.recorded.steps, "max_abs": found.recorded.max_abs, "max_range": found.recorded.fraction,
            "tolerance": demand.recorded, "holds": found.recorded.fraction <= demand.recorded,
            "worst": _worst(found.recorded),
        },
        "clamping": _clamping(found),
    }


def _worst(error: ErrorStats) -> Json:
    return {"sequence": error.worst_sequence, "time": error.worst_time, "output": error.worst_output}


def _explanation(why: Explanation) -> Json:
    costs, wide = why.costs, why.output_range
    return {
        "what": why.what, "set": why.data_set, "sequence": why.sequence, "time": why.time, "output": why.output,
        "advice": list(why.advice),
        "amplified": None if why.amplified is None else {"gain": why.amplified.gain, "ahead": why.amplified.ahead},
        "roundings": None if costs is None else {
            "since": why.since, "all": _ratio(costs.all, wide), "stored": _ratio(costs.stored, wide),
            "values": [{"value": one.value, "layer": one.layer, "equation": one.equation, "format": one.format,
                        "max_range": _ratio(one.max_abs, wide)} for one in costs.values if one.max_abs > 0],
        },
    }


def _clamping(found: Measured) -> Json | None:
    """The error against a reference whose inputs nothing limits, in its parts: shares of the output range."""
    if found.clamping is None:
        return None
    parts = {name: getattr(found.clamping, name) for name in ("whole", "clamping", "arithmetic")}
    shares = {name: _ratio(part, found.error.output_range) for name, part in parts.items()}
    return {"steps": found.clamping.steps, "declared": found.data.beyond is not None, **shares}


def _status(trace: Trace) -> Json:
    """In how many steps each status bit was set; bits that never were are left out."""
    counts = {flag: int((trace.flags >> bit & 1).sum()) for bit, flag in enumerate(FLAGS)}
    return {flag: steps for flag, steps in counts.items() if steps}


def _search(check: Verification) -> Json | None:
    worst = check.worst
    if worst is None:
        return None
    share = _ratio(worst.max_abs, check.generated.error.output_range)
    return {"max_abs": worst.max_abs, "max_range": share, "evaluations": worst.evaluations, "steps": worst.steps}


def _ratio(a: float, b: float) -> float | None:
    return a / b if b > 0 else None


def _link(links: Sequence[Link]) -> Json:
    """One link as checked on all of its data sets; of what fails, the first."""
    link = next((link for link in links if not link.holds), links[0])
    differences = [one.difference for one in links if one.difference is not None]
    result = next((one.result for one in links if one.result is not None), None)
    first = None if link.difference is None else link.difference.first
    return {
        "from": link.spec.source,
        "to": link.spec.runtime,
        "kind": link.spec.kind,
        "tolerance": link.spec.tolerance if link.spec.kind == "tolerance" else None,
        "runtime": None if result is None else result.runtime,
        "runtime_version": None if result is None else result.runtime_version,
        "options": None if result is None else result.options,
        "steps": sum(d.steps for d in differences),
        "mismatches": sum(d.mismatches for d in differences) if differences else None,
        "max_abs": max((d.max_abs for d in differences), default=None),
        "first_divergent": None if first is None else {
            "set": link.set_name,
            "step": first.step, "sequence": first.sequence, "time": first.time, "neuron": first.neuron,
            "neurons": list(first.neurons),
            "expected": first.expected, "found": first.found, "context": first.context,
        },
        "holds": all(one.holds for one in links),
        "not_run": link.not_run or None,
        "fault": link.fault or None,
        "sets": [{"name": one.set_name, "steps": 0 if one.difference is None else one.difference.steps,
                  "mismatches": None if one.difference is None else one.difference.mismatches} for one in links],
    }


def spread(counts: NDArray[np.int64] | None) -> Json | None:
    """Smallest, largest and mean of counts per step."""
    if counts is None or counts.size == 0:
        return None
    return {"min": int(counts.min()), "max": int(counts.max()), "mean": float(counts.mean())}


WCET_METHOD = ("the dearest way through the linked step that any input, dt and state can take, by the core's timing "
               "table; memories without wait states, no interrupts")


def device_cycles(cycles: CycleCounts, theorem: Json | None = None) -> Json:
    """Cycle counts as the report has them; a worst case is told where the proof of the step followed it to its end."""
    ways = None if theorem is None else theorem["cycles"]
    return {
        "lower": spread(cycles.lower),
        "upper": spread(cycles.upper),
        "wcet": None if ways is None else ways["most"],
        "wcet_method": None if ways is None else WCET_METHOD,
        "per_function": dict(cycles.per_function),
        "per_neuron": dict(cycles.per_neuron),
    }


def memory_record(memory: Memory | None, device: RunResult | None) -> Json | None:
    """Memory as the report has it: what was linked, and the stack of what ran."""
    known = [m for m in (memory, None if device is None else device.memory) if m is not None]
    if not known:
        return None
    ran = known[-1]
    return {"flash_bytes": known[0].flash_bytes, "ram_bytes": known[0].ram_bytes, "stack_bytes": ran.stack_bytes,
            "step_stack_bytes": ran.step_stack_bytes}


def _extra(target: str, built: Mapping[str, Any], check: Verification | None) -> Json:
    """What the target says of its build, and under its name what its runs measured, in the place of estimates."""
    links = [] if check is None else [link for links in check.by_link() for link in links]
    runs = [link.result for link in links if link.result is not None]
    measured = {key: value for run in runs for key, value in run.extra.items()}
    return {**built, target: {**built.get(target, {}), **measured}} if measured else dict(built)
