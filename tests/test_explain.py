"""Exit code 1 explains itself: where, which rounding costs most there, and what to try."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.driver.reopen import verify_build
from ncpc.frontend.container import Container
from ncpc.ir.policy import Activation, Dense, DtRange, Policy
from ncpc.ir.schemes import Scheme
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.verification import verdict
from ncpc.verification.rounding import rounding_costs
from tests.interpreter import interpreter_target
from tests.nets import random_policy
from tests.test_verdict_data import compiled, dense, noise, printed, stage


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    stage(monkeypatch)


def lowered(policy: Policy, quant: Scheme) -> Lowered:
    dt = "fixed" if policy.dt.fixed else "runtime"
    return lower_for(Container(policy), CompileOptions(quant=quant, dt=dt)).lowered  # type: ignore[arg-type]


def deep() -> Policy:
    rng = np.random.default_rng(1)
    layers = (Dense(rng.normal(size=(6, 3)), rng.normal(size=6)), Activation("tanh", 6),
              Dense(rng.normal(size=(2, 6)), rng.normal(size=2)))
    return Policy("deep", layers, np.tile([-1.0, 1.0], (3, 1)))


@pytest.mark.parametrize(("policy", "quant"), [
    (deep(), "int8"), (deep(), "int16"), (random_policy(4, DtRange(0.1, 10.0, 1.0)), "int16"),
], ids=["dense int8", "dense int16", "ltc int16"])
def test_with_every_rounding_on_it_is_what_the_device_computes(policy: Policy, quant: Scheme) -> None:
    low, x = lowered(policy, quant), noise(1, 40, 1.0)
    dt = np.random.default_rng(2).uniform(policy.dt.lo, policy.dt.hi, (1, 40))
    data = Sequences(x, dt=dt, reset=np.arange(40)[None] == 17)
    error = float(np.abs(run(low.program, data).y - run(low.real, data).y).max())
    found = rounding_costs(low.real, low.program, data)
    assert found.all == pytest.approx(error, rel=1e-9)
    assert [one.max_abs for one in found.values] == sorted((one.max_abs for one in found.values), reverse=True)
    assert found.stored < 3 * error
    assert error < found.stored + sum(one.max_abs for one in found.values)
    assert {one.value for one in found.values} >= {"x_in"}


def test_the_dearest_rounding_is_the_one_that_is_there() -> None:
    """Weights and inputs that 8 bits hold: nothing is left but the output, which is rounded by half a unit at most."""
    policy = dense(None, np.array([[1.0, 0.5, -0.25], [0.75, -1.0, 0.5]]))
    low, x = lowered(policy, "int8"), np.round(32 * noise(1, 60, 1.0)) / 32
    found = rounding_costs(low.real, low.program, Sequences(x))
    assert found.stored == pytest.approx(0.0, abs=1e-12)
    first, *others = found.values
    assert first.layer == "dense"
    assert 0 < first.max_abs <= 0.5 * 2.0 ** -int(first.format.rpartition(".")[2])
    assert max(one.max_abs for one in others) == pytest.approx(0.0, abs=1e-12)


def test_a_coarse_weight_is_named(tmp_path: Path) -> None:
    """8 bits beside 32 values of 1/64: a weight of 0.0117 is a third of a unit from what is stored."""
    weight = np.array([[1.984375, 0.01171875, 0.0], [0.0, 0.0, 1.0]])
    low, x = lowered(dense(None, weight), "int8"), np.sign(noise(1, 30, 1.0))
    values = {one.value: one for one in rounding_costs(low.real, low.program, Sequences(x)).values}
    assert [one for one in values.values() if one.equation == "as stored" and one.max_abs > 1e-3]


def test_an_error_past_the_tolerance_is_placed_and_explained(tmp_path: Path) -> None:
    holds = compiled(dense(noise(6, 60, 0.5)), tmp_path)
    assert holds.report["explanation"] is None
    assert "to try" not in printed(holds)
    outcome = compiled(dense(noise(6, 60, 0.5)), tmp_path, tolerance=1e-6)
    why = outcome.report["explanation"]
    worst = {one["name"]: one["worst"] for one in outcome.report["data"]}[outcome.report["verdict"]["worst"]]
    assert (why["what"], why["set"]) == ("error", outcome.report["verdict"]["worst"])
    assert (why["sequence"], why["time"], why["output"]) == (worst["sequence"], worst["time"], worst["output"])
    assert why["roundings"]["all"] == pytest.approx(outcome.report["error"]["max_range"])
    assert why["advice"][0] == "--quant float32"
    text, page = printed(outcome), (outcome.folder / "report.html").read_text()
    assert why["roundings"]["values"][0]["value"] in text.replace("\n", " ")
    assert "what to try: --quant float32" in text
    for said in ("Why it does not hold", "Each rounding alone", "What to try"):
        assert said in page
    assert f"sequence {why['sequence']}, from step" in page


def test_the_tolerance_that_is_proposed_is_enough(tmp_path: Path) -> None:
    policy = dense(noise(6, 60, 0.5))
    advice = compiled(policy, tmp_path, tolerance=1e-6).report["explanation"]["advice"]
    (proposed,) = (text.split()[1] for text in advice if text.startswith("--tolerance"))
    assert compiled(policy, tmp_path, tolerance=float(proposed.rstrip(","))).exit_code == 0


def test_data_that_holds_where_generated_sequences_do_not_is_said(tmp_path: Path) -> None:
    weight = np.array([[1.0, 0.5, -0.25], [0.75, -1.0, 0.5]])
    outcome = compiled(dense(np.round(4 * noise(6, 60, 1.0)) / 4, weight), tmp_path, tolerance=1e-6)
    assert outcome.report["explanation"]["set"] == "generated"
    assert [text for text in outcome.report["explanation"]["advice"] if text.startswith("--verdict data")]


def test_a_broken_link_is_no_matter_of_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "load", lambda name: interpreter_target(faults={"late": True}))
    outcome = compiled(random_policy(4), tmp_path, quant="float32")
    why, first = outcome.report["explanation"], outcome.report["links"][0]["first_divergent"]
    assert (why["what"], why["roundings"]) == ("program = here", None)
    assert (why["sequence"], why["time"]) == (first["sequence"], first["time"])
    assert "no setting mends this" in why["advice"][0]
    assert "Why it does not hold" in (outcome.folder / "report.html").read_text()


def test_recorded_outputs_that_differ_are_placed(tmp_path: Path) -> None:
    policy = dense(noise(6, 60, 0.5))
    folder, x = compiled(policy, tmp_path).folder, noise(2, 80, 0.7)
    y = x @ np.asarray(policy.layers[0].weight).T  # type: ignore[attr-defined]
    y[1, 30, 1] += 0.5
    why = verify_build(folder, {"x": x, "y": y}).report["explanation"]
    assert (why["what"], why["set"], why["sequence"], why["time"], why["output"]) == (
        "recorded y = policy", "given sequences", 1, 30, "y1")


def test_what_the_search_found_is_explained_where_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = dense(None)
    free = compiled(policy, tmp_path).report["error"]
    far = 4 * free["max_abs"]
    found = verdict._search
    monkeypatch.setattr(verdict, "_search", lambda *a: dataclasses.replace(found(*a), max_abs=far))
    outcome = compiled(policy, tmp_path, tolerance=2 * free["max_range"], verdict="all")
    assert outcome.report["explanation"]["what"] == "worst input found"
    assert compiled(policy, tmp_path, tolerance=2 * free["max_range"]).report["explanation"] is None
