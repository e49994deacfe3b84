"""From a container to the program a target is given: over the reals, then in the number format that was asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ncpc.frontend.container import Container
from ncpc.ir.held_out import calibrating
from ncpc.ir.policy import I64, Policy
from ncpc.ir.program import Program, statements, values
from ncpc.ir.schemes import SCHEMES, canonical
from ncpc.ir.types import Fixed
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.passes.room import with_room
from ncpc.passes.to_float32 import to_float32
from ncpc.proofs.prove import Proof, prove
from ncpc.proofs.ranges import CrowdedError
from ncpc.quant.brevitas_activations import brevitas_activations
from ncpc.quant.brevitas_weights import brevitas_scales
from ncpc.quant.calibrate import Formats, dead_band, formats_from_json, recorded, stored
from ncpc.quant.inputs import input_ranges
from ncpc.quant.policy import Choices, quantize
from ncpc.targets.base import CompileOptions, DtMode, Lowered

ASSUMPTIONS = (
    "inputs and dt outside their ranges are saturated and flagged",
    "states given to restore outside the box are clamped and flagged",
    "two's complement integers; a right shift of a negative integer rounds down",
)


@dataclass(frozen=True, eq=False)
class LoweringResult:
    """``lowered`` for the target; ``formats`` (JSON) to store with the policy, so that the same program comes again.

    ``proof`` is the report's, its box still to be filled in; None where the arithmetic is not integer. ``note`` is one
    phrase for the phase line.
    """

    lowered: Lowered
    formats: Mapping[str, Any] | None
    proof: Mapping[str, Any] | None
    note: str


def lower_for(container: Container, options: CompileOptions) -> LoweringResult:
    """Lower a policy; formats stored in the container are used as they are, without calibration.

    What is held out of the policy's calibration data is not looked at, here or by a target.
    """
    container = replace(container, policy=calibrating(container.policy))
    policy, real = container.policy, real_step(container.policy, options.dt)
    arithmetic = SCHEMES[options.quant].arithmetic
    if arithmetic == "units":
        return LoweringResult(Lowered(policy, real, real, options.quant), container.formats, None, "threshold units")
    return _float32(container, real) if arithmetic == "float" else _fixed(container, real, options)


def real_step(policy: Policy, dt: DtMode) -> Program:
    """The step over the reals, with the nominal timespan in it where ``dt`` is fixed."""
    real = lower(policy)
    return fold_constants(fix_dt(real, policy.dt.nominal) if dt == "fixed" else real)


def _float32(container: Container, real: Program) -> LoweringResult:
    program = fold_constants(to_float32(real))
    return LoweringResult(Lowered(container.policy, real, program, "float32"), container.formats, None, "float32")


def _fixed(container: Container, real: Program, options: CompileOptions) -> LoweringResult:
    """Quantize with stored or calibrated formats, lower to integers, prove that nothing overflows."""
    policy, scheme, numbers = container.policy, options.quant, SCHEMES[options.quant]
    real = dataclasses.replace(real, x=dataclasses.replace(real.x, range=input_ranges(policy, numbers.tail).range))
    held = {canonical(name): formats for name, formats in (container.formats or {}).items()}
    formats, quantized = _quantized(policy, options, held.get(scheme))
    program, proof = proved(fold_constants(lower_fixed(policy, quantized)))
    y = proof.intervals[program.y.value.name]
    ends = np.stack([y.lo.reshape(-1), y.hi.reshape(-1)], axis=1)
    lowered = Lowered(policy, real, program, scheme, _formats(program), proved=True, outputs=ends)
    states = ", ".join(f"{s.inp.name} {s.inp.type}" for s in program.states)
    note = f"{scheme}, state {states}, no overflow proved"
    assumed = [*ASSUMPTIONS, *filter(None, [program.x.note]), *_limits(program)]
    shown = {**_proof(proof), "assumptions": assumed, "formats": _compared(program, formats, numbers.state_bits)}
    return LoweringResult(lowered, {**held, scheme: formats.as_json()}, shown, note)


def proved(program: Program) -> tuple[Program, Proof]:
    """An integer program and the proof that nothing it forms overflows.

    Where only a rounding half has no room, the shift takes the form that needs none.
    """
    try:
        return program, prove(program)
    except CrowdedError as crowded:
        roomy = with_room(program, crowded.shifts)
        return roomy, prove(roomy)


def _quantized(policy: Policy, options: CompileOptions, held: Any) -> tuple[Formats, Any]:
    if held is not None:
        formats = formats_from_json(held)
        return formats, quantize(policy, options.quant, options.dt, formats.dead_band, stored(formats))
    stall = dead_band(policy, SCHEMES[options.quant])
    scales: dict[str, dict[str, int]] = {}
    integers: dict[str, dict[str, I64]] = {}
    choices = recorded(Choices(brevitas_scales), scales, integers)
    quantized = quantize(policy, options.quant, options.dt, stall, choices)
    return Formats(stall, scales, brevitas_activations(policy, SCHEMES[options.quant]), integers), quantized


def _formats(program: Program) -> dict[str, str]:
    """Name -> Qm.n of every value and constant."""
    return {name: str(v.type) for name, v in values(program).items() if isinstance(v.type, Fixed)}


def _compared(program: Program, formats: Formats, state_bits: int) -> list[dict[str, str]]:
    """Inputs, states and outputs: the format calibration alone would have chosen, and the one that holds always."""
    rows = []
    for key, port in (("x", program.x), ("y", program.y)):
        assert isinstance(port.value.type, Fixed)
        assert port.fracs is not None
        kinds = [Fixed(port.value.type.bits, f) for f in port.fracs]
        rows += list(zip(port.names, kinds, formats.activations.get(key, ()), strict=False))
    for state in program.states:
        assert isinstance(state.inp.type, Fixed)
        wider = state.inp.type.bits - state_bits
        rows += [(state.inp.name, state.inp.type, f + wider) for f in formats.activations.get(state.inp.name, ())]
    return [{"value": name, "calibrated": str(Fixed(kind.bits, seen)), "proved": str(kind)}
            for name, kind, seen in rows]


def _limits(program: Program) -> list[str]:
    """What is held to where it was seen, since its equation bounds it too widely or not at all: one phrase per flag."""
    made = {op.out.name: op for op in statements(program.body) if op.kind == "clamp"}
    held = [s.inp.name for s in program.states if s.out in made and made[s.out].attrs.get("flag") == "state_clamped"]
    values = [op.args[0] for op in made.values() if op.attrs.get("flag") == "activation_limited"]
    found = []
    if held:
        found.append(f"no bound is proved from the equation of {_listed('state', held)}, or none that its format can "
                     "hold: each step limits it to its box, which is at least what was seen with as much room, and "
                     "sets state_clamped where that bites")
    if values:
        found.append(f"the bound of {_listed('value', values)} is too wide for 16 bits: it is limited to what was seen "
                     "with as much room, and sets activation_limited where that bites")
    return found


def _listed(kind: str, names: list[str]) -> str:
    more = len(names) - 4
    return f"{kind}{'s' * (len(names) > 1)} {', '.join(names[:4])}{f' and {more} more' if more > 0 else ''}"


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "no_overflow": True,
        "box": [],
        "input_range": [[float(lo), float(hi)] for lo, hi in proof.input_range],
        "dt_range": None if proof.dt_range is None else list(proof.dt_range),
    }
