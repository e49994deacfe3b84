"""Functions ``x*gate(x)``, SiLU and its piecewise linear kin: how far below 0 they reach, which intervals do not see.

An interval of x times one of the gate has -|x| as its lower end, where SiLU never falls below -0.2785. A bound too wide
costs whatever reads the value in 16 bits, and every bound after it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ncpc.ir.program import Op, Program, Value
from ncpc.passes.functions import self_gated
from ncpc.quant.limits import followed


def bounded_below(real: Program) -> Program:
    """The step with the least that each ``x*gate(x)`` can be said aloud, as the larger of both."""
    for name, least in self_gated(real).items():
        op = next(s for s in real.body if isinstance(s, Op) and s.out.name == name)
        bound = Value(f"{name}_least", (), op.out.type)
        constants = {**real.constants, bound.name: (bound, np.asarray(least))}
        larger = Op("max", dataclasses.replace(op.out, name=f"{name}_above"), (name, bound.name), {}, op.origin)
        real = followed(dataclasses.replace(real, constants=constants), op, larger)
    return real
