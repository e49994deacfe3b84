"""What rounding one weight tensor of a policy costs alone, for every tensor that its integer program holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ncpc.ir.policy import F64, Ltc, Policy, Synapses
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.quant.held_weights import HeldWeight, held_weights
from ncpc.semantics.run import run


@dataclass(frozen=True)
class WeightError:
    """A tensor of ``bits`` bits whose units are 2**-``finest`` to 2**-``coarsest``, times the gains of neurons.

    ``max_range`` and ``rms_range`` are the change of outputs where it alone is rounded, in shares of their range; None
    where the step over the reals has no constant of these numbers.
    """

    layer: int
    tensor: str
    bits: int
    finest: float
    coarsest: float
    max_range: float | None
    rms_range: float | None


def weight_errors(policy: Policy, scheme: str, data: Sequences) -> list[WeightError]:
    """Every weight tensor of the integer program of ``policy`` in ``scheme``, each rounded alone, on ``data``."""
    real = _step(policy)
    reference = run(real, data).y
    span = max(float(np.ptp(reference)), 1e-12)
    found = []
    for weight in held_weights(policy, scheme):
        changed = next(_rounded(policy, real, weight), None)
        error = None if changed is None else np.abs(run(changed, data).y - reference) / span
        fine, coarse = (-np.log2(end(weight.unit)) if weight.unit.size else 0.0 for end in (np.min, np.max))
        largest, rms = (None, None) if error is None else (float(error.max()), float(np.sqrt(np.mean(error**2))))
        found.append(WeightError(weight.place, weight.name, weight.bits, float(fine), float(coarse), largest, rms))
    return found


def _step(policy: Policy) -> Program:
    real = lower(policy)
    return fold_constants(fix_dt(real, policy.dt.nominal) if policy.dt.fixed else real)


def _rounded(policy: Policy, real: Program, weight: HeldWeight) -> Iterator[Program]:
    """The step with one tensor rounded; none where it is no constant of the whole policy's step."""
    value = weight.raw * weight.unit
    layer = policy.layers[weight.place]
    if weight.of_ltc and isinstance(layer, Ltc):
        kind, _, sensory = weight.name.partition("_")
        part = layer.sensory if sensory else layer.recurrent
        shift = layer.input_b[part.pre] if sensory else np.zeros(len(part))
        changed = _synapses(part, kind, value, weight, shift)
        own = replace(layer, sensory=changed) if sensory else replace(layer, recurrent=changed)
        layers = (*policy.layers[: weight.place], own, *policy.layers[weight.place + 1 :])
        yield _step(replace(policy, layers=layers))
        return
    for name, (kept, exact) in real.constants.items():
        if exact.shape == weight.data.shape and np.array_equal(exact, weight.data):
            yield replace(real, constants={**real.constants, name: (kept, value)})


def _synapses(part: Synapses, kind: str, value: F64, weight: HeldWeight, shift: F64) -> Synapses:
    """Rounding a conductance leaves the current at full activity, and a slope what its sigmoid is at 0."""
    if kind == "sigma":
        ratio = np.divide(value, weight.data, out=np.ones(len(part)), where=weight.data != 0)
        ratio = np.where(ratio == 0, 1.0, ratio)
        centre = np.zeros(len(part)) if weight.centre is None else weight.centre
        slope = part.sigma * ratio
        offset = part.sigma * (shift - part.mu) + centre
        return replace(part, sigma=slope, mu=shift - np.divide(offset, slope, out=np.zeros(len(part)),
                                                               where=slope != 0))
    if kind == "we":
        return replace(part, erev=np.divide(value, part.w, out=part.erev.copy(), where=part.w > 0))
    current = np.where(value > 0, part.w * part.erev, 0.0)
    return replace(part, w=value, erev=np.divide(current, value, out=np.zeros(len(part)), where=value > 0))
