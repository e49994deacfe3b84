"""What the modules of ``ncpc.cells`` compute, against the equations written out; and what a gate may cost."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import Unsupported
from ncpc.frontend.container import Container
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.build import Builder
from ncpc.ir.gated import Cfc, Gru, Lstm
from ncpc.ir.policy import Dense, DtRange, Layer, Policy
from ncpc.ir.program import Port, Program, Repeat, Stmt, Value, statements, values
from ncpc.ir.sequences import Sequences
from ncpc.ir.tableau import LTC_SOLVERS
from ncpc.ir.types import Axis, Real
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.passes.merge import merge_products
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

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


def sigmoid(z: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-z)))


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


@pytest.mark.parametrize("unfolds", [1, 3])
def test_gru_ode(unfolds: int) -> None:
    x, want = sequence(3), []
    cell = cells.GruOde(INPUTS, UNITS, unfolds=unfolds).double()
    (wr, br), (wz, bz), (wg, bg) = (weights(getattr(cell, name)) for name in ("reset", "update", "detect"))
    h = np.zeros(UNITS)
    for now in x:
        for _ in range(unfolds):
            seen = np.append(now, h)
            r, z = sigmoid(wr @ seen + br), sigmoid(wz @ seen + bz)
            h = h + (1 - z) * (np.tanh(wg @ np.append(now, r * h) + bg) - h) / unfolds
        want.append(h)
    assert np.abs(outputs(cell, x) - want).max() < 1e-12


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


@pytest.mark.parametrize("elastance", ["symmetric", "asymmetric"])
def test_lrc_by_euler_steps_is_its_equation(elastance: str) -> None:
    """Synapse by synapse, parameters as the module holds them, softplus written out."""
    cell, x, dt, h, want = cells.LRC(INPUTS, UNITS, elastance=elastance, unfolds=2).double(), sequence(4), 0.7, [], []
    p = {name: value.detach().numpy() for name, value in cell.named_parameters()}
    w, gleak = (np.log1p(np.exp(p[name])) for name in ("raw_w", "raw_gleak"))
    h = [0.0] * UNITS
    for now in x:
        for _ in range(2):
            y, after = [*now, *h], []
            for i in range(UNITS):
                s = [1 / (1 + np.exp(-p["sigma"][i, j] * (y[j] - p["mu"][i, j]))) for j in range(INPUTS + UNITS)]
                f = gleak[i] + sum(w[i, j] * s[j] for j in range(len(y)))
                u = gleak[i] + sum(p["k"][i, j] * s[j] for j in range(len(y)))
                o = p["elastance.bias"][i] + sum(p["elastance.weight"][i, j] * y[j] for j in range(len(y)))
                if elastance == "symmetric":
                    k = np.log1p(np.exp(p["raw_shift"][i]))
                    e = 1 / (1 + np.exp(-(o + k))) - 1 / (1 + np.exp(-(o - k)))
                else:
                    e = 1 / (1 + np.exp(-o))
                after.append(h[i] + dt / 2 * e * (-h[i] / (1 + np.exp(-f)) + np.tanh(u) * p["vleak"][i]))
            h = after
        want.append(h)
    assert np.abs(outputs(cell, x, np.full(T, dt)) - want).max() < 1e-12


def test_an_lrc_stays_within_its_bound_where_steps_are_no_longer_than_one() -> None:
    """|vleak|/sigmoid(gleak), which the lowering limits it to, is reached by nothing, whatever opens its synapses."""
    rng = np.random.default_rng(5)
    for seed in range(20):
        torch.manual_seed(seed)
        layer = cells.LRC(INPUTS, UNITS, elastance="asymmetric").double().layer()
        layer = dataclasses.replace(layer, k=layer.k * 50, vleak=layer.vleak * 20)
        policy = Policy("net", (layer,), np.tile([-9.0, 9.0], (INPUTS, 1)))
        real = lower(policy)
        free = dataclasses.replace(real, body=tuple(_without_limits(stmt) for stmt in real.body))
        found = run(free, Sequences(rng.uniform(-9, 9, (4, 50, INPUTS)))).y
        assert (np.abs(found) <= np.abs(layer.vleak) * (1 + np.exp(-layer.gleak))).all()
        assert np.abs(found).max() > 0.5 * np.abs(layer.vleak).max()


def _without_limits(stmt: Stmt) -> Stmt:
    """The statement with limits that nothing exceeds."""
    if isinstance(stmt, Repeat):
        return dataclasses.replace(stmt, body=tuple(map(_without_limits, stmt.body)))
    return dataclasses.replace(stmt, attrs={**stmt.attrs, "lo": -1e9, "hi": 1e9}) if stmt.kind == "clamp" else stmt


def test_a_step_of_an_lrc_that_would_be_unstable_is_refused() -> None:
    layer = cells.LRC(INPUTS, UNITS).layer()
    policy = Policy("net", (layer,), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(1.0, 9.0))
    with pytest.raises(Unsupported, match=r"solver 'euler' is unstable.*use at least \d+ unfolds"):
        lower(policy)


def test_ltc_by_fused_steps_is_that_of_ncps() -> None:
    """Its state dict fits, too."""
    ncps = pytest.importorskip("ncps.torch")
    theirs, ours = ncps.LTC(INPUTS, 6), cells.LTC(INPUTS, 6, solver="fused")
    ours.load_state_dict(theirs.state_dict())
    x = torch.tensor(sequence()[None], dtype=torch.float32)
    assert torch.equal(ours(x)[0], theirs(x)[0])


@pytest.mark.parametrize("solver", ["euler", "exponential"])
def test_ltc_by_short_steps_is_its_equation(solver: str) -> None:
    """Synapse by synapse; an exponential step goes to the target at the rate that it has at the step's start."""
    cell, x, dt, want = cells.LTC(INPUTS, UNITS, solver=solver, unfolds=5).double(), sequence(), 0.4, []
    p = {name: value.detach().numpy() for name, value in cell.rnn_cell._params.items()}
    softplus = {name: np.log1p(np.exp(p[name])) for name in ("gleak", "cm", "w", "sensory_w")}
    v = np.zeros(UNITS)
    for now in x:
        for _ in range(5):
            change, conductance = softplus["gleak"] * (p["vleak"] - v) - 1e-8 * v, softplus["gleak"] + 1e-8
            for kind, source in (("sensory_", now), ("", v)):
                for pre, potential in enumerate(source):
                    z = p[f"{kind}sigma"][pre] * (potential - p[f"{kind}mu"][pre])
                    g = softplus[f"{kind}w"][pre] / (1 + np.exp(-z))
                    change, conductance = change + g * (p[f"{kind}erev"][pre] - v), conductance + g
            if solver == "euler":
                v = v + dt / 5 * change / softplus["cm"]
            else:
                target = v + change / conductance
                v = target + (v - target) * np.exp(-dt / 5 * conductance / softplus["cm"])
        want.append(v)
    assert np.abs(outputs(cell, x, np.full(T, dt)) - want).max() < 1e-7


@pytest.mark.parametrize(("kind", "first"), [("lstm", "cell"), ("gru", "ode"), ("rnn", "cell")])
def test_ode_rnn(kind: str, first: str) -> None:
    """Heun's steps of a state that flows, before or after the cell's equations."""
    cell, x, dt, want = cells.OdeRnn(INPUTS, UNITS, cell=kind, first=first, hidden=6).double(), sequence(5), 0.7, []
    (w1, b1), (w2, b2) = weights(cell.flow[0]), weights(cell.flow[2])
    w_x, w_h, b_x, b_h = (parameter.detach().numpy() for parameter in cell.cell.parameters())

    def flow(h: np.ndarray) -> np.ndarray:
        return np.asarray(w2 @ np.tanh(w1 @ h + b1) + b2)

    def evolved(h: np.ndarray) -> np.ndarray:
        for _ in range(3):
            k = flow(h)
            h = h + dt / 3 * (k + flow(h + dt / 3 * k)) / 2
        return h

    h = c = np.zeros(UNITS)
    for now in x:
        h = evolved(h) if first == "ode" else h
        read, held = w_x @ now + b_x, w_h @ h + b_h
        if kind == "lstm":
            i, f, g, o = np.split(read + held, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
        elif kind == "gru":
            (r, z, n), (r_h, z_h, n_h) = np.split(read, 3), np.split(held, 3)
            h = (1 - sigmoid(z + z_h)) * np.tanh(n + sigmoid(r + r_h) * n_h) + sigmoid(z + z_h) * h
        else:
            h = np.tanh(read + held)
        h = evolved(h) if first == "cell" else h
        want.append(h)
    assert np.abs(outputs(cell, x, np.full(T, dt)) - want).max() < 1e-12
    policy = Policy("net", tuple(import_model(cell).layers), np.tile([-1.0, 1.0], (INPUTS, 1)), DtRange(dt, dt, dt))
    assert np.abs(run(lower(policy), Sequences(x[None], np.full((1, T), dt))).y[0] - want).max() < 1e-12


TRAINABLE = {
    "ct_rnn": lambda: cells.CtRnn(INPUTS, UNITS, feedback=True), "neural_ode": lambda: cells.NeuralOde(INPUTS, UNITS),
    "ct_gru": lambda: cells.CtGru(INPUTS, UNITS), "gru_ode": lambda: cells.GruOde(INPUTS, UNITS),
    "leaky": lambda: cells.LeakyIntegrator(INPUTS, UNITS, ahead=0.5),
    "lrc": lambda: cells.LRC(INPUTS, UNITS), "lrc_asymmetric": lambda: cells.LRC(INPUTS, UNITS, elastance="asymmetric"),
    "lif": lambda: cells.LIF(INPUTS, UNITS, recurrent=True, r=10.0),
    "ode_lstm": lambda: cells.OdeRnn(INPUTS, UNITS), "ode_rnn": lambda: cells.OdeRnn(INPUTS, UNITS, cell="gru",
                                                                                  first="ode"),
    **{f"ltc_{solver}": lambda solver=solver: cells.LTC(INPUTS, UNITS, solver=solver) for solver in LTC_SOLVERS},
}


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_parameter_is_trained(name: str) -> None:
    """Each gets a gradient, and a few steps against it bring the outputs nearer to others."""
    torch.manual_seed(0)
    cell, losses = TRAINABLE[name](), []
    x = torch.tensor(np.stack([sequence(i) for i in range(8)]), dtype=torch.float32)
    want = (x[..., :1] > 0).float() if name == "lif" else 0.5 * torch.sigmoid(torch.cumsum(x[..., :1], 1))
    trained = [p for p in cell.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 0.02)
    for _ in range(30):
        loss = ((cell(x)[0] - want) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
        optimizer.step()
    assert all(p.grad.abs().sum() > 0 for p in trained)
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", TRAINABLE)
def test_one_sequence_needs_no_batch(name: str) -> None:
    cell, x = TRAINABLE[name](), torch.tensor(sequence(), dtype=torch.float32)
    dt = torch.linspace(0.5, 1.0, T)
    (y, state), (alone, after) = cell(x[None], None, dt), cell(x, None, dt)
    assert torch.equal(alone, y[0])
    assert torch.equal(after, state[0])
    with pytest.raises(ValueError, match=r"give \(batch, steps, inputs\), or \(steps, inputs\)"):
        cell(x[0])


@pytest.mark.parametrize(("make", "words"), [
    (lambda: cells.CtRnn(1, 1, tau="two"), "tau is 'two'"),
    (lambda: cells.NeuralOde(1, 1, solver="rk5"), "solver is 'rk5'; give 'euler', 'heun', 'rk38' or 'rk4'"),
    (lambda: cells.LTC(1, 1, solver="rk5"), "solver is 'rk5'; give 'fused', 'exponential', 'euler', .* or 'rk4'"),
    (lambda: cells.CtGru(1, 1, decay="none"), "decay is 'none'"),
    (lambda: cells.LeakyIntegrator(1, 1, ahead=1.5), "ahead 1.5"),
    (lambda: cells.OdeRnn(1, 1, cell="cfc"), "cell is 'cfc' and first 'cell'; give 'lstm', 'gru' or 'rnn'"),
    (lambda: cells.LRC(1, 1, elastance="none"), "elastance is 'none'"),
    (lambda: cells.LeakyIntegrator(1, 1, function="sin"), "function is 'sin'"),
])
def test_unknown_options_are_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]


def multiplications(program: Program) -> int:
    """Of a step: one per weight of a matrix, one per element of a product or mix."""
    table, total = values(program), 0
    for op in statements(program.body):
        if op.kind in ("matmul", "matmulshr"):
            total += int(np.prod(table[op.args[0]].shape))
        elif op.kind in ("mul", "mulshr", "mix", "div"):
            total += int(np.prod(op.out.shape))
    return total


def gate_policy(kind: str, n: int = 16, m: int = 5) -> Policy:
    rng, gates = np.random.default_rng(0), 4 if kind == "lstm" else 3
    w_x, w_h, b = rng.normal(size=(gates * n, m)), rng.normal(size=(gates * n, n)), rng.normal(size=gates * n)
    layer: Layer = Lstm(w_x, w_h, b) if kind == "lstm" else Gru(w_x, w_h, b, b)
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (m, 1)))


@pytest.mark.parametrize(("kind", "gates", "products"), [("lstm", 4, 3), ("gru", 3, 3)])
@pytest.mark.parametrize("scheme", ["real", "float32", "int16"])
def test_gates_cost_no_more_than_their_mathematics(kind: str, gates: int, products: int, scheme: Any) -> None:
    """In the program that is emitted, whose tables' interpolation (one product per entry read) is not counted."""
    policy, n, m = gate_policy(kind), 16, 5
    options = CompileOptions(quant="float32" if scheme == "real" else scheme)
    lowered = lower_for(Container(policy, None), options).lowered
    program = lowered.real if scheme == "real" else lowered.program
    assert multiplications(program) <= 1.2 * (gates * n * (n + m) + products * n)


def cfc_layer(mode: str, rng: np.random.Generator, n: int, m: int, backbone: int) -> Cfc:
    width = backbone or n + m
    heads = [Dense(rng.normal(0, 0.3, (n, width)), rng.normal(0, 0.3, n)) for _ in range(4)]
    before = (Dense(rng.normal(0, 0.3, (backbone, n + m)), rng.normal(0, 0.3, backbone)),) if backbone else ()
    return Cfc(before, *heads, None, None, mode, "tanh", "tanh", ("inter",) * n, tuple(f"n{i}" for i in range(n)))


@pytest.mark.parametrize("mode", ["default", "no_gate"])
@pytest.mark.parametrize("backbone", [0, 7])
def test_a_fixed_timespan_merges_the_two_gates_of_a_cfc(mode: str, backbone: int) -> None:
    """time_a*dt + time_b is one matrix then: a quarter of the heads' products less, the same numbers."""
    rng, n, m = np.random.default_rng(1), 6, 3
    layer = cfc_layer(mode, rng, n, m, backbone)
    real = lower(Policy("net", (layer,), np.tile([-1.0, 1.0], (m, 1)), DtRange(0.5, 2.0)))
    fixed = fix_dt(real, 0.7)
    heads, rest = n * (backbone or n + m), backbone * (n + m) + n  # one mix or product per neuron
    assert multiplications(fixed) == 3 * heads + rest
    assert multiplications(real) == 4 * heads + rest + n  # and time_a*dt
    data = Sequences(rng.uniform(-1, 1, (2, 30, m)), np.full((2, 30), 0.7))
    assert np.abs(run(real, data).y - run(fixed, Sequences(data.x)).y).max() <= 1e-14


def test_gates_with_other_readers_or_sources_stay_apart() -> None:
    """A gate whose product with time is an output too, or that reads another vector, is not merged."""
    b, axis = Builder(Real()), Axis("neurons", 2)
    x, h, dt = b.value("x", [Axis("inputs", 2)]), b.value("h", [axis]), b.const("dt", 0.5)
    w = [b.const(f"w{i}", np.eye(2) * (i + 1), [axis, x.axes[0] if i < 2 else Axis("before", 2)]) for i in range(3)]
    a, other = b.op("matmul", "a", w[0], x), b.op("matmul", "other", w[2], h)
    b.op("add", "sum", b.op("mul", "a_dt", a, dt), other)
    ports = [Port(value, (), None, np.zeros((2, 2))) for value in (x, Value("sum", (axis,), Real()))]
    program = Program("net", ports[0], ports[1], None, (), b.constants, b.body)
    assert merge_products(program).body == program.body
