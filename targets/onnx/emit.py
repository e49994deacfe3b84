"""From a lowered policy to the two files, and what runs and reports need to know about them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program, State
from ncpc.ir.types import Fixed
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.to_float32 import to_float32
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.onnx.cost import FORMS, choose, layouts, prices, work
from ncpc.targets.onnx.graph import Graph
from ncpc.targets.onnx.grid import synapse_axes
from ncpc.targets.onnx.serialize import sequence_model, step_model
from ncpc.targets.onnx.translate import translate

F32 = NDArray[np.float32]
QDQ_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class StepGraph:
    """The graph of one step, the program it came from, and the form each synapse axis took."""

    graph: Graph
    program: Program
    forms: Mapping[str, str]


def files(lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
    """The step model and the sequence model, by file name. Raises Unsupported, BadInput, MissingTool."""
    step = step_graph(lowered, options)
    meta, policy = metadata(lowered, step), lowered.policy
    names, title = file_names(lowered), identifier(policy.name)
    what = f"{policy.name}: one step of a neural circuit policy, {lowered.scheme}"
    over = f"{policy.name}: a neural circuit policy over sequences, {lowered.scheme}"
    return {names[0]: step_model(step.graph, title, what, meta),
            names[1]: sequence_model(step.graph, title, over, meta)}


def step_graph(lowered: Lowered, options: CompileOptions) -> StepGraph:
    """The step as ONNX operators, float or QDQ."""
    program = float_program(lowered, options)
    forms = choose(program, _option(options, "form", ("auto", *FORMS)))
    return StepGraph(translate(program, layouts(program, forms)), program, forms)


def float_program(lowered: Lowered, options: CompileOptions) -> Program:
    """The step in binary32, guards included; with dt fixed, without that input."""
    real = lowered.real
    if options.dt == "fixed" and real.dt is not None:
        real = fix_dt(real, lowered.policy.dt.nominal)
    return fold_constants(to_float32(real))


def file_names(lowered: Lowered) -> tuple[str, str]:
    """Step model, sequence model."""
    name = identifier(lowered.policy.name)
    return f"{name}.onnx", f"{name}_sequence.onnx"


def identifier(name: str) -> str:
    """``name`` with everything but letters, digits and _ replaced."""
    return re.sub(r"\W", "_", name, flags=re.ASCII) or "policy"


def facts(lowered: Lowered, options: CompileOptions) -> dict[str, object]:
    """What the report says under ``extra.onnx``."""
    step = step_graph(lowered, options)
    axes, p = synapse_axes(step.program), prices()
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
    return {f"ncpc.{key}": json.dumps(value) for key, value in facts.items()}


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


def physical_state(lowered: Lowered, raw: NDArray[np.int64]) -> F32:
    """States (B, S) given in the program's own numbers (bit patterns for float32), as the graph's."""
    sizes = [s.inp.shape[0] for s in lowered.program.states]
    parts = np.split(raw, np.cumsum(sizes)[:-1], axis=1) if sizes else []
    numbers = [_physical(s, part) for s, part in zip(lowered.program.states, parts, strict=True)]
    return np.concatenate([np.zeros((raw.shape[0], 0), np.float32), *numbers], axis=1)


def _physical(state: State, raw: NDArray[np.int64]) -> F32:
    kind = state.inp.type
    if isinstance(kind, Fixed):
        return (raw * kind.lsb).astype(np.float32)
    return raw.astype(np.int32).view(np.float32)


def _option(options: CompileOptions, name: str, choices: tuple[str, ...]) -> str:
    value = options.extra.get(name, choices[0])
    if value not in choices:
        raise BadInput(f"--{name} {value}: choose from {', '.join(choices)}")
    return value
