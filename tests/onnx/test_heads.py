"""Convolutions, pooling and softmax around a cell, as ONNX operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import Unsupported
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.onnx import runtime, target

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from ncpc.frontend.ncps_torch import import_model
from tests.head_models import ncps_cells, nn, random_heads

LIMITS = {"float32": 2e-6, "int16": 2e-3, "int8": 0.1}


def error_of(seed: int, quant: str, folder: Path) -> tuple[float, float]:
    """The largest deviation from the policy in float64, and from the NumPy model, as shares of the outputs' size."""
    modules, frame = random_heads(seed)
    inputs = int(np.prod(frame))
    policy = Policy("net", import_model(modules, frame).layers, np.tile([-1.0, 1.0], (inputs, 1)), DtRange())
    options, onnx = CompileOptions(quant, "fixed"), target("onnx")  # type: ignore[arg-type]
    lowered = lower_for(Container(policy), options).lowered
    artifact = onnx.prepare(lowered, options)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    data = Sequences(np.random.default_rng(seed).uniform(-1, 1, (2, 12, inputs)))
    exact: Any = run(lowered.real, data).y
    model, size = artifact.model(data).y, max(np.ptp(exact), np.abs(exact).max())
    found = [artifact.run(folder, data, name).trace.y
             for name in (runtime.ORT_PLAIN, runtime.ORT_FULL, runtime.ORT_SCAN)]
    return max(np.abs(y - exact).max() for y in found) / size, max(np.abs(y - model).max() for y in found) / size


@pytest.mark.parametrize("seed", range(6))
def test_float(seed: int, tmp_path: Path) -> None:
    assert max(error_of(seed, "float32", tmp_path)) <= LIMITS["float32"]


def test_padding_that_onnxruntime_refuses_is_refused_before() -> None:
    modules = [nn.MaxPool2d(2, stride=2, padding=1, dilation=2, ceil_mode=True), nn.Flatten(), ncps_cells.CfC(32, 2)]
    policy = Policy("net", import_model(modules, (2, 7, 6)).layers, np.tile([-1.0, 1.0], (84, 1)), DtRange())
    options = CompileOptions("float32", "fixed")
    with pytest.raises(Unsupported, match="use less padding or no dilation, or target 'c'"):
        target("onnx").prepare(lower_for(Container(policy), options).lowered, options)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 40))
def test_float_many(seed: int, tmp_path: Path) -> None:
    assert max(error_of(seed, "float32", tmp_path)) <= LIMITS["float32"]


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["int16", "int8"])
@pytest.mark.parametrize("seed", range(5))
def test_quantized(seed: int, quant: str, tmp_path: Path) -> None:
    assert 0 < error_of(seed, quant, tmp_path)[0] <= LIMITS[quant]
