"""How the solver and its unfolds trade error for cost, on the ODE cells of a policy."""

from __future__ import annotations

import dataclasses

import numpy as np
from rich.table import Table

from ncpc.errors import Unsupported
from ncpc.ir.cells import CtRnn, NeuralOde
from ncpc.ir.policy import F64, Layer, Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.tableau import MEANS, TABLEAUS
from ncpc.passes.lower import lower
from ncpc.report.record import Json
from ncpc.semantics.run import run

UNFOLDS = (1, 2, 3, 4, 6, 8, 12, 16, 24)
EXACT = 48
"""Runge-Kutta unfolds (or as many as are stable) that stand for the solution of the ODE."""
STEPS = 60
FINER, SAME = 10, 1e-11
"""How often steps are halved at most, until that changes the outputs by no more than that share of their range."""


def solver_study(policy: Policy) -> Json:
    """Error of every solver and number of unfolds against the ODE's solution, largest over outputs and steps.

    All ODE cells of the policy are changed together; CT-RNN and neural ODE keep the time a step covers. ``trained`` is
    the row the policy was trained with: the distance of the trained map from the ODE it approximates, no error of the
    compiler. ``error`` is a fraction of the output range, None where the step is unstable; ``evaluations`` counts the
    right-hand side's evaluations per step. Raises ``Unsupported`` when no layer is an ODE cell.
    """
    cells = ode_cells(policy)
    if not cells:
        raise Unsupported(f"{policy.name}: has no ODE cell (ltc, ct_rnn, neural_ode), so there is no solver to study")
    data = _data(policy)
    exact = _exact(policy, data)
    scale = max(float(np.ptp(exact)), 1e-12)
    rows = [_row(policy, solver, n, data, exact, scale) for solver in solvers(cells) for n in UNFOLDS]
    return {"steps": int(data.x.shape[1]), "trained": {"solver": cells[0].solver, "unfolds": cells[0].unfolds},
            "rows": rows}


def ode_cells(policy: Policy) -> list[Ltc | CtRnn | NeuralOde]:
    """The layers that have a solver and unfolds."""
    return [layer for layer in policy.layers if isinstance(layer, Ltc | CtRnn | NeuralOde)]


def solvers(cells: list[Ltc | CtRnn | NeuralOde]) -> tuple[str, ...]:
    """The solvers that all of them have."""
    return (*(MEANS if all(isinstance(cell, Ltc) for cell in cells) else ()), *TABLEAUS)


def _data(policy: Policy) -> Sequences:
    """A random walk through the declared input ranges, at the nominal timespan."""
    rng, (lo, hi) = np.random.default_rng(0), policy.input_range.T
    walk = np.cumsum(rng.normal(0, 0.1, (1, STEPS, policy.inputs)), axis=1)
    return Sequences(lo + (hi - lo) * (0.5 - 0.5 * np.cos(np.pi * walk)), np.full((1, STEPS), policy.dt.nominal))


def _exact(policy: Policy, data: Sequences) -> F64:
    """Runge-Kutta, with twice the unfolds until the step is stable."""
    for unfolds in (EXACT << k for k in range(8)):
        y = _outputs(policy, "rk4", unfolds, data)
        if y is not None:
            return y
    raise Unsupported(f"{policy.name}: no explicit step is short enough to solve the ODE; it is too stiff to study")


def _outputs(policy: Policy, solver: str, unfolds: int, data: Sequences) -> F64 | None:
    """Outputs with another solver; None where its step is refused."""
    changed = tuple(with_solver(layer, solver, unfolds) for layer in policy.layers)
    at_nominal = dataclasses.replace(policy.dt, lo=policy.dt.nominal, hi=policy.dt.nominal)
    try:
        return run(lower(dataclasses.replace(policy, layers=changed, dt=at_nominal)), data).y
    except Unsupported:
        return None


def with_solver(layer: Layer, solver: str, unfolds: int) -> Layer:
    """The layer with another step of as long a time; itself where it is no ODE cell."""
    if isinstance(layer, Ltc):
        return dataclasses.replace(layer, solver=solver, unfolds=unfolds)
    if isinstance(layer, CtRnn | NeuralOde):
        span = layer.step * layer.unfolds
        return dataclasses.replace(layer, solver=solver, unfolds=unfolds, step=span / unfolds)
    return layer


def _row(policy: Policy, solver: str, unfolds: int, data: Sequences, exact: F64, scale: float) -> Json:
    y = _outputs(policy, solver, unfolds, data)
    error = None if y is None else float(np.abs(y - exact).max()) / scale
    stages = 1 if solver in MEANS else TABLEAUS[solver].stages
    return {"solver": solver, "unfolds": unfolds, "evaluations": unfolds * stages, "error": error}


def steps_apart(policy: Policy, method: str, steps: int) -> Json:
    """How far the outputs are from those of the ODE where CT-RNN and neural ODE take ``steps`` steps of ``method``.

    On up to ``STEPS`` steps of each sequence of the calibration, or a random walk without one. ``error`` is the largest
    difference over the range of the outputs, ``halved`` by what steps half as long divide it: near 2**order, the
    method's order; None where both are roundings. The ODE's solution is that of ``rk4`` with so many steps that twice
    as many change nothing.
    """
    data = _data(policy) if policy.calibration is None else policy.calibration
    cut = Sequences(data.x[:, :STEPS], None if data.dt is None else data.dt[:, :STEPS],
                    None if data.reset is None else data.reset[:, :STEPS])

    def outputs(solver: str, unfolds: int) -> F64:
        layers = tuple(with_solver(layer, solver, unfolds) if isinstance(layer, CtRnn | NeuralOde) and
                       (layer.solver, layer.unfolds) == (method, steps) else layer for layer in policy.layers)
        return run(lower(dataclasses.replace(policy, layers=layers)), cut).y

    count, exact = 4 * steps, outputs("rk4", 4 * steps)
    scale = max(float(np.ptp(exact)), 1e-12)
    for _ in range(FINER):
        count, before, exact = 2 * count, exact, outputs("rk4", 2 * count)
        if np.abs(exact - before).max() <= SAME * scale:
            break
    error, finer = (float(np.abs(outputs(method, n) - exact).max()) / scale for n in (steps, 2 * steps))
    return {"method": method, "steps": steps, "error": error, "halved": error / finer if finer > 10 * SAME else None,
            "data": "random walk" if policy.calibration is None else "calibration", "length": int(cut.x.shape[1])}


def study_table(study: Json) -> Table:
    """The study for people: one line per solver and number of unfolds, the trained one marked."""
    table = Table(title=f"solvers against the ODE, {study['steps']} steps", title_justify="left")
    table.add_column("solver")
    for name in ("unfolds", "evaluations", "error / range"):
        table.add_column(name, justify="right")
    for row in study["rows"]:
        trained = all(row[key] == study["trained"][key] for key in ("solver", "unfolds"))
        error = "unstable" if row["error"] is None else f"{row['error']:.2e}"
        table.add_row(f"{row['solver']}{' (trained)' if trained else ''}", str(row["unfolds"]), str(row["evaluations"]),
                      error)
    return table
