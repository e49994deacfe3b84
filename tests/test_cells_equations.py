"""What the modules of ``ncpc.cells`` compute, against the equations written out; and what a gate may cost."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.ir.cells import Gru, Lstm
from ncpc.ir.policy import Layer, Policy
from ncpc.ir.program import Program, statements, values
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower

torch = pytest.importorskip("torch")
cells = pytest.importorskip("ncpc.cells")

T, INPUTS, UNITS = 12, 3, 4


def sequence(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (T, INPUTS))


def outputs(cell: torch.nn.Module, x: np.ndarray, dt: np.ndarray | None = None) -> np.ndarray:
    timespans = None if dt is None else torch.tensor(dt[None])
    with torch.no_grad():
        return cell.double()(torch.tensor(x[None]), None, timespans)[0][0].numpy()


def weights(linear: torch.nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    return linear.weight.detach().numpy(), linear.bias.detach().numpy()


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_ct_rnn_as_published() -> None:
    """Six Euler steps of 0.1, tau = 1, no feedback."""
    cell, x, h, want = cells.CtRnn(INPUTS, UNITS, tau="one").double(), sequence(), np.zeros(UNITS), []
    w, b = weights(cell.dense)
    for now in x:
        drive = np.tanh(w @ now + b)
        for _ in range(6):
            h = h + 0.1 * (drive - h)
        want.append(h)
    assert np.abs(outputs(cell, x) - want).max() < 1e-12


def test_ct_rnn_learns_tau_from_one() -> None:
    cell, x = cells.CtRnn(INPUTS, UNITS, feedback=True).double(), sequence()
    assert cell.tau().item() == pytest.approx(1.0)
    cell(torch.tensor(x[None]))[0].sum().backward()
    assert abs(float(cell.raw_tau.grad)) > 0


def test_neural_ode_as_published() -> None:
    """Six classical Runge-Kutta steps of 0.1."""
    cell, x, h, want = cells.NeuralOde(INPUTS, UNITS).double(), sequence(1), np.zeros(UNITS), []
    w, b = weights(cell.dense)
    for now in x:
        for _ in range(6):
            k1 = np.tanh(w @ np.append(now, h) + b)
            k2 = np.tanh(w @ np.append(now, h + 0.05 * k1) + b)
            k3 = np.tanh(w @ np.append(now, h + 0.05 * k2) + b)
            k4 = np.tanh(w @ np.append(now, h + 0.1 * k3) + b)
            h = h + 0.1 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        want.append(h)
    assert np.abs(outputs(cell, x) - want).max() < 1e-12


@pytest.mark.parametrize("decay", ["tau", "published"])
def test_ct_gru(decay: str) -> None:
    scales, x, want = 5, sequence(2), []
    cell = cells.CtGru(INPUTS, UNITS, scales=scales, decay=decay).double()
    ln_tau = np.log(10**0.5) * np.arange(scales)
    with np.errstate(divide="ignore"):
        kept = np.exp(-1 / (np.exp(ln_tau) if decay == "tau" else ln_tau))
    (wr, br), (ws, bs), (wd, bd) = (weights(getattr(cell, name)) for name in ("retrieve", "store", "detect"))
    e = np.zeros((UNITS, scales))
    for now in x:
        seen = np.append(now, e.sum(1))
        r = softmax(-((wr @ seen + br).reshape(e.shape) - ln_tau) ** 2)
        q = np.tanh(wd @ np.append(now, (r * e).sum(1)) + bd)
        s = softmax(-((ws @ seen + bs).reshape(e.shape) - ln_tau) ** 2)
        e = ((1 - s) * e + s * q[:, None]) * kept
        want.append(e.sum(1))
    assert np.abs(outputs(cell, x) - want).max() < 1e-6


def test_published_ct_gru_forgets_its_fastest_trace() -> None:
    cell = cells.CtGru(INPUTS, UNITS, decay="published")
    assert float(cell.decay[0]) == 0.0
    assert float(cells.CtGru(INPUTS, UNITS).decay[0]) == pytest.approx(np.exp(-1))


def test_leaky_integrator_solves_its_equation_exactly() -> None:
    """tau du/dt = i - u with i held: 40 short steps end where one long one does."""
    cell = cells.LeakyIntegrator(INPUTS, UNITS, tau=0.7, ahead=0.0, function="identity").double()
    torch.nn.init.zeros_(cell.recur.weight)
    x = np.ones((40, INPUTS))
    long = outputs(cell, x[:1], np.array([2.0]))
    assert np.abs(outputs(cell, x, np.full(40, 0.05))[-1] - long[0]).max() < 1e-12
    w, b = weights(cell.read)
    assert np.abs(long[0] - (1 - np.exp(-2.0 / 0.7)) * (w @ x[0] + b)).max() < 1e-7


def test_full_look_ahead_makes_slow_units_instantaneous() -> None:
    x = sequence(3)
    for tau in (0.5, 50.0):
        cell = cells.LeakyIntegrator(INPUTS, UNITS, tau=tau).double()
        torch.nn.init.zeros_(cell.recur.weight)
        w, b = weights(cell.read)
        assert np.abs(outputs(cell, x) - np.tanh(x @ w.T + b)).max() < 1e-12


@pytest.mark.parametrize(("make", "words"), [
    (lambda: cells.CtRnn(1, 1, tau="two"), "tau is 'two'"),
    (lambda: cells.NeuralOde(1, 1, solver="heun"), "solver is 'heun'"),
    (lambda: cells.CtGru(1, 1, decay="none"), "decay is 'none'"),
    (lambda: cells.LeakyIntegrator(1, 1, ahead=1.5), "ahead 1.5"),
    (lambda: cells.LeakyIntegrator(1, 1, function="sin"), "function is 'sin'"),
])
def test_unknown_options_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def multiplications(program: Program) -> int:
    """Of a step: one per weight of a matrix, one per element of a product or mix."""
    table, total = values(program), 0
    for op in statements(program.body):
        if op.kind == "matmul":
            total += int(np.prod(table[op.args[0]].shape))
        elif op.kind in ("mul", "mix", "div"):
            total += int(np.prod(op.out.shape))
    return total


@pytest.mark.parametrize(("kind", "gates", "products"), [("lstm", 4, 3), ("gru", 3, 3)])
def test_gates_cost_no_more_than_their_mathematics(kind: str, gates: int, products: int) -> None:
    rng, n, m = np.random.default_rng(0), 16, 5
    w_x, w_h, b = rng.normal(size=(gates * n, m)), rng.normal(size=(gates * n, n)), rng.normal(size=gates * n)
    layer: Layer = Lstm(w_x, w_h, b) if kind == "lstm" else Gru(w_x, w_h, b, b)
    program = fix_dt(lower(Policy("net", (layer,), np.tile([-1.0, 1.0], (m, 1)))), 1.0)
    assert multiplications(program) <= 1.2 * (gates * n * (n + m) + products * n)
