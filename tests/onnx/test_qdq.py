"""QDQ models: close to the policy, alike in every runtime, taken in integers where ONNX Runtime can."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.semantics.bounds import Range
from ncpc.semantics.run import run
from ncpc.targets.onnx import emit, ranges, runtime
from ncpc.targets.onnx.evaluate import KERNELS, evaluate
from ncpc.targets.onnx.graph import Writer
from ncpc.targets.onnx.quantize import BIAS_LIMIT, Widths, quantize
from ncpc.targets.onnx.ranges import intervals
from ncpc.targets.onnx.serialize import step_model

LIMITS = {"int16": 2e-4, "w8a16": 1e-2, "w4a16": 3e-2, "int8": 2e-2}
"""Of the output range, against the policy in float64."""


def written(case: Any, folder: Path) -> Any:
    for file, content in case.files.items():
        (folder / file).write_bytes(content)
    return case


@pytest.mark.parametrize("quant", list(LIMITS))
@pytest.mark.parametrize(("net", "dt"), [("ncp19", "runtime"), ("full8", "fixed")])
def test_close_to_the_policy_and_alike_in_all_runtimes(
        make: Any, sequences: Any, net: str, quant: str, dt: str, tmp_path: Path) -> None:
    case = written(make(net, quant=quant, dt=dt), tmp_path)
    data = sequences(case.policy, 4, 100)
    exact, model = run(case.lowered.real, data).y, case.artifact.model(data).y
    span = np.ptp(exact)
    assert 0 < np.abs(model - exact).max() <= LIMITS[quant] * span
    for name in runtime.RUNTIMES[1:]:
        found = case.artifact.run(tmp_path, data, name).trace.y
        assert np.abs(found - model).max() <= emit.QDQ_TOLERANCE[SCHEMES[quant].activation_bits] * span, name


def test_the_evaluator_agrees(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = written(make("full8", quant="int8"), tmp_path)
    data = sequences(case.policy, 1, 20)
    model = case.artifact.model(data).y
    found = case.artifact.run(tmp_path, data, runtime.REFERENCE).trace.y
    assert np.abs(found - model).max() <= emit.QDQ_TOLERANCE[8] * np.ptp(model)


@pytest.mark.parametrize("form", ["dense", "gather"])
def test_grids_are_quantized_too(make: Any, sequences: Any, form: str, tmp_path: Path) -> None:
    case = written(make("full8", quant="int8", form=form), tmp_path)
    data = sequences(case.policy, 2, 60)
    exact = run(case.lowered.real, data).y
    for name in (runtime.ORT_PLAIN, runtime.ORT_FULL):
        found = case.artifact.run(tmp_path, data, name).trace.y
        assert np.abs(found - exact).max() <= LIMITS["int8"] * np.ptp(exact)


def test_every_product_of_an_int8_model_is_an_integer_one(make: Any, tmp_path: Path) -> None:
    """In the matrix form ONNX Runtime fuses both products of every unfold; only 1/dt times a row stays in float."""
    kinds = optimized(make("ncp19", quant="int8", dt="fixed", form="matrix").step, tmp_path)
    assert kinds["QGemm"] == 2 * (6 + 1)
    assert kinds["Gemm"] == kinds["FusedGemm"] == kinds["DequantizeLinear"] == 0


def test_int16_activations_are_not_rounded_to_8_bits(make: Any, tmp_path: Path) -> None:
    kinds = optimized(make("full8", quant="w8a16").step, tmp_path)
    assert kinds["MatMulNBits"] == 0


def test_columns_on_a_grid_of_few_steps_stay_there() -> None:
    """Of a column whose largest weight is 5 steps, and of one that uses all 7."""
    w = Writer()
    steps = np.array([[5.0, 7.0], [-3.0, 2.0], [1.0, -6.0]])
    weight = w.const("W", steps * np.array([0.25, 0.1]))
    w.finish(w.node("Gemm", [w.tensor("x", [3]), weight, w.const("b", np.zeros(2))], "out", [2]), "y")
    graph = emit.OnnxGraph(tuple(w.nodes), w.constants, {"x": 3}, {"y": 2}, w.shapes)
    box = Range(np.full((1, 3), -1.0), np.full((1, 3), 1.0))
    quantized = quantize(graph, intervals(graph, {"x": box}), emit.widths(SCHEMES["w4a16"]))
    raw = next(c for c in quantized.constants.values() if c.dtype == np.int8 and c.ndim == 2)
    assert raw.T.tolist() == steps.tolist()


def optimized(model: bytes, folder: Path) -> Counter[str]:
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model, options)
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def small_product(bias: float) -> tuple[Any, Any]:
    """y = W x + b where one column of W is almost 0 beside its bias."""
    w = Writer()
    x = w.tensor("x", [2])
    weight = w.const("W", np.array([[1.0, 1e-9, 0.0], [-0.5, -2e-9, 0.0]]))
    w.finish(w.node("Gemm", [x, weight, w.const("b", np.array([0.1, bias, bias]))], "out", [3]), "y")
    return w, emit.OnnxGraph(tuple(w.nodes), w.constants, {"x": 2}, {"y": 3}, w.shapes)


@pytest.mark.parametrize("bias", [0.7, 100.0, -3e4])
def test_a_bias_beside_tiny_weights_does_not_overflow(bias: float) -> None:
    """Left to ONNX Runtime, such a bias becomes an int32 that wraps around."""
    _, graph = small_product(bias)
    box = Range(np.full((1, 2), -1.0), np.full((1, 2), 1.0))
    quantized = quantize(graph, intervals(graph, {"x": box}), Widths(np.int8, np.int8))
    raw = next(c for c in quantized.constants.values() if c.dtype == np.int32 and c.any())
    assert np.abs(raw.astype(np.int64)).max() <= BIAS_LIMIT + 1
    feeds = {"x": np.random.default_rng(0).uniform(-1, 1, (50, 2)).astype(np.float32)}
    exact = evaluate(graph, feeds)["y"]
    model = step_model(quantized, "small", "", {})
    for name in runtime.RUNTIMES[1:2] + runtime.RUNTIMES[3:]:
        loaded = runtime.load(model, name)
        found = loaded.call(feeds)["y"]
        loaded.close()
        np.testing.assert_allclose(found[:, 0], exact[:, 0], atol=0.02)
        np.testing.assert_allclose(found[:, 1:], exact[:, 1:], rtol=1e-6)


def test_states_at_the_corners_of_the_box(make: Any, sequences: Any, tmp_path: Path) -> None:
    """The state is an input, so a caller may start anywhere in the box; nothing saturates there."""
    case = written(make("full8", quant="int16"), tmp_path)
    state = case.lowered.program.states[0]
    corners = state.box[:, np.random.default_rng(0).integers(0, 2, (16, state.box.shape[0]))][
        np.arange(state.box.shape[0]), :, np.arange(state.box.shape[0])].T
    data = dataclasses.replace(sequences(case.policy, 16, 20), restored=corners)
    found = case.artifact.run(tmp_path, data, runtime.ORT_FULL).trace
    box = state.box * state.inp.type.lsb
    margin = 1e-3 * np.ptp(box)
    assert (found.state >= box[:, 0] - margin).all()
    assert (found.state <= box[:, 1] + margin).all()
    exact = from_state(case, data, (corners * state.inp.type.lsb))
    assert np.abs(found.y - exact).max() <= 2e-4 * np.ptp(exact)


def from_state(case: Any, data: Sequences, state: NDArray[np.float64]) -> NDArray[np.float64]:
    from ncpc.semantics.run import Executor

    executor, real = Executor(case.lowered.real), case.lowered.real
    executor.reset(state.shape[0])
    executor.load({real.states[0].inp.name: state})
    return np.stack([executor.step(data.x[:, t], data.dt[:, t])[0] for t in range(data.x.shape[1])], 1)


def test_intervals_hold_what_is_computed(make: Any, sequences: Any) -> None:
    case = make("full8", quant="int16")
    program = emit.float_program(case.lowered, case.options)
    graph = emit.translate(program, {})
    found = intervals(graph, emit.known_ranges(case.lowered, program, graph))
    data, state = sequences(case.policy, 64, 10), np.zeros((64, 8), np.float32)
    for t in range(10):
        feeds = {"x": data.x[:, t].astype(np.float32), "state": state, "dt": data.dt[:, t, None].astype(np.float32)}
        tensors = evaluate(graph, feeds)
        state = tensors["state_out"]
        for name in graph.shapes:
            slack = 1e-4 * (1 + np.abs(found[name].hi))
            assert (tensors[name] <= found[name].hi + slack).all(), name
            assert (tensors[name] >= found[name].lo - slack).all(), name


def test_what_has_no_limit_takes_nothing_from_what_is_known() -> None:
    """A quotient without a limit, times what may be 0, then a matrix: no end is NaN, and a known box stays."""
    writer = Writer()
    a, b, c = (writer.tensor(name, [1]) for name in "abc")
    quotient = writer.node("Div", [a, b], "quotient", [1])
    part = writer.node("Mul", [quotient, c], "part", [1])
    weight = writer.const("w", np.array([[0.0, 1.0]]))
    total = writer.node("Gemm", [part, weight], "total", [2])
    graph = emit.OnnxGraph(tuple(writer.nodes), writer.constants, {a: 1, b: 1, c: 1}, {total: 2}, writer.shapes)
    box, unit = Range(np.full((1, 1), -2.0), np.full((1, 1), 3.0)), Range(np.zeros((1, 1)), np.ones((1, 1)))
    known = {"a": box, "b": box, "c": unit}
    free = intervals(graph, known)
    assert (free[part].ends, free[total].ends) == ((-np.inf, np.inf), (-np.inf, np.inf))
    assert not np.isnan([*free[total].lo.flat, *free[total].hi.flat]).any()
    assert intervals(graph, {**known, part: box})[total].ends == (-2.0, 3.0)


def test_every_operator_before_quantization_has_an_interval() -> None:
    assert {*ranges.FALLS, *ranges.RULES} == {*KERNELS} - {"QuantizeLinear", "DequantizeLinear"}
    assert not {*ranges.FALLS} & {*ranges.RULES}


def test_a_square_is_not_negative() -> None:
    writer = Writer()
    x = writer.tensor("x", [1])
    square = writer.node("Mul", [x, x], "square", [1])
    graph = emit.OnnxGraph(tuple(writer.nodes), writer.constants, {x: 1}, {square: 1}, writer.shapes)
    assert intervals(graph, {"x": Range(np.full((1, 1), -2.0), np.full((1, 1), 3.0))})[square].ends == (0.0, 9.0)



def test_a_state_without_a_box_is_refused_by_name(make: Any) -> None:
    case = make("full8", quant="int8")
    states = tuple(dataclasses.replace(s, box=None) for s in case.lowered.program.states)
    lowered = dataclasses.replace(case.lowered, program=dataclasses.replace(case.lowered.program, states=states))
    with pytest.raises(Unsupported, match="'state' has no known range"):
        case.target.prepare(lowered, case.options)


def test_a_narrow_input_beside_a_wide_one_keeps_its_bits() -> None:
    """An angle within 0.01 beside a velocity within 100: with one scale for both, the angle would be lost."""
    w = Writer()
    x = w.tensor("x", [2])
    w.finish(w.node("Gemm", [x, w.const("W", np.diag([100.0, 0.01]))], "out", [2]), "y")
    graph = emit.OnnxGraph(tuple(w.nodes), w.constants, {"x": 2}, {"y": 2}, w.shapes)
    box = Range(np.array([[-0.01, -100.0]]), np.array([[0.01, 100.0]]))
    quantized = quantize(graph, intervals(graph, {"x": box}), Widths(np.uint8, np.uint8))
    feeds = {"x": (np.random.default_rng(0).uniform(-1, 1, (50, 2)) * [0.01, 100.0]).astype(np.float32)}
    error = np.abs(evaluate(quantized, feeds)["y"] - evaluate(graph, feeds)["y"]).max(axis=0)
    assert (error <= 0.006).all()
    assert (error > 0).all()
