"""A step function run over sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

Step = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], tuple["torch.Tensor", "torch.Tensor"]]
"""(x (B, inputs), state (B, n), dt (B, 1)) -> (y (B, outputs), state)."""


def over_time(
    step: Step, x: torch.Tensor, state: torch.Tensor, timespans: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs (B, T, outputs) and the final state (B, n) for ``x`` (B, T, inputs), ``state`` (B, n) or (n,).

    One sequence (T, inputs) gives (T, outputs) and (n,). ``timespans`` is (T,) or (B, T), 1.0 each when left out.
    Raises ``ValueError`` for ``x`` of another number of dimensions.
    """
    if x.dim() == 2:
        y, after = over_time(step, x[None], state, timespans)
        return y[0], after[0]
    if x.dim() != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; give (batch, steps, inputs), or (steps, inputs)")
    if timespans is None:
        timespans = x.new_ones(x.shape[:2])
    timespans = timespans.expand(x.shape[:2])[..., None]
    state, outputs = state.expand(x.shape[0], state.shape[-1]), []
    for t in range(x.shape[1]):
        y, state = step(x[:, t], state, timespans[:, t])
        outputs.append(y)
    return torch.stack(outputs, dim=1), state
