"""Policies whose layers branch and join compute what their layers, run one by one, compute; on every target."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import ncpc
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.frontend.validate import check_policy
from ncpc.inspect.policies import inspection, inspection_tables
from ncpc.ir.policy import INPUT, ChannelGroup, DtRange, InitialState, Policy, Tap
from ncpc.ir.sequences import Sequences
from ncpc.ir.wires import before, frames_in, group_names, is_row, only_layer, readers, row, unlike_row
from ncpc.passes.lower import lower
from ncpc.proofs.prove import prove
from ncpc.semantics.run import run
from tests.c_programs import assert_c_is_program, fixed_program, program_of
from tests.nets import random_policy
from tests.wired_nets import layer_by_layer, wired_policy

SEEDS = st.integers(0, 2**30)


def data_of(policy: Policy, seed: int = 0, steps: int = 40) -> Sequences:
    rng = np.random.default_rng(seed)
    reset = rng.random((2, steps)) < 0.1
    return Sequences(rng.uniform(-1, 1, (2, steps, policy.inputs)), rng.uniform(0.5, 2.0, (2, steps)), reset)


def calibrated(seed: int) -> Policy:
    policy = wired_policy(seed)
    return replace(policy, calibration=replace(data_of(policy, seed, 200), reset=None))


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_wires_mean_what_layers_run_one_by_one_compute(seed: int) -> None:
    policy = wired_policy(seed)
    check_policy(policy, "wired")
    data = data_of(policy, seed)
    assert np.abs(run(lower(policy), data).y - layer_by_layer(policy, data)).max() < 1e-12


@settings(max_examples=3, deadline=None)
@given(seed=SEEDS)
def test_integers_are_close_and_proved(seed: int) -> None:
    policy = calibrated(seed)
    program, data = fixed_program(policy, dt="runtime"), data_of(policy, seed + 1, 120)
    prove(program)
    expected = run(lower(policy), data)
    moved = np.ptp(expected.y, axis=(0, 1)).clip(1e-3)
    assert (np.abs(run(program, data).y - expected.y).max(axis=(0, 1)) / moved).max() < 0.03


@pytest.mark.parametrize("scheme", ["float32", "int16", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_c_computes_the_program(seed: int, scheme: str, tmp_path: Path) -> None:
    assert_c_is_program(program_of(calibrated(seed), scheme, "runtime"), tmp_path, seed)


@pytest.mark.parametrize(("target", "quant"), [
    ("onnx", "float32"), *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ("host", "int16"), ("tflite", "float32"), ("cortex-m4", "int16"), ("cortex-m4", "float32"), ("onnx", "int16"),
        ("tflite", "int16"), ("nir-graded", None))),
])
def test_a_wired_policy_holds_on(target: str, quant: str | None, tmp_path: Path) -> None:
    policy = replace(wired_policy(4), dt=DtRange())
    outcome = ncpc.compile(policy, tmp_path / "build", target, quant=quant, steps=300)  # type: ignore[arg-type]
    assert outcome.holds, outcome.report["verdict"]


def test_spikes_and_nirs_own_nodes_refuse_branches_by_name(tmp_path: Path) -> None:
    policy = replace(random_policy(4), wires=((Tap(INPUT, 0, 3),), (Tap(0, 1, 2), Tap(INPUT, 0, 1))))
    with pytest.raises(Unsupported, match=r"target 'nir': the outputs read layer 0 \(ltc\) and the inputs; it takes"):
        ncpc.compile(policy, tmp_path / "a", "nir")
    started = replace(random_policy(1), initial=(InitialState(0, np.full(8, 0.25)),))
    with pytest.raises(Unsupported, match="layer 0 starts from a state that is not 0"):
        ncpc.compile(started, tmp_path / "b", "nir")


def test_initial_states_come_back_after_a_reset() -> None:
    policy = random_policy(3)
    start = replace(policy, initial=(InitialState(0, np.linspace(-0.5, 0.5, 8)),))
    data = replace(data_of(policy), reset=np.zeros((2, 40), bool))
    data.reset[:, 20] = True  # type: ignore[index]
    data = replace(data, x=np.tile(data.x[:, :20], (1, 2, 1)), dt=np.ones((2, 40)))
    for program in (lower(start), fixed_program(start)):
        y = run(program, data).y
        assert np.array_equal(y[:, :20], y[:, 20:])
        assert not np.array_equal(y[:, :20], run(lower(policy), data).y[:, :20])
    with pytest.raises(BadInput, match="its initial state holds 7 values, it has 8"):
        lower(replace(policy, initial=(InitialState(0, np.ones(7)),)))


def test_a_row_is_the_case_without_wires() -> None:
    policy = random_policy(1)
    told = replace(policy, wires=row(policy.layers))
    assert is_row(policy)
    assert is_row(told)
    assert only_layer(told) is policy.layers[0]
    assert unlike_row(told) == ""
    assert only_layer(replace(policy, wires=((Tap(INPUT, 0, 3),), (Tap(0, 0, 1), Tap(0, 1, 2))))) is None
    assert b"wires" not in policy_bytes(policy)


def test_readers_and_parts_before_a_layer() -> None:
    policy = wired_policy(4)
    for k in range(1, len(policy.layers)):
        part = before(policy, k)
        check_policy(part, "part")
        assert part.outputs == policy.layers[k].inputs
        assert all(k in readers(policy, tap.source) for tap in policy.wires[k])
        data = data_of(policy, k)
        assert np.abs(run(lower(part), data).y - layer_by_layer(part, data)).max() < 1e-12


@pytest.mark.parametrize("seed", range(4))
def test_containers_keep_wires(seed: int, tmp_path: Path) -> None:
    policy = calibrated(seed)
    write_policy(policy, tmp_path / "p.safetensors")
    assert policy_bytes(read_policy(tmp_path / "p.safetensors")) == policy_bytes(policy)


def test_groups_name_channels_and_frames() -> None:
    groups = (ChannelGroup("frame", (1, 2, 2)), ChannelGroup("speed", (1,)), ChannelGroup("imu", (2,)))
    assert group_names(groups) == ("frame_0", "frame_1", "frame_2", "frame_3", "speed", "imu_0", "imu_1")
    policy = replace(random_policy(1, inputs=7), input_groups=groups)
    assert frames_in(policy) == (slice(0, 4),)


@pytest.mark.parametrize(("changes", "words"), [
    ({"wires": ((Tap(INPUT, 0, 3),),)}, "has 1 wires"),
    ({"wires": ((Tap(INPUT, 0, 2),), (Tap(0, 0, 2),))}, "layer 0 (ltc) read 2 channels, and take 3"),
    ({"wires": ((Tap(0, 0, 2),), (Tap(0, 0, 2),))}, "layer 0 (ltc) read layer 0, which is not before them"),
    ({"wires": ((Tap(INPUT, 1, 4),), (Tap(0, 0, 2),))}, "layer 0 (ltc) read channels 1 to 4 of 3"),
    ({"wires": ((Tap(INPUT, 0, 3),), ())}, "the outputs read 0 channels"),
    ({"input_groups": (ChannelGroup("a", (2,)),)}, "input groups hold [2] channels, the policy has 3"),
    ({"output_groups": (ChannelGroup("a", (1,)), ChannelGroup("a", (1,)))}, "output groups' names: 'a' is given twice"),
    ({"output_groups": (ChannelGroup("\x1b[31m", (2,)),)}, r"output groups' names: '\x1b[31m' is not an identifier"),
    ({"input_groups": (ChannelGroup("a", (-1, -3)),)}, "input groups hold [3] channels, the policy has 3"),
    ({"initial": (InitialState(1, np.zeros(8)),)}, "initial state of layer 1"),
    ({"initial": (InitialState(0, np.full(8, np.nan)),)}, "initial state of layer 0"),
])
def test_wires_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadInput) as error:
        check_policy(replace(random_policy(1), **changes), "p")  # type: ignore[arg-type]
    assert words in str(error.value)


def test_inspect_breaks_no_word_at_80_columns(tmp_path: Path) -> None:
    write_policy(wired_policy(0), tmp_path / "p.safetensors")
    found = inspection(tmp_path / "p.safetensors")
    console = Console(record=True, width=80, file=io.StringIO())
    for table in inspection_tables(found):
        console.print(table)
    words = set(re.findall(r"[a-z_]+\d*[a-z]*", console.export_text()))
    assert {"parameters", "neurons", "wires", "reads"} <= words
    for layer in found["layers"]:
        assert set(re.findall(r"[a-z_]+\d*[a-z]*", f"{layer['kind']} {layer['reads']}")) <= words
