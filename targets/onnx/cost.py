"""Which form each synapse axis takes: a static cost model, so that equal policies give equal files.

The prices in ``cost.json`` were fitted to ONNX Runtime's latency at batch 1 by the benchmark named there; they are data
and change only with a commit. ``byte_ns`` is not measured: it is what a byte of file is worth, 2 kB for 1 microsecond.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

from ncpc.errors import BadInput
from ncpc.ir.program import Program
from ncpc.targets.onnx.grid import Grid, SynapseAxis, compact, dense, synapse_axes

FORMS = ("matrix", "dense", "gather")
LAYOUTS: dict[str, Callable[[SynapseAxis], Grid]] = {"dense": dense, "gather": compact}


@dataclass(frozen=True)
class Prices:
    """Nanoseconds per operator call, multiply-add, element of an elementwise op, gathered element, byte of constant."""

    node_ns: float
    mac_ns: float
    element_ns: float
    gather_ns: float
    byte_ns: float
    benchmark: str


@dataclass(frozen=True)
class Work:
    """What one form of an axis takes: operator calls and multiply-adds per step, ..., bytes once."""

    nodes: int
    macs: int
    elements: int
    gathered: int
    size: int

    def price(self, p: Prices) -> float:
        """Nanoseconds per step at batch 1, file size included at its price."""
        return (p.node_ns * self.nodes + p.mac_ns * self.macs + p.element_ns * self.elements
                + p.gather_ns * self.gathered + p.byte_ns * self.size)


def prices() -> Prices:
    """The committed prices."""
    return Prices(**json.loads(files(__package__).joinpath("cost.json").read_text()))


def work(axis: SynapseAxis, form: str) -> Work:
    """The work of ``axis`` in ``form``: as a matrix, the linear ops on both sides vanish into Gemms."""
    if form == "matrix":
        weights = axis.size * (axis.sources + axis.sums * axis.neurons)
        return Work(3 * axis.trips, weights * axis.trips, axis.size * axis.trips, 0, 4 * weights)
    slots = axis.neurons * (axis.sources if form == "dense" else axis.fan_in)
    calls = 1 + axis.elementwise + 2 * axis.sums
    read = slots if form == "gather" and axis.size < axis.neurons * axis.sources else 0  # full nets are read in order
    return Work(calls * axis.trips, 0, slots * (axis.elementwise + axis.sums) * axis.trips, read * axis.trips,
                4 * (slots * axis.constants + read))


def choose(program: Program, form: str, p: Prices) -> dict[str, str]:
    """Axis name -> form: the cheapest that can hold it, or ``form`` for all. Raises BadInput for an impossible one."""
    axes = synapse_axes(program)
    if form == "auto":
        return {name: cheapest(axis, p) for name, axis in axes.items()}
    for name, axis in axes.items():
        if form not in _possible(axis) and axis.size:
            raise BadInput(f"--form {form}: {name} cannot be laid out as a grid; use --form matrix")
    return {name: form if axis.size else "matrix" for name, axis in axes.items()}


def cheapest(axis: SynapseAxis, p: Prices) -> str:
    """The form of least price that can hold the axis."""
    return min(_possible(axis), key=lambda form: work(axis, form).price(p))


def layouts(program: Program, forms: Mapping[str, str]) -> dict[str, Grid]:
    """The grids of the axes that are not matrices."""
    axes = synapse_axes(program)
    return {name: LAYOUTS[form](axes[name]) for name, form in forms.items() if form in LAYOUTS}


def _possible(axis: SynapseAxis) -> tuple[str, ...]:
    return FORMS if axis.gridded else ("matrix",)
