"""Convolutions over time are read where they look back alone, with what they keep, and refused elsewhere."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.errors import BadInput
from ncpc.ir.heads import History
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

pytest.importorskip("torch")
pytest.importorskip("ncps")

from tests import causal_modules as causal
from tests.causal_modules import SHAPES, made, nn, torch

STEPS = 25


def saved(kind: type[Any], tmp_path: Path) -> tuple[Any, Policy, np.ndarray]:
    """The module, what was read of it, and sequences."""
    module, x = made(kind), np.random.default_rng(0).uniform(-1, 1, (2, STEPS, *SHAPES[kind]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dt is assumed, calibration short
        return module, ncpc.save(module, tmp_path / "p.safetensors", calibration=x), x


def computed(policy: Policy, x: np.ndarray) -> np.ndarray:
    return run(lower(policy), Sequences(x, np.ones(x.shape[:2]))).y


def forward_of(module: Any, x: np.ndarray) -> np.ndarray:
    """What a call for whole sequences gives, (B, T, outputs), or (B, 1, outputs) of the last step."""
    with torch.no_grad():
        y = module(torch.as_tensor(x, dtype=torch.float32))
    y = (y[0] if isinstance(y, tuple) else y).numpy()
    return y if y.ndim == 3 else y[:, None]


@pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
def test_what_looks_back_along_time_is_read_step_by_step(kind: type[Any], tmp_path: Path) -> None:
    module, policy, x = saved(kind, tmp_path)
    y = computed(policy, x)
    assert np.ptp(y, axis=(0, 1)).min() > 1e-2, "outputs that do not move say nothing"
    for steps in (1, 2, STEPS):
        first = x.swapaxes(0, 1)[:steps] if kind is causal.Delayed else x[:, :steps]
        expected = forward_of(module, first)
        expected = expected.swapaxes(0, 1) if kind is causal.Delayed else expected
        assert np.abs(y[:, :steps][:, -expected.shape[1] :] - expected).max() < 1e-5
    assert policy.compared == "forward"


@pytest.mark.parametrize(("kind", "kept"), [
    (causal.Tcn, [[2, 1, 0], [2, 1, 0], [4, 2, 0], [4, 2, 0]]), (causal.Last, [[1, 0], [4, 2, 0]]),
    (causal.Separable, [[2, 1, 0], [3, 0]]), (causal.Planes, [[2, 1, 0], [1, 0]]),
], ids=lambda value: getattr(value, "__name__", ""))
def test_those_steps_alone_are_read_that_kernels_reach(kind: type[Any], kept: list[list[int]], tmp_path: Path) -> None:
    _, policy, _ = saved(kind, tmp_path)
    assert [layer.delays.tolist() for layer in policy.layers if isinstance(layer, History)] == kept


BEHIND = r"causal_modules.py:\d+ \('z = self.conv\(x.transpose\(1, 2\)\)'\): reads steps that come later"
WHOLE = r"causal_modules.py:\d+ .* in pool: takes the mean or the largest over all steps of time"
REFUSED: dict[str, tuple[Any, str]] = {
    "ahead": (causal.Ahead, BEHIND), "same": (partial(causal.Ahead, padding="same"), BEHIND),
    "strides": (partial(causal.Ahead, padding=2, stride=2), r"in conv: convolves over time by strides of 2"),
    "circular": (partial(causal.Ahead, padding_mode="circular"), "in conv: pads time with circular; zeros"),
    "replicated": (causal.Padded, r"causal_modules.py:\d+ \('z = functional.pad.*pads time with replicate; zeros"),
    "ones": (partial(causal.Padded, "constant", 1.0), "pads time with 1.0; zeros before the first step can be read"),
    "mean": (partial(causal.Pooled, nn.AdaptiveAvgPool1d(1)), WHOLE),
    "largest": (partial(causal.Pooled, nn.AdaptiveMaxPool1d(1)), WHOLE),
    "pooled by twos": (partial(causal.Pooled, nn.MaxPool1d(2, 2, 1)), "in pool: pools over time by strides of 2"),
    "pooled ahead": (partial(causal.Pooled, nn.AvgPool1d(3, 1, 1)), "in pool: pools over time padded on both sides"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_looks_ahead_or_leaves_steps_out_is_refused_where_it_stands(name: str, tmp_path: Path) -> None:
    kind, words = REFUSED[name]
    with pytest.raises(BadInput, match=words):
        ncpc.save(made(kind), tmp_path / "p.safetensors", input_range=(-1, 1), input_shape=(4,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "target", "quant"), [
    (causal.Last, "host", "int16"), (causal.Tcn, "onnx", "int16"),
    *(pytest.param(kind, target, quant, marks=pytest.mark.slow) for kind, target, quant in (
        (causal.Separable, "cortex-m4", "float32"), (causal.Tcn, "tflite", "int16"), (causal.Planes, "host", "float32"),
        (causal.Last, "nir-graded", "int16"), (causal.Tcn, "host", "float32"), (causal.Delayed, "tflite", "float32"))),
])
def test_what_was_read_compiles_within_the_tolerance(kind: type[Any], target: str, quant: str, tmp_path: Path) -> None:
    _, policy, x = saved(kind, tmp_path)
    outcome = ncpc.compile(policy, tmp_path / "build", target, quant=quant, steps=200)
    assert outcome.holds, outcome.report["verdict"]
    if target == "host":
        build, y = ncpc.open(tmp_path / "build"), computed(policy, x)[0]
        for _ in range(2):
            assert np.abs(np.array([build.step(step.ravel()) for step in x[0]]) - y).max() < 2e-3 * np.ptp(y)
            build.reset()
        build.close()
