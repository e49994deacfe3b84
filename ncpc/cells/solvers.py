"""Steps of an ODE that torch modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ncpc.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

EXPLICIT = ("euler", "rk4")


def known_solver(solver: str, known: tuple[str, ...] = EXPLICIT) -> str:
    """``solver``. Raises ``ValueError`` where it is not known."""
    if solver not in known:
        raise ValueError(f"solver is {solver!r}; give {', '.join(map(repr, known[:-1]))} or {known[-1]!r}")
    return solver


def explicit_step(
    slope: Callable[[torch.Tensor], torch.Tensor], v: torch.Tensor, size: torch.Tensor, solver: str
) -> torch.Tensor:
    """One step of length ``size`` (B, 1) of ``dv/dt = slope(v)``: Euler's, or the classical Runge-Kutta step."""
    k1 = slope(v)
    if solver == "euler":
        return v + size * k1
    k2 = slope(v + size / 2 * k1)
    k3 = slope(v + size / 2 * k2)
    k4 = slope(v + size * k3)
    return v + size / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
