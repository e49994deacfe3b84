"""The synapses of an ncps ``LTCCell`` on the grids of its integer step. Importing this needs torch and brevitas.

The step multiplies by ``w``, ``w*erev`` and ``sigma`` (times the input map), and each of the three has a grid of its
own; ``-sigma*mu`` is kept as it is, so that rounding a slope does not move its sigmoid at 0. The cell's forward reads
``w, erev, sigma, mu``, so these are made of the three again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpc.ir.policy import F64, Ltc, Synapses
from ncpc.quant.held_weights import HeldWeight
from ncpc.quant.twin_parameters import Once, moved_to, rounded
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
KINDS = ("w", "we", "sigma")
"""What has a grid."""
FARTHEST = 1.25
"""How many times its grid's end a weight may be before grids are chosen for what it is, instead of for that end."""
Dense = Mapping[str, Any]
"""Tensors (pre, post) by name."""


class LtcParameters(Mapping[str, Any]):
    """Stands where an ncps ``LTCCell`` keeps its parameters by name: what its forward reads, on the grid.

    ``w``, ``cm`` and ``gleak`` come with the cell's constraint applied; ``make_positive_fn`` has nothing left to do.
    A set's grid is a buffer of the cell, so that ``state_dict`` holds it: (4, pre, post), the units of ``KINDS``, 0
    where there is no synapse, and by how much a slope is larger in the program than ``sigma*input_w``, as inputs have
    fractions of their own there. ``held`` is what the compiler rounded the weights to when it chose them, where it
    rounds them together.
    """

    def __init__(self, cell: Any, once: Once) -> None:
        self.cell, self.once, self.positive = cell, once, cell.make_positive_fn
        self.names = tuple(cell._params)
        self.bits: dict[str, dict[str, torch.Tensor]] = {}
        self.held: dict[str, Dense] = {}
        for prefix in SETS:
            shape = cell._parameters[prefix + "w"].shape
            cell.register_buffer(f"{prefix}ncpc_grid", torch.zeros(4, *shape, dtype=torch.float64))
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

    def _grid(self, prefix: str) -> Dense:
        units: Any = getattr(self.cell, f"{prefix}ncpc_grid")
        return dict(zip((*KINDS, "channel"), units, strict=True))

    def _exact(self, prefix: str, grid: Dense) -> dict[str, Any]:
        """What has a grid of one set, before rounding, and the ``offset`` of each sigmoid at the input 0; ``gain`` and
        ``shift`` are what inputs are multiplied by and what is added to them.
        """
        own = self.cell._parameters
        w, erev, sigma, mu, mask = (own[prefix + name] for name in ("w", "erev", "sigma", "mu", "sparsity_mask"))
        inputs = {name: own.get(name) for name in ("input_w", "input_b")} if prefix else {}
        gain = grid["channel"].to(sigma.dtype)
        if inputs.get("input_w") is not None:
            gain = gain * inputs["input_w"].detach()[:, None]
        shift = 0.0 if inputs.get("input_b") is None else inputs["input_b"][:, None]
        gain, scale = torch.where(gain == 0, 1.0, gain), torch.where(mask != 0, mask, 1.0)
        strength = self.positive(w) * scale
        return {"w": strength, "we": strength * erev, "sigma": sigma * gain, "offset": sigma * (shift - mu),
                "gain": gain, "shift": shift, "scale": scale}

    def _synapses(self, prefix: str) -> dict[str, Any]:
        """``w, erev, sigma, mu`` of one set, (pre, post) each."""
        w, erev, sigma, mu, mask = (self.cell._parameters[prefix + name]
                                    for name in ("w", "erev", "sigma", "mu", "sparsity_mask"))
        grid, there = self._grid(prefix), mask != 0
        if prefix not in self.bits:
            return {"w": self.positive(w), "erev": erev, "sigma": sigma, "mu": mu}
        exact = self._exact(prefix, grid)
        held, current, slope = (_through(exact[kind], grid[kind], self.bits[prefix][kind]) for kind in KINDS)
        held = held.clamp(min=0.0)
        driven = torch.where(there & (held > 0), current / torch.where(held > 0, held, 1.0), erev)
        slope = slope / exact["gain"]
        slope = torch.where(slope == 0, FLAT, slope)
        centre = exact["shift"] - exact["offset"] / slope
        return {"w": torch.where(there, held / exact["scale"], self.positive(w)), "erev": driven,
                "sigma": torch.where(there, slope, sigma), "mu": torch.where(there, centre, mu)}

    @torch.no_grad()
    def put(self, layer: Ltc, weights: Mapping[str, HeldWeight], more: bool) -> None:
        """Take the grids of a layer's ``weights`` by name; ``more``: the cell is run at another place as well, whose
        grids it has; it takes the coarser ones.
        """
        for prefix, tag in SETS.items():
            synapses = layer.sensory if prefix else layer.recurrent
            if not len(synapses):
                continue
            found = {kind: weights[kind + tag] for kind in KINDS}
            own = synapses.sigma * (layer.input_w[synapses.pre] if prefix else 1.0)
            channel = np.divide(found["sigma"].data, own, out=np.ones(len(synapses)), where=own != 0)
            units = torch.stack([self._dense(synapses, part, prefix)
                                 for part in (*(held.unit for held in found.values()), channel)])
            grid: torch.Tensor = getattr(self.cell, f"{prefix}ncpc_grid")
            grid.copy_(_coarser(units, grid) if more else units)
            self.bits[prefix] = {kind: torch.tensor(float(held.bits), dtype=torch.float64, device=grid.device)
                                 for kind, held in found.items()}
            self.held.pop(prefix, None)
            if not more and (centre := found["sigma"].centre) is not None:
                dense = {kind: held.raw * held.unit for kind, held in found.items()} | {"centre": centre}
                self.held[prefix] = {name: self._dense(synapses, part, prefix) for name, part in dense.items()}

    def _dense(self, synapses: Synapses, values: F64, prefix: str) -> torch.Tensor:
        dense = np.zeros(tuple(self.cell._parameters[prefix + "w"].shape))
        dense[synapses.pre, synapses.post] = values
        return torch.as_tensor(dense, device=self.cell._parameters["w"].device)

    @torch.no_grad()
    def start(self, held: Mapping[str, Dense], near: bool) -> bool:
        """Move parameters so that they are rounded to ``held``, by set: as ``moved_to`` has it; ``near`` adds the
        centres, too. Whether any moved.
        """
        moved = [self._start(prefix, aim, near) for prefix, aim in held.items()]
        return any(moved)

    def _start(self, prefix: str, aim: Dense, near: bool) -> bool:
        own, grid = self.cell._parameters, self._grid(prefix)
        exact = self._exact(prefix, grid)
        before = {kind: exact[kind].double() for kind in KINDS}
        w, we, sigma = (moved_to(aim[kind], before[kind], grid[kind], near) for kind in KINDS)
        opened, turned = w != before["w"], sigma != before["sigma"]
        driven = (opened | (we != before["we"])) & (w > 0)
        offset = exact["offset"].double() + (aim["centre"] if near else 0.0)
        slope = torch.where(sigma == 0, FLAT, sigma) / exact["gain"]
        strength = w / exact["scale"]
        strength = strength if isinstance(self.positive, torch.nn.Identity) else _shut(strength)
        shifted = turned | (aim["centre"] != 0) if near else turned
        for name, where, value in (("w", opened, strength), ("erev", driven, we / torch.where(w > 0, w, 1.0)),
                                   ("sigma", turned | (shifted & (sigma == 0)), slope),
                                   ("mu", shifted, exact["shift"] - offset / slope)):
            parameter = own[prefix + name]
            parameter.copy_(torch.where(where, value.to(parameter.dtype), parameter))
        return bool((opened | driven | turned).any())

    @torch.no_grad()
    def to_round(self) -> dict[str, Any]:
        """By name what the plain cell's parameters are to hold for the compiler to choose grids: those on the grid,
        whose neurons' gains stay, as long as they are within it.
        """
        for prefix in self.held:
            grid = self._grid(prefix)
            exact = self._exact(prefix, grid)
            ends = {kind: FARTHEST * torch.exp2(self.bits[prefix][kind] - 1.0) * grid[kind] for kind in KINDS}
            if any(((exact[kind].abs() > end) & (end > 0)).any() for kind, end in ends.items()):
                return {}
        return self.baked() if self.held else {}

    @torch.no_grad()
    def baked(self) -> dict[str, Any]:
        """By name what the plain cell's parameters are to hold for the same forward."""
        found = {name: self[name] for name in self.names} | {n: self.cell._parameters[n] for n in ("cm", "gleak")}
        if not isinstance(self.positive, torch.nn.Identity):
            found |= {name: _shut(found[name]) for name in ("w", "sensory_w")}
        return {name: value.detach() for name, value in found.items()}


def _through(values: Any, unit: Any, bits: Any) -> Any:
    """Values on their grid, with the identity's gradient; as they are where the unit is 0."""
    exact = values.detach().double()
    return values + (rounded(exact, unit, bits) - exact).to(values.dtype)


def _coarser(units: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Of two grids the coarser one, weight by weight; a slope counts in units of its channel."""
    steeper = units[2] * before[3] > before[2] * units[3]
    return torch.cat([torch.maximum(units[:2], before[:2]), torch.where(steeper, units[2:], before[2:])])


def _shut(w: Any) -> Any:
    """What softplus makes ``w`` of."""
    exact = w.double()
    return torch.where(exact > 0, exact + torch.log(-torch.expm1(-exact)), SHUT).to(w.dtype)
