"""``ncpc quantize``: a policy on the grids of a scheme, fine-tuned on its calibration data where that is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput
from ncpc.frontend.container import Container, write_policy
from ncpc.ir.heads import affordable
from ncpc.ir.held_out import split
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.phases import Phases
from ncpc.quant.weight_errors import weight_errors
from ncpc.report.record import Json
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.verification.sequences import suite
from ncpc.verification.verdict import STILL

LOOKED_AT = 2000
"""Steps on which errors are measured, at most."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """The policy that was written, and the ``record`` of what it came to."""

    policy: Policy
    record: Json


def quantize_policy(policy: str | Path | Policy, out: str | Path, request: Request, *,
                    calibrate: str | Path | None = None, training: Mapping[str, Any] | None = None,
                    checkpoint: str | Path | None = None, phases: Phases | None = None) -> Quantized:
    """Choose the integers of ``policy`` in ``request.quant`` for ``request.target`` and write them, with the policy, to
    the container ``out``; compiling that for the scheme gives these integers.

    ``training``: options of ``ncpc.quant.fine_tune``; None: none. It learns what the policy does over the reals, from
    the policy's own calibration data (or ``calibrate``), and what it ends with is kept if the program errs less than
    without any. ``checkpoint``: the file from which a training that was cut off goes on. Raises BadInput or Unsupported
    for a scheme without integers or one that the target has not, for data that do not fit, and for a policy that cannot
    be trained.
    """
    phases = phases or Phases()
    with phases.phase("read"):
        job = job_for(policy, request, calibrate)
    scheme = job.options.quant
    if SCHEMES[scheme].arithmetic != "integer":
        raise BadInput(f"--quant {scheme}: has no integers to choose; give a scheme of integers, as w8a16")
    original = job.policy
    data = _looked_at(original, job.options)
    with phases.phase("round"):
        made = _rounded(original, original, job.options, data)
    record: Json = {"schema": 1, "scheme": scheme, "policy": original.name, "steps": int(np.prod(data.x.shape[:2])),
                    "rounded": made[1], "fine_tuned": None, "training": None}
    chosen = original
    if training is not None:
        tuned, errors = _trained(original, scheme, training, checkpoint, phases)
        record["training"] = errors
        with phases.phase("round what was trained"):
            after = _rounded(tuned, original, job.options, data)
        record["fine_tuned"] = after[1]
        if errors["best"] > 0 and after[1]["rms_range"] < made[1]["rms_range"]:
            chosen, made = tuned, after
    record["kept"] = "rounded" if chosen is original else "fine_tuned"
    write_policy(chosen, out, made[0])
    return Quantized(chosen, record)


def _rounded(policy: Policy, original: Policy, options: CompileOptions, data: Sequences) -> tuple[Any, Json]:
    """The formats to store, and what they cost: of the whole program against ``original``, and tensor by tensor."""
    lowering = lower_for(Container(policy), options)
    tensors = [asdict(found) for found in weight_errors(policy, options.quant, data)]
    return lowering.formats, {**_error(original, lowering.lowered.program, data), "tensors": tensors}


def _error(original: Policy, program: Program, data: Sequences) -> Json:
    exact = run(lower(original), data).y
    span = float(np.ptp(exact))
    if span <= STILL:
        raise BadInput(f"{original.name}: its outputs are the same at every step that errors are measured on, so that "
                       "no error is a share of their range; give --calibrate with inputs that move them")
    error = np.abs(run(program, data).y - exact) / span
    return {"max_range": float(error.max()), "rms_range": float(np.sqrt(np.mean(error**2)))}


def _looked_at(policy: Policy, options: CompileOptions) -> Sequences:
    """What is held out of the calibration data; generated sequences where there is none."""
    steps = affordable(policy.layers, LOOKED_AT)
    held = None if policy.calibration is None else split(policy.calibration).held_out
    if held is None:
        return suite(policy, steps, options.dt == "runtime")
    rows = max(1, min(len(held.x), steps // held.x.shape[1]))
    cut = held.part(slice(rows), slice(steps))
    return cut if options.dt == "runtime" else replace(cut, dt=np.full(cut.x.shape[:2], policy.dt.nominal))


def _trained(policy: Policy, scheme: str, training: Mapping[str, Any], checkpoint: str | Path | None,
             phases: Phases) -> tuple[Policy, Json]:
    """A policy on its grids after training, and how the errors went."""
    from ncpc import quant  # needs torch
    from ncpc.frontend.ltc_module import ltc_module, with_weights_of

    data = policy.calibration
    if data is None:
        raise BadInput(f"--fine-tune: {policy.name} carries no calibration data to learn from; give --calibrate")
    told: dict[str, Any] = {"x": data.x} | ({} if data.dt is None else {"dt": data.dt})
    if data.reset is not None:
        told["reset"] = data.reset
    module = ltc_module(policy)
    dt = policy.dt.nominal if policy.dt.fixed else (policy.dt.lo, policy.dt.hi)
    twin = quant.prepare(module, scheme, calibration=told, input_range=policy.input_range, dt=dt)
    tuning = quant.fine_tune(twin, told, checkpoint=checkpoint, phases=phases, **training)
    errors = {"options": dict(training), "rms_range": tuning.errors, "max_range": tuning.peaks, "best": tuning.best}
    return with_weights_of(policy, quant.finish(twin)), errors
