"""Float models: equal to the trained module in every runtime, at both optimization levels, and well-formed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.onnx import runtime
from ncpc.targets.onnx.cost import FORMS
from ncpc.targets.onnx.target import FLOAT_TOLERANCE
from ncpc.worker.onnx_runtime import drive_scan

LIMIT = 1e-6


def module_outputs(module: Any, data: Sequences) -> NDArray[np.float64]:
    """What ncps computes, step by step in float32: its layer wants the timespans of a batch to be equal."""
    import torch

    state, ys = torch.zeros(data.x.shape[0], module.state_size), []
    with torch.no_grad():
        for t in range(data.x.shape[1]):
            dt = 1.0 if data.dt is None else torch.tensor(data.dt[:, t, None], dtype=torch.float32)
            y, state = module.rnn_cell.forward(torch.tensor(data.x[:, t], dtype=torch.float32), state, dt)
            ys.append(y.numpy())
    return np.stack(ys, 1).astype(np.float64)


def run_in(case: Any, name: str, data: Sequences, folder: Path) -> NDArray[np.float64]:
    for file, content in case.files.items():
        (folder / file).write_bytes(content)
    return case.artifact.run(folder, data, name).trace.y


@pytest.mark.parametrize(("net", "dt"), [("ncp19", "runtime"), ("full8", "runtime"), ("ncp16", "fixed")])
def test_equals_the_module_over_1000_steps(make: Any, sequences: Any, net: str, dt: str, tmp_path: Path) -> None:
    case = make(net, seed=3, dt=dt)
    data = sequences(case.policy, 1, 1000)
    wanted = module_outputs(case.module, data)
    for name in (runtime.ORT_PLAIN, runtime.ORT_FULL, runtime.ORT_SCAN):
        assert np.abs(run_in(case, name, data, tmp_path) - wanted).max() <= LIMIT, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_every_seed_equals_the_module(make: Any, sequences: Any, seed: int, tmp_path: Path) -> None:
    for net in ("ncp16", "ncp19", "full8"):
        case = make(net, seed=seed)
        data = sequences(case.policy, 1, 1000, seed)
        wanted = module_outputs(case.module, data)
        for name in runtime.RUNTIMES:
            assert np.abs(run_in(case, name, data, tmp_path) - wanted).max() <= LIMIT, (net, name)


def test_batch_256(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = make("ncp19")
    data = sequences(case.policy, 256, 20)
    wanted = module_outputs(case.module, data)
    for name in runtime.RUNTIMES[1:]:
        assert np.abs(run_in(case, name, data, tmp_path) - wanted).max() <= LIMIT, name


def test_the_evaluator_runs_both_models(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = make("ncp16")
    data = sequences(case.policy, 2, 20)
    wanted = run(case.lowered.real, data).y
    assert np.abs(run_in(case, runtime.REFERENCE, data, tmp_path) - wanted).max() <= LIMIT
    start = runtime.Start(np.zeros(16, np.float32), np.zeros((2, 16), np.float32), 1.0)
    evaluator = runtime.load(case.sequence, runtime.REFERENCE).call
    whole = runtime.as_trace(drive_scan(evaluator, runtime.arrays(data, start)))
    assert np.abs(whole.y - wanted).max() <= LIMIT


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("net", ["full8", "ncp19"])
def test_every_form_computes_the_same(make: Any, sequences: Any, net: str, form: str, tmp_path: Path) -> None:
    case = make(net, form=form)
    data = sequences(case.policy, 3, 50)
    assert np.abs(run_in(case, runtime.ORT_FULL, data, tmp_path) - run(case.lowered.real, data).y).max() <= LIMIT
    assert set(json.loads(properties(case.step)["ncpc.forms"]).values()) == {form}


def test_resets_and_initial_states(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = make("full8")
    data = sequences(case.policy, 3, 30)
    reset = np.zeros((3, 30), np.bool_)
    reset[0, 7] = reset[1, 7] = reset[2, 20] = reset[0, 0] = True
    data = Sequences(data.x, data.dt, reset)
    wanted = run(case.lowered.program, data)
    for name in (runtime.ORT_FULL, runtime.ORT_SCAN):
        assert np.abs(run_in(case, name, data, tmp_path) - wanted.y).max() <= LIMIT, name
    halves = [Sequences(data.x[:, part], data.dt[:, part]) for part in (slice(0, 7), slice(7, 14))]
    first = case.artifact.run(tmp_path, halves[0], runtime.ORT_FULL).trace
    rest = dataclasses.replace(halves[1], restored=first.raw_state[:, -1])
    second = case.artifact.run(tmp_path, rest, runtime.ORT_FULL)
    whole = case.artifact.run(tmp_path, Sequences(data.x[:, :14], data.dt[:, :14]), runtime.ORT_FULL)
    np.testing.assert_array_equal(second.trace.y, whole.trace.y[:, 7:])


@pytest.mark.parametrize("constant", ["z_W", "numerator_den_W"])
def test_a_changed_weight_is_seen(make: Any, sequences: Any, constant: str, tmp_path: Path) -> None:
    """The link runs the file: one weight off by a hundredth is more than the link's tolerance."""
    import onnx

    case = make("full8", form="matrix")
    model = onnx.load_from_string(case.step)
    tensor = next(i for i in model.graph.initializer if i.name == constant)
    data = onnx.numpy_helper.to_array(tensor).copy()
    data[np.unravel_index(np.abs(data).argmax(), data.shape)] *= 1.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(data, constant))
    changed = dataclasses.replace(
        case.artifact, files={**case.files, next(iter(case.files)): model.SerializeToString()})
    data = sequences(case.policy, 1, 200)
    wanted = run(case.lowered.program, data).y
    found = run_in(dataclasses.replace(case, artifact=changed), runtime.ORT_FULL, data, tmp_path)
    assert np.abs(found - wanted).max() > FLOAT_TOLERANCE * np.ptp(wanted)


def test_bad_inputs_are_limited_as_in_the_program(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = make("full8")
    data = sequences(case.policy, 1, 12)
    data.x[0, 3, 1], data.x[0, 5, 0] = np.nan, np.inf
    data.dt[0, 7], data.dt[0, 8], data.dt[0, 9] = 1e9, -1.0, np.nan
    wanted = run(case.lowered.program, data)
    assert wanted.flags.any()
    assert np.abs(run_in(case, runtime.ORT_FULL, data, tmp_path) - wanted.y).max() <= LIMIT


def properties(model: bytes) -> dict[str, str]:
    import onnx

    return {p.key: p.value for p in onnx.load_from_string(model).metadata_props}


@pytest.mark.parametrize("dt", ["fixed", "runtime"])
def test_models_are_well_formed_and_say_what_they_are(make: Any, dt: str) -> None:
    import onnx

    case = make("ncp19", dt=dt)
    for content, time in ((case.step, []), (case.sequence, ["time"])):
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version == 21
        assert shapes(model.graph.input) == {"x": ["batch", *time, 20], "state": ["batch", 19],
                                             **({"dt": ["batch", *time, 1]} if dt == "runtime" else {})}
        assert shapes(model.graph.output) == {"y": ["batch", *time, 4], "state_out": ["batch", 19]}
    assert [n.op_type for n in onnx.load_from_string(case.sequence).graph.node].count("Scan") == 1
    found = {k: json.loads(v) for k, v in properties(case.step).items()}
    assert [s["role"] for s in found["ncpc.state"]].count("motor") == 4
    assert [s["name"] for s in found["ncpc.state"]] == list(case.policy.layers[0].names)
    assert found["ncpc.inputs"] == [f"x{i}" for i in range(20)]
    assert found["ncpc.dt"]["input"] == (dt == "runtime")


def shapes(infos: Any) -> dict[str, list[Any]]:
    return {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in infos}


def test_no_tensor_has_a_name_without_meaning(make: Any) -> None:
    import onnx

    graph = onnx.load_from_string(make("ncp19").step).graph
    names = [o for node in graph.node for o in node.output] + [i.name for i in graph.initializer]
    assert all(name[0].isalpha() and not name.isdigit() for name in names)
    assert len(names) == len(set(names))
    used = {i for node in graph.node for i in node.input}
    assert {i.name for i in graph.initializer} <= used


def test_same_policy_same_bytes(make: Any) -> None:
    case = make("full8")
    assert case.target.prepare(case.lowered, case.options).files == case.files


def test_unknown_form_is_refused(make: Any) -> None:
    with pytest.raises(BadInput, match=r"--form cube: choose from auto, matrix, dense, gather"):
        make("full8", form="cube")


def test_session_carries_state(make: Any, sequences: Any, tmp_path: Path) -> None:
    case = make("full8")
    data = sequences(case.policy, 1, 10)
    wanted = run_in(case, runtime.ORT_FULL, data, tmp_path)[0]
    session = case.artifact.open(tmp_path, runtime.ORT_FULL)
    for _ in range(2):
        session.reset()
        found = [session.step(x, float(dt)) for x, dt in zip(data.x[0], data.dt[0], strict=True)]
        np.testing.assert_array_equal(np.stack(found), wanted)
