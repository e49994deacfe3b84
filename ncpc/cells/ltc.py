"""The LTC of ncps with a choice of solvers, as a torch module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ncpc.cells.over_time import over_time
from ncpc.cells.solvers import explicit_step, known_solver
from ncpc.ir.tableau import LTC_SOLVERS
from ncpc.system.torch_library import ncps_torch_module, torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


class LTC(torch.nn.Module):
    """``cm dv/dt = gleak*(vleak - v) - epsilon*v + sum g*(erev - v)``, ``unfolds`` steps of dt/unfolds.

    ``solver`` is ``euler`` or ``rk4``, the other two of Hasani et al. 2021, another of ``ncpc.ir.tableau``,
    ``exponential`` (exponential Euler) or ``fused``, the only one of ncps. Train with the solver that is to run: all
    compute different functions. ``units`` is a number or an ncps wiring; the parameters are those of
    ``ncps.torch.LTC``, under the same names, and a state dict fits both. An explicit step may be unstable
    (``docs/cells.md``); compiling says how many unfolds it takes.
    """

    def __init__(
        self, inputs: int, units: Any, *, solver: str = "rk4", unfolds: int = 6, epsilon: float = 1e-8,
        input_mapping: str | None = "affine", output_mapping: str | None = "affine",
        implicit_param_constraints: bool = True,
    ) -> None:
        super().__init__()
        self.solver, self.unfolds, self.epsilon = known_solver(solver, LTC_SOLVERS), unfolds, epsilon
        whole = ncps_torch_module().LTC(
            inputs, units, input_mapping=input_mapping, output_mapping=output_mapping, ode_unfolds=unfolds,
            epsilon=epsilon, implicit_param_constraints=implicit_param_constraints,
        )
        self.rnn_cell = whole.rnn_cell

    def forward(
        self, x: torch.Tensor, hx: torch.Tensor | None = None, timespans: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Outputs (B, T, motors) and final state (B, units) for ``x`` (B, T, inputs); ``timespans`` (T,) or (B, T).

        Without the batch dimension for ``x`` (T, inputs).
        """
        return over_time(self._step, x, x.new_zeros(self.rnn_cell.state_size) if hx is None else hx, timespans)

    def _step(self, x: torch.Tensor, v: torch.Tensor, dt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cell = self.rnn_cell
        if self.solver == "fused":
            y, after = cell(x, v, dt)
            return y, after
        given = self._currents("sensory_", cell._map_inputs(x))
        for _ in range(self.unfolds):
            v = self._unfold(given, v, dt / self.unfolds)
        return cell._map_outputs(v), v

    def _unfold(self, given: tuple[torch.Tensor, torch.Tensor], v: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """One step of length ``h`` (B, 1) with the sensory currents ``given``."""
        if self.solver == "exponential":
            drive, rate = self._drive(given, v)
            return v + (drive / rate - v) * -torch.expm1(-h * rate)

        def slope(at: torch.Tensor) -> torch.Tensor:
            drive, rate = self._drive(given, at)
            return drive - rate * at

        return explicit_step(slope, v, h, self.solver)

    def _drive(self, given: tuple[torch.Tensor, torch.Tensor], v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """``a`` and ``r`` of ``dv/dt = a - r*v``, both (B, units)."""
        cell = self.rnn_cell
        cm, gleak = (cell.make_positive_fn(cell._params[name]) for name in ("cm", "gleak"))
        num, den = self._currents("", v)
        return ((gleak * cell._params["vleak"] + given[0] + num) / cm,
                (gleak + self.epsilon + given[1] + den) / cm)

    def _currents(self, prefix: str, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of g*erev and of g over the synapses into each neuron, both (B, units)."""
        cell = self.rnn_cell
        names = ("w", "sigma", "mu", "erev", "sparsity_mask")
        w, sigma, mu, erev, mask = (cell._params[prefix + name] for name in names)
        g = cell.make_positive_fn(w) * torch.sigmoid(sigma * (u[..., None] - mu)) * mask
        return (g * erev).sum(1), g.sum(1)
