"""Does the policy compute what the whole module computes, run by its own forward?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.frontend.agreement import probes, strays, tolerance_of
from ncpc.frontend.forward import require_equal
from ncpc.frontend.traced.forward import Forward
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

F64 = NDArray[np.float64]


def check_reading(module: Any, forward: Forward, policy: Policy, where: str) -> None:
    """Run ``policy`` and ``module`` side by side on the calibration, and on random inputs and timespans over the
    declared ranges; raise ``BadInput`` where outputs differ by more than 1e-5 (of the largest, where that exceeds 1).

    In double precision, in one run and in two, the second of which goes on from the state that the first gave back, or
    that the module kept; in the module's own precision too, where more than that is warned about.
    """
    for data in probes(policy):
        expected, where_from = run(lower(policy), data).y, f"{where}: the layers"
        assert data.dt is not None
        for cut in forward.cuts(module, (data.x, data.dt), where):
            given = _outputs(forward, module, data, where, double=True, cut=cut)
            require_equal(given, expected[:, -given.shape[1]:], where_from, forward.name)
        own = _outputs(forward, module, data, where, double=False)
        apart = float(np.nan_to_num(np.abs(own - expected[:, -own.shape[1]:]), nan=np.inf).max(initial=0.0))
        if apart > tolerance_of(expected):
            warnings.warn(f"{where}: {strays([module], apart)}", stacklevel=6)


def _outputs(forward: Forward, module: Any, data: Sequences, where: str, *, double: bool, cut: int = 0) -> F64:
    assert data.dt is not None
    found = forward.run(module, (data.x, data.dt), where, double=double, cut=cut)
    return np.concatenate(list(found.values()), axis=2)
