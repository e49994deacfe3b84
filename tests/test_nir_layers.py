"""Graded layers: pipelines of nodes, equal to the integer Program bit for bit, dt and resets included."""

from __future__ import annotations

import dataclasses
import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cells_table import policy_of as policy_of_cell
from benchmarks.cells_table_rows import CELLS
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, ProofFailed, Unsupported
from ncpc.frontend.container import Container
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import MODEL, PROGRAM, CompileOptions, Lowered
from ncpc.targets.nir_graded.joined import execute
from ncpc.targets.nir_graded.layers import GradedLayer, layer_fields, layer_from_fields
from ncpc.targets.nir_graded.ltc_program import program_of, record_of
from ncpc.targets.nir_graded.node import graph, held_by, register
from ncpc.targets.nir_graded.split import layers_of
from tests.conftest import RequireTool
from tests.nets import random_ltc, random_policy

TARGET = "nir-graded"


def _dense(outputs: int, inputs: int) -> Dense:
    rng = np.random.default_rng(outputs * 10 + inputs)
    return Dense(rng.uniform(-0.7, 0.7, (outputs, inputs)), rng.uniform(-0.2, 0.2, outputs))


FIRST, SECOND = random_ltc(1, neurons=6), random_ltc(2, inputs=2, neurons=5)
PIPELINES: dict[str, tuple[tuple[Layer, ...], list[str]]] = {
    "one": ((FIRST,), ["ltc"]),
    "between": ((_dense(3, 3), Activation("tanh", 3), FIRST, _dense(2, 2)), ["dense", "activation", "ltc", "dense_2"]),
    "two": ((FIRST, SECOND), ["ltc", "ltc_2"]),
    "dense": ((_dense(4, 3), _dense(3, 4), FIRST, Activation("sigmoid", 2)), ["dense", "dense_2", "ltc", "activation"]),
    "apart": ((FIRST, _dense(2, 2), Activation("relu", 2), SECOND), ["ltc", "dense", "activation", "ltc_2"]),
}


def policy_of(layers: tuple[Layer, ...], moving: bool = False) -> Policy:
    return Policy("net", layers, np.tile([-1.0, 1.0], (3, 1)), DtRange(0.5, 2.0, 1.0) if moving else DtRange())


@cache
def lowered(name: str, moving: bool = False, scheme: str = "int16") -> Lowered:
    policy = policy_of(PIPELINES[name][0], moving)
    options = CompileOptions(quant=scheme, dt="runtime" if moving else "fixed")  # type: ignore[arg-type]
    return lower_for(Container(policy), options).lowered


def inputs(moving: bool = False, steps: int = 24, width: int = 3) -> Sequences:
    """Beyond the range at times, with resets; timespans beyond theirs."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.uniform(-1.2, 1.2, (3, steps // 4, width)), 4, axis=1)
    dt = rng.uniform(0.3, 2.5, x.shape[:2]) if moving else None
    return Sequences(x, dt=dt, reset=rng.random(x.shape[:2]) < 0.08)


def from_file(layers: tuple[GradedLayer, ...]) -> tuple[GradedLayer, ...]:
    import nir

    file = io.BytesIO()
    nir.write(file, graph(layers))
    register()
    held = held_by(nir.read(io.BytesIO(file.getvalue())))
    assert isinstance(held, tuple)
    return held


MOVING = {"one": True, "between": False, "two": True, "dense": False, "apart": True}


@pytest.mark.parametrize(("name", "moving"), [
    *MOVING.items(), *(pytest.param(name, not dt, marks=pytest.mark.slow) for name, dt in MOVING.items())])
def test_a_file_of_layers_equals_the_program(name: str, moving: bool, require_tool: RequireTool) -> None:
    """Outputs, states and flags bit for bit, one node per layer, through HDF5."""
    require_tool("nir")
    source = lowered(name, moving)
    layers = from_file(layers_of(source.program))
    assert [layer.name for layer in layers] == PIPELINES[name][1]
    expected, found = run(source.program, inputs(moving)), execute(layers, inputs(moving)).trace
    for part in ("raw_y", "raw_state", "flags", "y", "state"):
        assert np.array_equal(getattr(found, part), getattr(expected, part)), part
    assert expected.flags.any()
    assert np.ptp(expected.raw_y) > 20


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_is_a_chain_of_layers(cell: str, require_tool: RequireTool) -> None:
    require_tool("nir")
    policy = policy_of_cell(cell)
    source = lower_for(Container(policy), CompileOptions()).lowered
    data = inputs(width=policy.inputs)
    expected = run(source.program, data)
    found = execute(from_file(layers_of(source.program)), data).trace
    assert np.array_equal(found.raw_y, expected.raw_y)
    assert np.array_equal(found.raw_state, expected.raw_state)
    assert np.array_equal(found.flags, expected.flags)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_heads_over_frames_are_layers_too(seed: int, require_tool: RequireTool) -> None:
    """Convolutions and pooling around random cells."""
    require_tool("torch")
    from ncpc.frontend.ncps_torch import import_model
    from tests.head_models import random_heads

    modules, frame = random_heads(seed)
    size = int(np.prod(frame))
    policy = Policy("net", import_model(modules, frame).layers, np.tile([-1.0, 1.0], (size, 1)), DtRange())
    source, data = lower_for(Container(policy), CompileOptions()).lowered, inputs(width=size)
    expected, found = run(source.program, data), execute(layers_of(source.program), data).trace
    assert np.array_equal(found.raw_y, expected.raw_y)
    assert np.array_equal(found.raw_state, expected.raw_state)
    assert np.array_equal(found.flags, expected.flags)


@pytest.mark.parametrize("theta", [0, 50])
def test_one_ltc_sends_the_same_in_either_form(theta: int) -> None:
    """As the Program and as the Program of its record: equal messages, events and outputs, sigma-delta included."""
    source = lowered("one")
    own = execute(layers_of(program_of(record_of(source.program)), theta), inputs())
    generic = execute(layers_of(source.program, theta), inputs())
    assert np.array_equal(own.trace.raw_y, generic.trace.raw_y)
    assert (own.messages, own.events, own.synapses) == (generic.messages, generic.events, generic.synapses)
    assert own.messages > 10


def test_start_states_continue_a_run() -> None:
    source = lowered("between")
    layers, x = layers_of(source.program), inputs().x
    whole = execute(layers, Sequences(x)).trace
    rest = execute(layers, Sequences(x[:, 10:], restored=whole.raw_state[:, 9])).trace
    assert np.array_equal(rest.raw_y, whole.raw_y[:, 10:])


@pytest.mark.parametrize("place", ["constant", "shift", "state"])
def test_one_wrong_number_shows(place: str) -> None:
    source = lowered("between")
    fields = [layer_fields(layer) for layer in layers_of(source.program)]
    step = json.loads(fields[2]["step"])
    if place == "constant":
        fields[2]["constant_w"] = fields[2]["constant_w"] + 256
    elif place == "shift":
        next(op for op in step["ops"] if op["op"] == "asr")["k"] += 1
    else:
        step["states"][0]["init"][0] += 1 << 22
    fields[2]["step"] = json.dumps(step)
    broken = execute([layer_from_fields(f) for f in fields], inputs()).trace
    assert not np.array_equal(broken.raw_state, run(source.program, inputs()).raw_state)


@pytest.mark.parametrize(("field", "value", "why"), [
    ("theta", None, "no field 'theta'"), ("step", "{", "Expecting"), ("step", "[]", "list indices"),
    ("x_frac", "many", "invalid literal"), ("step", '{"reads": [{"shape": [-2]}], "writes": []}', "below zero")])
def test_fields_that_make_no_node_are_refused_in_a_line(field: str, value: object, why: str) -> None:
    source = lowered("between")
    fields = layer_fields(layers_of(source.program)[0])
    fields = {name: old for name, old in fields.items() if name != field} | ({field: value} if value else {})
    with pytest.raises(BadInput, match=rf"no GradedLayer \(.*{why}.*\); write the file again"):
        layer_from_fields(fields)


def test_a_value_that_leaves_its_bits_stops_the_run() -> None:
    source = lowered("between")
    layers = list(layers_of(source.program))
    step = json.loads(json.dumps(layers[2].step))
    next(op for op in step["ops"] if op["op"] == "mul")["bits"] = 8
    layers[2] = dataclasses.replace(layers[2], step=step)
    with pytest.raises(ProofFailed, match=r"graded node: ltc\.\w+ = mul leaves Q.*: -?\d+\.\.-?\d+"):
        execute(layers, inputs())


def test_an_op_it_does_not_know_is_named() -> None:
    source = lowered("between")
    layers = list(layers_of(source.program))
    step = json.loads(json.dumps(layers[2].step))
    next(op for op in step["ops"] if op["op"] == "mul")["op"] = "pow"
    layers[2] = dataclasses.replace(layers[2], step=step)
    with pytest.raises(Unsupported, match="graded node ltc: unknown op 'pow'"):
        execute(layers, inputs())


@pytest.mark.parametrize("theta", ["0", "16"])
def test_the_target_writes_runs_and_counts_layers(theta: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    source, target, options = lowered("apart", True), registry.load(TARGET), CompileOptions(
        dt="runtime", extra={"theta": theta})
    artifact = target.prepare(source, options)
    for name, content in artifact.files.items():
        (tmp_path / name).write_bytes(content)
    link = artifact.links[0]
    data = inputs(True)
    expected = run(source.program, data) if link.source == PROGRAM else artifact.model(data)
    found = artifact.run(tmp_path, data, link.runtime).trace
    assert link.source == (MODEL if theta == "16" else PROGRAM)
    assert np.array_equal(found.raw_y, expected.raw_y)
    cost = artifact.build(tmp_path).extra[TARGET]
    assert cost["messages"] == {"ltc": [4, 3], "dense": [3, 3], "activation": [3, 3], "ltc_2": [3, 2]}
    assert cost["synaptic_events_per_step"] > 10
    assert cost["messages_per_synapse"] == pytest.approx(cost["synaptic_events_per_step"] / cost["synapses"], abs=1e-3)
    session = artifact.open(tmp_path, link.runtime)
    assert data.dt is not None
    for _ in range(2):
        session.reset()
        for t in range(8):
            assert np.array_equal(session.step(data.x[0, t], data.dt[0, t]), expected.y[0, t])
            assert session.status == expected.flags[0, t]


def test_standard_nodes_have_their_timespan_compiled_in() -> None:
    policy = random_policy(1, dt=DtRange(0.5, 2.0, 1.0))
    source = lower_for(Container(policy), CompileOptions(quant="float32", dt="runtime")).lowered
    with pytest.raises(Unsupported, match="give --dt fixed, or --quant int16"):
        registry.load(TARGET).prepare(source, CompileOptions(quant="float32", dt="runtime"))


def test_emitting_twice_gives_the_same_bytes(require_tool: RequireTool) -> None:
    require_tool("nir")
    target, source = registry.load(TARGET), lowered("between")
    fresh = dataclasses.replace(source)
    assert target.prepare(source, CompileOptions()).files == target.prepare(fresh, CompileOptions()).files
