"""ODE-LSTMs as people write them are read as one cell, and wrong records of such cells are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.validate import check_policy
from ncpc.ir.gated import OdeRnn, Rnn
from ncpc.ir.policy import Dense, DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from tests.nets import random_ltc

torch = pytest.importorskip("torch")

INPUTS, UNITS, OUTPUTS = 3, 5, 2


class ODELSTMCell(torch.nn.Module):
    """What github.com/mlech26l/ode-lstms has: an LSTM's step, then three of the ODE of its output."""

    def __init__(self, solver_type: str = "fixed_heun", between: Any = torch.nn.Tanh) -> None:
        super().__init__()
        self.solver_type, self.lstm = solver_type, torch.nn.LSTMCell(INPUTS, UNITS)
        self.f_node = torch.nn.Sequential(torch.nn.Linear(UNITS, UNITS), between(), torch.nn.Linear(UNITS, UNITS))

    def forward(self, seen: Any, hx: Any, ts: Any) -> Any:
        h, c = self.lstm(seen, hx)
        part = ts.view(-1, 1) / 3
        for _ in range(3):
            k = self.f_node(h)
            other = self.f_node(h + part * k) if self.solver_type == "fixed_heun" else k
            h = h + part * 0.5 * (k + other)
        return h, c


class ODELSTM(torch.nn.Module):
    """Calls the cell's forward itself, as published, and takes a mask that may be left out."""

    def __init__(self, cell: Any) -> None:
        super().__init__()
        self.rnn_cell, self.fc = cell, torch.nn.Linear(UNITS, OUTPUTS)

    def forward(self, x: Any, timespans: Any, mask: Any = None) -> Any:
        state, outputs = [torch.zeros(len(x), UNITS), torch.zeros(len(x), UNITS)], []
        for t in range(x.size(1)):
            state = self.rnn_cell.forward(x[:, t], state, timespans[:, t].squeeze())
            outputs.append(self.fc(state[0]))
        return torch.stack(outputs, dim=1)


def saved(model: Any, path: Path) -> Policy:
    x = np.random.default_rng(1).uniform(-1, 1, (2, 30, INPUTS))
    return ncpc.save(model, path / "p.safetensors", calibration=x, dt=(0.5, 1.5))


@pytest.mark.parametrize("solver", ["heun", "euler"])
def test_a_published_ode_lstm_is_one_cell(solver: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ODELSTM(ODELSTMCell(f"fixed_{solver}"))
    policy = saved(model, tmp_path)
    assert [layer.kind for layer in policy.layers] == ["ode_rnn", "dense"]
    assert policy.compared == "forward"
    rng = np.random.default_rng(2)
    x, dt = rng.uniform(-1, 1, (1, 40, INPUTS)), rng.uniform(0.5, 1.5, (1, 40))
    torch.set_default_dtype(torch.float64)
    try:
        want = model.double()(torch.as_tensor(x), torch.as_tensor(dt)).detach().numpy()
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.abs(run(lower(policy), Sequences(x, dt)).y - want).max() < 1e-12


def test_its_parts_in_order_are_read_too(tmp_path: Path) -> None:
    model = ODELSTM(ODELSTMCell())
    assert [layer.kind for layer in saved([model.rnn_cell, model.fc], tmp_path).layers] == ["ode_rnn", "dense"]


@pytest.mark.parametrize(("cell", "words"), [
    (lambda: ODELSTMCell("dopri5"), "'dopri5' depends on the rest of its batch; train it with 'fixed_euler'"),
    (lambda: ODELSTMCell(between=torch.nn.ReLU), "is made of Linear, ReLU, Linear; known are Linear layers with a"),
])
def test_another_ode_is_refused(cell: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=words):
        saved(ODELSTM(cell()), tmp_path)


@pytest.mark.parametrize(("changes", "words"), [
    ({"unfolds": 0}, "unfolds is 0, expected at least 1"), ({"solver": "fused"}, "solver"), ({"first": "x"}, "first"),
    ({"flow": ()}, "its flow has no dense layer"), ({"cell": random_ltc(0)}, "cell"),
    ({"flow": (Dense(np.ones((UNITS, 2)), np.ones(UNITS)),)}, r"flow 0.weight has shape \(5, 2\), expected \(5, 5\)"),
    ({"cell": Rnn(np.ones((UNITS, 1)), np.ones((2, 2)), np.ones(UNITS), "tanh")}, "cell: weight_h"),
    ({"flow": (Dense(np.full((UNITS, UNITS), np.nan), np.ones(UNITS)),)}, "flow 0: weight holds NaN"),
])
def test_a_wrong_record_is_refused(changes: dict[str, Any], words: str) -> None:
    square, ones = np.ones((UNITS, UNITS)), np.ones(UNITS)
    layer = OdeRnn(Rnn(np.ones((UNITS, INPUTS)), square, ones, "tanh"), (Dense(square, ones),), "ode")
    policy = Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange())
    check_policy(policy, "net")
    with pytest.raises(BadInput, match=words):
        check_policy(replace(policy, layers=(replace(layer, **changes),)), "net")
