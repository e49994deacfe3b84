"""Bare state_dicts of every cell and of stacks are read as the modules they were taken from; what they do not say is
asked for at once, and what does not fit is refused in one line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ncpc.cli.commands import cli
from ncpc.errors import BadInput, NcpcError, Unsupported
from ncpc.frontend.container import read_policy
from ncpc.frontend.imported import Imported
from ncpc.frontend.state_dict import import_state_dict
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import LTC, CfC, CfCCell  # noqa: E402  (needs torch)
from ncps.wirings import NCP, AutoNCP, FullyConnected  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn.utils import prune  # noqa: E402

OF_LTC = {"implicit_param_constraints": True, "unfolds": 4, "epsilon": 1e-8}
OF_CFC = {"mode": "default", "activation": "lecun_tanh"}
TIMED = (LTC, CfC)
OF_ERF = 1e-7
"""A Program computes erf by a polynomial with an error of up to 1.5e-7 (``ncpc.passes.functions``)."""


class Stack(nn.Module):
    """Modules by name, run in the order of ``words``, in which functions stand between them."""

    def __init__(self, words: str, **modules: Any) -> None:
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.words = words.split(",")

    def run(self, x: Any, dt: Any) -> Any:
        for word in self.words:
            module = getattr(self, word, None) or getattr(torch, word)
            x = module(x, timespans=dt) if isinstance(module, TIMED) else module(x)
            x = x[0] if isinstance(x, tuple) else x
        return x


def ncp() -> Any:
    return NCP(inter_neurons=5, command_neurons=4, motor_neurons=2, sensory_fanout=3, inter_fanout=2,
               recurrent_command_synapses=3, motor_fanin=2, seed=3)


def timed(cell: Any) -> Stack:
    return Stack("rnn", rnn=cell)


CELLS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    **{f"CfC {mode} {activation}": (
        lambda mode=mode, activation=activation: CfC(3, 4, mode=mode, activation=activation, backbone_units=7),
        {"activation": activation} | ({} if mode == "pure" else {"mode": mode}))
       for mode in ("default", "pure", "no_gate") for activation in ("lecun_tanh", "relu")},
    "CfC tanh": (lambda: CfC(3, 4, activation="tanh"), OF_CFC | {"activation": "tanh"}),
    "CfC silu": (lambda: CfC(3, 4, activation="silu", backbone_layers=2), OF_CFC | {"activation": "silu"}),
    "CfC gelu": (lambda: CfC(3, 4, activation="gelu", backbone_layers=3), OF_CFC | {"activation": "gelu"}),
    "CfC dropout": (lambda: CfC(3, 4, backbone_layers=4, backbone_units=6, backbone_dropout=0.2), OF_CFC),
    "CfC no backbone": (lambda: CfC(3, 4, backbone_layers=0), {"mode": "default"}),
    "CfC projected": (lambda: CfC(3, 4, proj_size=2), OF_CFC),
    "CfC mixed memory": (lambda: CfC(3, 4, mixed_memory=True, backbone_units=5), OF_CFC),
    "CfC mixed memory, projected": (lambda: CfC(3, 4, mixed_memory=True, proj_size=4, mode="pure"),
                                    {"activation": "lecun_tanh"}),
    **{f"wired CfC {mode}": (lambda mode=mode: CfC(3, ncp(), mode=mode), {} if mode == "pure" else {"mode": mode})
       for mode in ("default", "pure", "no_gate")},
    "wired CfC of one layer": (lambda: CfC(3, FullyConnected(5, 2)), {"mode": "default"}),
    "wired CfC mixed memory": (lambda: CfC(3, ncp(), mixed_memory=True, proj_size=3), {"mode": "default"}),
    "LTC": (lambda: LTC(3, AutoNCP(8, 2), ode_unfolds=4), OF_LTC),
    "LTC mixed memory": (lambda: LTC(3, AutoNCP(8, 2), mixed_memory=True, ode_unfolds=4), OF_LTC),
    "LSTM": (lambda: nn.LSTM(3, 4, batch_first=True), {}),
    "LSTM of two layers": (lambda: nn.LSTM(3, 4, num_layers=2, batch_first=True), {}),
    "LSTM without bias": (lambda: nn.LSTM(3, 4, bias=False, batch_first=True), {}),
    "GRU": (lambda: nn.GRU(3, 4, num_layers=2, batch_first=True), {}),
    "RNN tanh": (lambda: nn.RNN(3, 4, batch_first=True), {"nonlinearity": "tanh"}),
    "RNN relu": (lambda: nn.RNN(3, 4, nonlinearity="relu", batch_first=True), {"nonlinearity": "relu"}),
}


def made(make: Callable[[], Any]) -> Any:
    torch.manual_seed(0)
    return make().eval()


def outputs(found: Imported, x: Any, dt: Any) -> Any:
    layers = found.layers
    policy = Policy("p", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)), DtRange(0.1, 2.0, 1.0),
                    tuple(f"x{i}" for i in range(layers[0].inputs)), tuple(f"y{i}" for i in range(layers[-1].outputs)))
    return run(lower(policy), Sequences(x, dt)).y


def require_equal(found: Imported, module: Stack, apart: float = 1e-9) -> None:
    """Steps with other timespans each, in double, one sequence: ncps takes timespans at a batch of one."""
    rng = np.random.default_rng(0)
    x, dt = rng.uniform(-1, 1, (1, 25, found.layers[0].inputs)), rng.uniform(0.1, 2.0, (1, 25))
    torch.set_default_dtype(torch.float64)  # the first states that ncps makes
    try:
        with torch.no_grad():
            expected = module.double().run(torch.as_tensor(x), torch.as_tensor(dt)).numpy()
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(outputs(found, x, dt), expected, rtol=0, atol=apart)
    assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("place", ["", "rnn.", "model.policy.rnn."])
def test_a_cells_weights_alone_are_the_cell(name: str, place: str) -> None:
    make, told = CELLS[name]
    module = made(make).double()
    state = {f"{place}{key}": value for key, value in module.state_dict().items()}
    require_equal(import_state_dict(state, **told), timed(module), OF_ERF if "gelu" in name else 1e-9)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_single_cells_of_torch_are_read_too(kind: str) -> None:
    told = {"nonlinearity": "tanh"} if kind == "RNN" else {}
    cell, whole = made(lambda: getattr(nn, f"{kind}Cell")(3, 4)), getattr(nn, kind)(3, 4, batch_first=True)
    whole.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    require_equal(import_state_dict(cell.state_dict(), **told), timed(whole))


STACKS: dict[str, tuple[Callable[[], Stack], dict[str, Any]]] = {
    "head": (lambda: Stack("rnn,head", rnn=nn.GRU(3, 4, batch_first=True), head=nn.Linear(4, 2)), {}),
    "functions": (lambda: Stack("fc,tanh,rnn,relu,head,sigmoid", head=nn.Linear(4, 2), rnn=CfC(5, 4),
                                fc=nn.Linear(3, 5, bias=False)), OF_CFC),
    "LTC": (lambda: Stack("fc,relu,rnn,head", fc=nn.Linear(3, 4), rnn=LTC(4, AutoNCP(8, 3), ode_unfolds=4),
                          head=nn.Linear(3, 1)), OF_LTC),
    "wired": (lambda: Stack("encoder,tanh,policy,selu,head", encoder=nn.Linear(3, 3), policy=CfC(3, ncp()),
                            head=nn.Linear(2, 2)), {"mode": "default"}),
    "two cells": (lambda: Stack("first,second,head", first=nn.LSTM(3, 4, batch_first=True), second=CfC(4, 4),
                                head=nn.Linear(4, 4)), OF_CFC),
    "square": (lambda: Stack("b,rnn,a", a=nn.Linear(3, 3), b=nn.Linear(3, 3), rnn=nn.GRU(3, 3, batch_first=True)), {}),
}


@pytest.mark.parametrize("name", STACKS)
@pytest.mark.parametrize("place", ["", "module.", "agent.net."])
def test_stacks_are_read_in_the_order_that_is_told(name: str, place: str) -> None:
    make, told = STACKS[name]
    module = made(make).double()
    state = {f"{place}{key}": value for key, value in module.state_dict().items()}
    require_equal(import_state_dict(state, layers=",".join(module.words), **told), module)
    with pytest.raises(BadInput, match="does not say layers; give them as options: --layers "):
        import_state_dict(state, **told)


def test_cells_alone_need_no_order_where_but_one_fits() -> None:
    module = made(lambda: Stack("a,b", b=nn.GRU(4, 2, batch_first=True), a=nn.LSTM(3, 4, batch_first=True)))
    require_equal(import_state_dict(module.state_dict()), module)
    square = made(lambda: Stack("a,b", b=nn.GRU(3, 3, batch_first=True), a=nn.LSTM(3, 3, batch_first=True)))
    with pytest.raises(BadInput, match=r"--layers b,a \(one order of several that fit\)"):
        import_state_dict(square.state_dict())
    require_equal(import_state_dict(square.state_dict(), layers=["a", "b"]), square)


def test_a_projection_at_the_root_is_told_from_a_layer_before() -> None:
    """``fc`` beside ``rnn_cell`` may be ncps' projection, or a model's own layer that stands before the cell."""
    projected = made(lambda: CfC(3, 4, proj_size=2)).state_dict()
    assert [layer.kind for layer in import_state_dict(projected, **OF_CFC).layers] == ["cfc", "dense"]
    own = made(lambda: Stack("fc,rnn_cell", fc=nn.Linear(2, 3), rnn_cell=CfCCell(3, 4))).state_dict()
    found = import_state_dict(own, layers="fc,relu,rnn_cell", **OF_CFC)
    assert [layer.kind for layer in found.layers] == ["dense", "activation", "cfc"]


def test_all_that_is_missing_is_asked_for_at_once() -> None:
    ltc = LTC(4, 6, output_mapping=None)
    module = Stack("fc,rnn,ltc,plain", fc=nn.Linear(3, 5), rnn=CfC(5, 4), ltc=ltc, plain=nn.RNN(6, 2))
    with pytest.raises(BadInput) as caught:
        import_state_dict(module.state_dict())
    said = str(caught.value)
    assert "\n" not in said
    assert ("does not say mode, activation, implicit_param_constraints, unfolds, epsilon, outputs, nonlinearity, "
            "layers; ") in said
    for option in ("--mode", "--activation lecun_tanh", "--constraints", "--unfolds", "--epsilon", "--outputs",
                   "--nonlinearity", "--layers fc,rnn,ltc,plain (the only order that fits)"):
        assert option in said


def refused(state: Mapping[str, Any], **told: Any) -> str:
    with pytest.raises((BadInput, Unsupported)) as caught:
        import_state_dict(state, **told)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", CELLS)
def test_every_missing_extra_and_misshapen_tensor_is_refused(name: str) -> None:
    make, told = CELLS[name]
    state = {f"m.{key}": value for key, value in made(make).state_dict().items()}
    optional = {"input_w", "input_b", "output_w", "output_b"}
    for key, value in state.items():
        less = {other: v for other, v in state.items() if other != key}
        if key.rpartition(".")[2] not in optional and key != "m.fc.bias":
            assert "state_dict: " in refused(less, **told), key
        for shape in ((*value.shape, 2), (value.shape[0] + 1, *value.shape[1:]), ()):
            assert "state_dict: " in refused({**state, key: torch.ones(shape)}, **told), (key, shape)
    assert "'m.more.running_mean' belongs to no" in refused({**state, "m.more.running_mean": torch.ones(2)}, **told)


def test_what_is_read_otherwise_is_refused_by_name() -> None:
    for module, words in (
        (nn.LSTM(3, 4, bidirectional=True), "bidirectional=True reads the future"),
        (nn.LSTM(3, 4, proj_size=2), "with proj_size cannot be read"),
        (nn.Sequential(nn.Conv1d(3, 4, 3), nn.GRU(4, 4)), "'0.weight' belongs to no"),
        (nn.Sequential(nn.BatchNorm1d(3), nn.GRU(3, 4)), "'0.running_mean' belongs to no"),
        (nn.Linear(3, 4), "holds no cell"),
    ):
        assert words in refused(module.state_dict())
    assert "holds no cell" in refused({})
    assert "holds no cell" in refused(nn.GRU(3, 4).state_dict(), prefix="rnn.")
    assert "not two dimensions of 1 or more" in refused(
        {**CfC(3, 4, backbone_layers=0).state_dict(), "rnn_cell.ff1.weight": torch.ones(4, 0)}, mode="default")
    assert "is no whole module" in refused(
        {**CfC(3, 4, proj_size=2).state_dict(), "rnn_cell.ff1.bias": torch.ones(())}, **OF_CFC)
    cfc = CfC(3, 4).state_dict()
    assert "holds cfc, of which nonlinearity says nothing" in refused(cfc, nonlinearity="tanh", **OF_CFC)
    assert "of which unfolds says nothing" in refused(cfc, unfolds=6, **OF_CFC)
    assert "Unknown mode 'other'" in refused(cfc, **OF_CFC | {"mode": "other"})
    assert "Unknown activation other" in refused(cfc, **OF_CFC | {"activation": "other"})
    assert "Missing key" in refused(cfc, **OF_CFC | {"mode": "pure"})
    assert "sparse, complex or quantized" in refused({**cfc, "rnn_cell.ff1.bias": torch.ones(4, dtype=torch.complex64)})
    assert "sparse, complex or quantized" in refused({**cfc, "rnn_cell.ff1.weight": torch.eye(4).to_sparse()})
    assert "has 7 rows for 4 neurons" in refused({"weight_ih_l0": torch.ones(7, 3), "weight_hh_l0": torch.ones(7, 4)})
    assert "wired CfC without layer_1" in refused(
        {key: v for key, v in CfC(3, ncp()).state_dict().items() if "layer_1" not in key}, mode="default")
    many = {f"{i}.{name}": value for i in range(101) for name, value in nn.GRU(1, 1).state_dict().items()}
    assert "holds 101 modules" in refused(many)
    assert "layer_" in refused({f"rnn_cell.layer_{'9' * 5000}.ff1.weight": torch.ones(2, 2), **cfc}, **OF_CFC)


def test_orders_that_do_not_fit_are_refused() -> None:
    state = Stack("fc", fc=nn.Linear(3, 5), rnn=nn.GRU(5, 4), head=nn.Linear(4, 2)).state_dict()
    for layers, words in (
        ("fc,rnn", "leaves out head; name every module of the file (fc, rnn, head)"),
        ("fc,rnn,head,fc", "names 'fc' twice"),
        ("fc,rnn,head,other", "names 'other', which is neither a module of the file (fc, rnn, head) nor one of relu"),
        ("rnn,fc,head", "'fc' takes 3 values, but what --layers puts before it gives 4"),
        ("softmax,fc,rnn,head", "begins with softmax"),
        ("fc,,rnn,head", "names ''"),
    ):
        assert words in refused(state, layers=layers)


def test_many_square_layers_are_searched_only_so_far() -> None:
    layers = {f"fc{i}.weight": torch.eye(3) for i in range(40)}
    state = {**layers, **{f"rnn.{k}": v for k, v in nn.GRU(3, 4).state_dict().items()}, "end.weight": torch.ones(2, 9)}
    assert "no order fits" in refused(state)


SAID: dict[str, tuple[Callable[[], Any], tuple[str, ...], str]] = {
    "CfC": (lambda: Stack("fc,tanh,rnn,head", fc=nn.Linear(3, 5), rnn=CfC(5, 4), head=nn.Linear(4, 2)),
            ("--mode", "default", "--activation", "lecun_tanh", "--layers", "fc,tanh,rnn,head"),
            "dense, activation, cfc, dense"),
    "RNN": (lambda: nn.RNN(3, 2), ("--nonlinearity", "relu"), "rnn"),
    "wired CfC": (lambda: CfC(3, ncp()), ("--mode", "no_gate"), "wired_cfc"),
    "LSTM": (lambda: Stack("rnn,head,softmax", rnn=nn.LSTM(3, 4), head=nn.Linear(4, 2)),
             ("--layers", "rnn,head,softmax"), "lstm, dense, softmax"),
}


@pytest.mark.parametrize("name", SAID)
def test_the_command_line_takes_what_is_asked_for(name: str, tmp_path: Path) -> None:
    make, said, layers = SAID[name]
    torch.save({"model": made(make).state_dict(), "epoch": 3}, tmp_path / "w.pt")
    words = ["import", str(tmp_path / "w.pt"), "--input-range", "-1", "1", "--dt", "1", "1", "-o", str(tmp_path / "p")]
    asked = CliRunner().invoke(cli, words)
    assert isinstance(asked.exception, NcpcError)
    assert all(word in str(asked.exception) for word in said if word.startswith("--"))
    result = CliRunner().invoke(cli, [*words, *said])
    assert result.exit_code == 0, result.output
    assert result.output.endswith(f"3 inputs, 2 outputs, layers {layers}\n")
    policy = read_policy(tmp_path / "p")
    assert policy.compared == "nothing"
    for option, value in zip(said[::2], said[1::2], strict=True):
        assert policy.provenance[option.strip("-")] == value


def test_pruned_weights_are_what_they_compute() -> None:
    module = made(lambda: nn.GRU(3, 4))
    prune.l1_unstructured(module, "weight_ih_l0", 0.5)
    (layer,) = import_state_dict(module.state_dict()).layers
    np.testing.assert_array_equal(layer.weight_x, module.weight_ih_l0.detach().numpy())  # type: ignore[attr-defined]
