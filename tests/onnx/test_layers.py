"""Layers that scale, combine, select and normalize as ONNX operators: equal to the policy in every way to run them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import Policy
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.onnx import runtime, target
from tests.layer_policies import FORMS, sequences

pytest.importorskip("onnxruntime")

LIMITS = {"float32": 1e-6, "int16": 2e-4, "int8": 3e-2}


def error_of(policy: Policy, quant: str, folder: Path) -> float:
    """The largest deviation from the policy in float64, as a share of the outputs' range."""
    options = CompileOptions(quant, "fixed")  # type: ignore[arg-type]
    lowered = lower_for(Container(policy), options).lowered
    artifact, data = target("onnx").prepare(lowered, options), sequences(policy.inputs)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    exact = run(lowered.real, data).y
    ways = (runtime.ORT_PLAIN, runtime.ORT_FULL, runtime.ORT_SCAN)
    return max(np.abs(artifact.run(folder, data, way).trace.y - exact).max() for way in ways) / np.ptp(exact)


@pytest.mark.parametrize("quant", LIMITS)
@pytest.mark.parametrize("form", FORMS)
def test_layer(form: str, quant: str, tmp_path: Path) -> None:
    assert error_of(FORMS[form], quant, tmp_path) <= LIMITS[quant]
