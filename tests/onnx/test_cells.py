"""Every cell that lowers to a program exports, without a line of code for it, and computes the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.onnx import runtime, target

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from ncpc.frontend.ncps_torch import import_model
from tests.cell_models import FAMILIES, random_model

LIMITS = {"float32": 2e-6, "int16": 1e-3, "int8": 0.1}
"""Of the outputs' size: of their range, or of the largest where they lie far from 0."""


SPIKES = {"int16": 0.0, "int8": 3e-3}
"""Share of a LIF's outputs that may be a spike where the policy is silent, or the other way round."""


def traces(family: str, seed: int, quant: str, folder: Path, steps: int = 30) -> tuple[Trace, list[Trace]]:
    """What the policy does in float64, and what the exported models do in each runtime."""
    modules, inputs = random_model(family, seed)
    policy = Policy("net", import_model(modules).layers, np.tile([-1.0, 1.0], (inputs, 1)), DtRange(0.5, 2.0))
    options, onnx = CompileOptions(quant, "runtime"), target("onnx")  # type: ignore[arg-type]
    lowered = lower_for(Container(policy), options).lowered
    artifact = onnx.prepare(lowered, options)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    rng = np.random.default_rng(seed)
    data = Sequences(rng.uniform(-1, 1, (2, steps, inputs)), rng.uniform(0.5, 2, (2, steps)))
    found = [artifact.run(folder, data, name).trace
             for name in (runtime.ORT_PLAIN, runtime.ORT_FULL, runtime.ORT_SCAN)]
    return run(lowered.real, data), found


def error_of(family: str, seed: int, quant: str, folder: Path) -> float:
    """The largest deviation of any runtime from the policy in float64, as a share of the outputs' size."""
    exact, found = traces(family, seed, quant, folder)
    return float(max(np.abs(trace.y - exact.y).max() for trace in found) / max(np.ptp(exact.y), np.abs(exact.y).max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_float(family: str, tmp_path: Path) -> None:
    assert error_of(family, 0, "float32", tmp_path) <= LIMITS["float32"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_float_many(family: str, tmp_path: Path) -> None:
    errors = [error_of(family, seed, "float32", tmp_path) for seed in range(1, 40)]
    assert max(errors) <= LIMITS["float32"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["cfc", "gated"])
def test_int16(family: str, tmp_path: Path) -> None:
    assert 0 < error_of(family, 1, "int16", tmp_path) <= LIMITS["int16"]


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["int16", "int8"])
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"lif"}))
def test_quantized_many(family: str, quant: str, tmp_path: Path) -> None:
    errors = [error_of(family, seed, quant, tmp_path) for seed in range(8)]
    assert 0 < max(errors) <= LIMITS[quant]


@pytest.mark.slow
@pytest.mark.parametrize("quant", ["int16", "int8"])
def test_quantized_spikes(quant: str, tmp_path: Path) -> None:
    """A spike differs by all of its range or not at all; that something was rounded, the membranes show."""
    differ, moved, fired = [], [], []
    for seed in range(8):
        exact, found = traces("lif", seed, quant, tmp_path, steps=200)
        fired.append(exact.y.mean())
        differ += [np.mean(trace.y != exact.y) for trace in found]
        moved += [np.abs(trace.state - exact.state).max() for trace in found]
    assert 0.02 < np.mean(fired) < 0.5
    assert min(moved) > 0
    assert np.mean(differ) <= SPIKES[quant]
