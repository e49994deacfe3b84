"""The synapses of an ncps ``LTCCell`` on the grids of its integer step. Importing this needs torch and brevitas.

The step multiplies by ``w``, ``w*erev`` and ``sigma`` (times the input map), and each of the three has a grid of its
own; ``-sigma*mu`` is kept as it is, so that rounding a slope does not move its sigmoid at 0. The cell's forward reads
``w, erev, sigma, mu``, so these are made of the three again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpc.ir.policy import F64, Ltc, Synapses
from ncpc.quant.brevitas_library import brevitas_library
from ncpc.quant.held_weights import HeldWeight
from ncpc.quant.twin_parameters import Once
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

FLAT = 2.0**-50
"""A slope that rounds to 0 at every fraction and still has a centre: that of a synapse whose slope was rounded to 0."""
SHUT = -110.0
"""What softplus makes 0 of, in single precision."""
SETS = {"sensory_": "_s", "": ""}
"""What stands before the names of a set's parameters in ncps, and behind those of its weights in a program."""


@dataclass(frozen=True, eq=False)
class SynapseGrid:
    """The units of ``w``, ``we`` and ``sigma`` of one set, (pre, post) each, 0 where there is no synapse.

    ``channel`` is by how much a slope is larger in the program than ``sigma*input_w``: inputs have fractions of their
    own there.
    """

    bits: Mapping[str, int]
    w: torch.Tensor
    we: torch.Tensor
    sigma: torch.Tensor
    channel: torch.Tensor


class LtcParameters(Mapping[str, Any]):
    """Stands where an ncps ``LTCCell`` keeps its parameters by name: what its forward reads, on the grid.

    ``w``, ``cm`` and ``gleak`` come with the cell's constraint applied; ``make_positive_fn`` has nothing left to do.
    """

    def __init__(self, cell: Any, once: Once) -> None:
        self.cell, self.once, self.positive = cell, once, cell.make_positive_fn
        self.names = tuple(cell._params)
        self.grids: dict[str, SynapseGrid] = {}
        cell._params, cell.make_positive_fn = self, torch.nn.Identity()
        cell.apply_weight_constraints = self.apply_weight_constraints

    def __getitem__(self, name: str) -> Any:
        prefix = "sensory_" if name.startswith("sensory_") else ""
        own = name.removeprefix(prefix)
        if own in ("w", "erev", "sigma", "mu"):
            return self.once.get((id(self), prefix), lambda: self._synapses(prefix))[own]
        value = self.cell._parameters[name]
        return self.positive(value) if name in ("cm", "gleak") else value

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    @torch.no_grad()
    def apply_weight_constraints(self) -> None:
        """As the cell's own: w, sensory_w, cm, gleak at 0 or above, where its constraints are explicit."""
        if not self.cell._implicit_param_constraints:
            for name in ("w", "sensory_w", "cm", "gleak"):
                self.cell._parameters[name].clamp_(min=0.0)

    def _synapses(self, prefix: str) -> dict[str, Any]:
        """``w, erev, sigma, mu`` of one set, (pre, post) each."""
        raw = {name: self.cell._parameters[prefix + name] for name in ("w", "erev", "sigma", "mu", "sparsity_mask")}
        w, erev, sigma, mu, mask = (raw[name] for name in ("w", "erev", "sigma", "mu", "sparsity_mask"))
        grid = self.grids.get(prefix)
        if grid is None:
            return {"w": self.positive(w), "erev": erev, "sigma": sigma, "mu": mu}
        there = mask != 0
        scale = torch.where(there, mask, 1.0)
        strength = self.positive(w) * scale
        held = _rounded(strength, grid.w, grid.bits["w"]).clamp(min=0.0)
        open_ = held > 0
        current = _rounded(strength * erev, grid.we, grid.bits["we"])
        driven = torch.where(there & open_, current / torch.where(open_, held, 1.0), erev)
        slope, centre = self._argument(sigma, mu, grid, prefix)
        return {"w": torch.where(there, held / scale, self.positive(w)), "erev": driven,
                "sigma": torch.where(there, slope, sigma), "mu": torch.where(there, centre, mu)}

    def _argument(self, sigma: Any, mu: Any, grid: SynapseGrid, prefix: str) -> tuple[Any, Any]:
        """Slopes on their grid, and the centres that keep ``sigma*(input_b - mu)``."""
        inputs = {name: self.cell._parameters.get(name) for name in ("input_w", "input_b")} if prefix else {}
        gain = grid.channel.to(sigma.dtype)
        if inputs.get("input_w") is not None:
            gain = gain * inputs["input_w"].detach()[:, None]
        shift = 0.0 if inputs.get("input_b") is None else inputs["input_b"][:, None]
        gain = torch.where(gain == 0, 1.0, gain)
        slope = _rounded(sigma * gain, grid.sigma, grid.bits["sigma"]) / gain
        slope = torch.where(slope == 0, FLAT, slope)
        return slope, shift - sigma * (shift - mu) / slope

    @torch.no_grad()
    def put(self, layer: Ltc, weights: Mapping[str, HeldWeight]) -> None:
        """Take the grids of a layer's ``weights`` by name; where a cell is run at several places, the coarsest."""
        for prefix, tag in SETS.items():
            synapses = layer.sensory if prefix else layer.recurrent
            if not len(synapses):
                continue
            found = {name: weights[name + tag] for name in ("w", "we", "sigma")}
            own = synapses.sigma * (layer.input_w[synapses.pre] if prefix else 1.0)
            channel = np.divide(found["sigma"].data, own, out=np.ones(len(synapses)), where=own != 0)
            shape = self.cell._parameters[prefix + "w"].shape
            units = {name: self._dense(synapses, held.unit, shape) for name, held in found.items()}
            bits = {name: held.bits for name, held in found.items()}
            grid = SynapseGrid(bits, channel=self._dense(synapses, channel, shape), **units)
            self.grids[prefix] = _coarser(grid, self.grids.get(prefix))

    def _dense(self, synapses: Synapses, values: F64, shape: Any) -> Any:
        dense = np.zeros(tuple(shape))
        dense[synapses.pre, synapses.post] = values
        return torch.as_tensor(dense, device=self.cell._parameters["w"].device)

    @torch.no_grad()
    def baked(self) -> dict[str, Any]:
        """By name what the plain cell's parameters are to hold for the same forward."""
        found = {name: self[name] for name in self.names} | {n: self.cell._parameters[n] for n in ("cm", "gleak")}
        if not isinstance(self.positive, torch.nn.Identity):
            found |= {name: _shut(found[name]) for name in ("w", "sensory_w")}
        return {name: value.detach() for name, value in found.items()}


def _rounded(values: Any, unit: Any, bits: int) -> Any:
    """Values on their grid, with the identity's gradient; as they are where the unit is 0."""
    there, wide = unit > 0, torch.as_tensor(float(bits), dtype=torch.float64, device=unit.device)
    exact = values.detach().double()
    held = brevitas_library().rounding(torch.where(there, unit, 1.0), wide, exact)
    return values + torch.where(there, held - exact, 0.0).to(values.dtype)


def _coarser(grid: SynapseGrid, before: SynapseGrid | None) -> SynapseGrid:
    if before is None:
        return grid
    steeper = grid.sigma * before.channel > before.sigma * grid.channel
    return SynapseGrid(grid.bits, torch.maximum(grid.w, before.w), torch.maximum(grid.we, before.we),
                       torch.where(steeper, grid.sigma, before.sigma),
                       torch.where(steeper, grid.channel, before.channel))


def _shut(w: Any) -> Any:
    """What softplus makes ``w`` of."""
    exact = w.double()
    return torch.where(exact > 0, exact + torch.log(-torch.expm1(-exact)), SHUT).to(w.dtype)
