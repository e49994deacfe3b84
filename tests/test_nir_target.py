"""Target nir: the written file, its executors, and that every one of them gives the same spikes."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput, MissingTool, ProofFailed, Unsupported
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower as lower_real
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import MODEL, CompileOptions, Lowered
from ncpc.targets.nir import consumers, graph
from ncpc.targets.nir.files import read_interface
from ncpc.targets.nir.nir_target import EULER, network
from ncpc.targets.nir.spikes import NOT_ON_GRID, predict
from tests.conftest import Golden, RequireTool
from tests.nets import random_policy

OPTIONS = CompileOptions(extra={"units": "300"})
RUNTIMES = (EULER, *consumers.CONSUMERS)


@cache
def lowered(policy: Policy | None = None) -> Lowered:
    policy = policy or random_policy(1, neurons=6, density=0.5)
    real = lower_real(policy)
    return Lowered(policy, real, real, "thresholds")


def write(folder: Path, options: CompileOptions = OPTIONS) -> Path:
    for name, content in registry.load("nir").prepare(lowered(), options).files.items():
        (folder / name).write_bytes(content)
    return folder


def inputs(rows: int = 3, steps: int = 20, resets: bool = True) -> Sequences:
    rng = np.random.default_rng(0)
    reset = rng.random((rows, steps)) < (0.1 if resets else 0.0)
    return Sequences(rng.uniform(-1.2, 1.2, (rows, steps, 3)), reset=reset)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_equals_the_integer_model(runtime: str, tmp_path: Path, require_tool: RequireTool) -> None:
    """Outputs, states and flags bit for bit, and inside run every spike of every tick."""
    require_tool("nir")
    if runtime in consumers.CONSUMERS:
        require_tool(consumers.CONSUMERS[runtime].module)
    target, data = registry.load("nir"), inputs()
    artifact = target.prepare(lowered(), OPTIONS)
    expected = artifact.model(data)
    found = artifact.run(write(tmp_path), data, runtime)
    assert np.array_equal(found.trace.raw_y, expected.raw_y)
    assert np.array_equal(found.trace.raw_state, expected.raw_state)
    assert np.array_equal(found.trace.flags, expected.flags)
    assert found.extra["spikes_per_step"] > 10
    assert found.runtime_version[0].isdigit()
    assert np.ptp(expected.y) > 0.1


@pytest.mark.parametrize(("unfolds", "dt", "shape"), [
    (1, 1.0, {}), (2, 0.3, {"inputs": 1, "outputs": 1}), (3, 4.0, {"inputs": 5, "outputs": 4}), (12, 1.0, {})])
def test_any_unfolds_and_timespan(unfolds: int, dt: float, shape: dict[str, int], tmp_path: Path,
                                  require_tool: RequireTool) -> None:
    """The file in every runtime, and near the policy in float64; as many ticks per step as unfolds."""
    require_tool("nir")
    options, target = CompileOptions(extra={"units": "1500"}), registry.load("nir")
    policy = random_policy(7, neurons=5, unfolds=unfolds, dt=DtRange(dt, dt, dt), **shape)
    source = lowered(policy)
    real = fix_dt(source.real, dt)
    artifact = target.prepare(source, options)
    for name, content in artifact.files.items():
        (tmp_path / name).write_bytes(content)
    assert json.loads((tmp_path / "net.json").read_text())["ticks_per_step"] == unfolds
    x = np.random.default_rng(0).uniform(-1, 1, (2, 25, policy.inputs))
    expected, exact = artifact.model(Sequences(x)), run(real, Sequences(x))
    assert np.abs(expected.y - exact.y).max() < 0.02 * np.ptp(exact.y, axis=(0, 1)).max()
    for runtime in RUNTIMES:
        if runtime in consumers.CONSUMERS:
            require_tool(consumers.CONSUMERS[runtime].module)
        found = artifact.run(tmp_path, Sequences(x), runtime).trace
        assert np.array_equal(found.raw_y, expected.raw_y), runtime
        assert np.array_equal(found.raw_state, expected.raw_state), runtime


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_sessions_step_like_the_model(runtime: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    if runtime in consumers.CONSUMERS:
        require_tool(consumers.CONSUMERS[runtime].module)
    target, data = registry.load("nir"), inputs(1, 6, resets=False)
    artifact = target.prepare(lowered(), OPTIONS)
    session = artifact.open(write(tmp_path), runtime)
    expected = artifact.model(data)
    for _ in range(2):
        session.reset()
        for t in range(6):
            assert np.array_equal(session.step(data.x[0, t], 1.0), expected.y[0, t])
            assert session.status == expected.flags[0, t]
    session.close()


FAULTS = ("input weight", "level", "synapse", "phase")


def plant(fault: str, nodes: dict[str, Any]) -> None:
    """Change one weight of a unit that fires about half the time: of an input's, else of a neuron's."""
    net = network(lowered(), OPTIONS)
    face = net.interface
    spikes = predict(net, face.quantized(np.clip(inputs().x, -1, 1))[0], keep=True).spikes
    assert spikes is not None
    first = int(face.starts[face.sensed])
    span = (0, first) if fault == "input weight" else (first, int(face.starts[-1]))
    unit = span[0] + int(np.argmin(np.abs(spikes[..., slice(*span)].mean((0, 1)) - 0.5)))
    node, place = {
        "input weight": ("sense", (unit, int(np.argmax(np.abs(net.weight[unit]))))),
        "level": ("encode", (unit, int(np.argmax(np.abs(net.encode[unit]))))),
        "synapse": ("decode", (int(np.argmax(np.abs(net.decode[:, unit]))), unit)),
        "phase": ("encode", (unit, -2)),
    }[fault]
    weight = nodes[node].weight
    weight[place] += max(0.5 * abs(float(weight[place])), 1.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str, tmp_path: Path, require_tool: RequireTool) -> None:
    """One weight changed in the file: the run stops at the first spike that differs and names its unit."""
    nir = require_tool("nir")
    path = write(tmp_path) / "net.nir"
    broken = nir.read(path)
    plant(fault, broken.nodes)
    nir.write(path, broken)
    with pytest.raises(ProofFailed, match=r"spikes differ from the integer model at tick \d+; first \w+, level \d+"):
        registry.load("nir").prepare(lowered(), OPTIONS).run(tmp_path, inputs(), EULER)


def test_a_wrong_readout_is_a_mismatch(tmp_path: Path, require_tool: RequireTool) -> None:
    nir = require_tool("nir")
    path = write(tmp_path) / "net.nir"
    broken = nir.read(path)
    broken.nodes["readout"].weight[0, -2] += np.float32(0.1)
    nir.write(path, broken)
    target = registry.load("nir")
    artifact = target.prepare(lowered(), OPTIONS)
    found = artifact.run(tmp_path, inputs(), EULER).trace
    expected = artifact.model(inputs())
    assert not np.array_equal(found.raw_y, expected.raw_y)
    assert NOT_ON_GRID in found.raw_y


def test_the_file_holds_standard_primitives_only(tmp_path: Path, require_tool: RequireTool) -> None:
    nir = require_tool("nir")
    read = nir.read(write(tmp_path) / "net.nir", type_check=True)
    assert {type(node) for node in read.nodes.values()} == {nir.Input, nir.Affine, nir.LIF, nir.Linear, nir.Output}
    lifs = [node for node in read.nodes.values() if isinstance(node, nir.LIF)]
    assert len(lifs) == 1
    for parameter in (lifs[0].tau, lifs[0].r, lifs[0].v_leak, lifs[0].v_reset, lifs[0].v_threshold):
        assert np.unique(parameter).size == 1
    assert 1.0 < lifs[0].tau[0] / graph.TICK_S < 1.0 + 2.0**-22


def test_emitting_twice_gives_the_same_bytes() -> None:
    fresh = Lowered(dataclasses.replace(lowered().policy), lowered().real, lowered().program, "thresholds")
    target = registry.load("nir")
    assert target.prepare(lowered(), OPTIONS).files == target.prepare(fresh, OPTIONS).files


def test_golden_interface(golden: Golden) -> None:
    """What drivers read: a change of the format shows here. Rounded: the last digits are the machine's."""
    options = CompileOptions(extra={"units": "48", "levels": "uniform"})
    text = registry.load("nir").prepare(lowered(), options).files["net.json"]
    record = json.loads(text, parse_float=lambda digits: round(float(digits), 3))
    golden("nir_interface.json", json.dumps(record, indent=1) + "\n")


def test_golden_vectors_drive_the_file(tmp_path: Path, require_tool: RequireTool) -> None:
    """The vectors beside the file, tick by tick, as a user would replay them."""
    nir = require_tool("nir")
    from ncpc.targets.nir.machine import euler

    vectors = np.load(write(tmp_path) / "net_golden.npz")
    machine = euler(nir.read(tmp_path / "net.nir"))
    for x, y, packed in zip(vectors["x"], vectors["y"], vectors["spikes"], strict=True):
        found, spikes = machine.tick(x[None])
        assert np.array_equal(found[0], y)
        assert np.array_equal(spikes[0], np.unpackbits(packed, count=int(vectors["units"])).astype(bool))


def test_the_interface_reads_back(tmp_path: Path) -> None:
    face, back = network(lowered(), OPTIONS).interface, read_interface(write(tmp_path), "net")
    for field in dataclasses.fields(face):
        a, b = getattr(face, field.name), getattr(back, field.name)
        if field.name == "centres":
            assert all(np.array_equal(p, q) for p, q in zip(a, b, strict=True))
        else:
            assert np.array_equal(a, b)


def test_cost_says_what_it_takes(tmp_path: Path) -> None:
    net = network(lowered(), OPTIONS)
    cost = registry.load("nir").prepare(lowered(), OPTIONS).build(write(tmp_path)).extra["nir"]
    assert cost["units"] == net.units <= 300
    assert sum(cost["units_per_number"].values()) + cost["ring"] == net.units
    assert cost["ticks_per_step"] == 6
    assert cost["connections"]["decode"] == np.count_nonzero(net.decode)
    assert 0 < cost["spikes_per_step"] < 6 * net.units
    json.dumps(cost)


def test_pictures_are_deterministic_svg(require_tool: RequireTool) -> None:
    require_tool("matplotlib")
    options = CompileOptions(extra={"units": "120", "plot": "yes"})
    first, second = (registry.load("nir").prepare(lowered(), options).files for _ in range(2))
    assert first == second
    for name in ("net_graph.svg", "net_raster.svg"):
        assert first[name].lstrip().startswith(b"<?xml")
        assert b"<svg" in first[name]
    net = network(lowered(), options)
    drawn, raster = (re.findall("<!-- (.*?) -->", first[f"net_{kind}.svg"].decode()) for kind in ("graph", "raster"))
    assert {"input", "sense", "units", "decode", "encode", "readout", "output"} <= set(drawn)
    assert f"LIF ({net.units})" in drawn
    assert f"Linear {len(net.decode)}x{net.units}" in drawn
    assert set(net.interface.labels) <= set(raster)
    assert b"<image" in first["net_raster.svg"]


def test_links_ask_for_every_consumer() -> None:
    links = registry.load("nir").prepare(lowered(), OPTIONS).links
    assert [(link.source, link.runtime, link.kind) for link in links] == [
        (MODEL, "nir", "bitwise"), ("nir", "norse", "bitwise"), ("nir", "snntorch", "bitwise"),
        ("nir", "spikingjelly", "bitwise")]
    assert [link.required for link in links] == [True, False, False, False]


def test_start_states_are_refused(tmp_path: Path) -> None:
    begun = dataclasses.replace(inputs(), restored=np.zeros((1, 6), np.int64))
    with pytest.raises(Unsupported, match="starts from silence"):
        registry.load("nir").prepare(lowered(), OPTIONS).run(tmp_path, begun, EULER)


def test_a_damaged_interface_is_one_clear_line(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "net.json").write_text("{")
    with pytest.raises(BadInput, match=r"net\.json: cannot be read .* compile again"):
        registry.load("nir").prepare(lowered(), OPTIONS).run(tmp_path, inputs(), EULER)


def test_a_missing_consumer_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = dataclasses.replace(consumers.CONSUMERS["norse"], module="norse_is_absent")
    monkeypatch.setitem(consumers.CONSUMERS, "norse", absent)
    with pytest.raises(MissingTool, match=r"norse: .* not installed; pip install 'ncpc\[consumers\]'"):
        registry.load("nir").prepare(lowered(), OPTIONS).run(write(tmp_path), inputs(), "norse")
    assert absent.version() is None


def test_vectors_are_an_ordinary_npz() -> None:
    content = registry.load("nir").prepare(lowered(), OPTIONS).files["net_golden.npz"]
    with np.load(io.BytesIO(content)) as vectors:
        assert sorted(vectors.files) == ["spikes", "units", "x", "y"]
        assert len(vectors["x"]) == 16 * 6 + 1
