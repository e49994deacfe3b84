"""The C target: built for cores, run in the simulator, equal to the program; what it records and what it needs."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest

from ncpc.cli.commands import run as cli
from ncpc.cores.elf import read_elf
from ncpc.errors import MissingTool, ProofFailed
from ncpc.frontend.container import write_policy
from ncpc.ir.types import Fixed
from ncpc.passes.lower import lower
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.ports import bits
from ncpc.semantics.run import run
from ncpc.targets.base import PROGRAM, Built, CompileOptions, Lowered, Target
from ncpc.targets.c import c_target
from ncpc.targets.registry import load
from ncpc.verification.beyond import kept_states
from ncpc.verification.verdict import SEARCH
from tests.c_programs import assert_same, hostile, program_of, small_policy, tame
from tests.nets import random_policy

CORES = ("cortex-m4", "rv32imc-ibex")
OPTIONS = CompileOptions()


@pytest.fixture(scope="module")
def _tools(require_tool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


@pytest.fixture
def _compiler(require_tool) -> None:
    require_tool("ziglang")


def lowered(scheme: str = "int16", dt: str = "fixed", seed: int = 0) -> Lowered:
    policy = small_policy(seed)
    return Lowered(policy, lower(policy), program_of(policy, scheme, dt), scheme)


def build(target: Target, folder: Path, what: Lowered) -> Built:
    artifact = target.prepare(what, OPTIONS)
    for name, text in artifact.files.items():
        (folder / name).write_bytes(text)
    return artifact.build(folder)


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize(("scheme", "dt"), [
    ("float32", "runtime"), ("int16", "fixed"), *(
        pytest.param(scheme, dt, marks=pytest.mark.slow)
        for scheme, dt in [("float32", "fixed"), ("int16", "runtime"), ("int8", "fixed"), ("int8", "runtime")]
    ),
])
def test_program_host_and_core_agree(core: str, scheme: str, dt: str, tmp_path: Path) -> None:
    target, what = load(core), lowered(scheme, dt)
    assert build(target, tmp_path, what).missing == ()
    data = hostile(what.program, 3, steps=12)
    with np.errstate(over="ignore"):
        expected = run(what.program, data)
    artifact = target.prepare(what, OPTIONS)
    results = {link.runtime: artifact.run(tmp_path, data, link.runtime)
               for link in artifact.links}
    assert list(results) == ["host", core]
    for result in results.values():
        assert_same(result.trace, expected)


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
def test_a_state_of_an_odd_number_of_16_bit_words_is_never_accessed_misaligned(core: str, tmp_path: Path) -> None:
    """Compilers like to clear a struct of ten bytes, which lies at any even address, by two words and a half."""
    policy, target = random_policy(1, neurons=5, outputs=1, density=0.9), load(core)
    what = Lowered(policy, lower(policy), program_of(policy, "int8", "fixed"), "int8")
    assert isinstance(state := what.program.states[0].inp.type, Fixed)
    assert state.bits == 16
    build(target, tmp_path, what)
    data = kept_states(policy, what.program)
    assert data is not None
    assert_same(target.prepare(what, OPTIONS).run(tmp_path, data, core).trace, run(what.program, data))


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
def test_cycles_and_memory(core: str, tmp_path: Path) -> None:
    target, what = load(core), lowered()
    built = build(target, tmp_path, what)
    result = target.prepare(what, OPTIONS).run(tmp_path, tame(what.program, 0, steps=10), core)
    assert result.cycles is not None
    assert result.memory is not None
    assert (result.cycles.lower <= result.cycles.upper).all()
    assert result.cycles.upper.shape == result.instructions.shape == (20,)
    mean = result.cycles.upper.mean()
    assert set(result.cycles.per_neuron) == {*(f"n{i}" for i in range(8)), "other"}
    assert sum(result.cycles.per_neuron.values()) == pytest.approx(mean)
    assert sum(result.cycles.per_function.values()) == pytest.approx(mean)
    assert result.memory.flash_bytes == built.memory.flash_bytes
    assert result.memory.ram_bytes == 32
    assert 0 < result.memory.stack_bytes <= 1024 - 32


@pytest.mark.usefixtures("_tools")
def test_compile_and_simulate_say_the_same_stack_of_a_step(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    """And of another one, which the self test takes too, by another name."""
    monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 60)
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 12})
    write_policy(random_policy(4), tmp_path / "net.safetensors")
    asked = ["--tolerance", "0.05", "-o", str(tmp_path / "b")]
    assert cli(["compile", str(tmp_path / "net.safetensors"), "-t", "cortex-m4", *asked]) == 0
    table, report = capsys.readouterr().out, json.loads((tmp_path / "b" / "report.json").read_text())
    deepest, stepping = (report["memory"][name] for name in ("stack_bytes", "step_stack_bytes"))
    assert deepest > stepping > 0
    page = (tmp_path / "b" / "report.html").read_text()
    assert f"deepest seen; of a step {stepping} B" in page
    assert re.search(rf" stack +{deepest} B *\n   of a step +{stepping} B", table)
    assert cli(["simulate", str(tmp_path / "b"), "--json"]) == 0
    memory = json.loads(capsys.readouterr().out)["memory"]
    assert memory == {name: report["memory"][name] for name in ("flash_bytes", "ram_bytes", "step_stack_bytes")}
    assert cli(["simulate", str(tmp_path / "b")]) == 0
    assert re.search(rf"stack of a step +│ {stepping} B ", capsys.readouterr().out)


@pytest.mark.usefixtures("_tools")
def test_builds_are_the_same_bytes(tmp_path: Path) -> None:
    target, what = load("cortex-m4"), lowered()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        built = build(target, tmp_path / name, what)
    for file in built.files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.usefixtures("_tools")
def test_trace_names_every_synapse_and_its_bits(tmp_path: Path) -> None:
    target, what = load("cortex-m4"), lowered()
    trace = build(target, tmp_path, what).trace
    image = read_elf((tmp_path / "net.elf").read_bytes())
    (layer,) = what.policy.layers
    tables = {table["axis"]: table for table in trace["tables"]}
    synapses = tables["synapses"]
    names = [f"{layer.names[a]} -> {layer.names[b]}"
             for a, b in zip(layer.recurrent.pre, layer.recurrent.post, strict=True)]
    assert [element["name"] for element in synapses["elements"]] == names
    assert [element["name"] for element in tables["neurons"]["elements"]] == list(layer.names)
    assert synapses["address"] == image.address(synapses["symbol"])
    for field in synapses["fields"]:
        _, data = what.program.constants[field["constant"]]
        at, size = field["offset"], field["bytes"]
        found = [int.from_bytes(bytes.fromhex(e["bits"])[at : at + size], "little", signed=True)
                 for e in synapses["elements"]]
        np.testing.assert_array_equal(found, data)
    assert trace["state"]["members"][0]["elements"] == list(layer.names)


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("runtime", ["host", "cortex-m4"])
def test_a_session_is_a_run_step_by_step(runtime: str, tmp_path: Path) -> None:
    target, what = load("cortex-m4"), lowered(dt="runtime")
    build(target, tmp_path, what)
    data = hostile(what.program, 5, steps=8, batch=1)
    with np.errstate(over="ignore"):
        expected = run(what.program, type(data)(data.x, data.dt))
    session = target.prepare(what, OPTIONS).open(tmp_path, runtime)
    for _ in range(2):
        session.reset()
        for t in range(8):
            with np.errstate(over="ignore"):
                y = session.step(data.x[0, t], float(data.dt[0, t]))
            np.testing.assert_array_equal(y, expected.y[0, t])
            assert session.status == expected.flags[0, t]
    assert expected.flags.max() >= 1 << FLAGS.index("dt_out_of_range")
    session.close()


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("name", ["host", "c"])
def test_host_targets_need_no_core(name: str, tmp_path: Path) -> None:
    target, what = load(name), lowered()
    built = build(target, tmp_path, what)
    assert (target.core, target.timing_class, built.memory) == (None, None, None)
    artifact = target.prepare(what, OPTIONS)
    (link,) = artifact.links
    assert (link.source, link.runtime, link.kind) == (PROGRAM, "host", "bitwise")
    data = tame(what.program, 0)
    assert_same(artifact.run(tmp_path, data, "host").trace, run(what.program, data))


def test_links_ask_for_as_many_steps_as_promised() -> None:
    target = load("cortex-m4")
    assert [link.steps for link in target.prepare(lowered("int16"), OPTIONS).links] == [10_000, 10_000]
    assert [link.steps for link in target.prepare(lowered("float32"), OPTIONS).links] == [10_000, 200]


def test_without_a_compiler_the_sources_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object, **kwargs: object) -> object:
        raise MissingTool("no compiler here")

    monkeypatch.setattr(c_target, "build_host_library", gone)
    monkeypatch.setattr(c_target, "build_elf", gone)
    target, what = load("cortex-m4"), lowered()
    built = build(target, tmp_path, what)
    assert built.files == ()
    assert built.missing == ("no compiler here", "no compiler here")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.c", "net.h"]
    for runtime in ("host", "cortex-m4"):
        with pytest.raises(MissingTool, match=r"pip install 'ncpc\[c\]'"):
            target.prepare(what, OPTIONS).run(tmp_path, tame(what.program, 0), runtime)


@pytest.mark.usefixtures("_compiler")
def test_without_an_emulator_the_host_still_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*args: object) -> object:
        raise MissingTool("no emulator here")

    monkeypatch.setattr(c_target, "simulate", gone)
    target, what = load("cortex-m4"), lowered()
    build(target, tmp_path, what)
    data = tame(what.program, 0)
    artifact = target.prepare(what, OPTIONS)
    assert_same(artifact.run(tmp_path, data, "host").trace, run(what.program, data))
    with pytest.raises(MissingTool, match="no emulator"):
        artifact.run(tmp_path, data, "cortex-m4")


@pytest.mark.usefixtures("_tools")
def test_code_that_calls_a_library_is_refused(tmp_path: Path) -> None:
    artifact = load("cortex-m4").prepare(lowered(), OPTIONS)
    for name, text in artifact.files.items():
        (tmp_path / name).write_bytes(text.replace(b"(int64_t)a * b +", b"(int64_t)a / (b | 1) +"))
    with pytest.raises(ProofFailed, match=r"calls .*div"):
        artifact.build(tmp_path)


@pytest.mark.usefixtures("_tools")
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_start_states_reach_the_device(core: str, scheme: str, tmp_path: Path) -> None:
    target, what = load(core), lowered(scheme)
    build(target, tmp_path, what)
    data = tame(what.program, 0, steps=4)
    real = np.random.default_rng(1).uniform(-0.5, 0.5, (2, 8))
    value = what.program.states[0].inp
    raw = bits(real.astype(np.float32)) if scheme == "float32" else np.rint(real / value.type.lsb).astype(np.int64)
    begun = dataclasses.replace(data, restored=raw)
    expected = run(what.program, begun)
    artifact = target.prepare(what, OPTIONS)
    assert_same(artifact.run(tmp_path, begun, "host").trace, expected)
    assert_same(artifact.run(tmp_path, begun, core).trace, expected)
    assert not np.array_equal(expected.raw_y, run(what.program, data).raw_y)
