"""ONNX files of other frameworks become policies that compute what ONNX Runtime makes of them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.cli.commands import run as cli
from ncpc.errors import BadInput, NcpcError, Unsupported
from ncpc.frontend.container import read_policy
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
import onnxruntime
import torch
from onnx import TensorProto

from tests.onnx_files import CARRIED, INPUTS, Made, frames, normalizing, perceptron, recurrent, sequence, written_out

STEPS = 30
ROBOT = ("--carry", "hidden=hidden_out", "--carry", "cell=cell_out")


def observed(*shape: int, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(0).uniform(-high if high == 1.0 else 0, high, (2, STEPS, *shape)).astype(np.float32)


def saved(path: Path, x: np.ndarray, **options: Any) -> Policy:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short calibration
        return ncpc.save(path, path.with_suffix(".safetensors"), calibration=x, **options)


def computed(policy: Policy) -> np.ndarray:
    assert policy.calibration is not None
    return run(lower(policy), Sequences(policy.calibration.x, np.ones(policy.calibration.x.shape[:2]))).y


def step_by_step(path: Path, x: np.ndarray, carry: dict[str, str], names: list[str]) -> np.ndarray:
    """What the user's own loop around ONNX Runtime gives."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    own = next(i for i in session.get_inputs() if i.name not in carry)
    shapes = {i.name: [n if isinstance(n, int) else 1 for n in i.shape] for i in session.get_inputs()}
    rows = []
    for row in x:
        state = {name: np.zeros(shapes[name], np.float32) for name in carry}
        rows.append([])
        for step in row:
            out = dict(zip([o.name for o in session.get_outputs()], session.run(
                None, {own.name: step.reshape(shapes[own.name]).astype(
                    np.uint8 if "uint8" in own.type else np.float32), **state}), strict=True))
            state = {taken: out[given] for taken, given in carry.items()}
            rows[-1].append(np.concatenate([out[name].reshape(-1) for name in names]))
    return np.array(rows)


STEPWISE: dict[str, tuple[Callable[[Path], Path], tuple[int, ...], dict[str, str], list[str]]] = {
    "LSTM": (recurrent, (INPUTS,), CARRIED["LSTM"], ["action", "value"]),
    "GRU": (partial(recurrent, op="GRU"), (INPUTS,), CARRIED["GRU"], ["action", "value"]),
    "GRU, reset before": (partial(recurrent, op="GRU", linear_before_reset=0), (INPUTS,), CARRIED["GRU"],
                          ["action", "value"]),
    "RNN": (partial(recurrent, op="RNN"), (INPUTS,), CARRIED["RNN"], ["action", "value"]),
    "RNN of relu": (partial(recurrent, op="RNN", activations=["Relu"]), (INPUTS,), CARRIED["RNN"], ["action", "value"]),
    "perceptron": (perceptron, (INPUTS,), {}, ["out/p:0"]),
    "frames, channels last": (frames, (8, 8, 2), {}, ["action"]),
    "frames": (partial(frames, last=False), (2, 8, 8), {}, ["action"]),
    "frames of bytes": (partial(frames, dtype=TensorProto.UINT8), (8, 8, 2), {}, ["action"]),
}


@pytest.mark.parametrize("name", STEPWISE)
def test_a_file_of_one_step_is_read_as_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    write, shape, carry, outputs = STEPWISE[name]
    path = write(tmp_path / "net.onnx")
    x = observed(*shape, high=255.0) if len(shape) > 1 else observed(*shape)
    x = np.rint(x) if "bytes" in name else x
    policy = saved(path, x, carry=carry)
    y = computed(policy)
    assert np.ptp(y, axis=(0, 1)).min() > 1e-3, "outputs that do not move say nothing"
    np.testing.assert_allclose(y, step_by_step(path, x, carry, outputs), atol=1e-5)
    assert policy.compared == "file"
    assert policy.provenance["source"] == "onnx"
    assert read_policy(tmp_path / "net.safetensors").output_names == policy.output_names


@pytest.mark.parametrize("form", ["LSTM", "TF LSTM", "GRU", "GRU, turned", "GRU, as torch", "R tanh", "R relu"])
def test_cells_written_out_in_elementary_functions_are_cells(form: str, tmp_path: Path) -> None:
    path, x = written_out(tmp_path / "net.onnx", form), observed(INPUTS)
    kind = {"LSTM": "LSTM", "TF": "LSTM", "R": "RNN"}.get(form.split()[0], "GRU")
    policy = saved(path, x, carry=CARRIED[kind])
    assert [layer.kind for layer in policy.layers] == ["dense", "activation", kind.lower(), "dense"]
    expected = step_by_step(path, x, CARRIED[kind], ["action"])
    np.testing.assert_allclose(computed(policy), expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (3, 1, 2, 0)])
def test_gates_of_a_written_out_cell_that_are_taken_for_others_are_caught(order: tuple[int, ...], tmp_path: Path,
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    from ncpc.frontend.traced import written_out as cells

    path, right = written_out(tmp_path / "net.onnx", "LSTM"), cells._lstm
    monkeypatch.setattr(cells, "_lstm", lambda *given: [gates[k] for k in order] if (gates := right(*given)) else None)
    with pytest.raises(BadInput):
        saved(path, observed(INPUTS), carry=CARRIED["LSTM"])


@pytest.mark.parametrize("form", ["deviations", "reciprocal", "moments", "mean square"])
def test_normalizations_and_gelu_written_out_are_layers(form: str, tmp_path: Path) -> None:
    path, x = normalizing(tmp_path / "net.onnx", form), observed(INPUTS)
    policy = saved(path, x)
    kinds = [layer.kind for layer in policy.layers]
    assert kinds.count("norm") == kinds.count("activation") == 1
    np.testing.assert_allclose(computed(policy), step_by_step(path, x, {}, ["action"]), atol=1e-5)


def test_an_lstm_with_two_heads_is_imported_compiled_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    recurrent(Path("robot.onnx"))
    np.savez("log.npz", x=np.random.default_rng(1).uniform(-1, 1, (4, 100, INPUTS)))
    assert cli(["import", "robot.onnx", *ROBOT, "--calibrate", "log.npz", "-o", "policy.safetensors"]) == 0
    assert "5 inputs, 3 outputs, layers scale, activation, dense, activation, lstm" in capsys.readouterr().out
    assert cli(["compile", "policy.safetensors", "-o", "build", "--quant", "float32", "--steps", "200"]) == 0
    assert cli(["verify", "build"]) == 0
    held, x = ncpc.open("build"), np.load("log.npz")["x"][:1, :20]
    y = np.array([held.step(step) for step in x[0]])
    np.testing.assert_allclose(y, step_by_step(Path("robot.onnx"), x, CARRIED["LSTM"], ["action", "value"])[0],
                               atol=1e-5)


def test_one_command_makes_c_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    recurrent(Path("robot.onnx"))
    np.savez("log.npz", x=observed(INPUTS))
    words = ["compile", "robot.onnx", "--calibrate", "log.npz", "--quant", "float32", "--steps", "100", "-o", "build"]
    assert cli([*words, *ROBOT]) == 0
    assert (tmp_path / "build" / "robot.c").exists()
    assert cli(words) == 2
    assert "--carry cell=cell_out" in capsys.readouterr().err
    assert cli([*words, *ROBOT, "--head", "speed"]) == 2
    assert "no output 'speed'; robot.onnx gives action, value" in capsys.readouterr().err
    assert cli([*words, *ROBOT, "--head", "value", "-o", "one"]) == 0
    assert read_policy(tmp_path / "one" / "policy.safetensors").output_names == ("value",)
    assert cli(["compile", "build/policy.safetensors", "--head", "value"]) == 2
    assert "--head: build/policy.safetensors is no ONNX file" in capsys.readouterr().err
    assert cli(["compile", "build/policy.safetensors", *ROBOT]) == 2
    assert "is no ONNX file, and no code of yours; leave it out" in capsys.readouterr().err


def test_a_gru_that_resets_before_its_matrix_is_one_step_of_an_ode(tmp_path: Path) -> None:
    """Over sequences too; the policy's dt is 1, and no other is taken."""
    path = sequence(tmp_path / "net.onnx", dims=["batch", "time", INPUTS], op="GRU", linear_before_reset=0)
    policy = saved(path, observed(INPUTS))
    assert [layer.kind for layer in policy.layers] == ["dense", "activation", "gru_ode", "dense"]
    assert (policy.dt.lo, policy.dt.hi, policy.dt.assumed) == (1.0, 1.0, False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"obs": observed(INPUTS)})
    np.testing.assert_allclose(computed(policy), expected, atol=1e-5)
    with pytest.raises(BadInput, match="the timespan 1, whatever dt is"):
        saved(path, observed(INPUTS), dt=0.1)


def of_rows(path: Path, rows: int, time: int = 0) -> Path:
    """The file, exported for so many rows at once, and so many steps."""
    model = onnx.load(path)
    for port in (*model.graph.input, *model.graph.output):
        for dim in port.type.tensor_type.shape.dim:
            if dim.dim_param in ("batch", "time"):
                dim.dim_value = rows if dim.dim_param == "batch" else time
    onnx.save(model, str(path))
    return path


FIXED: dict[str, tuple[Callable[[Path], Path], tuple[int, ...], dict[str, str]]] = {
    "LSTM": (recurrent, (INPUTS,), CARRIED["LSTM"]), "frames": (frames, (8, 8, 2), {}),
    "written out": (partial(written_out, form="LSTM"), (INPUTS,), CARRIED["LSTM"]),
    "sequences": (partial(sequence, dims=["batch", "time", INPUTS]), (INPUTS,), {}),
    "sequences, time first": (partial(sequence, dims=["time", "batch", INPUTS]), (INPUTS,), {}),
}


@pytest.mark.parametrize("name", FIXED)
def test_a_file_of_a_fixed_batch_is_read_as_one_row(name: str, tmp_path: Path) -> None:
    write, shape, carry = FIXED[name]
    expected = computed(saved(write(tmp_path / "open.onnx"), observed(*shape), carry=carry))
    policy = saved(of_rows(write(tmp_path / "net.onnx"), 4, 7), observed(*shape), carry=carry)
    assert (policy.inputs, policy.compared) == (int(np.prod(shape)), "file")
    assert np.array_equal(computed(policy), expected)


def test_rows_that_are_none_are_noticed(tmp_path: Path) -> None:
    """Each row less the mean of all: of one row alone that is 0, of four equal ones too."""
    made = Made()
    z = made.node("MatMul", ["obs", made.weight(INPUTS, 2)], "z")
    mean = made.node("ReduceMean", [z], "mean", axes=[0])
    made.node("Add", [z, made.node("Sub", [z, mean], "apart")], "action")
    path = made.save(tmp_path / "net.onnx", {"obs": [4, INPUTS]}, {"action": [4, 2]})
    with pytest.raises(BadInput, match=r"in ONNX Runtime differ by|does not depend on the inputs"):
        saved(path, observed(INPUTS))


DIMS: dict[str, tuple[Any, bool]] = {
    "time second": (["batch", "time", INPUTS], False), "time first": (["time", "batch", INPUTS], False),
    "one row": ([1, None, INPUTS], False), "one row, time first": ([None, 1, INPUTS], False),
    "the last step": (["batch", "time", INPUTS], True), "sequences of 7": ([1, 7, INPUTS], False),
    "the last of 7": (["batch", 7, INPUTS], True), "7, time first": ([7, 1, INPUTS], False),
}


@pytest.mark.parametrize("name", DIMS)
def test_a_file_of_sequences_is_read_as_onnx_runtime_computes(name: str, tmp_path: Path) -> None:
    dims, last = DIMS[name]
    path, x = sequence(tmp_path / "net.onnx", dims=dims, last=last), observed(INPUTS)
    y = computed(saved(path, x))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    steps = 7 if 7 in dims else STEPS
    given = x[:1, :steps] if dims[0] in (1, "batch") else x[:1, :steps].swapaxes(0, 1)
    (expected,) = session.run(None, {"obs": given})
    wanted = y[0, steps - 1 : steps] if last else y[0, :steps]
    np.testing.assert_allclose(wanted, expected.reshape(wanted.shape), atol=1e-5)
    assert np.ptp(y) > 0.1


class Robot(torch.nn.Module):
    def __init__(self, kind: Any, layers: int = 1, first: bool = True) -> None:
        super().__init__()
        self.body, self.norm = torch.nn.Linear(INPUTS, 7), torch.nn.LayerNorm(7)
        self.rnn = kind(7, 6, num_layers=layers, batch_first=first)
        self.action, self.value = torch.nn.Linear(6, 2), torch.nn.Linear(6, 1)

    def forward(self, obs: Any, hidden: Any, cell: Any = None) -> Any:
        y, state = self.rnn(self.norm(torch.relu(self.body(obs))), hidden if cell is None else (hidden, cell))
        return torch.tanh(self.action(y)), self.value(y), *(state if cell is not None else (state,))


@pytest.mark.parametrize(("kind", "layers", "first", "steps"), [
    ("LSTM", 1, True, 1), ("LSTM", 2, True, 1), ("GRU", 2, False, 1), ("RNN", 1, True, 1), ("LSTM", 1, False, 3)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore:.*TracerWarning")
def test_what_torch_exports_is_read(kind: str, layers: int, first: bool, steps: int, tmp_path: Path) -> None:
    """``steps`` above 1: exported with open axes."""
    torch.manual_seed(0)
    module = Robot(getattr(torch.nn, kind), layers, first).eval()
    state = [torch.zeros(layers, 1, 6) for _ in CARRIED[kind]]
    open_axes = {name: {0: "a", 1: "b"} for name in ("obs", "action", "value")} if steps > 1 else {}
    torch.onnx.export(module, (torch.zeros(1, steps, INPUTS) if first else torch.zeros(steps, 1, INPUTS), *state),
                      str(tmp_path / "net.onnx"), input_names=["obs", *CARRIED[kind]], dynamo=False, opset_version=17,
                      output_names=["action", "value", *CARRIED[kind].values()], dynamic_axes=open_axes)
    policy, x = saved(tmp_path / "net.onnx", observed(INPUTS), carry=CARRIED[kind]), observed(INPUTS)
    assert [layer.kind for layer in policy.layers].count(kind.lower()) == layers
    with torch.no_grad():
        given = torch.as_tensor(x if first else x.swapaxes(0, 1).copy())
        full = [torch.zeros(layers, 2, 6) for _ in state]
        y = torch.cat(module(given, *full)[:2], -1)
    np.testing.assert_allclose(computed(policy), y.numpy() if first else y.numpy().swapaxes(0, 1), atol=1e-5)


def test_what_looks_like_a_state_and_is_not_carried_is_told(tmp_path: Path) -> None:
    """A cell that is written out could as well be a network without state, of 16 inputs."""
    path = written_out(tmp_path / "net.onnx", "LSTM")
    with pytest.warns(UserWarning, match=r"look like states, .* name them by --carry hidden=hidden_out"):
        ncpc.save(path, tmp_path / "p.safetensors", input_range=(-1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "the calibration")
        ncpc.save(path, tmp_path / "q.safetensors", input_range=(-1, 1), carry=CARRIED["LSTM"])


def test_an_output_is_carried_to_one_state(tmp_path: Path) -> None:
    carry = dict.fromkeys(CARRIED["LSTM"], "hidden_out")
    with pytest.raises(BadInput, match="--carry names 'hidden_out' for hidden and cell; each state goes on from an"):
        saved(recurrent(tmp_path / "net.onnx"), observed(INPUTS), carry=carry)


def test_outputs_are_chosen_by_name(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "net.onnx")
    policy = saved(path, observed(INPUTS), carry=CARRIED["LSTM"], head="value")
    assert policy.output_names == ("value",)
    words = ["--head", "action", *ROBOT, "--input-range", "-1", "1", "-o", str(tmp_path / "p.safetensors")]
    assert cli(["import", str(path), *words]) == 0
    assert read_policy(tmp_path / "p.safetensors").output_names == ("action_0", "action_1")
    with pytest.raises(BadInput, match=r"no output 'speed'; .* gives action, value"):
        saved(path, observed(INPUTS), carry=CARRIED["LSTM"], head="speed")


@pytest.mark.parametrize(("op", "order"), [("LSTM", (0, 1, 2, 3)), ("LSTM", (0, 3, 2, 1)), ("LSTM", (2, 0, 3, 1)),
                                           ("GRU", (0, 1, 2))])
def test_swapped_gates_are_caught_by_onnx_runtime(op: str, order: tuple[int, ...], tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    from ncpc.frontend.onnx_graph import cells

    path = recurrent(tmp_path / "net.onnx", op)
    monkeypatch.setattr(cells, "ORDERS", {**cells.ORDERS, op: order})
    with pytest.raises(BadInput, match=r"policy and .*net\.onnx in ONNX Runtime differ by \d\.\d+ "):
        saved(path, observed(INPUTS), carry=CARRIED[op])
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize("name", ["Tanh", "Clip", "Gemm"])
def test_a_wrong_reading_of_an_operator_is_caught_by_onnx_runtime(name: str, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    from ncpc.frontend.onnx_graph import module

    path, right = recurrent(tmp_path / "net.onnx"), module.OPERATORS[name]
    monkeypatch.setattr(module, "OPERATORS", {**module.OPERATORS, name: lambda n, given: 1.001 * right(n, given)})
    with pytest.raises(BadInput, match=r"in ONNX Runtime differ by"):
        saved(path, observed(INPUTS), carry=CARRIED["LSTM"])


def with_cell(path: Path, op: str = "LSTM", **attributes: Any) -> Path:
    return recurrent(path, op, **attributes)


def with_node(path: Path, op: str, *constants: Any, **attributes: Any) -> Path:
    made = Made()
    x = made.node("MatMul", ["obs", made.weight(INPUTS, 4)], "z")
    y = made.node(op, [x, *map(made.constant, constants)], "y", **attributes)
    made.node("MatMul", [y, made.weight(4, 2)], "action")
    return made.save(path, {"obs": ["batch", INPUTS]}, {"action": ["batch", 2]})


def in_one_call(path: Path) -> Path:
    """A state outside, five steps in a call."""
    made = Made()
    z = made.node("MatMul", ["obs", made.weight(INPUTS, INPUTS + 2)], "z")
    from tests.onnx_files import cell

    made.node("Identity", [cell(made, "GRU", z, ["hidden"])], "action")
    held = [1, 1, 6]
    return made.save(path, {"obs": [5, 1, INPUTS], "hidden": held}, {"action": [5, 1, 6], "hidden_out": held})


def other_names(path: Path) -> Path:
    """An LSTM whose states have names that say nothing: ``b`` is the cell's, ``v`` is what it becomes."""
    words = {"hidden": "a", "cell": "b", "hidden_out": "w", "cell_out": "v"}
    model = onnx.load(written_out(path, "LSTM"))
    for port in (*model.graph.input, *model.graph.output):
        port.name = words.get(port.name, port.name)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [words.get(name, name) for name in names]
    onnx.save(model, str(path))
    return path


def no_cell(path: Path) -> Path:
    """A leaky sum, which is the state of no cell."""
    made = Made()
    z = made.node("Add", [made.node("MatMul", ["obs", made.weight(INPUTS, 6)], "z"), "hidden"], "hidden_out")
    made.node("MatMul", [z, made.weight(6, 2)], "action")
    held = ["batch", 6]
    return made.save(path, {"obs": ["batch", INPUTS], "hidden": held}, {"action": ["batch", 2], "hidden_out": held})


CROSSED = {"hidden": "cell_out", "cell": "hidden_out"}
BOTH = r"can be read with --carry hidden=hidden_out --carry cell=cell_out$"
REFUSED: dict[str, tuple[Callable[[Path], Path], dict[str, str], str]] = {
    "reverse": (partial(with_cell, direction="reverse"), CARRIED["LSTM"],
                r"net\.onnx: node 'LSTM_\d+' \(LSTM\): runs reverse: it reads the future"),
    "limited": (partial(with_cell, clip=3.0), CARRIED["LSTM"], r"\(LSTM\): has a limit on its gates \(clip=3\.0\)"),
    "coupled": (partial(with_cell, input_forget=1), CARRIED["LSTM"], "coupled gates"),
    "activations": (partial(with_cell, activations=["Relu", "Tanh", "Tanh"]), CARRIED["LSTM"],
                    "has the activations Relu, Tanh, Tanh; read are Sigmoid, Tanh, Tanh"),
    "root": (partial(with_node, op="Sqrt"), {}, r"node 'Sqrt_1' \(Sqrt\): torch's 'sqrt' is not among"),
    "sine": (partial(with_node, op="Sin"), {},
             r"node 'Sin_1' \(Sin\): torch's 'sin' is not among .*; give it as an input"),
    "unknown": (partial(with_node, op="Hardmax"), {}, r"node 'Hardmax_1' \(Hardmax\): is not among the operators"),
    "power": (lambda path: with_node(path, "Pow", np.float32(0.3)),
              {}, r"\(Pow\): takes the power 0\.3"),
    "in one call": (in_one_call, {"hidden": "hidden_out"}, r"\(GRU\): runs over 5 steps in one call"),
    "no state named": (recurrent, {}, r"\(LSTM\): its state begins with the inputs 'hidden' and 'cell', to .*" + BOTH),
    "one left out": (recurrent, {"hidden": "hidden_out"}, r"--carry cell=cell_out"),
    "misspelt": (recurrent, {"hiden": "hidden_out"}, r"no input 'hiden'; did you mean 'hidden'\?"),
    "no output": (recurrent, {"hidden": "hidden_o"}, r"no output 'hidden_o'; did you mean 'hidden_out'\?"),
    "does not fit": (recurrent, {"obs": "action"}, r"action \(\?, 2\) does not fit obs \(\?, 5\)"),
    "crossed": (recurrent, CROSSED, r"net\.onnx: with --carry hidden=cell_out --carry cell=hidden_out it computes "
                r"otherwise .*; hidden and hidden_out, cell and cell_out are states: it " + BOTH),
    "written out, crossed": (partial(written_out, form="LSTM"), CROSSED, BOTH),
    "written out, one left out": (partial(written_out, form="TF LSTM"), {"cell": "cell_out"}, BOTH),
    "written out, none": (partial(written_out, form="LSTM"), {},
                          r"do not hold all of its inputs \(obs .*, hidden .*, cell .*\).*" + BOTH),
    "by other names": (other_names, {}, r"can be read with --carry a=w --carry b=v$"),
    "by other names, crossed": (other_names, {"a": "v", "b": "w"}, r"can be read with --carry a=w --carry b=v$"),
    "no cell": (no_cell, {"hidden": "hidden_out"}, r"is every state named by --carry INPUT=OUTPUT\? \(inputs obs"),
    "reset before": (partial(written_out, form="GRU, reset before"), CARRIED["GRU"],
                     r"net\.onnx: what is carried from step to step is computed otherwise than an LSTM"),
    "the state of before": (partial(written_out, form="R tanh late"), CARRIED["RNN"], "used outside of its cell"),
    "forgetful": (lambda path: sequence(path, dims=[1, 1, INPUTS]), {}, "its cells begin anew in each call"),
    "open": (lambda path: sequence(path, dims=["a", "b", "c"]), {}, "what a step of obs .* holds is not known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(name: str, tmp_path: Path) -> None:
    write, carry, said = REFUSED[name]
    with pytest.raises(BadInput, match=said) as caught:
        saved(write(tmp_path / "net.onnx"), observed(INPUTS), carry=carry)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "net.safetensors").exists()


def test_options_of_other_sources_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(recurrent(tmp_path / "net.onnx"))
    for words, said in ((["--unfolds", "6"], "an ONNX file takes no --unfolds"),
                        (["--key", "a"], "takes no checkpoint"),
                        (["--clip-negative"], "neither clip_negative"), (["--carry", "hidden"], "as INPUT=OUTPUT"),
                        (["--carry", "a=b", "--carry", "a=c"], "each state once")):
        assert cli(["import", path, "--input-range", "-1", "1", *words, "-o", str(tmp_path / "p.safetensors")]) == 2
        assert said in capsys.readouterr().err
    with pytest.raises(BadInput, match="carry= names the states of an ONNX file"):
        ncpc.save(torch.nn.Linear(2, 1), tmp_path / "p.safetensors", input_range=(-1, 1), carry={"a": "b"})


def test_without_onnx_runtime_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncpc.system.onnx_library.find_spec", lambda name: None)
    with pytest.raises(ncpc.errors.MissingTool, match=r"onnxruntime is not installed: pip install 'ncpc\[onnx\]'"):
        saved(recurrent(tmp_path / "net.onnx"), observed(INPUTS))


def test_tensors_beside_the_file_are_read_and_no_others(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "net.onnx")
    model = onnx.load(path)
    onnx.save(model, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    assert saved(path, observed(INPUTS), carry=CARRIED["LSTM"]).inputs == INPUTS
    for place in ("../net.data", "/dev/zero", "none.data", ""):
        moved = onnx.load(path, load_external_data=False)
        for entry in moved.graph.initializer[0].external_data:
            entry.value = place if entry.key == "location" else entry.value
        path.write_bytes(moved.SerializeToString())
        with pytest.raises(BadInput, match=f"lies in '{place}', which is no file beside it"):
            saved(path, observed(INPUTS), carry=CARRIED["LSTM"])
        onnx.save(model, str(path), save_as_external_data=True, location="net.data", size_threshold=0)
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(BadInput, match=r"is not wholly in 'net\.data'"):
        saved(path, observed(INPUTS), carry=CARRIED["LSTM"])


def greedy(path: Path) -> Path:
    """Asks for far more memory than there is."""
    made = Made()
    big = made.node("ConstantOfShape", [made.constant(np.array([1 << 20, 1 << 20]))], "big")
    made.node("Add", ["obs", made.node("ReduceSum", [big], "sum", keepdims=0)], "action")
    return made.save(path, {"obs": [1, 2]}, {"action": [1, 2]})


def doubling(path: Path) -> Path:
    made, z = Made(), "obs"
    for k in range(40):
        z = made.node("Concat", [z, z], f"twice{k}", axis=1)
    made.node("ReduceSum", [z], "action", keepdims=0)
    return made.save(path, {"obs": [1, 2]}, {"action": []})


@pytest.mark.parametrize("write", [greedy, doubling])
def test_a_file_that_asks_for_too_much_is_refused(write: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"makes .* values at once"):
        saved(write(tmp_path / "net.onnx"), observed(2))


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    path = recurrent(tmp_path / "net.onnx", "GRU")
    good, refused = path.read_bytes(), 0
    for number in range(25):
        rng = random.Random(number)
        content = bytearray(good[: rng.randrange(len(good))] if number % 5 == 0 else good)
        for _ in range(3):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content)
        with suppress(NcpcError):  # any other error is a fault
            saved(path, observed(INPUTS)[:, :3], carry=CARRIED["GRU"])
            refused -= 1
        refused += 1
    assert refused > 5
