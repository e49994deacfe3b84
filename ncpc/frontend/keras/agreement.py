"""Does the policy compute what the running Keras model computes? Asked before anything is saved."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.frontend.agreement import TOLERANCE, probes
from ncpc.frontend.keras.live import numbers
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run

ROUNDING = 10.0
"""How many times the policy's own rounding in binary32 the model, which sums in another order, may stray."""


def check_agreement(policy: Policy, model: Any, where: str) -> None:
    """Run ``model`` and ``policy`` side by side at timespan 1; raise ``BadInput`` if their outputs differ.

    Keras computes in binary32, and a network may amplify rounding: more than 1e-5 (of the largest output, where that
    exceeds 1) is a difference of meaning only if it also exceeds ten times what the policy itself strays in binary32.
    """
    unit = replace(policy, dt=DtRange(), calibration=None)
    program = lower(unit)
    for data in probes(unit):
        exact, single = run(program, data).y, run(to_float32(program), data).y
        found = _outputs(model, data)
        expected = exact if found.shape == exact.shape else exact[:, -1:]
        tolerance = TOLERANCE * max(1.0, float(np.abs(exact).max()))
        rounding = float(np.abs(single - exact).max())
        strays = float(np.abs(found.reshape(expected.shape) - expected).max())
        if not strays <= max(tolerance, ROUNDING * rounding):
            raise BadInput(f"{where}: policy and Keras model differ by {strays:.3g} (more than {tolerance:.3g}); an "
                           "overridden method changes what the model computes, remove it before saving")
        if not strays <= tolerance:
            warnings.warn(f"{where}: in its own precision the model strays {strays:.3g} from exact arithmetic: this "
                          "network amplifies rounding, and so will any deployment of it", stacklevel=4)


def _outputs(model: Any, data: Sequences) -> NDArray[np.float64]:
    shape = tuple(getattr(model, "input_shape", ()) or ())[2:]
    step = shape if len(shape) > 1 else data.x.shape[2:]
    x = data.x.reshape(*data.x.shape[:2], *step).astype(np.float32)
    return numbers(model(x, training=False))
