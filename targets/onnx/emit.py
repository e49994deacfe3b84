"""From a lowered policy to the two files, and what runs and reports need to know about them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program, State
from ncpc.ir.schemes import NumberScheme
from ncpc.ir.state import box
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.bounds import Range
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.onnx.cost import FORMS, Prices, choose, layouts, prices, work
from ncpc.targets.onnx.graph import OnnxGraph
from ncpc.targets.onnx.grid import synapse_axes
from ncpc.targets.onnx.quantize import Widths, quantize
from ncpc.targets.onnx.ranges import intervals
from ncpc.targets.onnx.serialize import sequence_model, step_model
from ncpc.targets.onnx.translate import translate

F32 = NDArray[np.float32]
QDQ_TOLERANCE = {16: 5e-4, 8: 2e-2}
"""Bits of activations -> share of the output range, between runtimes: where two of them fall on different sides of a
rounding, a step differs.
"""


@dataclass(frozen=True, eq=False)
class StepGraph:
    """The graph of one step, the program it came from, and the form each synapse axis took."""

    graph: OnnxGraph
    program: Program
    forms: Mapping[str, str]


def files(lowered: Lowered, step: StepGraph) -> dict[str, bytes]:
    """The step model and the sequence model, by file name. Raises MissingTool."""
    meta, policy = metadata(lowered, step), lowered.policy
    names, title = file_names(lowered), identifier(policy.name)
    what = f"{policy.name}: one step of a neural circuit policy, {lowered.scheme}"
    over = f"{policy.name}: a neural circuit policy over sequences, {lowered.scheme}"
    return {names[0]: step_model(step.graph, title, what, meta),
            names[1]: sequence_model(step.graph, title, over, meta)}


def step_graph(lowered: Lowered, options: CompileOptions) -> StepGraph:
    """The step as ONNX operators, float or QDQ. Raises Unsupported, BadInput."""
    program = float_program(lowered, options)
    forms = choose(program, option(options, "form", ("auto", *FORMS)), prices_for(lowered.numbers))
    graph = translate(program, layouts(program, forms))
    if lowered.numbers.arithmetic != "float":
        graph = quantize(graph, intervals(graph, known_ranges(lowered, program, graph)), widths(lowered.numbers))
    return StepGraph(graph, program, forms)


def prices_for(scheme: NumberScheme) -> Prices:
    """In QDQ models bytes are free: weights have one or two, and matrices, the largest, have a scale per column."""
    return prices() if scheme.arithmetic == "float" else replace(prices(), byte_ns=0.0)


def widths(scheme: NumberScheme) -> Widths:
    """The types of activations and weights; beside 8-bit activations both are unsigned, which every runtime adds up."""
    if scheme.activation_bits == 8:
        return Widths(np.uint8, np.uint8)
    top = (1 << (scheme.weight_bits - 1)) - 1
    return Widths(np.int16, np.int8, top) if scheme.weight_bits <= 8 else Widths(np.int16, np.int16)


def known_ranges(lowered: Lowered, program: Program, graph: OnnxGraph) -> dict[str, Range]:
    """Declared ranges of inputs, and the states' boxes, which hold after every unfold."""
    held = boxes(lowered)
    known = {"x": _range(program.x.range), **{t: _range(held[state]) for t, state in graph.held.items()}}
    if held:
        known["state"] = _range(np.concatenate(list(held.values())))
    return known if program.dt is None else {**known, "dt": _range(program.dt.range)}


def boxes(lowered: Lowered) -> dict[str, NDArray[np.float64]]:
    """State -> (n, 2) bounds in physical units, infinite where none are known."""
    states = zip(lowered.real.states, lowered.program.states, strict=True)
    return {real.inp.name: box(typed) for real, typed in states}


def _range(rows: NDArray[np.float64]) -> Range:
    return Range(rows[None, :, 0], rows[None, :, 1])


def float_program(lowered: Lowered, options: CompileOptions) -> Program:
    """The step in binary32, guards included; with dt fixed, without that input."""
    return fold_constants(to_float32(exact_program(lowered, options)))


def exact_program(lowered: Lowered, options: CompileOptions) -> Program:
    """The step over the reals; with dt fixed, without that input."""
    return fix_dt(lowered.real, lowered.policy.dt.nominal) if options.dt == "fixed" else lowered.real


def file_names(lowered: Lowered) -> tuple[str, str]:
    """Step model, sequence model."""
    name = identifier(lowered.policy.name)
    return f"{name}.onnx", f"{name}_sequence.onnx"


def identifier(name: str) -> str:
    """``name`` with everything but letters, digits and _ replaced."""
    return re.sub(r"\W", "_", name, flags=re.ASCII) or "policy"


def facts(scheme: NumberScheme, step: StepGraph) -> dict[str, object]:
    """What the report says under ``extra.onnx``."""
    axes, p = synapse_axes(step.program), prices_for(scheme)
    cost = {axis: {form: round(work(axes[axis], form).price(p) / 1000, 3) for form in FORMS} for axis in step.forms}
    return {"opset": 21, "nodes": len(step.graph.nodes), "forms": dict(step.forms), "predicted_us": cost,
            "cost_model": p.benchmark, "proof": "state within box assumed"}


def metadata(lowered: Lowered, step: StepGraph) -> dict[str, str]:
    """metadata_props: who is who in ``x``, ``state`` and ``y``, as JSON."""
    policy, program = lowered.policy, step.program
    facts: dict[str, object] = {
        "inputs": list(program.x.names), "outputs": list(program.y.names),
        "input_range": policy.input_range.tolist(), "state": _state_facts(policy, program),
        "dt": {"lo": policy.dt.lo, "hi": policy.dt.hi, "nominal": policy.dt.nominal, "input": program.dt is not None},
        "quant": lowered.scheme, "forms": dict(step.forms),
    }
    return {f"ncpc.{key}": json.dumps(value, separators=(",", ":")) for key, value in facts.items()}


def _state_facts(policy: Policy, program: Program) -> list[dict[str, object]]:
    """One entry per element of ``state``: name, role, reset value."""
    roles = {name: role for layer in policy.layers
             for name, role in zip(getattr(layer, "names", ()), getattr(layer, "roles", ()), strict=False)}
    return [{"name": name, "role": roles.get(name, ""), "reset": float(reset)}
            for state in program.states
            for name, reset in zip(_names(program, state), np.broadcast_to(state.init, state.inp.shape), strict=True)]


def _names(program: Program, state: State) -> tuple[str, ...]:
    size = state.inp.shape[0]
    return tuple(program.labels.get(state.inp.axes[0].name, ())) or tuple(f"{state.inp.name}{i}" for i in range(size))


def reset_state(lowered: Lowered) -> F32:
    """The state that a sequence starts from, (S,)."""
    parts = [np.broadcast_to(s.init, s.inp.shape) for s in lowered.real.states]
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def nominal_dt(lowered: Lowered, options: CompileOptions) -> float | None:
    """What to feed as dt where data has none; None where the model has no such input."""
    return None if options.dt == "fixed" or lowered.real.dt is None else lowered.policy.dt.nominal


def option(options: CompileOptions, name: str, choices: tuple[str, ...]) -> str:
    """The value of a target's own option; the first choice is the default. Raises BadInput."""
    value = options.extra.get(name, choices[0])
    if value not in choices:
        raise BadInput(f"--{name} {value}: choose from {', '.join(choices)}")
    return value
