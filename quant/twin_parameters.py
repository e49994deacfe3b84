"""Parameters seen through the grids of the weights that are made of them. Importing this needs torch and brevitas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.quant.brevitas_library import brevitas_library
from ncpc.quant.held_weights import HeldWeight
from ncpc.quant.weight_origins import WeightOrigin, WeightTerm
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()


WITHIN = 2.0**-5
"""By how much of a unit a weight that is moved to another integer stays within what is rounded to that."""


@dataclass
class Once:
    """What parameters became within one call of a module's forward: they are asked for in every step of time.

    ``flat`` are the modules of torch that keep a list of them from call to call, of which no copy can be made while it
    remembers how they were computed.
    """

    values: dict[Any, Any] | None = None
    flat: list[Any] = field(default_factory=list)

    def begin(self, *_: Any) -> None:
        self.values = {}

    def end(self, *_: Any) -> None:
        self.values = None
        for module in self.flat:
            module._flat_weights = [None if weight is None else weight.detach() for weight in module._flat_weights]

    def get(self, key: Any, make: Any) -> Any:
        """What ``make()`` gave for this key since forward began; anew where it does not run."""
        key = (*key, torch.is_grad_enabled())
        if self.values is None:
            return make()
        if key not in self.values:
            self.values[key] = make()
        return self.values[key]


@dataclass(frozen=True, eq=False)
class ParameterGrid:
    """For each element of one parameter, all flat: the weight it belongs to is ``gain`` times it plus the ``others``,
    and is held as an integer of ``bits`` bits, but not the lowest, times ``unit``. A ``unit`` of 0: it belongs to none.
    ``held`` is what the compiler rounds that weight to.
    """

    gain: F64
    unit: F64
    bits: I64
    held: F64
    others: tuple[WeightTerm, ...] = field(default=())


class WeightOnGrid(torch.nn.Module):
    """A parametrization: the parameter moved by what brings the weight that is made of it onto its grid.

    The gradient passes unchanged. ``state_dict`` holds the grid, so that a loaded one is the trained one.
    """

    unit: torch.Tensor
    gain: torch.Tensor
    bits: torch.Tensor

    def __init__(self, parameter: torch.Tensor, once: Once) -> None:
        super().__init__()
        self.once = once
        self.others: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
        for name in ("unit", "gain", "bits"):
            self.register_buffer(name, torch.zeros(parameter.shape, dtype=torch.float64, device=parameter.device))

    def put(self, grid: ParameterGrid, others: Sequence[torch.Tensor]) -> None:
        """Take another grid; ``others`` are the parameters of its other terms."""
        for name in ("unit", "gain", "bits"):
            buffer = getattr(self, name)
            buffer.copy_(torch.as_tensor(np.asarray(getattr(grid, name), np.float64)).reshape(buffer.shape))
        device = self.unit.device
        self.others = [(other, torch.as_tensor(term.gain, device=device), torch.as_tensor(term.index, device=device))
                       for other, term in zip(others, grid.others, strict=True)]

    @torch.no_grad()
    def start(self, parameter: torch.Tensor, held: F64, near: bool) -> bool:
        """Move the parameter so that its weights are rounded to ``held``: as ``moved_to`` has it. Whether it moved."""
        exact = self._exact(parameter)
        aim = torch.as_tensor(held, device=exact.device).reshape(exact.shape)
        after = moved_to(aim, exact, self.unit, near)
        parameter += ((after - exact) / torch.where(self.unit > 0, self.gain, 1.0)).to(parameter.dtype)
        return not torch.equal(after, exact)

    def forward(self, parameter: torch.Tensor) -> torch.Tensor:
        moved: torch.Tensor = self.once.get((id(self),), lambda: self._moved(parameter))
        return moved

    def _exact(self, parameter: torch.Tensor) -> torch.Tensor:
        """The weights that are made of the parameter, before rounding."""
        exact = parameter.detach().double() * self.gain
        for other, gain, index in self.others:
            values = other.detach().double().reshape(-1)
            added = gain.to(values.device) * values[index.to(values.device)]
            exact = exact + added.reshape(exact.shape)
        return exact

    def _moved(self, parameter: torch.Tensor) -> torch.Tensor:
        exact = self._exact(parameter)
        moved = (rounded(exact, self.unit, self.bits) - exact) / torch.where(self.unit > 0, self.gain, 1.0)
        return parameter + moved.to(parameter.dtype)


def rounded(exact: torch.Tensor, unit: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Weights in float64 on their grid; as they are where ``unit`` is 0."""
    there = unit > 0
    found: torch.Tensor = brevitas_library().rounding(torch.where(there, unit, 1.0), torch.where(there, bits, 8.0),
                                                      exact)
    return torch.where(there, found, exact)


def moved_to(aim: torch.Tensor, exact: torch.Tensor, unit: torch.Tensor, near: bool) -> torch.Tensor:
    """Weights whose nearest number on the grid is ``aim``: those of which it is already stay; others go as far as they
    must where ``near``, else all the way.
    """
    wrong = (unit > 0) & ((exact - aim).abs() >= unit / 2)
    room = (0.5 - WITHIN) * unit if near else torch.zeros_like(unit)
    return torch.where(wrong, torch.minimum(torch.maximum(exact, aim - room), aim + room), exact)


def parameter_grids(weights: Sequence[HeldWeight], origins: Sequence[WeightOrigin],
                    sizes: dict[str, int]) -> dict[str, ParameterGrid]:
    """The grid of each parameter: the last term of a weight's element carries it. ``sizes`` are the parameters' numbers
    of elements; weights of others are left out.

    What several weights are made of lies on the coarsest of their grids.
    """
    found = {name: _Carried(size) for name, size in sizes.items()}
    for weight, origin in zip(weights, origins, strict=True):
        free = origin.known & (weight.data != 0)
        for k, term in reversed(list(enumerate(origin.terms))):
            mine = free & (term.gain != 0)
            free = free & ~mine
            if term.parameter in found:
                found[term.parameter].take(weight, term, mine, origin.terms[:k])
    return {name: carried.grid() for name, carried in found.items() if carried.unit.any()}


def over(grid: ParameterGrid, before: ParameterGrid | None) -> ParameterGrid:
    """The grid, and the one before where it has none."""
    if before is None:
        return grid
    old = grid.unit == 0
    gain, unit, bits, held = (np.where(old, getattr(before, name), getattr(grid, name))
                              for name in ("gain", "unit", "bits", "held"))
    others = [WeightTerm(term.parameter, np.where(old == kept, term.gain, 0.0), term.index)
              for terms, kept in ((grid.others, False), (before.others, True)) for term in terms]
    return ParameterGrid(gain, unit, bits, held, tuple(others))


class _Carried:
    """The grid of one parameter while weights are gone through."""

    def __init__(self, size: int) -> None:
        self.gain, self.unit, self.bits, self.held = (np.zeros(size, kind) for kind in (float, float, np.int64, float))
        self.others: dict[str, tuple[F64, I64]] = {}

    def take(self, weight: HeldWeight, term: WeightTerm, mine: np.ndarray[Any, Any],
             others: Sequence[WeightTerm]) -> None:
        """The elements ``mine`` of a weight, where their grid is coarser than what is known so far."""
        at, gain = term.index[mine], term.gain[mine]
        unit = weight.unit[mine]
        coarser = unit / np.abs(gain) > self.unit[at] / np.maximum(np.abs(self.gain[at]), 1e-300)
        at = at[coarser]
        self.gain[at], self.unit[at], self.bits[at] = gain[coarser], unit[coarser], weight.bits
        self.held[at] = (weight.raw * weight.unit)[mine][coarser]
        for name in self.others:
            self.others[name][0][at] = 0.0
        for other in others:
            added, index = self.others.setdefault(other.parameter, (np.zeros(len(self.gain)),
                                                                    np.zeros(len(self.gain), np.int64)))
            added[at], index[at] = other.gain[mine][coarser], other.index[mine][coarser]

    def grid(self) -> ParameterGrid:
        others = tuple(WeightTerm(name, *parts) for name, parts in self.others.items() if parts[0].any())
        return ParameterGrid(self.gain, self.unit, self.bits, self.held, others)
