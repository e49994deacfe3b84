"""From a lowered policy to its graph: the float one, or the integer one with the ranges its scales come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.cells import RECURRENT
from ncpc.ir.heads import History, affordable
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.program import Program, statements
from ncpc.ir.sequences import Sequences
from ncpc.ir.state import box, split
from ncpc.ir.types import Fixed
from ncpc.passes.fold import fix_dt
from ncpc.quant.limits import OBSERVED_ROOM, too_wide
from ncpc.semantics.bounds import Range, meet
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.tflite.describe import state_names
from ncpc.targets.tflite.float_graph import float_graph
from ncpc.targets.tflite.graph import Tensor, TfliteGraph
from ncpc.targets.tflite.integer_graph import integer_graph, quantize
from ncpc.targets.tflite.integer_program import integer_program
from ncpc.targets.tflite.scales import FORMATS
from ncpc.targets.tflite.variables import with_variables

MARGIN = 0.25
"""By how much a state's range is widened where it was observed and not proved."""
PROBE_STEPS, PROBE_SEQUENCES, HELD = 200, 8, 20


def file_name(lowered: Lowered) -> str:
    """The file's name in the build folder."""
    return f"{lowered.policy.name}.tflite"


def step_graph(lowered: Lowered, real: Program, held: Mapping[str, Range], options: CompileOptions) -> TfliteGraph:
    """The graph of one step of ``real``, whose states stay within ``held``. Raises Unsupported for what the format, or
    both runtimes, cannot hold.
    """
    dt = lowered.policy.dt.nominal if options.dt == "fixed" else None
    if lowered.numbers.arithmetic == "float":
        return float_graph(real, dt)
    if real.dt is not None:
        raise Unsupported(f"target tflite: {lowered.scheme} has no dt input, since integer kernels cannot divide by "
                          "it; use --dt fixed or --quant float32")
    bits = lowered.numbers.activation_bits  # Newton's iteration comes closer to a reciprocal than half a unit
    made = integer_program(real, held, 0.5 * 2.0**-bits, bits == 16, convolved(lowered))
    return integer_graph(made, FORMATS[bits], dt)


def stateful(graph: TfliteGraph, lowered: Lowered) -> TfliteGraph:
    """The graph with its states as variables of the file instead of inputs."""
    states = zip(state_names(lowered.real), lowered.real.states, strict=True)
    return with_variables(graph, {name: _raw(graph.tensors[name], np.asarray(state.init)) for name, state in states})


def _raw(tensor: Tensor, reset: NDArray[np.float64]) -> NDArray[Any]:
    """A reset state in the tensor's own numbers."""
    return reset if tensor.quant is None else quantize(reset, tensor.quant, tensor.dtype)


def timed(lowered: Lowered, options: CompileOptions) -> Program:
    """The program over the reals, its timespan compiled in where the options say so."""
    return fix_dt(lowered.real, lowered.policy.dt.nominal) if options.dt == "fixed" else lowered.real


def boxes(lowered: Lowered, real: Program, limited: Mapping[str, Range]) -> dict[str, Range]:
    """The range of each state: the one proved for the typed program, else what calibration shows, widened; where it is
    ``limited``, that.

    A memory that forgets slowly could come far beyond what it does; where its proved range is that wide, 16 bits would
    hold too little of what occurs, so it is limited to what was seen and as much room: there its tensor saturates.
    """
    proved = _proved(lowered, real)
    return {**proved, **limited} if proved else observed(lowered.policy, real, MARGIN)


def limits(lowered: Lowered, real: Program) -> dict[str, Range]:
    """The states whose proved range overstates what was seen too much, and what they are limited to.

    That is one range for all of a state's numbers, as they share a scale, within what is known of each. The boxes of
    LTCs are no wider than their reversal potentials: they are kept. Those of histories never are.
    """
    proved, kept = _proved(lowered, real), _kept(real)
    wide = any(layer.kind in RECURRENT and not isinstance(layer, Ltc) for layer in lowered.policy.layers)
    seen = observed(lowered.policy, real, OBSERVED_ROOM) if proved and (wide or kept) else {}
    return {name: meet(proved[name], Range(*map(np.asarray, found.ends))) for name, found in seen.items()
            if name in kept or too_wide(proved[name], found)}


def _kept(real: Program) -> set[str]:
    """The states of histories: their boxes are all that the type of what they keep holds."""
    made = {op.out.name for op in statements(real.body) if op.origin and op.origin.layer == History.kind}
    return {state.inp.name for state in real.states if state.out in made}


def _proved(lowered: Lowered, real: Program) -> dict[str, Range]:
    """Boxes of all states by name; empty where that of any is not proved."""
    found = [box(state) for state in lowered.program.states] if lowered.proved else []
    if not all(np.isfinite(rows).all() for rows in found):
        return {}
    return {s.inp.name: Range(rows[:, 0], rows[:, 1]) for s, rows in zip(real.states, found, strict=False)}


def convolved(lowered: Lowered) -> dict[str, tuple[float, float]]:
    """The limits that the typed program puts on convolutions: what calibration shows, twice; 8 bits have no room for
    more than it shows.
    """
    share, found = (0.5 if lowered.numbers.activation_bits == 8 else 1.0), {}
    for op in statements(lowered.program.body):
        kind = op.out.type
        if op.kind == "conv2d" and isinstance(kind, Fixed) and op.attrs["lo"] is not None:
            lo, hi = (share * kind.lsb * float(op.attrs[end] or 0) for end in ("lo", "hi"))
            found[op.out.name] = (lo, hi)
    return found


def observed(policy: Policy, real: Program, margin: float) -> dict[str, Range]:
    """Each state's extremes over the calibration sequences, or sequences across the input range; wider by ``margin``
    of their width at either end.
    """
    parts, found = split(real.states, run(real, _probe(policy)).state), {}
    for state in real.states:
        reached = parts[state.inp.name]
        seen = np.concatenate([reached.reshape(-1, reached.shape[-1]), state.init[None]])
        lo, hi = seen.min(axis=0), seen.max(axis=0)
        found[state.inp.name] = Range(lo - margin * (hi - lo), hi + margin * (hi - lo))
    return found


def _probe(policy: Policy) -> Sequences:
    """Calibration data where the policy has some; also held extremes and noise across the declared range. Fewer steps
    where each takes many products.
    """
    rng = np.random.default_rng(0)
    lo, hi = policy.input_range.T
    steps = affordable(policy.layers, PROBE_STEPS, PROBE_SEQUENCES)
    noise = rng.random((PROBE_SEQUENCES, steps, policy.inputs))
    ends = rng.integers(0, 2, (PROBE_SEQUENCES // 2, -(-steps // HELD), policy.inputs))
    noise[::2] = np.repeat(ends, HELD, axis=1)[:, :steps]
    x: NDArray[np.float64] = lo + (hi - lo) * noise
    return Sequences(x) if policy.calibration is None else _with(policy.calibration, x)


def _with(data: Sequences, x: NDArray[np.float64]) -> Sequences:
    """Both batches at the shorter length."""
    length = min(data.x.shape[1], x.shape[1])
    return Sequences(np.concatenate([data.x[:, :length], x[:, :length]]))
