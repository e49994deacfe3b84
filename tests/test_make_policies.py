"""The networks that are measured have the sizes that the measurements claim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.ir.policy import Ltc

POLICIES = Path(__file__).parent.parent / "benchmarks" / "policies"


@pytest.fixture(scope="module")
def maker(require_tool: Any) -> Any:
    require_tool("ncps.torch")
    from benchmarks import make_policies

    return make_policies


def layer_of(path: Path) -> Ltc:
    [layer] = ncpc.load(path).layers
    assert isinstance(layer, Ltc)
    return layer


def test_reference_network_has_787_synapse_evaluations(maker: Any, tmp_path: Path) -> None:
    layer = layer_of(maker.keep("reference19", maker.reference_network(), tmp_path))
    assert (layer.neurons, len(layer.recurrent), len(layer.sensory)) == (19, 120, 67)
    assert len(layer.recurrent) * layer.unfolds + len(layer.sensory) == 787


@pytest.mark.parametrize("units", [8, 32, 256])
def test_growth_networks_have_the_same_synapses_per_neuron(maker: Any, units: int, tmp_path: Path) -> None:
    layer = layer_of(maker.keep(f"growth-{units}", maker.growth_network(units), tmp_path))
    assert layer.neurons == units
    assert set(np.bincount(layer.recurrent.post, minlength=units)) == {maker.GROWTH_FAN_IN}
    assert set(np.bincount(layer.sensory.post, minlength=units)) == {maker.GROWTH_SENSORY}


def test_the_same_seed_gives_the_same_bytes(maker: Any, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        maker.keep("one", maker.autoncp_random(4), tmp_path / folder)
    assert (tmp_path / "a/one.safetensors").read_bytes() == (tmp_path / "b/one.safetensors").read_bytes()


def test_irregular_network_spans_two_decades(maker: Any, tmp_path: Path) -> None:
    policy = ncpc.load(maker.keep("irregular", maker.RANDOM["autoncp19-random-irregular"](), tmp_path))
    assert policy.dt.hi / policy.dt.lo == pytest.approx(100)
    assert policy.calibration is not None
    assert policy.calibration.dt is not None
    assert policy.calibration.dt.max() / policy.calibration.dt.min() > 50


def test_training_lowers_the_error(maker: Any) -> None:
    errors = [maker.fit_lags(maker.autoncp_random(1).model, (1.0, 1.0, 1.0), 1, updates) for updates in (1, 12)]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("name", ["autoncp19-trained", "autoncp19-trained-irregular"])
def test_trained_networks_are_kept(maker: Any, name: str) -> None:
    path = POLICIES / f"{name}.safetensors"
    policy, layer = ncpc.load(path), layer_of(path)
    assert name in maker.TRAINED
    assert path.stat().st_size < 100_000
    assert (policy.inputs, policy.outputs, layer.neurons) == (32, 4, 19)
    drawn = maker.autoncp_random().model.rnn_cell
    assert len(layer.recurrent) == drawn.sparsity_mask.sum()
    # Training moved the weights away from where ncps draws them: reversal potentials start at -1 or 1.
    assert np.mean(np.abs(np.abs(layer.sensory.erev) - 1) > 1e-3) > 0.9


def test_lag_filters_are_exact_for_held_inputs(maker: Any) -> None:
    """One step of dt equals two of dt / 2, and a long wait reaches the input."""
    drive, tau = np.ones((1, 2, 1)), np.array([3.0])
    once = maker.lags(drive[:, :1], np.full((1, 1), 2.0), tau)[0, -1, 0]
    twice = maker.lags(drive, np.full((1, 2), 1.0), tau)[0, -1, 0]
    assert once == pytest.approx(twice)
    assert once == pytest.approx(1 - np.exp(-2 / 3))
    assert maker.lags(drive, np.full((1, 2), 1e3), tau)[0, -1, 0] == pytest.approx(1.0)
