"""What a build costs, and what it may: the names of costs, the budgets for them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ncpc.errors import BadInput
from ncpc.targets.base import Target

Budgets = Mapping[str, int]
"""Name of a cost -> the most that it may be."""
COSTS = {"flash": 1024, "cycles": 1000, "ram": 1024, "bytes": 1024}
"""The costs, and what a ``k`` of each is, as ``--flash 256k`` has it: code and constants; the largest cycles of a step
(the upper bound, where the core's model gives two); static state and the deepest stack of a step; bytes of the
emitted files, of a target whose files run as they are.
"""
OBJECTIVES = ("flash", "cycles", "bytes")
"""Those that are searched for as little as possible of, beside the error."""


def costs_of(target: Target) -> tuple[str, ...]:
    """The costs that builds for ``target`` have; none of C for this machine, which is linked for no core."""
    if target.core is not None:
        return ("flash", *(("cycles",) if target.timing_class not in (None, "count") else ()), "ram")
    compiled = any(need.extra == "c" for need in target.requirements)
    return () if compiled else ("bytes",)


def parse_budgets(text: str) -> dict[str, int]:
    """``flash=8k,cycles=12k,ram=2k`` by name. Raises BadInput for what is no cost, no number, or given twice."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in COSTS:
            raise BadInput(f"--budget {part}: '{name}' is no cost; give {', '.join(COSTS)}, as flash=8k,cycles=12k")
        size = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", number)
        most = int(float(size[1]) * COSTS[name] ** ("", "k", "M").index(size[2])) if size else 0
        if name in found or most < 1:
            raise BadInput(f"--budget {part}: give each cost once, with a positive number such as 8k or 12000")
        found[name] = most
    return found


def require_costs(budgets: Budgets, target: Target) -> None:
    """Raises BadInput for a budget of what ``target`` does not have, or is not above 0."""
    had = ", ".join(costs_of(target)) or "none, so leave it out"
    for name, most in budgets.items():
        if name not in costs_of(target):
            raise BadInput(f"--budget {name}: of builds for target '{target.name}' no {name} can be measured; "
                           f"their costs: {had}")
        if most <= 0:
            raise BadInput(f"--budget {name}={most}: give a positive number")
