"""The timing models by name: adding one is a file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ncpc.errors import BadInput
from ncpc.sim.timing import CountOnly, TimingModel
from ncpc.sim.timing_armv6m import CORTEX_M0, CORTEX_M0PLUS, SLOW
from ncpc.sim.timing_cortex_m import CORTEX_M3, CORTEX_M4, CORTEX_M4F
from ncpc.sim.timing_hazard3 import HAZARD3
from ncpc.sim.timing_ibex import IBEX_SMALL
from ncpc.sim.timing_picorv32 import PICORV32

TABLES: Mapping[str, TimingModel] = {
    "count": CountOnly(), "count_integer": CountOnly(floats=False), "cortex_m3": CORTEX_M3, "cortex_m4": CORTEX_M4,
    "cortex_m4f": CORTEX_M4F, "cortex_m0": CORTEX_M0, "cortex_m0_mul32": replace(CORTEX_M0, multiply=SLOW),
    "cortex_m0plus": CORTEX_M0PLUS, "cortex_m0plus_mul32": replace(CORTEX_M0PLUS, multiply=SLOW),
    "ibex_small": IBEX_SMALL, "picorv32": PICORV32, "hazard3": HAZARD3,
}
"""By the name that a core description gives."""


def timing_model(name: str) -> TimingModel:
    """The timing table called ``name``. Raises BadInput, listing the known ones."""
    if name not in TABLES:
        raise BadInput(f"unknown timing table '{name}': known are {', '.join(sorted(TABLES))}")
    return TABLES[name]
