"""int16x8 and int8 files: equal to the model of their kernels bit for bit, and close to the policy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ncpc.errors import MissingTool, Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.cells import CtGru
from ncpc.ir.gated import Lstm
from ncpc.ir.policy import Activation, Dense, DtRange, Ltc, Policy
from ncpc.ir.program import Port, Program, statements
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Axis, Real
from ncpc.semantics.run import run
from ncpc.targets.base import MODEL, RunResult
from ncpc.targets.graph.corners import STARTS
from ncpc.targets.tflite import runtimes
from ncpc.targets.tflite.integer_graph import integer_graph
from ncpc.targets.tflite.integer_program import integer_program
from ncpc.targets.tflite.model import IntegerModel
from ncpc.targets.tflite.reading import read
from ncpc.targets.tflite.scales import INT16
from ncpc.targets.tflite.target import CORNER_STEPS
from ncpc.targets.tflite.weights import row_scales, split
from ncpc.verification.sequences import suite
from tests.conftest import RequireTool
from tests.nets import random_policy
from tests.tflite.conftest import Emit, Emitted, sequences


def run_in(made: Emitted, data: Any, runtime: str) -> RunResult:
    return made.artifact.run(made.folder, data, runtime)


def share(found: np.ndarray, expected: np.ndarray) -> float:
    """RMSE over the output's standard deviation."""
    return float(np.sqrt(np.mean((found - expected) ** 2)) / expected.std())


@pytest.mark.parametrize("quant", ["int16", "int8"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_runtimes_equal_the_model(emit: Emit, quant: str, seed: int) -> None:
    policy = random_policy(seed)
    made, data = emit(policy, quant), sequences(policy, seed)
    expected = made.artifact.model(data)
    for runtime in ("litert-reference", "tflite-micro"):
        found = run_in(made, data, runtime).trace
        np.testing.assert_array_equal(found.raw_y, expected.raw_y)
        np.testing.assert_array_equal(found.raw_state, expected.raw_state)
    reference = run(made.lowered.real, data).y
    assert share(expected.y, reference) < {"int16": 0.002, "int8": 0.25}[quant]


def slow_memory(reach: float) -> Policy:
    """An LSTM that keeps 0.95 of its memory, calibrated on inputs up to ``reach`` that change sign every 5 steps."""
    gates = np.repeat([0.0, 2.9, 0.0, 0.0], 2)
    rng = np.random.default_rng(0)
    lstm = Lstm(rng.normal(0, 0.5, (8, 2)), rng.normal(0, 0.1, (8, 2)), gates)
    signs = np.repeat(rng.choice([-1.0, 1.0], (4, 30, 2)), 5, axis=1)
    return Policy("net", (lstm,), np.tile([-1.0, 1.0], (2, 1)), calibration=Sequences(reach * signs))


@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_a_slow_memory_keeps_its_bits(emit: Emit, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proved box is far wider than what it does: half of what is seen on top at either end is what it gets."""
    policy = slow_memory(0.1)
    monkeypatch.setattr("ncpc.targets.tflite.emit._probe", lambda policy: policy.calibration)
    made = emit(policy, scheme)
    assert set(made.artifact.limited) == {"c"}
    assert policy.calibration is not None
    model = made.artifact.model(policy.calibration)
    expected = run(made.lowered.real, policy.calibration)
    assert np.ptp(expected.state[..., 2:]) > 0.3
    limited = np.abs(model.y - expected.y).max()
    monkeypatch.setattr("ncpc.targets.tflite.emit.too_wide", lambda bound, seen: False)
    whole = emit(policy, scheme)
    coarse = whole.artifact.model(policy.calibration)
    assert 4 * limited < np.abs(coarse.y - expected.y).max()


def test_a_slow_memory_saturates_as_the_model_says(emit: Emit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held inputs ten times what calibration showed carry it to the end of its tensor, in every runtime."""
    policy = slow_memory(0.1)
    monkeypatch.setattr("ncpc.targets.tflite.emit._probe", lambda policy: policy.calibration)
    made, data = emit(policy, "int16"), Sequences(np.tile([1.0, -1.0], (2, 100, 1)))
    model = made.artifact.model(data)
    (lo, hi), = made.artifact.limited.values()
    ends = max(-lo.min(), hi.max())
    assert np.abs(model.state[..., 2:]).max() <= ends * 1.01
    assert np.abs(run(made.lowered.real, data).state[..., 2:]).max() > 1.5 * ends
    for runtime in ("litert-reference", "tflite-micro"):
        found = run_in(made, data, runtime).trace
        np.testing.assert_array_equal(found.raw_state, model.raw_state)


def test_rewritten_program_is_the_same_function(emit: Emit) -> None:
    """In float64, without rounding, only the reciprocal's residue is left, and it moves no fixed point."""
    made = emit(random_policy(4), "int16")
    real = made.artifact.real
    program = integer_program(real, made.artifact.boxes).program
    data = sequences(made.lowered.policy, 4)
    np.testing.assert_allclose(run(program, data).y, run(real, data).y, atol=1e-5)
    assert {op.kind for op in statements(program.body)} <= {"matmul", "mul", "add", "sub", "sigmoid"}


def test_ranges_hold_over_long_runs(emit: Emit) -> None:
    """No value leaves the range its tensor is scaled for, but arguments of sigmoids, which are limited on purpose."""
    from ncpc.semantics.run import Executor

    made = emit(random_policy(5), "int16")
    held = integer_program(made.artifact.real, made.artifact.boxes)
    executor, rng = Executor(held.program), np.random.default_rng(0)
    executor.reset(16)
    for _ in range(50):
        executor.step(rng.choice([-1.0, 1.0], (16, 3)))
        for op in statements(held.program.body):
            if not op.out.name.endswith("argument"):
                lo, hi = held.ranges[op.out.name]
                value = executor.value(op.out.name)
                assert np.all(value >= lo - 1e-9), op.out.name
                assert np.all(value <= hi + 1e-9), op.out.name


@pytest.mark.parametrize("runtime", ["litert-reference", "tflite-micro"])
def test_half_a_percent_of_the_outputs_deviation(emit: Emit, require_tool: RequireTool, runtime: str) -> None:
    """LTC(20, AutoNCP(19, 4)), 1,000 closed-loop steps."""
    torch, ncps, wirings = (require_tool(name) for name in ("torch", "ncps.torch", "ncps.wirings"))
    from ncpc.frontend.ncps_torch import import_model

    torch.manual_seed(0)
    module = ncps.LTC(20, wirings.AutoNCP(19, 4))
    policy = Policy("ncp19", import_model(module).layers, np.tile([-1.0, 1.0], (20, 1)))
    made, data = emit(policy, "int16"), sequences(policy, 2, steps=1000, batch=1)
    assert share(run_in(made, data, runtime).trace.y, run(made.lowered.real, data).y) <= 0.005


def test_only_operators_that_npus_and_old_runtimes_have(emit: Emit) -> None:
    file = read(emit(random_policy(0), "int16").content, "net.tflite")
    assert set(file.operators) == {"ADD", "CONV_2D", "LOGISTIC", "MUL", "RESHAPE", "SUB"}
    assert {edge.dtype for edge in (*file.inputs, *file.outputs)} == {"int16"}


def test_state_enters_and_leaves_with_one_scale(emit: Emit) -> None:
    for quant in ("int16", "int8"):
        file = read(emit(random_policy(0), quant).content, "net.tflite")
        a, b = file.edge("state").quant, file.edge("state_out").quant
        assert a is not None
        assert b is not None
        assert (a.step, a.zero_point) == (b.step, b.zero_point)


def test_layers_around_the_cell(emit: Emit) -> None:
    policy, rng = random_policy(3), np.random.default_rng(0)
    head, tail = Dense(rng.normal(size=(3, 5)), rng.normal(size=3)), Dense(rng.normal(size=(2, 2)), rng.normal(size=2))
    layers = (head, Activation("relu", 3), *policy.layers, Activation("tanh", 2), tail, Activation("sigmoid", 2))
    policy = dataclasses.replace(policy, layers=layers, input_range=np.tile([-1.0, 1.0], (5, 1)))
    made, data = emit(policy, "int16", proved=False), sequences(policy, 3)
    expected = made.artifact.model(data)
    np.testing.assert_array_equal(run_in(made, data, "litert-reference").trace.raw_y, expected.raw_y)
    np.testing.assert_array_equal(run_in(made, data, "tflite-micro").trace.raw_y, expected.raw_y)
    assert share(expected.y, run(made.lowered.real, data).y) < 0.005


@pytest.mark.parametrize("decay", ["corrected", "published"])
def test_gates_over_time_scales(emit: Emit, decay: str) -> None:
    """A CT-GRU: softmax weights over scales, the largest logarithm by sums."""
    dense, rng = lambda n, m: Dense(rng.normal(0.0, 0.4, (n, m)), rng.normal(0.0, 0.4, n)), np.random.default_rng(0)
    ln_tau = np.log([1.0, 3.0, 10.0])
    kept = np.exp(-np.exp(-ln_tau)) if decay == "corrected" else np.exp(-ln_tau)
    cell = CtGru(dense(12, 6), dense(12, 6), dense(4, 6), ln_tau, kept)
    policy = Policy("net", (cell,), np.tile([-1.0, 1.0], (2, 1)))
    made, data = emit(policy, "int16"), sequences(policy, 1)
    expected, real = made.artifact.model(data), run(made.lowered.real, data).y
    assert np.abs(expected.y - real).max() <= 2e-3 * np.ptp(real)
    for runtime in ("litert-reference", "tflite-micro"):
        found = run_in(made, data, runtime).trace
        np.testing.assert_array_equal(found.raw_y, expected.raw_y)
        np.testing.assert_array_equal(found.raw_state, expected.raw_state)


@pytest.mark.parametrize("kind", ["max", "min"])
def test_larger_and_smaller_of_two(kind: str) -> None:
    """Of an input and a matrix of it, of two elements, of an input and a number; the order of arguments is free."""
    b = Builder(Real())
    pair, one = Axis("pair", 2), Axis("one", 1)
    x = b.value("x", [pair])
    mixed = b.op("matmul", "mixed", b.const("w", np.array([[0.5, -0.7], [0.2, 0.9]]), [pair, pair]), x)
    first = b.op(kind, "first", x, mixed, axes=[pair])
    second = b.op(kind, "second", b.const("half", 0.25), first, axes=[pair])
    ends = [b.op("slice", f"end{i}", second, axes=[one], start=i) for i in range(2)]
    y = b.op(kind, "y", *ends)
    port = Port(x, ("a", "b"), None, np.tile([-1.0, 1.0], (2, 1)))
    program = Program("net", port, Port(y, ("y",), None, np.zeros((1, 2))), None, (), b.constants, b.body)
    made = integer_program(program, {})
    data = Sequences(np.random.default_rng(0).uniform(-1, 1, (1, 200, 2)))
    real = run(program, data).y
    np.testing.assert_allclose(run(made.program, data).y, real, atol=1e-12)
    graph = integer_graph(made, INT16, 1.0)
    raw = np.floor(data.x[0] / graph.tensors["x"].quant.step + 0.5).astype(np.int16)  # type: ignore[union-attr]
    found = IntegerModel(graph).invoke({"x": raw})["y"] * graph.tensors["y"].quant.step  # type: ignore[union-attr]
    assert np.abs(found - real[0]).max() < 2e-4


def test_an_op_without_an_integer_kernel_is_refused_by_name() -> None:
    b = Builder(Real())
    x = b.value("x", [Axis("inputs", 2)])
    fired = b.op("gt", "fired", x, b.const("threshold", 0.5), axes=x.axes)
    port = Port(x, ("a", "b"), None, np.tile([-1.0, 1.0], (2, 1)))
    program = Program("net", port, Port(fired, ("a", "b"), None, port.range), None, (), b.constants, b.body)
    with pytest.raises(Unsupported, match=r"'fired' is made by 'gt'.*use --quant float32, or target 'c' for integers"):
        integer_program(program, {})


@pytest.mark.parametrize("dt", [0.1, 0.02])
def test_slow_neurons_move_by_little(emit: Emit, dt: float) -> None:
    """Their change has a scale for what it can be, not for their whole range: 0.23 % and 0.38 % with that one."""
    policy = random_policy(0, dt=DtRange(dt, dt, dt))
    made, data = emit(policy, "int16"), suite(policy, 3000, False)
    real = run(made.lowered.real, data).y
    found = made.artifact.model(data)
    assert np.abs(found.y - real).max() <= 1.2e-3 * np.ptp(real)


def test_states_at_the_corners_of_their_box(emit: Emit) -> None:
    made = emit(random_policy(1), "int16")
    found = made.artifact.build(made.folder).extra["tflite"]
    assert found["corners"]["assumption"] == "state within box"
    assert found["corners"]["steps"] == STARTS * CORNER_STEPS
    assert found["corners"]["steps_unequal_to_model"] == 0
    assert found["corners"]["of_range"] < 0.005
    assert found["unequal_operators"] == {"litert-reference": {}, "tflite-micro": {}}


def test_a_wrong_kernel_is_named_with_its_size(emit: Emit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault in the model: products off by 3 units."""
    from ncpc.targets.tflite import kernels
    from ncpc.targets.tflite.difference import unequal

    made = emit(random_policy(1), "int16")
    built, right = made.artifact.graph, kernels.KERNELS["MUL"]
    monkeypatch.setitem(kernels.KERNELS, "MUL", lambda i, o: (lambda kernel: lambda a: kernel(a) + 3)(right(i, o)))
    for runtime in (runtimes.REFERENCE, runtimes.MICRO):
        found = unequal(made.content, built, runtime, 4)
        assert set(found) == {"MUL"}
        assert found["MUL"]["units"] == 3


def test_a_changed_file_is_not_the_model(emit: Emit) -> None:
    """A planted fault in the file: one weight off by one."""
    made, data = emit(random_policy(1), "int16"), sequences(random_policy(1), 1)
    weights = next(t for t in made.artifact.graph.tensors.values() if t.dtype == "int8").data
    assert weights is not None
    at = made.content.index(weights.tobytes()) + int(np.flatnonzero(weights)[0])
    changed = bytearray(made.content)
    changed[at] = (changed[at] - 1) % 256
    (made.folder / "net.tflite").write_bytes(bytes(changed))
    expected = made.artifact.model(data)
    assert np.any(run_in(made, data, "litert-reference").trace.raw_y != expected.raw_y)


def test_start_states_come_in_the_programs_own_integers(emit: Emit) -> None:
    made = emit(random_policy(1), "int16")
    data = dataclasses.replace(sequences(made.lowered.policy, 1, steps=1), reset=None)
    state = made.lowered.program.states[0]
    assert state.box is not None
    raw = np.stack([state.box[:, 0], state.box[:, 1]]).astype(np.int64)
    begun = dataclasses.replace(data, restored=raw)
    found = made.artifact.run(made.folder, begun, "litert-reference").trace.state[:, 0]
    assert np.all(np.abs(found) <= np.abs(state.box * state.inp.type.lsb).max() + 1e-3)  # type: ignore[union-attr]
    assert np.abs(found[0] - found[1]).max() > 0.05


def test_integers_have_no_dt_input(emit: Emit, small: Policy) -> None:
    with pytest.raises(Unsupported, match=r"int16 has no dt input.*--dt fixed or --quant float32"):
        emit(small, "int16", "runtime", proved=False)


def test_a_divisor_that_may_be_zero_is_refused(emit: Emit) -> None:
    layer = random_policy(0).layers[0]
    assert isinstance(layer, Ltc)
    loose = dataclasses.replace(layer, cm=0 * layer.cm, gleak=0 * layer.gleak, epsilon=0.0)
    with pytest.raises(Unsupported, match="divisor of 'unfold1/v_next' may be 0"):
        emit(dataclasses.replace(random_policy(0), layers=(loose,)), "int16", proved=False)


def test_old_runtime_is_named_when_it_is_not_there(emit: Emit, monkeypatch: pytest.MonkeyPatch) -> None:
    made, data = emit(random_policy(0), "int16"), sequences(random_policy(0), 0, steps=2)
    monkeypatch.delenv(runtimes.OLD_PYTHON, raising=False)
    with pytest.raises(MissingTool, match=r"tflite-runtime 2\.14\.0 needs an environment of its own"):
        run_in(made, data, runtimes.OLD)
    monkeypatch.setenv(runtimes.OLD_PYTHON, "/no/such/python")
    with pytest.raises(MissingTool, match="/no/such/python: cannot be run"):
        run_in(made, data, runtimes.OLD)


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["float32", "int16", "int8"])
def test_the_same_file_in_tflite_runtime_2_14(
    emit: Emit, quant: str, old_runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(runtimes.OLD_PYTHON, old_runtime)
    policy = random_policy(1)
    made, data = emit(policy, quant), sequences(policy, 1)
    found = run_in(made, data, runtimes.OLD).trace
    if quant == "float32":
        np.testing.assert_allclose(found.y, run(made.lowered.real, data).y, atol=1e-6)
    else:
        expected = made.artifact.model(data)
        np.testing.assert_array_equal(found.raw_y, expected.raw_y)
        np.testing.assert_array_equal(found.raw_state, expected.raw_state)


def test_links_say_what_equals_what(emit: Emit) -> None:
    made = emit(random_policy(0), "int16")
    links = {link.runtime: link for link in made.artifact.links}
    assert [name for name, link in links.items() if link.kind == "bitwise"] == [
        "tflite-runtime", "litert-reference", "tflite-micro"]
    assert all(link.source == MODEL for link in links.values())
    assert [name for name, link in links.items() if link.required] == ["litert-reference"]


def test_row_scales_leave_room_for_the_bias() -> None:
    matrix, offset = np.array([[1.0, -0.5], [0.0, 0.0], [1e-9, 0.0]]), np.array([0.25, 3.0, 7.0])
    scales = row_scales(matrix, offset, 1 / 32768, 1 / 32768).astype(np.float64)
    assert scales[0] == 1 / 64  # powers of two of each other stay exact
    assert np.all(np.abs(offset / (scales / 32768)) <= 2.0**30 * (1 + 1e-6))


def test_split_matrices_add_up_to_15_bits() -> None:
    matrix = np.random.default_rng(0).normal(size=(5, 7))
    held, rest = split(matrix)
    np.testing.assert_allclose(held + rest, matrix, atol=1e-12)
    assert np.abs(rest).max() <= np.abs(matrix).max() / 127 / 2 * (1 + 1e-9)
    assert not np.any(split(np.array([[1.0, 0.5, -0.25, 0.0]]))[1])
