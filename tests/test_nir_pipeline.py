"""Targets nir and nir-graded through the command line: verdicts, exit codes, reports, messages."""

from __future__ import annotations

import dataclasses
import io
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from ncpc.cli.commands import run
from ncpc.frontend.container import write_policy
from ncpc.ir.policy import DtRange
from ncpc.report.record import schema
from ncpc.targets.nir import consumers
from ncpc.targets.nir.box import invariant_box
from ncpc.targets.nir.front import cell_of
from ncpc.verification.search import search
from tests.conftest import RequireTool
from tests.nets import random_ltc, random_policy
from tests.planted import Edit, plant


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool) -> None:
    """Verify on little data: what is tested here is the plumbing."""
    require_tool("nir")
    monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 120)
    monkeypatch.setattr("ncpc.verification.verdict.search", partial(search, screens=1, generations=1, length=12))
    monkeypatch.setattr("ncpc.targets.nir.nir_target.CONSUMER_STEPS", 40)


def container(folder: Path, **changes: object) -> Path:
    policy = random_policy(3, neurons=5)
    write_policy(dataclasses.replace(policy, **changes), folder / "net.safetensors")  # type: ignore[arg-type]
    return folder / "net.safetensors"


def report_of(folder: Path) -> dict[str, object]:
    report = json.loads((folder / "report.json").read_text())
    jsonschema.validate(report, schema())
    return dict(report)


def compiled(path: Path, *options: str) -> tuple[int, Path]:
    out = path.parent / "build"
    return run(["compile", str(path), "-o", str(out), *options]), out


def refused(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> str:
    """The one line of an exit with code 2, which leaves nothing behind."""
    code, out = compiled(path, *options)
    message = capsys.readouterr().err
    assert code == 2
    assert message.count("\n") == 1
    assert not out.exists()
    return message


def test_nir_holds_in_every_consumer(tmp_path: Path, require_tool: RequireTool,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    for consumer in consumers.CONSUMERS.values():
        require_tool(consumer.module)
    code, out = compiled(container(tmp_path), "--target", "nir", "--units", "500", "--tolerance", "0.15")
    report = report_of(out)
    links = report["links"]
    assert code == 0
    assert isinstance(links, list)
    assert [(link["from"], link["to"], link["holds"]) for link in links] == [
        ("model", "nir", True), ("nir", "norse", True), ("nir", "snntorch", True), ("nir", "spikingjelly", True)]
    assert links[1]["runtime_version"] == consumers.CONSUMERS["norse"].version()
    assert report["extra"]["nir"]["units"] <= 500  # type: ignore[index]
    assert report["extra"]["nir"]["ticks_per_step"] == 6  # type: ignore[index]
    assert report["error"]["search"]["max_range"] > 0  # type: ignore[index]
    _require_says_what_was_built(report, out)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ticks", "per", "step", "6"] in printed
    assert ["threshold", "units", str(report["extra"]["nir"]["units"])] in printed  # type: ignore[index]


def _require_says_what_was_built(report: Any, out: Path) -> None:
    """Formats and proof are those of the spikes, not of an integer program; the page shows what it takes."""
    assert report["quant"]["scheme"] == "thresholds"
    assert report["quant"]["formats"] == {"x0": "Q1.12", "x1": "Q1.12", "x2": "Q1.12", "y0": "Q2.21", "y1": "Q2.21",
                                          "drive": "Q8.12"}
    policy = random_policy(3, neurons=5)
    box = invariant_box(cell_of(policy), policy.input_range)
    for row, (lo, hi) in zip(report["proof"]["box"], box, strict=True):
        assert (row["lo"], row["hi"]) == (lo, hi)
        assert lo <= row["observed_lo"] <= row["observed_hi"] <= hi
    page = (out / "report.html").read_text()
    assert "<td>nir: ticks per step</td><td>6</td>" in page
    assert f"<td>nir: units</td><td>{report['extra']['nir']['units']}</td>" in page


@pytest.mark.slow
def test_a_build_is_verified_and_simulated_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A tolerance given to verify is the verdict's alone: the network stays the one that was built."""
    code, out = compiled(container(tmp_path), "--target", "nir", "--tolerance", "0.1")
    assert code == 0
    assert run(["verify", str(out), "--steps", "60"]) == 0
    assert run(["verify", str(out), "--steps", "60", "--tolerance", "1e-6"]) == 1
    assert run(["simulate", str(out), "--steps", "20"]) == 0
    capsys.readouterr()
    assert run(["verify", str(out), "--steps", "60", "--json"]) == 0
    again, first = json.loads(capsys.readouterr().out), report_of(out)
    assert again["quant"] == first["quant"]
    assert again["proof"]["assumptions"] == first["proof"]["assumptions"]  # type: ignore[index]
    assert [b["hi"] for b in again["proof"]["box"]] == [b["hi"] for b in first["proof"]["box"]]  # type: ignore[index]


def edited_graph(change: Callable[[dict[str, Any]], object]) -> Edit:
    """The fault ``change`` (of the nodes by name) in a NIR file, written as nir writes it."""
    import nir

    def edit(name: str, content: bytes) -> bytes:
        if name != "net.nir":
            return content
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(content)
            graph = nir.read(file)
            change(graph.nodes)
            nir.write(file, graph)
            return file.read_bytes()

    return edit


@pytest.mark.slow
def test_a_wrong_network_fails_verification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file itself is emitted wrongly, its spikes are not the integer model's, in any simulator."""
    def heavier(nodes: dict[str, Any]) -> None:
        nodes["decode"].weight[:3] += 4096.0

    plant(monkeypatch, edited_graph(heavier))
    code, _ = compiled(container(tmp_path), "--target", "nir", "--units", "600", "--tolerance", "0.2")
    assert code == 1
    said = capsys.readouterr().out
    assert "spikes differ from the integer model" in said
    assert "nir: nir: nir:" not in said
    assert "✗ nir = norse" in said


def test_what_a_simulator_refuses_is_a_fault_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, edited_graph(DAMAGE["threshold"]))
    code, _ = compiled(container(tmp_path), "--target", "nir", "--units", "300", "--tolerance", "0.3")
    said = capsys.readouterr()
    assert code == 1
    assert "snntorch: cannot run the file (AssertionError: v_threshold must be same" in said.out
    assert said.err == ""


def build(folder: Path) -> Path:
    code, out = compiled(container(folder), "--target", "nir", "--units", "300", "--tolerance", "0.3")
    assert code == 0
    return out


def one_weight(nodes: dict[str, Any], node: str, place: tuple[int, int]) -> None:
    nodes[node].weight[place] += 1.0


DAMAGE = {
    "input weight": lambda nodes: one_weight(nodes, "sense", (0, 0)),
    "synapse": lambda nodes: one_weight(nodes, "decode", (5, 60)),
    "level": lambda nodes: one_weight(nodes, "encode", (60, 5)),
    "output": lambda nodes: one_weight(nodes, "readout", (0, 60)),
    "threshold": lambda nodes: nodes["units"].v_threshold.__setitem__(3, 2.0),
    "time constant": lambda nodes: nodes["units"].tau.__setitem__(slice(None), 2e-4),
}


def test_any_change_of_the_file_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One number each, exit code 1: the file is not the one that the policy makes, and no simulator reads it."""
    import nir

    out = build(tmp_path)
    whole = (out / "net.nir").read_bytes()
    capsys.readouterr()
    for name, change in DAMAGE.items():
        (out / "net.nir").write_bytes(whole)
        graph = nir.read(out / "net.nir")
        change(graph.nodes)
        nir.write(out / "net.nir", graph)
        assert run(["verify", str(out), "--steps", "20"]) == 1, name
        said = capsys.readouterr()
        assert "net.nir is not the file that was compiled" in said.out, name
        assert "snntorch" not in said.out
        assert said.err == ""


def edited(out: Path, *place: str, value: object) -> None:
    report = json.loads((out / "report.json").read_text())
    part = report
    for name in place[:-1]:
        part = part[name]
    part[place[-1]] = value
    (out / "report.json").write_text(json.dumps(report))


def test_a_damaged_build_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is truncated, empty or missing is not the build's; a report that is no report cannot be verified.

    What a report says beyond that is nothing the verdict rests on: it is made again.
    """
    out = build(tmp_path)
    whole, report = (out / "net.nir").read_bytes(), (out / "report.json").read_text()
    capsys.readouterr()

    def said(code: int) -> str:
        assert run(["verify", str(out), "--steps", "20"]) == code
        printed = capsys.readouterr()
        assert printed.err.count("\n") == (code == 2)
        (out / "net.nir").write_bytes(whole)
        (out / "report.json").write_text(report)
        return printed.err or printed.out

    for content in (whole[:3000], b"", b"text"):
        (out / "net.nir").write_bytes(content)
        assert "net.nir is not the file that was compiled" in said(1)
    (out / "net.nir").unlink()
    assert "net.nir is missing from the build" in said(1)
    edited(out, "verdict", value={})
    assert "report.json: damaged, no 'verdict.holds'; compile again" in said(2)
    edited(out, "verdict", "tolerance", value=1e9)
    assert "tolerance 0.3" in said(0)
    assert "holds" in said(0)


def test_a_consumer_that_is_missing_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(consumers.CONSUMERS["norse"], module="norse_is_absent")
    monkeypatch.setitem(consumers.CONSUMERS, "norse", absent)
    code, out = compiled(container(tmp_path), "--target", "nir", "--units", "300", "--tolerance", "0.3")
    verdict = report_of(out)["verdict"]
    assert code == 0
    assert "norse: norse is not installed; pip install 'ncpc[consumers]'" in verdict["not_run"]  # type: ignore[index]


def test_too_tight_a_tolerance_is_kept_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncpc.targets.nir.sizing.MOST_UNITS", 400)
    code, out = compiled(container(tmp_path), "--target", "nir", "--tolerance", "0.0001")
    assert code == 1
    report: Any = report_of(out)
    assert "400 units leave an error" in report["verdict"]["reasons"][0]
    assert report["proof"] is None


def test_bad_requests_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = container(tmp_path)
    assert "--units 3: give 'auto' or a number from" in refused(capsys, plain, "--target", "nir", "--units", "3")
    for scheme in ("float32", "int16", "int8"):
        said = refused(capsys, plain, "--target", "nir", "--quant", scheme)
        assert f"target 'nir' has no --quant {scheme}; it has thresholds; threshold units have no number format" in said
    said = refused(capsys, plain, "--target", "nir", "--theta", "3")
    assert "--theta: an option of nir-graded, not of nir; leave it out" in said
    assert "--theta x" in refused(capsys, plain, "--target", "nir-graded", "--theta", "x")
    for bad in ("many", "0", "-3", "30000"):
        assert f"--units {bad}: give 'auto' or a number up to 24000" in refused(
            capsys, plain, "--target", "nir", "--units", bad)
    moving = container(tmp_path, dt=DtRange(0.6, 1.9, 1.0))
    said = refused(capsys, moving, "--target", "nir")
    assert "target 'nir' has no --dt runtime; it has fixed; give --dt fixed" in said
    two = container(tmp_path, layers=(random_ltc(3, neurons=5), random_ltc(4, inputs=2, neurons=4)))
    assert "'nir-graded' (one node per layer)" in refused(capsys, two, "--target", "nir")
    said = refused(capsys, two, "--target", "nir-graded", "--chip", "loihi2")
    assert "layers [ltc, ltc] are not one fused LTC" in said


@pytest.mark.slow
def test_the_c_of_spinnaker2_has_its_certificate_beside_it(tmp_path: Path, require_tool: RequireTool,
                                                            capsys: pytest.CaptureFixture[str]) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    code, out = compiled(container(tmp_path), "--target", "nir-graded", "--chip", "spinnaker2", "--tolerance", "0.05")
    assert code == 0
    assert report_of(out)["extra"]["certificate"]["certified"]  # type: ignore[index]
    assert {"c/certificate.json", "c/certify.py"} <= set(report_of(out)["files"])  # type: ignore[call-overload]
    assert run(["verify", str(out)]) == 0
    capsys.readouterr()
    assert run(["certify", str(out)]) == 0
    assert "cannot overflow" in capsys.readouterr().out


@pytest.mark.slow
def test_graded_nodes_hold_and_say_what_they_cost(tmp_path: Path) -> None:
    path = container(tmp_path)
    code, out = compiled(path, "--target", "nir-graded")
    assert code == 0
    assert report_of(out)["extra"]["nir-graded"]["messages_per_step"] > 1  # type: ignore[index]
    code, out = compiled(path, "--target", "nir-graded", "--chip", "loihi2", "--tolerance", "0.02")
    chip = report_of(out)["extra"]["nir-graded"]["chip"]  # type: ignore[index]
    assert code == 0
    assert chip["limits"]["weight_bits"]["value"] == 8
    report: Any = report_of(out)
    assert report["quant"]["formats"]["v"].startswith("Q")
    assert sum(int(n) for n in report["quant"]["formats"]["v"][1:].split(".")) == 23
    reach = [chip["needs"]["proved"]["v"], [min(b["lo"] for b in report["proof"]["box"]),
                                            max(b["hi"] for b in report["proof"]["box"])]]
    assert reach[0][0] / reach[1][0] == pytest.approx(reach[0][1] / reach[1][1])
    assert "not run" in chip["note"]


def edited_field(field: str, change: Any) -> Edit:
    """The fault that a field of the graded node is ``change`` of it; None takes it away."""
    import h5py

    def edit(name: str, content: bytes) -> bytes:
        if name != "net.nir":
            return content
        held = io.BytesIO(content)
        with h5py.File(held, "r+") as file:
            node = file["node/nodes/ltc"]
            value = node[field][()]
            del node[field]
            if change is not None:
                node[field] = change(value)
        return held.getvalue()

    return edit


def first_plus(amount: int) -> Any:
    return lambda values: np.concatenate([values[:1] + amount, values[1:]])


def coarse_pull(text: bytes) -> bytes:
    """The step with another shift of ``G*v``."""
    step = json.loads(text)
    inside = next(op for op in step["ops"] if op["op"] == "repeat")["ops"]
    next(op for op in inside if op["out"] == "pull")["k"] = 3
    return json.dumps(step).encode()


GRADED_FAULTS = (
    ("constant_w", first_plus(40), 1, "program and ncpc.nir differ in"),
    ("constant_sigmoid_table", lambda values: values + 9, 1, "program and ncpc.nir differ in"),
    ("constant_pre", first_plus(500), 1, "ncpc.nir: cannot run the file"),
    ("constant_cm_t", lambda values: values - (1 << 30), 1, "ncpc.nir: cannot run the file"),
    ("step", coarse_pull, 1, "graded node: ltc.pull = mulshr leaves Q"),
    ("constant_cm_t", None, 1, "ncpc.nir: cannot run the file"),
    ("step", None, 2, "net.nir: is no NIR file of this build ('ltc': no GradedLayer (no field 'step')"),
    ("type", lambda value: "Other", 2, "is no NIR file of this build (nodes that nir does not know)"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("field", "change", "expected", "said"), GRADED_FAULTS)
def test_a_wrong_graded_node_fails(
    field: str, change: Any, expected: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch, edited_field(field, change))
    code, _ = compiled(container(tmp_path), "--target", "nir-graded", "--steps", "60")
    printed = capsys.readouterr()
    assert code == expected
    assert said in (printed.err if expected == 2 else printed.out)
    assert "Traceback" not in printed.err


def test_what_does_not_fit_a_chip_is_kept_and_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ncpc.targets.nir_graded import chips

    profile = chips.chip("loihi2")
    tight = {**profile.limits, "fan_in": dataclasses.replace(profile.limits["fan_in"], value=2)}
    small = dataclasses.replace(profile, limits=tight)
    monkeypatch.setattr("ncpc.targets.nir_graded.graded_target.chip", lambda name: small)
    code, out = compiled(container(tmp_path), "--target", "nir-graded", "--chip", "loihi2")
    assert code == 1
    report: Any = report_of(out)
    assert "weights (fan in), the chip has 2 (" in report["verdict"]["reasons"][0]
    assert report["proof"] is None  # the integer program's says nothing of the chip's arithmetic


def test_consumers_command_says_what_is_there(capsys: pytest.CaptureFixture[str], require_tool: RequireTool,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    for consumer in consumers.CONSUMERS.values():
        require_tool(consumer.module)
    absent = dataclasses.replace(consumers.CONSUMERS["norse"], module="norse_is_absent")
    assert run(["consumers", "--json"]) == 0
    found = {record["name"]: record for record in json.loads(capsys.readouterr().out)}
    forms = list(found["snntorch"]["cycles"])
    assert [found["snntorch"]["cycles"][form] for form in forms] == ["differs", "as written"]
    assert all(found[name]["spikes"] for name in found)
    monkeypatch.setitem(consumers.CONSUMERS, "norse", absent)
    assert run(["consumers"]) == 0
    said = capsys.readouterr().out
    assert "missing" in said
    assert "\nnorse: norse is not installed; pip install 'ncpc[consumers]'\n" in said
    assert "as written" in said
