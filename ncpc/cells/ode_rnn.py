"""Gated cells whose state follows an ODE between inputs, as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ncpc.cells.over_time import over_time
from ncpc.cells.solvers import explicit_step, known_solver
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class OdeRnn(torch.nn.Module):
    """A ``cell`` of torch (``lstm``, ``gru``, ``rnn``), whose ``h`` follows ``dh/dt = flow(h)`` over each timespan.

    ``flow`` is Linear, Tanh, Linear of ``hidden`` units (``units`` when left out). ``first="ode"``: h evolves, then the
    cell reads x (ODE-RNN; Rubanova, Chen & Duvenaud 2019). ``first="cell"``: the cell reads x, then h evolves
    (ODE-LSTM; Lechner & Hasani 2020). ``unfolds`` steps of dt/unfolds with ``solver``, one of ``ncpc.ir.tableau``. The
    output is ``h``; the state holds ``h`` and, of an LSTM, ``c``. Raises ``ValueError`` for options that are not known.
    """

    def __init__(
        self, inputs: int, units: int, *, cell: str = "lstm", first: str = "cell", hidden: int | None = None,
        unfolds: int = 3, solver: str = "heun",
    ) -> None:
        super().__init__()
        nn = torch.nn
        cells = {"lstm": nn.LSTMCell, "gru": nn.GRUCell, "rnn": nn.RNNCell}
        if cell not in cells or first not in ("ode", "cell"):
            raise ValueError(f"cell is {cell!r} and first {first!r}; give 'lstm', 'gru' or 'rnn', and 'ode' or 'cell'")
        self.units, self.first, self.unfolds, self.solver = units, first, unfolds, known_solver(solver)
        self.cell = cells[cell](inputs, units)
        self.flow = nn.Sequential(nn.Linear(units, hidden or units), nn.Tanh(), nn.Linear(hidden or units, units))

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, units) and final state (B, units), of an LSTM (B, 2*units), for ``x`` (B, T, inputs);
        ``timespans`` (T,) or (B, T). Without the batch dimension for ``x`` (T, inputs).
        """
        size = self.units * (2 if isinstance(self.cell, torch.nn.LSTMCell) else 1)
        return over_time(self._step, x, x.new_zeros(size) if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, state: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h, *rest = torch.chunk(state, state.shape[1] // self.units, dim=1)
        h = self._evolved(h, dt) if self.first == "ode" else h
        after = self.cell(x, (h, *rest) if rest else h)
        h, *rest = after if isinstance(after, tuple) else (after,)
        h = self._evolved(h, dt) if self.first == "cell" else h
        return h, torch.cat([h, *rest], dim=1)

    def _evolved(self, h: torch.Tensor, dt: torch.Tensor) -> torch.Tensor:
        for _ in range(self.unfolds):
            h = explicit_step(self.flow, h, dt / self.unfolds, self.solver)
        return h


def is_ode_lstm(module: object) -> bool:
    """Whether it is an ``ODELSTMCell`` as published with the ODE-LSTM (github.com/mlech26l/ode-lstms), by its parts."""
    parts = (getattr(module, "lstm", None), getattr(module, "f_node", None))
    return type(module).__name__ == "ODELSTMCell" and isinstance(parts[0], torch.nn.LSTMCell) and isinstance(
        parts[1], torch.nn.Sequential)
