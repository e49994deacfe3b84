"""What is proved of a network of spikes, with a fault planted for every claim."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncpc.errors import ProofFailed
from ncpc.ir.policy import Ltc, Policy
from ncpc.targets.nir.box import invariant_box, sensed_range
from ncpc.targets.nir.front import cell_of, heard
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.proof import EXACT, proved, require_exact, require_invariant, sums
from ncpc.targets.nir.spikes import Spikes, predict
from ncpc.targets.nir.study import generated, study
from tests.nets import random_policy


def checked(policy: Policy, box: np.ndarray) -> None:
    cell = cell_of(policy)
    require_invariant(cell.ltc, sensed_range(cell, policy.input_range), box)


def changed(seed: int, **changes: object) -> Policy:
    """A random policy with some of its vectors scaled."""
    policy = random_policy(seed, neurons=6)
    ltc = policy.layers[0]
    assert isinstance(ltc, Ltc)
    scaled = {name: getattr(ltc, name) * factor for name, factor in changes.items()}
    return dataclasses.replace(policy, layers=(dataclasses.replace(ltc, **scaled),))


@pytest.mark.parametrize("changes", [
    {}, {"gleak": 0.0}, {"cm": 0.0}, {"cm": 0.0, "gleak": 0.0}, {"vleak": 20.0}, {"output_w": 1e6}, {"cm": 1e3}])
@pytest.mark.parametrize("seed", range(3))
def test_boxes_are_proved(seed: int, changes: dict[str, object]) -> None:
    policy = changed(seed, **changes)
    found = proved(policy, lower(study(policy), 300))
    assert found["no_overflow"]
    assert np.array_equal(found["box"], invariant_box(cell_of(policy), heard(policy)[0].input_range))


@pytest.mark.parametrize("seed", range(6))
def test_a_narrower_box_is_refused_by_the_neurons_name(seed: int) -> None:
    """Every bound that is not 0 is needed: a hundredth less, and the neuron may leave."""
    policy = random_policy(seed)
    box, refused = invariant_box(cell_of(policy), policy.input_range), 0
    checked(policy, box)
    for i, end in np.argwhere(np.abs(box) > 1e-3):
        narrow = box.copy()
        narrow[i, end] *= 0.99
        with pytest.raises(ProofFailed, match=rf"neuron n{i} may leave .*; no box of its states closes"):
            checked(policy, narrow)
        refused += 1
    assert refused >= 8


def test_what_the_proof_refuses_can_happen() -> None:
    """A box drawn around the calibration's states alone is left by other inputs within the range."""
    policy = random_policy(2)
    from ncpc.targets.nir.trajectory import trajectory

    cell, x = cell_of(policy), generated(policy)
    seen = trajectory(cell, 0.3 * x).v.reshape(-1, cell.ltc.neurons)
    calibrated = np.stack([np.minimum(seen.min(axis=0), 0.0), np.maximum(seen.max(axis=0), 0.0)], axis=1)
    states = trajectory(cell, x).v.reshape(-1, cell.ltc.neurons)
    assert np.any((states < calibrated[:, 0]) | (states > calibrated[:, 1]))
    with pytest.raises(ProofFailed, match="may leave"):
        checked(policy, calibrated)


@pytest.fixture(scope="module")
def net() -> Spikes:
    return lower(study(random_policy(3, density=0.8)), 800)


def test_no_sum_of_a_run_exceeds_its_bound(net: Spikes) -> None:
    policy = random_policy(3, density=0.8)
    face, bound = net.interface, sums(net)
    raw = face.quantized(np.sign(generated(policy)[:4]))[0]
    spikes = predict(net, raw, keep=True).spikes
    assert spikes is not None
    s, seen = spikes[:-1, 0].astype(np.int64), np.repeat(raw[0], face.unfolds, axis=0)
    channels = s @ net.decode.T
    drives = 2 * (channels @ net.encode.T + seen @ net.weight.T + net.bias) + 1
    assert np.abs(channels).max() <= bound["a channel"]
    assert np.abs(s @ net.readout.T).max() <= bound["an output"]
    assert EXACT / 64 < np.abs(drives).max() < bound["a drive"] < EXACT


@pytest.mark.parametrize(("part", "what"), [
    ("decode", "a channel"), ("readout", "an output"), ("encode", "a drive"), ("weight", "a drive"),
    ("bias", "a drive")])
def test_weights_too_large_for_float32_are_refused(part: str, what: str, net: Spikes) -> None:
    require_exact(net)
    weights = getattr(net, part).copy()
    weights.reshape(-1)[0] = EXACT
    with pytest.raises(ProofFailed, match=rf"{what} can add up to [\d,]+ steps of its grid, float32 holds 16,777,216"):
        require_exact(dataclasses.replace(net, **{part: weights}))
