"""float32 files: equal to the policy and to the module they came from, in every runtime; refused by name otherwise."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.policy import Activation, Dense, Policy
from ncpc.ir.program import Op
from ncpc.semantics.run import run
from ncpc.targets.tflite.flatbuffer import write
from ncpc.targets.tflite.float_graph import float_graph
from ncpc.targets.tflite.reading import read
from tests.conftest import RequireTool
from tests.nets import random_policy
from tests.tflite.conftest import Emit, sequences

RUNTIMES = ("litert-reference", "litert-xnnpack", "tflite-micro")


@pytest.mark.parametrize("dt", ["fixed", "runtime"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_file_equals_policy(emit: Emit, small: Policy, dt: str, runtime: str) -> None:
    made, data = emit(small, "float32", dt), sequences(small, 1, irregular=dt == "runtime")
    found = made.artifact.run(made.folder, data, runtime)
    expected = run(made.lowered.real, data)
    assert np.ptp(expected.y) > 0.1
    np.testing.assert_allclose(found.trace.y, expected.y, atol=1e-6)
    np.testing.assert_allclose(found.trace.state, expected.state, atol=2e-6)
    assert found.runtime_version not in ("", "none")


def test_dt_outside_its_range_is_limited(emit: Emit, small: Policy) -> None:
    made = emit(small, "float32", "runtime")
    session = made.artifact.open(made.folder, "litert-reference")
    x = np.full(small.inputs, 0.3)
    ends = [(session.step(x, dt), session.reset())[0] for dt in (100.0, 2.0, 0.5, 0.0)]
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[2], ends[3])
    assert not np.array_equal(ends[1], ends[2])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_module_within_a_millionth_over_a_thousand_steps(emit: Emit, require_tool: RequireTool, runtime: str) -> None:
    torch, ncps, wirings = (require_tool(name) for name in ("torch", "ncps.torch", "ncps.wirings"))
    from ncpc.frontend.ncps_torch import import_model

    torch.manual_seed(0)
    module = ncps.LTC(20, wirings.AutoNCP(19, 4))
    policy = Policy("ncp19", import_model(module).layers, np.tile([-1.0, 1.0], (20, 1)))
    data = sequences(policy, 2, steps=1000, batch=1)
    data = dataclasses.replace(data, x=data.x.astype(np.float32).astype(np.float64), reset=None)
    with torch.no_grad():
        expected = module(torch.tensor(data.x, dtype=torch.float32))[0].numpy()
    made = emit(policy, "float32")
    found = made.artifact.run(made.folder, data, runtime)
    np.testing.assert_allclose(found.trace.y, expected, atol=1e-6)


def test_layers_around_the_cell(emit: Emit) -> None:
    policy, rng = random_policy(3), np.random.default_rng(0)
    head, tail = Dense(rng.normal(size=(3, 5)), rng.normal(size=3)), Dense(rng.normal(size=(2, 2)), rng.normal(size=2))
    layers = (head, Activation("relu", 3), *policy.layers, Activation("tanh", 2), tail, Activation("sigmoid", 2))
    policy = dataclasses.replace(policy, layers=layers, input_range=np.tile([-1.0, 1.0], (5, 1)))
    made, data = emit(policy, "float32"), sequences(policy, 3)
    found = made.artifact.run(made.folder, data, "tflite-micro")
    np.testing.assert_allclose(found.trace.y, run(made.lowered.real, data).y, atol=1e-6)


def test_start_states_are_taken(emit: Emit, small: Policy) -> None:
    made, data = emit(small, "float32"), dataclasses.replace(sequences(small, 4, steps=1), reset=None)
    start = np.random.default_rng(0).uniform(-1, 1, (2, 8)).astype(np.float32)
    begun = dataclasses.replace(data, restored=start.view(np.int32).astype(np.int64))
    found = made.artifact.run(made.folder, begun, "litert-reference")
    plain = made.artifact.run(made.folder, data, "litert-reference")
    session = made.artifact.open(made.folder, "litert-reference")
    np.testing.assert_array_equal(plain.trace.y[0, 0], session.step(data.x[0, 0], 1.0))
    assert np.abs(found.trace.state - plain.trace.state).max() > 0.1


def test_sessions_carry_and_reset_their_state(emit: Emit, small: Policy) -> None:
    made, data = emit(small, "float32"), dataclasses.replace(sequences(small, 5, steps=20), reset=None)
    expected = made.artifact.run(made.folder, data, "tflite-micro").trace.y
    session = made.artifact.open(made.folder, "tflite-micro")
    for row in range(2):
        session.reset()
        np.testing.assert_array_equal([session.step(x, 1.0) for x in data.x[row]], expected[row])
    assert session.status == 0


def test_the_same_policy_gives_the_same_bytes(small: Policy, emit: Emit) -> None:
    assert emit(small, "float32").content == emit(small, "float32").content


def test_signature_and_names_say_what_they_are(emit: Emit, small: Policy, require_tool: RequireTool) -> None:
    made = emit(small, "float32", "runtime")
    interpreter = require_tool("ai_edge_litert.interpreter").Interpreter(model_content=made.content)
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["dt", "state", "x"], "outputs": ["state_out", "y"]}}
    names = {detail["name"] for detail in interpreter.get_tensor_details()}
    assert {"x", "state", "dt", "y", "state_out", "unfold1/v_next", "unfold6/v_next"} <= names
    file = read(made.content, "net.tflite")
    assert [(edge.name, edge.size) for edge in file.inputs] == [("x", 3), ("state", 8), ("dt", 1)]
    np.testing.assert_array_equal(file.resets["state"], np.zeros(8))


def test_metadata_names_the_neurons(emit: Emit, small: Policy) -> None:
    content = emit(small, "float32").content
    start = content.index(b'{"dt"')
    record = json.JSONDecoder().raw_decode(content[start:].decode("utf-8", "replace"))[0]
    assert record["labels"]["neurons"] == list(small.layers[0].names)  # type: ignore[attr-defined]
    assert record["dt"] == 1.0


def test_an_op_that_tflite_lacks_is_refused_by_name(emit: Emit, small: Policy) -> None:
    real = emit(small, "float32").lowered.real
    last = real.y.value
    odd = Op("guard", dataclasses.replace(last, name="odd"), (last.name,), {"flag": "input_nan"})
    with pytest.raises(Unsupported, match=r"'odd' is made by 'guard'.*use target 'c'"):
        float_graph(dataclasses.replace(real, body=(*real.body, odd)), 1.0)


def test_a_foreign_file_is_refused(emit: Emit, small: Policy) -> None:
    made = emit(small, "float32")
    bare = dataclasses.replace(float_graph(made.lowered.real, 1.0), metadata=b"")
    for content in (b"", b"no flatbuffer at all", write(bare)):
        with pytest.raises(BadInput, match=r"net\.tflite: is no TFLite file that ncpc wrote"):
            read(content, "net.tflite")
