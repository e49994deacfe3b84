"""What ``ncpc inspect`` and reports count: neurons, synapses, parameters and products of every kind of layer."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncpc.cli.commands import run as cli
from ncpc.frontend.container import write_policy
from ncpc.inspect import policies
from ncpc.ir.gated import Cfc, Gru, Lstm, MixedMemory, Rnn, WiredCfc
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.windows import Windows
from ncpc.report.anatomy import anatomy, parameters
from ncpc.report.record import policy_record
from ncpc.verification.sequences import suite
from tests.nets import random_ltc

RNG = np.random.default_rng(0)


def gated(kind: type[Layer], gates: int, biases: int) -> Layer:
    """Four units on three inputs, input 1 unread by unit 2, whatever the gate."""
    weight_x = RNG.normal(size=(gates, 4, 3))
    weight_x[:, 2, 1] = 0
    arrays = [weight_x.reshape(-1, 3), RNG.normal(size=(gates * 4, 4)), *(RNG.normal(size=gates * 4),) * biases]
    return kind(*arrays, *(("tanh",) if kind is Rnn else ()))


@pytest.mark.parametrize(("kind", "gates", "biases"), [(Lstm, 4, 1), (Gru, 3, 2), (Rnn, 1, 1)])
def test_gates_do_not_multiply_synapses(kind: type[Layer], gates: int, biases: int) -> None:
    layer = gated(kind, gates, biases)
    found = anatomy(layer)
    assert (found.neurons, found.synapses, found.sensory_synapses) == (4, 16, 11)
    assert parameters(layer) == gates * 4 * (3 + 4 + biases)
    assert found.products >= gates * (16 + 12)


def stage(role: str, inputs: int, neurons: int) -> Cfc:
    dense = [Dense(RNG.normal(size=(neurons, inputs + neurons)), RNG.normal(size=neurons)) for _ in range(4)]
    return Cfc((), dense[0], dense[1], dense[2], dense[3], None, None, "default", "tanh", "tanh",
               (role,) * neurons, tuple(f"{role}_{i}" for i in range(neurons)))


def test_a_wired_cfc_counts_all_of_its_stages_and_a_memory_its_cell() -> None:
    layer = WiredCfc((stage("inter", 3, 4), stage("motor", 4, 2)))
    found = anatomy(layer)
    assert found.roles == {"inter": 4, "motor": 2}
    assert (found.neurons, found.synapses, found.sensory_synapses) == (6, 16 + 4 + 8, 12)
    assert parameters(layer) == 4 * (4 * 8 + 2 * 7)
    memory = MixedMemory(gated(Lstm, 4, 1), layer, "state")
    assert dataclasses.replace(anatomy(memory), products=0) == dataclasses.replace(found, products=0)
    assert parameters(memory) == parameters(layer) + 128


def test_a_backbone_joins_every_neuron_to_every_other() -> None:
    def dense(rows: int, columns: int) -> Dense:
        return Dense(RNG.normal(size=(rows, columns)), RNG.normal(size=rows))

    layer = Cfc((dense(5, 7),), *(dense(4, 5) for _ in range(4)), None, None, "default", "tanh", "tanh",
                ("inter",) * 4, ("a", "b", "c", "d"))
    found = anatomy(layer)
    assert (found.neurons, found.synapses, found.sensory_synapses, found.products) == (4, 16, 12, 35 + 80)


def test_an_ltc_evaluates_its_synapses_in_every_unfold() -> None:
    layer = random_ltc(4)
    found = anatomy(layer)
    assert (found.synapses, found.sensory_synapses) == (len(layer.recurrent), len(layer.sensory))
    assert found.products == layer.unfolds * len(layer.recurrent) + len(layer.sensory)


def test_layers_without_state_have_products_alone() -> None:
    windows = Windows(4, 5, 2, 3, 3, 1, 1, 0, 0, 2, 3, "hwc")
    conv = Conv2d(windows, RNG.normal(size=(6, 3, 3, 2)), RNG.normal(size=6))
    assert anatomy(conv) == dataclasses.replace(anatomy(Activation("tanh", 3)), products=6 * 6 * 18)
    assert anatomy(Activation("tanh", 3)).neurons == 0


def test_a_policy_is_the_sum_of_its_layers() -> None:
    cell = gated(Rnn, 1, 1)
    policy = Policy("p", (cell, Dense(RNG.normal(size=(2, 4)), np.zeros(2))), np.tile([-1.0, 1.0], (3, 1)))
    record = policy_record(policy, "")
    assert (record["neurons"], record["synapses"], record["parameters"]) == (4, 16, 4 * 8 + 10)


@pytest.mark.parametrize(("top", "shown", "hidden"), [
    (1.0, ["x0 .. x199", "-1 .. 1"], ["x1 "]), (2.0, ["x31", "168 others", "-1 .. 2"], ["x32"]),
])
def test_a_frame_is_not_listed_number_by_number(
    top: float, shown: list[str], hidden: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = (Dense(RNG.normal(size=(4, 200)), np.zeros(4)), random_ltc(0, inputs=4))
    ranges = np.tile([-1.0, 1.0], (200, 1))
    ranges[150, 1] = top
    policy = Policy("wide", layers, ranges, DtRange())
    write_policy(policy, tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors")]) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in shown)
    assert not any(word in said for word in hidden)


@pytest.mark.parametrize(("side", "steps"), [(4, 2000), (200, 83)])
def test_states_are_seen_on_as_many_steps_as_a_frame_s_products_allow(
    side: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 products at each place of a large frame: 83 steps take a billion."""
    windows = Windows(side, side, 3, 5, 5, 1, 1, 2, 2, side, side, "hwc")
    conv = Conv2d(windows, RNG.normal(size=(4, 5, 5, 3)) / 9, np.zeros(4))
    places = Pool(Windows(side, side, 4, side, side, 1, 1, 0, 0, 1, 1, "hwc"), "avg")
    policy = Policy("frames", (conv, places, random_ltc(0, inputs=4)), np.tile([-1.0, 1.0], (conv.inputs, 1)))
    asked: list[int] = []

    def few(policy: Policy, steps: int, runtime_dt: bool) -> Sequences:
        asked.append(steps)
        return suite(policy, 4, runtime_dt)

    monkeypatch.setattr(policies, "suite", few)
    write_policy(policy, tmp_path / "p.safetensors")
    policies.inspection(tmp_path / "p.safetensors")
    assert asked == [steps]
