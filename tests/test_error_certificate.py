"""Error certificates: never below an error that occurs, and checked: every fault planted in one is refused."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks import error_certificates
from benchmarks.latch import FILE, latch
from ncpc.cli import commands as cli
from ncpc.driver.certification import certificates
from ncpc.driver.job import Job, Request
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import Container, read_container, write_policy
from ncpc.ir.policy import Dense, DtRange, Ltc, Policy, Synapses
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.phases import Phases
from ncpc.proofs.errors import certificate as files
from ncpc.proofs.errors import certify, identity
from ncpc.proofs.errors.certificate import Certificate
from ncpc.proofs.errors.check import check
from ncpc.proofs.errors.components import components
from ncpc.proofs.errors.facts import facts
from ncpc.proofs.errors.outward import Bounds, bounds, growth, per, sigmoid
from ncpc.proofs.errors.rest import search_witness
from ncpc.proofs.errors.witness import Witness, proves
from ncpc.proofs.errors.words import above
from ncpc.proofs.prove import prove
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics.run import Executor, run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.verification.sequences import suite
from tests.nets import random_policy

DEAD_BAND = 1e-3


def program_of(policy: Policy, scheme: str = "int16", dt: str = "fixed", dead_band: float = DEAD_BAND) -> Program:
    program = fold_constants(lower_fixed(policy, quantize(policy, scheme, dt, dead_band, Choices(largest_fractions))))
    prove(program)
    return program


def chained(seed: int, own: bool = False, dt: DtRange | None = None) -> Policy:
    """A random network whose synapses lead from higher neurons to lower ones, and from 1 to itself if ``own``."""
    policy = random_policy(seed, dt, neurons=6)
    layer = policy.layers[0]
    assert isinstance(layer, Ltc)
    r = layer.recurrent
    keep = (r.pre > r.post) | (own & (r.pre == 1) & (r.post == 1))
    parts = (getattr(r, field.name)[keep] for field in dataclasses.fields(Synapses))
    weak = Synapses(*parts)
    layer = dataclasses.replace(layer, recurrent=weak, gleak=layer.gleak + 0.5)
    return dataclasses.replace(policy, layers=(layer,))


CASES = {"int16": (chained(1), "int16", "fixed"), "own synapse": (chained(4, own=True), "int16", "fixed"),
         "int8": (chained(2), "int8", "fixed"), "any dt": (chained(1, dt=DtRange(0.2, 2.0)), "int16", "runtime")}


@cache
def case(name: str) -> tuple[Policy, Program, Certificate]:
    policy, scheme, dt = CASES[name]
    program = program_of(policy, scheme, dt)
    found = certify.certify(policy, program)
    assert found.certificate is not None, found.reason
    return policy, program, found.certificate


@pytest.mark.parametrize("name", CASES)
def test_no_error_found_exceeds_the_certified_one(name: str) -> None:
    policy, program, certificate = case(name)
    dt = CASES[name][2]
    data = suite(policy, 3000, dt == "runtime", 3)
    real = lower(policy) if dt == "runtime" else fix_dt(lower(policy), policy.dt.nominal)
    exact, deployed = run(real, data), run(program, data)
    worst = np.abs(exact.y - deployed.y).max(axis=(0, 1))
    assert (worst <= certificate.outputs).all()
    assert (np.abs(exact.state - deployed.state).max(axis=(0, 1)) <= certificate.error).all()
    assert (exact.state.min((0, 1)) >= certificate.box[:, 0]).all()
    assert (exact.state.max((0, 1)) <= certificate.box[:, 1]).all()
    assert (worst * 200 >= certificate.outputs).all()  # not vacuous


@pytest.mark.parametrize("name", CASES)
def test_from_any_two_states_the_certificate_allows_one_step_leads_to_two_others(name: str) -> None:
    """The induction itself, sampled: exact states all over the box, deployed ones as far away as the error allows."""
    policy, program, certificate = case(name)
    rng = np.random.default_rng(5)
    box, count = certificate.box, 4000
    v = box[:, 0] + (box[:, 1] - box[:, 0]) * rng.choice([0.0, 0.5, 1.0, np.nan], (count, len(box)))
    v = np.where(np.isnan(v), rng.uniform(box[:, 0], box[:, 1], v.shape), v)
    kind = program.states[0].inp.type
    assert isinstance(kind, Fixed)
    errors = np.stack([np.interp(v[:, i], row.levels, row.errors) for i, row in enumerate(certificate.rows)], axis=1)
    off = errors * rng.choice([-1.0, 1.0, 0.0], v.shape)
    raw = np.round((v + off) / kind.lsb).astype(np.int64)
    v = np.clip(v, raw * kind.lsb - errors, raw * kind.lsb + errors)
    x = rng.uniform(policy.input_range[:, 0], policy.input_range[:, 1], (count, policy.inputs))
    dt = rng.choice([policy.dt.lo, policy.dt.hi], count)
    after, deployed = exact_step(policy, v, x, dt), deployed_step(program, raw, x, dt) * kind.lsb
    allowed = np.stack([np.interp(after[:, i], r.levels, r.errors) for i, r in enumerate(certificate.rows)], axis=1)
    inside = ((v >= box[:, 0]) & (v <= box[:, 1])).all(axis=1)
    assert inside.sum() > 500
    assert (np.abs(after - deployed)[inside] <= allowed[inside] * (1 + 1e-9)).all()


def exact_step(policy: Policy, v: np.ndarray, x: np.ndarray, dt: np.ndarray) -> np.ndarray:
    machine = Executor(lower(policy))
    machine.reset(len(v))
    machine.load({machine.program.states[0].inp.name: v})
    return machine.step(x, dt)[1][0]


def deployed_step(program: Program, raw: np.ndarray, x: np.ndarray, dt: np.ndarray) -> np.ndarray:
    from ncpc.semantics.ports import encode

    machine = Executor(program)
    machine.reset(len(raw))
    machine.load({program.states[0].inp.name: raw})
    given = None if program.dt is None else encode(program.dt, dt[:, None])[:, 0]
    return machine.step(encode(program.x, x), given)[1][0]


def planted(name: str) -> tuple[Policy, Program, Certificate]:
    policy, program, c = case("own synapse")
    rows, error, i = c.rows, c.error.copy(), 1
    if name == "errors a tenth less":
        rows = tuple(dataclasses.replace(row, errors=row.errors * 0.9) for row in rows)
        return policy, program, dataclasses.replace(c, error=error * 0.9, rows=rows)
    if name == "one error less":
        row = dataclasses.replace(rows[i], errors=rows[i].errors * 0.98)
        return policy, program, dataclasses.replace(c, rows=(*rows[:i], row, *rows[i + 1 :]))
    if name == "output less":
        return policy, program, dataclasses.replace(c, outputs=c.outputs * 0.99)
    if name == "box short":
        box = c.box.copy()
        box[i, 1] -= 1e-4 * (box[i, 1] - box[i, 0])
        return policy, program, dataclasses.replace(c, box=box)
    if name == "slices short":
        row = dataclasses.replace(rows[i], levels=np.linspace(c.box[i, 0], c.box[i, 1] - 1e-3, len(rows[i].levels)))
        return policy, program, dataclasses.replace(c, rows=(*rows[:i], row, *rows[i + 1 :]))
    if name == "not concave":
        bent = rows[i].errors * np.where(np.arange(len(rows[i].errors)) == len(rows[i].errors) // 2, 0.8, 1.0)
        return policy, program, dataclasses.replace(
            c, rows=(*rows[:i], dataclasses.replace(rows[i], errors=bent), *rows[i + 1 :]))
    if name == "multipliers of another sign":
        row = dataclasses.replace(rows[i], multipliers=-rows[i].multipliers + 0.5)
        return policy, program, dataclasses.replace(c, rows=(*rows[:i], row, *rows[i + 1 :]))
    constant = {"table entry": "sigmoid_table", "weight": "w"}[name]
    value, data = program.constants[constant]
    changed = data.copy()
    changed[len(data) // 2 if constant == "sigmoid_table" else 0] += 400
    other = dataclasses.replace(program, constants={**program.constants, constant: (value, changed)})
    return policy, other, dataclasses.replace(c, program=identity.of_program(other))


FAULTS = ("errors a tenth less", "one error less", "output less", "box short", "slices short", "not concave",
          "multipliers of another sign", "table entry", "weight")


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_refused(name: str) -> None:
    assert not check(*case("own synapse")).failures
    assert check(*planted(name)).failures


def test_a_certificate_of_another_policy_or_program_is_refused() -> None:
    policy, program, c = case("int16")
    layer = policy.layers[0]
    assert isinstance(layer, Ltc)
    recurrent = dataclasses.replace(layer.recurrent, erev=layer.recurrent.erev * 1.02)
    changed = dataclasses.replace(layer, recurrent=recurrent)
    other = dataclasses.replace(policy, layers=(changed,))
    other_program = program_of(other)
    assert check(other, program, c).failures
    assert check(policy, other_program, c).failures
    stamped = dataclasses.replace(c, policy=identity.of_policy(other))
    assert check(other, program, stamped).failures


def test_a_certificate_comes_back_from_its_file() -> None:
    policy, program, c = case("int16")
    assert not check(policy, program, files.loads(files.dumps(c))).failures


def two_ways() -> Ltc:
    """A neuron that excites itself: at rest near 0 and near 1."""
    own = Synapses(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([5.0]), np.array([10.0]), np.array([0.5]),
                   np.array([1.0]))
    one = np.ones(1)
    none = Synapses(np.zeros(0, np.int64), np.zeros(0, np.int64), *(np.zeros(0),) * 4)
    return Ltc(none, own, one, one, 0 * one, one, 0 * one, one, 0 * one, ("motor",), ("m",))


def test_two_rest_points_are_found_and_proved() -> None:
    layer = two_ways()
    policy = Policy("two", (layer,), np.array([[-1.0, 1.0]]))
    found = certify.certify(policy, program_of(policy))
    assert found.certificate is None
    assert found.witness is not None
    low, high = sorted(found.witness.states[:, 0])
    assert low < 0.2
    assert high > 0.7
    assert certify.read(policy, program_of(policy), certify.dumps(found), "file").witness is not None


def test_the_latch_that_is_shipped_keeps_its_bit_and_has_two_rest_points() -> None:
    policy = read_container(FILE).policy
    assert identity.of_policy(policy) == identity.of_policy(latch())
    found = certify.certify(policy, program_of(policy))
    assert found.certificate is None
    assert found.reason.startswith(certify.TWO)
    assert found.witness is not None
    x = np.zeros((2, 60, 1))
    x[:, :20], x[1, 20:40] = 1.0, -1.0
    kept = run(fix_dt(lower(policy), 1.0), Sequences(x, None, np.zeros(x.shape[:2], bool))).y[:, -1, 0]
    assert kept[0] > found.witness.states.max() - 0.05
    assert kept[1] < found.witness.states.min() + 0.05


def test_a_witness_that_proves_nothing_is_refused() -> None:
    layer, x_range = two_ways(), np.array([[-1.0, 1.0]])
    found = search_witness(layer, x_range)
    assert found is not None
    assert proves(layer, x_range, found)
    same = Witness(found.x, np.stack([found.states[0]] * 2), found.radius)
    elsewhere = Witness(found.x, found.states + 1e-3, found.radius)
    outside = Witness(found.x + 5.0, found.states, found.radius)
    assert not any(proves(layer, x_range, wrong) for wrong in (same, elsewhere, outside))
    alone = dataclasses.replace(layer, recurrent=dataclasses.replace(layer.recurrent, w=np.array([0.1])))
    assert search_witness(alone, x_range) is None


def test_what_is_not_covered_is_refused_in_words() -> None:
    policy = chained(1)
    headed = dataclasses.replace(policy, layers=(*policy.layers, Dense(np.ones((1, 2)), np.zeros(1))))
    with pytest.raises(Unsupported, match="covers one LTC layer"):
        facts(headed, program_of(policy))
    with pytest.raises(Unsupported, match="floating point"):
        facts(policy, lower(policy))


def test_the_checker_uses_nothing_of_the_search() -> None:
    """Read alone: what check.py and witness.py import, and what that imports in turn."""
    root, todo, seen = Path(files.__file__).parent, ["check", "witness"], set[str]()
    while todo:
        name = todo.pop()
        seen.add(name)
        found = re.findall(r"from ncpc\.proofs\.errors(?:\.(\w+))? import (\w+)", (root / f"{name}.py").read_text())
        todo += sorted({module or what for module, what in found} - seen)
    assert seen == {"check", "witness", "cells", "certificate", "facts", "identity", "outward", "rows"}


def test_components_come_after_what_feeds_them() -> None:
    layer = random_policy(3, neurons=8, density=0.2).layers[0]
    assert isinstance(layer, Ltc)
    groups = components(layer)
    place = {neuron: k for k, group in enumerate(groups) for neuron in group}
    assert sorted(place) == list(range(8))
    pairs = zip(layer.recurrent.pre.tolist(), layer.recurrent.post.tolist(), strict=True)
    assert all(place[pre] <= place[post] for pre, post in pairs)


def test_bounds_hold_the_exact_value() -> None:
    from fractions import Fraction

    from mpmath import exp, mp, mpf

    mp.dps = 40
    rng = np.random.default_rng(2)
    for a, b in rng.normal(size=(200, 2)) * np.array([1e3, 1e-3]):
        for got, want in ((bounds(a) + b, Fraction(a) + Fraction(b)), (bounds(a) * b, Fraction(a) * Fraction(b)),
                          (per(bounds(a), bounds(abs(b))), Fraction(a) / abs(Fraction(b)))):
            assert Fraction(float(got.lo)) <= want <= Fraction(float(got.hi))
        z = float(a) / 50
        s, g = sigmoid(bounds(z)), growth(bounds(abs(b)))
        assert mpf(float(s.lo)) <= 1 / (1 + exp(-mpf(z))) <= mpf(float(s.hi))
        assert exp(mpf(abs(float(b)))) - 1 <= mpf(float(g.hi))
    assert float((Bounds(np.array(-1.0), np.array(2.0)) * bounds(-3.0)).lo) <= -6.0


def test_the_command_certifies_a_build_and_checks_what_it_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_policy(chained(1), tmp_path / "p.safetensors")
    build, file = str(tmp_path / "build"), tmp_path / "e.json"
    asked = ["compile", str(tmp_path / "p.safetensors"), "-o", build, "--steps", "100", "--certify", "error"]
    assert cli.run(asked) == 0
    said = capsys.readouterr().out
    report, inside = json.loads((tmp_path / "build/report.json").read_text()), tmp_path / "build/error_certificate.json"
    record = report["extra"]["error_certificate"]
    assert record["certified"]
    assert record["note"].startswith("CERTIFIED(")
    assert [one["error"] for one in record["bounds"].values()] == files.loads(inside.read_text()).outputs.tolist()
    assert "CERTIFIED(" in said
    assert record["note"].replace("'", "&#39;") in (tmp_path / "build/report.html").read_text()
    assert cli.run(["certify", build, "--error", "-o", str(file)]) == 0
    assert file.read_bytes() == inside.read_bytes()
    assert cli.run(["certify", build, "--error", "--check", str(file)]) == 0
    assert capsys.readouterr().out.count("from reset on, for all time, for every input in its declared range") >= 2
    assert cli.run(["certify", build]) == 0
    assert "'ncpc verify' makes the build again" in capsys.readouterr().out
    less = files.loads(file.read_text())
    file.write_text(files.dumps(dataclasses.replace(less, outputs=less.outputs * 0.9)))
    assert cli.run(["certify", build, "--error", "--check", str(file)]) == 1
    assert cli.run(["certify", build, "--check", str(file)]) == 2


@pytest.mark.slow
def test_verify_checks_the_certificate_of_a_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_policy(chained(1), tmp_path / "p.safetensors")
    build, file = str(tmp_path / "build"), tmp_path / "build/error_certificate.json"
    asked = ["compile", str(tmp_path / "p.safetensors"), "-o", build, "--steps", "100", "--certify", "error"]
    assert cli.run(asked) == 0
    assert cli.run(["verify", build]) == 0
    less = files.loads(file.read_text())
    file.write_text(files.dumps(dataclasses.replace(less, outputs=less.outputs * 0.9)))
    assert cli.run(["verify", build]) == 1
    assert "error_certificate.json is not" in capsys.readouterr().out


def test_of_what_no_certificate_covers_the_report_says_why() -> None:
    target, policy = registry.load("onnx"), chained(1)
    job = Job(Request("onnx", certify="error"), Container(policy), target, CompileOptions())
    lowered = Lowered(policy, case("int16")[1], case("int16")[1], "int16")
    made, said = certificates(job, lowered, {}, Phases())
    assert said["error_certificate"]["note"].startswith("NOT CERTIFIED: net: an error certificate speaks of integer C")
    assert json.loads(made["error_certificate.json"])["certified"] is False


def test_c_is_certified_whatever_its_target_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target from elsewhere that writes the program's C."""
    policy, program, _ = case("int16")
    target = dataclasses.replace(registry.load("host"), name="elsewhere")
    job = Job(Request("elsewhere", certify="error"), Container(policy), target, CompileOptions())
    asked: list[Policy] = []

    def searched(policy: Policy, program: Program) -> certify.Certification:
        asked.append(policy)
        return certify.Certification(None, reason="not looked for")

    monkeypatch.setattr("ncpc.driver.certification.certify_error", searched)
    certificates(job, Lowered(policy, program, program, "int16"), {f"{program.name}.c": b""}, Phases())
    assert asked == [policy]


SMALL = {"schema": 1, "policy": "", "program": "", "box": [], "error": [], "outputs": [], "rows": []}


@pytest.mark.parametrize("text", [
    "", "{", "[" * 5000, "[]", "7", "null", "{}", '{"schema": 2}', '{"schema": 1}', '{"schema": 1, "rows": 3}',
    '{"schema": 1, "rows": [3]}', '{"schema": 1, "certified": false}', '{"schema": 1, "certified": 1, "reason": "x"}',
    '{"schema": 1, "certified": false, "reason": "x", "witness": 3}',
    '{"schema": 1, "certified": false, "reason": "x", "witness": {"x": [1], "states": "y", "radius": []}}',
    json.dumps({**SMALL, "box": "wide"}), json.dumps({**SMALL, "box": [[1, 2], [3]]}),
    json.dumps({**SMALL, "error": None}), json.dumps({**SMALL, "rows": [{}]}),
    json.dumps({**SMALL, "outputs": {"a": 1}}),
    json.dumps({**SMALL, "error": [10**400]}), json.dumps({name: SMALL[name] for name in SMALL if name != "box"}),
])
def test_what_is_no_certificate_gives_one_line(text: str) -> None:
    policy, program, _ = case("int16")
    with pytest.raises(BadInput) as caught:
        certify.read(policy, program, text, "e.json")
    said = str(caught.value)
    assert said.startswith("e.json: ")
    assert not any(word in said for word in ("Error", "Errno", "\n", "inhomogeneous"))


@pytest.mark.parametrize("part", ["box", "error", "outputs", "levels", "errors", "pieces", "multipliers"])
@pytest.mark.parametrize("data", [[], 0.5, [[]], [[[1.0]]], [float("nan")], [1e308, -1e308]])
def test_numbers_of_another_shape_certify_nothing(part: str, data: object) -> None:
    policy, program, certificate = case("int16")
    record = json.loads(files.dumps(certificate))
    (record if part in record else record["rows"][1])[part] = data
    assert certify.read(policy, program, json.dumps(record), "e.json").certificate is None


def test_a_bound_is_never_rounded_down() -> None:
    for value in (0.0123449, 0.99999, 1e-9, 123456.0, 5.0, 0.1 + 0.2):
        assert value <= float(above(value)) <= value * 1.011


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "no regular file"), ("none", "No such file or directory"),
                      ("bytes", "no text in UTF-8"), (".", "Is a directory")):
        assert cli.run(["certify", str(tmp_path), "--error", "--check", str(tmp_path / name)]) == 2
        assert f"cannot be read ({why})" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_the_committed_bounds_come_again() -> None:
    """Of one shipped network; the search is deterministic, up to the last bits of exp."""
    held = json.loads(error_certificates.RESULT.read_text())
    path = next(path for path in error_certificates.POLICIES if path.name == "spikes-autoncp12-b.safetensors")
    again = error_certificates.measured(path, "int16")
    known = held["benchmarks/policies/spikes-autoncp12-b.safetensors int16"]
    assert again["certified"]
    np.testing.assert_allclose(again["bound"], known["bound"], rtol=0.02)


def test_no_committed_bound_is_below_an_error_that_was_found() -> None:
    held = json.loads(error_certificates.RESULT.read_text())
    assert set(held) == {f"{path.relative_to(error_certificates.ROOT).as_posix()} {scheme}"
                         for path in error_certificates.POLICIES for scheme in error_certificates.SCHEMES}
    for record in held.values():
        assert not record["certified"] or (np.array(record["found"]) < record["bound"]).all()
