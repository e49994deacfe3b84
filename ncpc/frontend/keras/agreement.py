"""Does the policy compute what the running Keras model computes? Asked before anything is saved."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.frontend.agreement import probes, require_close
from ncpc.frontend.keras.live import numbers
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.semantics.run import run


def check_agreement(policy: Policy, model: Any, where: str) -> None:
    """Run ``model`` and ``policy`` side by side at timespan 1; raise ``BadInput`` if their outputs differ.

    Keras computes in binary32: what counts as a difference is what ``require_close`` says.
    """
    unit = replace(policy, dt=DtRange(), calibration=None)
    program = lower(unit)
    for data in probes(unit):
        exact, single = run(program, data).y, run(to_float32(program), data).y
        found = _outputs(model, data)
        expected = exact if found.shape == exact.shape else exact[:, -1:]
        require_close(found.reshape(expected.shape), expected, single[:, -expected.shape[1]:], where, "Keras model",
                      "an overridden method changes what the model computes, remove it before saving")


def _outputs(model: Any, data: Sequences) -> NDArray[np.float64]:
    shape = tuple(getattr(model, "input_shape", ()) or ())[2:]
    step = shape if len(shape) > 1 else data.x.shape[2:]
    x = data.x.reshape(*data.x.shape[:2], *step).astype(np.float32)
    return numbers(model(x, training=False))
