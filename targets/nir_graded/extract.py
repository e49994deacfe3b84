"""The integer Program of one LTC layer -> its record: constants and shifts as the emitted operations have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.program import Op, Program, Repeat, statements
from ncpc.ir.types import Fixed
from ncpc.targets.nir_graded.record import GradedLtc, Wires

I64 = NDArray[np.int64]

FORM = "one fused LTC layer with a fixed dt"


@dataclass(frozen=True, eq=False)
class View:
    """A program's constants and ops by the name of their value."""

    constants: Mapping[str, I64]
    ops: Mapping[str, Op]

    def shift(self, name: str, *kinds: str) -> int:
        """The ``k`` of op ``name``, which must be one of ``kinds``; 0 where the program left it out."""
        if name not in self.ops:
            return 0
        op = self.ops[name]
        if op.kind not in kinds:
            raise Unsupported(f"target 'nir-graded': op {name} is {op.kind}, not {' or '.join(kinds)}")
        return int(op.attrs["k"] or 0)


def record_of(program: Program, theta: int = 0) -> GradedLtc:
    """The layer's record. Raises Unsupported for a program that is not ``FORM`` in integers."""
    view = View({n: np.asarray(d, np.int64) for n, (_, d) in program.constants.items()},
                {op.out.name: op for op in statements(program.body)})
    repeats = [s for s in program.body if isinstance(s, Repeat)]
    alone = "u_pre_s" in view.ops and view.ops["u_pre_s"].args[0] == "x" and program.y.value.name == "y"
    if not alone or len(repeats) != 1 or len(program.states) != 1 or "cm_t" not in view.constants:
        raise Unsupported(f"target 'nir-graded': policy '{program.name}' is not {FORM}; use target 'nir' or 'c'")
    return _record(program, view, repeats[0].count, theta)


def _record(program: Program, view: View, unfolds: int, theta: int) -> GradedLtc:
    state, constants = program.states[0], view.constants
    assert isinstance(state.inp.type, Fixed)
    assert program.x.fracs is not None
    assert program.y.fracs is not None
    return GradedLtc(
        sensory=_wires(view, "_s"), recurrent=_wires(view, ""), gleak=constants["gleak"], leak=constants["leak"],
        cm_t=constants["cm_t"], x_lo=constants["x_lo"], x_hi=constants["x_hi"],
        x_frac=np.array(program.x.fracs, np.int64), output_w=constants["output_w"], output_b=constants["output_b"],
        y_frac=np.array(program.y.fracs, np.int64), table=constants["sigmoid_table"], unfolds=unfolds,
        v_frac=state.inp.type.frac, u_shift=view.shift("u", "shr"), g_shift=view.shift("g_d", "shr"),
        pull_shift=view.shift("pull", "mulshr"), inverse_shift=view.shift("divisor_inverse", "inverse"), inverse_bits=0,
        delta_shift=view.shift("delta", "mulshr"), y_shift=view.shift("motor_w", "mulshr"),
        state_bits=state.inp.type.bits, sum_bits=32, theta=theta,
        names="\n".join(program.labels[state.inp.axes[0].name]),
    )


def _wires(view: View, tag: str) -> Wires:
    part = {name: view.constants[f"{name}{tag}"] for name in ("pre", "post", "sigma", "offset", "w", "we")}
    size = len(part["pre"])
    wide = view.shift(f"slope_wide{tag}", "shl")
    shifts = [view.shift(f"{name}{tag}", "asr") if _shifted(view, name, tag) else 0 for name in ("g", "i")]
    return Wires(**part, den_shift=np.full(size, shifts[0]), num_shift=np.full(size, shifts[1]),
                 z_shift=-wide if wide else view.shift(f"z{tag}", "asr"))


def _shifted(view: View, name: str, tag: str) -> bool:
    """Whether the product is shifted before it is summed."""
    return f"{name}{tag}" in view.ops and view.ops[f"{name}{tag}"].kind != "mul"
