"""Ranges of inputs: where synapses listen, what a guess may use, and what is told when an input saturates."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import ncpc
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import Outcome
from ncpc.driver.reopen import verify_build
from ncpc.frontend.container import Container, policy_bytes, write_policy
from ncpc.frontend.ranges import guessed, short_calibration
from ncpc.ir.policy import Dense, Ltc, Policy, Synapses
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences, Trace
from ncpc.quant import inputs
from ncpc.quant.inputs import boundary, heard_range, input_ranges, listening
from ncpc.report.terminal import explanations
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, CompileOptions, Lowered
from ncpc.verification.sequences import suite
from ncpc.verification.verdict import SEARCH
from tests.interpreter import interpreter_target
from tests.nets import random_ltc
from tests.test_pipeline import VALIDATOR

SATURATED = 1 << FLAGS.index("input_saturated")
WIDE = 2300.0


def lowered(policy: Policy, scheme: str) -> Lowered:
    options = CompileOptions(quant=scheme, dt="fixed", cc="zig", tolerance=2e-3)  # type: ignore[arg-type]
    return lower_for(Container(policy), options).lowered


def error(made: Lowered, data: Sequences) -> tuple[float, Trace]:
    """The largest error as a share of the output range, and the integer run."""
    exact, found = run(made.real, data), run(made.program, data)
    return float(np.abs(exact.y - found.y).max() / np.ptp(exact.y, axis=(0, 1)).max()), found


def flown(seed: int = 3) -> tuple[Policy, Sequences]:
    """An LTC of 19 neurons whose features reach +-2,300 now and then, and else what its synapses tell apart."""
    layer = random_ltc(seed, neurons=19, inputs=5, input_w=np.ones(5), input_b=np.zeros(5))
    rng = np.random.default_rng(seed)
    x = np.clip(np.cumsum(rng.normal(0, 0.4, (4, 150, 5)), axis=1), -4, 4)
    x = np.where(rng.random(x.shape) < 0.02, rng.uniform(-WIDE, WIDE, x.shape), x)
    return Policy("flown", (layer,), np.tile([-WIDE, WIDE], (5, 1))), Sequences(x)


def tiny(*synapses: tuple[int, float, float, float], input_w: float = 1.0, input_b: float = 0.0) -> Policy:
    """One neuron with sensory ``synapses`` (input, w, sigma, mu) from two inputs of +-100."""
    pre, w, sigma, mu = (np.array(column) for column in zip(*synapses, strict=True))
    n, one = len(pre), np.ones(1)
    none = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)
    layer = Ltc(Synapses(pre.astype(np.int64), np.zeros(n, np.int64), w, sigma, mu, np.ones(n)), none, one, one,
                np.zeros(1), np.full(2, input_w), np.full(2, input_b), one, np.zeros(1), ("motor",), ("n0",))
    return Policy("tiny", (layer,), np.tile([-100.0, 100.0], (2, 1)))


def test_synapses_listen_around_their_centres() -> None:
    """K = log(1/tail - 1) = 2 log 2 for a tail of 1/5: mu +- K/sigma, through the input map."""
    k = 2 * np.log(2.0)
    zone = listening(tiny((0, 1.0, 2.0, 1.0), (0, 0.5, 4.0, -3.0), (1, 1.0, -2.0, 0.0)), 0.2)
    assert np.allclose(zone, [[-3 - k / 4, 1 + k / 2], [-k / 2, k / 2]])
    mapped = listening(tiny((0, 1.0, 2.0, 1.0), input_w=-2.0, input_b=3.0), 0.2)
    assert np.allclose(mapped[0], [(1 + k / 2 - 3) / -2, (1 - k / 2 - 3) / -2])


def test_what_no_synapse_tells_apart_is_left_as_declared() -> None:
    """A weight of 0 reads nothing, a slope of 0 nothing that depends on the input, a dense layer all there is."""
    everywhere = [-np.inf, np.inf]
    assert np.array_equal(listening(tiny((0, 0.0, 2.0, 1.0), (0, 1.0, 0.0, 1.0)), 0.2), [everywhere] * 2)
    dense = Dense(np.ones((5, 5)), np.zeros(5))
    policy = flown()[0]
    policy = dataclasses.replace(policy, layers=(dense, *policy.layers))
    assert np.array_equal(listening(policy, 0.2), [everywhere] * 5)


@pytest.mark.parametrize("seed", range(4))
def test_saturating_where_no_synapse_listens_changes_no_sigmoid_by_more_than_the_tail(seed: int) -> None:
    policy, data = flown(seed)
    layer, tail = policy.layers[0], 2.0**-8
    assert isinstance(layer, Ltc)
    zone, s = listening(policy, tail), layer.sensory
    held = np.clip(data.x, zone[:, 0], zone[:, 1])
    assert (held != data.x).any()
    both = [1 / (1 + np.exp(np.clip(-s.sigma * (x[..., s.pre] - s.mu), -700, 700))) for x in (data.x, held)]
    assert np.abs(both[0] - both[1]).max() <= tail * (1 + 1e-9)


@pytest.mark.parametrize(("scheme", "before", "after"), [("int16", 5e-3, 5e-4), ("int8", 0.3, 0.05)])
def test_wide_features_cost_nothing_where_nobody_listens(
    scheme: str, before: float, after: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured: 3.0 % -> 0.013 % in int16, 61 % -> 2.0 % in int8; and no status bit, as nothing changed that counts."""
    policy, data = flown()
    found, trace = error(lowered(policy, scheme), data)
    assert not trace.flags.any()
    monkeypatch.setattr(inputs, "listening", lambda policy, tail: np.tile([-np.inf, np.inf], (policy.inputs, 1)))
    assert found < after < before < error(lowered(policy, scheme), data)[0]


def test_the_part_that_is_listened_to_narrows_one_end_and_leaves_the_other_told() -> None:
    policy, _ = flown()
    policy = dataclasses.replace(policy, input_range=np.tile([-1.0, WIDE], (5, 1)))
    program = lowered(policy, "int16").program
    assert np.array_equal(program.x.range[:, 0], np.full(5, -1.0))
    assert (program.x.range[:, 1] < 8).all()
    assert "no synapse listens beyond" in program.x.note
    assert "1.5e-05" in program.x.note
    x = np.zeros((2, 1, 5))
    x[0], x[1] = WIDE, -1.5
    assert run(program, Sequences(x)).flags.ravel().tolist() == [0, SATURATED]


def guess(data: np.ndarray[Any, Any], seed: int = 1) -> Policy:
    """A network with a dense layer in front, so that every value of an input counts; its range is a guess."""
    n = data.shape[2]
    front, layer = Dense(0.25 * np.eye(n), np.zeros(n)), random_ltc(seed, neurons=12, inputs=n)
    calibration = Sequences(data)
    policy = Policy("guess", (front, layer), np.tile([-1.0, 1.0], (n, 1)), calibration=calibration, range_guessed=True)
    return replace(policy, input_range=guessed(calibration, policy))


def walks(reach: float, seed: int, rows: int = 4, steps: int = 120) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    t = np.arange(steps)[:, None]
    return reach * np.sin(t * rng.uniform(0.02, 0.3, (rows, 1, 3)) + rng.uniform(0, 6, (rows, 1, 3)))


@pytest.mark.parametrize(("scheme", "most"), [("int16", 5e-3), ("int8", 0.08)])
def test_a_guess_uses_the_room_of_its_format_and_a_promise_does_not(scheme: str, most: float) -> None:
    """Calibration within +-3.8 is held as +-8: new data of twice the reach cost no more than roundings do."""
    policy, new = guess(walks(3.8, 0)), Sequences(walks(7.5, 1))
    declared = dataclasses.replace(policy, range_guessed=False)
    (found, trace), (clamped, told) = (error(lowered(p, scheme), new) for p in (policy, declared))
    assert found < most < clamped
    assert not trace.flags.any()
    assert told.flags.any()


def test_what_leaves_the_room_is_told_at_either_end_and_nothing_else() -> None:
    program = lowered(guess(walks(3.8, 0)), "int16").program
    x = np.zeros((5, 1, 3))
    x[:, 0, 1] = (-8.5, -7.9, 0.0, 7.9, 1e9)
    assert run(program, Sequences(x)).flags.ravel().tolist() == [SATURATED, 0, 0, 0, SATURATED]


def test_float_builds_limit_no_input() -> None:
    made = lowered(guess(walks(3.8, 0)), "float32")
    trace = run(made.program, Sequences(walks(2000.0, 1)))
    assert not trace.flags.any()
    assert np.abs(trace.y - run(made.real, Sequences(walks(2000.0, 1))).y).max() < 1e-4


def test_a_guess_reaches_as_far_beyond_the_extreme_as_that_lies_beyond_the_bulk() -> None:
    data = np.concatenate([np.linspace(-1, 1, 1000), [3.9]]).reshape(1, -1, 1)
    policy = guess(np.repeat(data, 3, axis=2))
    quantile = np.quantile(data, 0.99)
    assert np.allclose(input_ranges(policy, 2.0**-16).range, [[policy.input_range[0, 0], 2 * 3.9 - quantile]] * 3)
    assert np.array_equal(boundary(policy, SCHEMES["int16"]).raw, [[-32767, 32766]] * 3)
    assert boundary(policy, SCHEMES["int16"]).fracs == (12, 12, 12)


def test_short_calibration_is_said(recwarn: pytest.WarningsRecorder, tmp_path: Path) -> None:
    few, many = guess(walks(1.0, 0, 1, 50)), guess(walks(1.0, 0, 4, 120))
    assert short_calibration(few).startswith("the input range is guessed from 50 calibration steps of 3 inputs")
    assert not short_calibration(many)
    assert not short_calibration(dataclasses.replace(few, range_guessed=False))
    ncpc.save(few.layers, tmp_path / "p.safetensors", calibration=few.calibration, dt=1.0)
    assert "12% of new steps" in str(recwarn.pop(UserWarning).message)


@pytest.mark.parametrize(("change", "expected"), [
    (lambda p: p, True),
    (lambda p: dataclasses.replace(p, input_range=np.tile([-8.0, 8.0], (3, 1))), False),
    (lambda p: dataclasses.replace(p, calibration=None), False),
])
def test_older_files_tell_a_guess_by_what_it_is(
    change: Callable[[Policy], Policy], expected: bool, tmp_path: Path
) -> None:
    """Without the record of it, a range is a guess where it is exactly what the calibration suggests."""
    path = tmp_path / "p.safetensors"
    write_policy(dataclasses.replace(change(guess(walks(3.8, 0))), range_guessed=False), path)
    assert not ncpc.load(path).range_guessed
    with safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["ncpc"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    del header["policy"]["range_guessed"]
    save_file(tensors, path, metadata={"ncpc": json.dumps(header)})
    assert bool(ncpc.load(path).range_guessed) is expected


def test_a_guess_is_written_down(tmp_path: Path) -> None:
    policy = guess(walks(3.8, 0))
    for given, expected in (({}, True), ({"input_range": (-5, 5)}, False)):
        path = tmp_path / "p.safetensors"
        ncpc.save(policy.layers, path, calibration=policy.calibration, dt=1.0, **given)  # type: ignore[arg-type]
        assert ncpc.load(path).range_guessed is expected
        assert policy_bytes(ncpc.load(path)) == path.read_bytes()


@pytest.mark.parametrize(("target", "scheme"), [("host", "int16"), ("nir-graded", "int8")])
def test_targets_saturate_as_the_program_does(target: str, scheme: str, tmp_path: Path) -> None:
    outcome = ncpc.compile(flown()[0], tmp_path / "b", target=target, quant=scheme, steps=200)
    report = outcome.report
    assert outcome.holds, report["verdict"]["reasons"]
    assert "no synapse listens beyond" in report["quant"]["inputs"]
    assert max(max(row) for row in report["proof"]["input_range"]) <= 8
    assert any("no synapse listens" in text for text in report["proof"]["assumptions"])
    assert "input_saturated" not in report["error"]["status"]
    if target == "host":
        assert "no synapse listens beyond" in (tmp_path / "b" / "flown.h").read_text().replace("\n *   ", " ")
        wide = np.sign(flown()[1].x[0]) * WIDE
        session = ncpc.open(tmp_path / "b")
        assert [session.step(x) is not None and session.status for x in wide[:5]] == [0] * 5
        session.close()


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target without tools, and a short search."""
    monkeypatch.setattr(registry, "load", lambda name: interpreter_target())
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})


def test_generated_inputs_are_where_synapses_tell_them_apart() -> None:
    """Uniform over +-2,300, one in 200 would be."""
    policy, _ = flown()
    lo, hi = listening(policy, 2.0**-16).T
    x = suite(policy, 3000, False).x
    assert 0.3 < float(np.mean((x > lo) & (x < hi))) < 0.7
    assert np.abs(x).max() == WIDE
    near = dataclasses.replace(policy, input_range=np.tile([-1.0, 1.0], (5, 1)))
    assert np.array_equal(heard_range(near), near.input_range)


def test_spikes_code_only_what_synapses_listen_to() -> None:
    """Levels over +-2,300 would leave none where the cell tells inputs apart: the output was 33 % off."""
    layer, rng = random_ltc(3, neurons=5, inputs=2, input_w=np.ones(2), input_b=np.zeros(2)), np.random.default_rng(3)
    x = np.clip(np.cumsum(rng.normal(0, 0.4, (4, 100, 2)), axis=1), -4, 4)
    data = Sequences(np.where(rng.random(x.shape) < 0.02, rng.uniform(-WIDE, WIDE, x.shape), x))
    policy = Policy("flown", (layer,), np.tile([-WIDE, WIDE], (2, 1)))
    options = CompileOptions(quant="thresholds", tolerance=0.02, extra={"units": "1500"})
    made, target = lower_for(Container(policy), options).lowered, registry.load("nir")
    exact, found = run(made.real, data), target.prepare(made, options).model(data)
    assert np.abs(found.y - exact.y).max() <= 0.01 * np.ptp(exact.y, axis=(0, 1)).max()
    assert not found.flags.any()


def test_spikes_tell_an_input_beyond_a_range_that_is_heard() -> None:
    policy = Policy("near", (random_ltc(3, neurons=5, inputs=2),), np.tile([-1.0, 1.0], (2, 1)))
    options = CompileOptions(quant="thresholds", tolerance=0.02, extra={"units": "500"})
    made = lower_for(Container(policy), options).lowered
    flags = registry.load("nir").prepare(made, options).model(Sequences(np.array([[[0.5, 0.5], [1.5, 0.5]]]))).flags
    assert flags.tolist() == [[0, SATURATED]]


def measured(outcome: Outcome, name: str = "given sequences") -> dict[str, Any]:
    return next(one for one in outcome.report["data"] if one["name"] == name)


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.usefixtures("interpreted")
def test_verify_says_how_much_of_the_error_is_clamping(declared: bool, tmp_path: Path) -> None:
    """Beyond a guess the error counts whole, beyond a promise only its arithmetic part; both are shown in parts."""
    policy, new = dataclasses.replace(guess(walks(3.8, 0)), range_guessed=not declared), walks(20.0, 1, 2)
    assert ncpc.compile(policy, tmp_path / "b", "interpreter", quant="int16", steps=200).holds
    outcome = verify_build(tmp_path / "b", {"x": new})
    VALIDATOR.validate(outcome.report)
    one, limit = measured(outcome), 3.8 * 1.1 if declared else 8.0
    parts = one["clamping"]
    assert parts["steps"] == (np.abs(new) > limit).any(axis=2).sum()
    assert parts["arithmetic"] < 2e-3 < 5e-3 < parts["clamping"]
    assert abs(parts["whole"] - parts["clamping"]) <= parts["arithmetic"]
    assert one["max_range"] == parts["arithmetic" if declared else "whole"]
    assert outcome.holds is declared
    assert declared or "% is clamping" in outcome.report["verdict"]["reasons"][0]
    assert "clamping" in "".join(explanations(outcome.report))


@pytest.mark.usefixtures("interpreted")
def test_within_the_room_of_a_guess_there_is_nothing_to_split(tmp_path: Path) -> None:
    ncpc.compile(guess(walks(3.8, 0)), tmp_path / "b", "interpreter", quant="int16", steps=200)
    outcome = verify_build(tmp_path / "b", {"x": walks(7.0, 1, 2)})
    assert outcome.holds
    assert measured(outcome)["clamping"] is None
    assert measured(outcome)["status"] == {}
