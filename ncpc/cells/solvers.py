"""Steps of an ODE that torch modules share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ncpc.ir.tableau import TABLEAUS
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

EXPLICIT = tuple(TABLEAUS)


def known_solver(solver: str, known: tuple[str, ...] = EXPLICIT) -> str:
    """``solver``. Raises ``ValueError`` where it is not known."""
    if solver not in known:
        raise ValueError(f"solver is {solver!r}; give {', '.join(map(repr, known[:-1]))} or {known[-1]!r}")
    return solver


def explicit_step(
    slope: Callable[[torch.Tensor], torch.Tensor], v: torch.Tensor, size: torch.Tensor, solver: str
) -> torch.Tensor:
    """One step of length ``size`` (B, 1) of ``dv/dt = slope(v)`` by a method of ``ncpc.ir.tableau``."""
    tableau = TABLEAUS[solver]
    slopes = [slope(v)]
    for row in tableau.a:
        slopes.append(slope(v + size * sum(float(share) * k for share, k in zip(row, slopes, strict=True) if share)))
    whole, parts = tableau.parts
    return v + size / whole * sum(part * k for part, k in zip(parts, slopes, strict=True))
