"""What an int16 step of a policy costs on a core, before it is built: counts of what is in it, times what each takes.

LTCs that step semi-implicitly are counted in synapses and neurons, as their integer step has a loop of its own. Other
cells take the generic integer form, and are counted in the ops of their Program over the reals. The factors stand in
the cores' files (``[estimate]``), fitted by ``python -m benchmarks.estimates``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ncpc.cores import core_names, load_core
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.program import Op, Program, statements
from ncpc.ir.quantized import TABLE_SIZE
from ncpc.ir.rewrite import with_trips
from ncpc.ir.schemes import DEFAULT, SCHEMES
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.quant.calibrate import dead_band
from ncpc.quant.policy import table_size
from ncpc.report.record import Json

ENTRY_BYTES = 4
"""An entry of a table and the step to the next one, 16 bits each."""
ENTRIES = {"sigmoid": TABLE_SIZE, "tanh": 2 * TABLE_SIZE, "exp": TABLE_SIZE}
"""Of the generic form's tables. One serves all of a kind, but that each exponential has a range of its own."""
GENERIC = frozenset({"cfc", "wired_cfc", "mixed_memory"})
"""Kinds of layers to whose builds the factors were fitted."""
UNITS = {"matmul": "product", "gather": "gather", "div": "quotient", **dict.fromkeys(ENTRIES, "function")}
"""Op -> what is counted of it; of all others their elements."""


def cost(name: str, policy: Policy) -> Json:
    """What an int16 step costs on a target, in cycles at most and bytes of flash; None where there is no estimate."""
    record: Json = {"target": name, "cycles": None, "flash_bytes": None}
    way = way_of(policy)
    estimate = load_core(name).estimates.get(way) if name in core_names() else None
    if estimate is None:
        return record
    cycles, flash, tables = COUNTS[way](policy)
    return record | {"cycles": round(_sum(estimate.cycles, cycles)),
                     "flash_bytes": round(_sum(estimate.flash, flash)) + tables}


def way_of(policy: Policy) -> str:
    """Which of ``COUNTS`` holds for a policy; empty where none does."""
    if all(isinstance(layer, Ltc) and layer.solver == "fused" for layer in policy.layers):
        return "ltc"
    return "generic" if {layer.kind for layer in policy.layers} <= GENERIC else ""


Counts = Mapping[str, int]


def ltc_counts(policy: Policy) -> tuple[Counts, Counts, int]:
    """What takes cycles in a step of LTCs, what takes flash, and the bytes of the sigmoid's table."""
    layers: list[Any] = list(policy.layers)
    cycles = {"evaluation": sum(map(evaluations, layers)),
              "update": sum(layer.neurons * layer.unfolds for layer in layers)}
    flash = {"synapse": sum(len(layer.recurrent) + len(layer.sensory) for layer in layers),
             "neuron": sum(layer.neurons for layer in layers)}
    return cycles, flash, ENTRY_BYTES * table_size(policy, dead_band(policy, SCHEMES[DEFAULT]))


def generic_counts(policy: Policy) -> tuple[Counts, Counts, int]:
    """What takes cycles in a step in the generic form, what takes flash, and the bytes of tables."""
    real = fold_constants(fix_dt(lower(policy), policy.dt.nominal))
    cycles, ops = Counter[str](), list(statements(real.body))
    for op, trips in with_trips(real.body):
        cycles[UNITS.get(op.kind, "element")] += trips * _size(op, real)
        cycles["row"] += trips * math.prod(op.out.shape) * (op.kind == "matmul")
    held = [values.size for _, values in real.constants.values() if values.ndim == 1]
    flash = {"weight": sum(_size(op, real) for op in ops if op.kind == "matmul"), "constant": sum(held), "op": len(ops)}
    kinds = Counter(op.kind for op in ops)
    return cycles, flash, ENTRY_BYTES * sum(
        size * (kinds[kind] if kind == "exp" else min(kinds[kind], 1)) for kind, size in ENTRIES.items())


COUNTS = {"ltc": ltc_counts, "generic": generic_counts}


def evaluations(layer: Ltc) -> int:
    """Synapse evaluations of one step: recurrent ones in every unfold, sensory ones once."""
    return len(layer.recurrent) * layer.unfolds + len(layer.sensory)


def _size(op: Op, program: Program) -> int:
    """Products of a matrix, elements of anything else."""
    return program.constants[op.args[0]][1].size if op.kind == "matmul" else math.prod(op.out.shape)


def _sum(factors: Mapping[str, float], counts: Counts) -> float:
    return factors["fixed"] + sum(factor * counts.get(unit, 0) for unit, factor in factors.items())
