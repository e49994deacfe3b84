"""Graded nodes: equal to the integer Program, readable by nir, and honest about chips."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import ncpc.nir
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, MissingTool, ProofFailed, Unsupported
from ncpc.frontend.container import Container
from ncpc.ir.policy import Dense, DtRange, Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import MODEL, PROGRAM, CompileOptions, Lowered
from ncpc.targets.nir.study import study
from ncpc.targets.nir_graded import chips, joined, spinnaker2
from ncpc.targets.nir_graded.layers import GradedLayer, layer_fields
from ncpc.targets.nir_graded.loihi2 import loihi2
from ncpc.targets.nir_graded.ltc_program import program_of, record_of
from ncpc.targets.nir_graded.node import LAYER, graph, register
from ncpc.targets.nir_graded.record import GradedLtc
from ncpc.targets.nir_graded.split import layers_of
from ncpc.targets.nir_graded.traffic import GradedRun
from ncpc.targets.nir_graded.widths import proved_widths
from tests.conftest import RequireTool
from tests.nets import random_policy

TARGET = "nir-graded"


@cache
def lowered(seed: int = 1, scheme: str = "int16", dt: float = 1.0, neurons: int = 6) -> Lowered:
    policy = random_policy(seed, dt=DtRange(dt, dt, dt), neurons=neurons, density=0.5)
    return lower_for(Container(policy), CompileOptions(quant=scheme)).lowered  # type: ignore[arg-type]


def inputs(rows: int = 3, steps: int = 40) -> Sequences:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.uniform(-1.2, 1.2, (rows, steps // 4, 3)), 4, axis=1)
    return Sequences(x, reset=rng.random((rows, steps)) < 0.05)


def options(**extra: str) -> CompileOptions:
    return CompileOptions(extra=extra)


def write(folder: Path, source: Lowered, asked: CompileOptions) -> Path:
    for name, content in registry.load(TARGET).prepare(source, asked).files.items():
        (folder / name).write_bytes(content)
    return folder


def nodes(record: GradedLtc, theta: int = 0) -> tuple[GradedLayer, ...]:
    return layers_of(program_of(record), theta)


def execute(record: GradedLtc, data: Sequences, theta: int = 0) -> GradedRun:
    return joined.execute(nodes(record, theta), data)


@pytest.mark.parametrize(("seed", "scheme", "dt"), [
    (1, "int16", 1.0), (1, "int8", 1.0), (2, "int16", 0.05), (3, "int8", 4.0),
])
def test_the_written_node_equals_the_program(seed: int, scheme: str, dt: float, tmp_path: Path,
                                             require_tool: RequireTool) -> None:
    require_tool("nir")
    source, target = lowered(seed, scheme, dt), registry.load(TARGET)
    expected = run(source.program, inputs())
    found = target.prepare(source, options()).run(write(tmp_path, source, options()), inputs(), "ncpc.nir").trace
    assert np.array_equal(found.raw_y, expected.raw_y)
    assert np.array_equal(found.raw_state, expected.raw_state)
    assert np.array_equal(found.flags, expected.flags)
    np.testing.assert_array_equal(found.y, expected.y)
    assert expected.flags.any()
    assert np.ptp(expected.raw_y) > 20


def test_start_states_are_taken(tmp_path: Path) -> None:
    """From the box's corners, as verification feeds them; equal to a run that got there by itself."""
    record = record_of(lowered().program)
    first = execute(record, Sequences(inputs().x[:, :20]))
    rest = execute(record, Sequences(inputs().x[:, 20:], restored=first.trace.raw_state[:, -1]))
    whole = execute(record, Sequences(inputs().x))
    assert np.array_equal(rest.trace.raw_y, whole.trace.raw_y[:, 20:])


@pytest.mark.parametrize("field", ["w", "sigma", "offset", "we"])
def test_one_wrong_integer_shows(field: str) -> None:
    record = record_of(lowered().program)
    wrong = getattr(record.recurrent, field).copy()
    wrong[0] += 1 << (16 if field == "offset" else 8)
    broken = dataclasses.replace(record, recurrent=dataclasses.replace(record.recurrent, **{field: wrong}))
    assert not np.array_equal(execute(broken, inputs()).trace.raw_state, execute(record, inputs()).trace.raw_state)


def test_fields_come_back_from_a_file(require_tool: RequireTool) -> None:
    nir = require_tool("nir")
    written = nodes(record_of(lowered().program), theta=3)
    file = io.BytesIO()
    nir.write(file, graph(written))
    back = nir.read(io.BytesIO(file.getvalue())).nodes["ltc"].record
    expected, found = layer_fields(written[0]), layer_fields(back)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array_equal(value, found[name]), name


def test_nir_reads_the_node_only_after_register(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    path = write(tmp_path, lowered(), options()) / "net.nir"
    script = f"""
import nir
try:
    nir.read({str(path)!r})
    raise SystemExit("read without register")
except AssertionError:
    pass
import ncpc.nir
ncpc.nir.register()
ncpc.nir.register()
node = nir.read({str(path)!r}).nodes["ltc"]
print(type(node).__name__, node.input_type["input"], node.output_type["output"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [LAYER, "[3]", "[2]"]
    assert ncpc.nir.register is register


def test_sigma_delta_sends_less_and_errs_more() -> None:
    record = record_of(lowered().program)
    runs = [execute(record, inputs(), theta) for theta in (0, 50, 500)]
    assert runs[0].messages > runs[1].messages > runs[2].messages
    assert runs[0].events > runs[1].events > runs[2].events
    exact = run(lowered().program, inputs())
    errors = [float(np.abs(r.trace.y - exact.y).max()) for r in runs]
    assert errors[0] == 0.0
    assert 0.0 < errors[1] < errors[2]


def test_messages_of_a_held_input_cease() -> None:
    """Once the state rests nothing is sent: traffic is only in the first steps."""
    record = record_of(lowered().program)
    held = [execute(record, Sequences(np.full((1, steps, 3), 0.5))) for steps in (60, 120)]
    assert held[0].messages * 60 == pytest.approx(held[1].messages * 120, rel=0.02)


def test_options_are_checked() -> None:
    target = registry.load(TARGET)
    for text in ("-1", "soon", "40000"):
        with pytest.raises(BadInput, match=f"--theta {text}: give a whole number from 0 to 32767"):
            target.prepare(lowered(), options(theta=text))
    with pytest.raises(Unsupported, match="--chip abacus: unknown; choose from none, loihi2, spinnaker2"):
        target.prepare(lowered(), options(chip="abacus"))
    with pytest.raises(BadInput, match="compile with --quant int16"):
        target.prepare(lowered(1, "int8"), options(chip="loihi2"))


def test_other_layers_have_no_chip_arithmetic() -> None:
    policy = random_policy(1)
    front = dataclasses.replace(policy, layers=(Dense(0.9 * np.eye(3), np.zeros(3)), *policy.layers))
    source = lower_for(Container(front), CompileOptions()).lowered
    with pytest.raises(Unsupported, match=r"--chip loihi2: layers \[dense, ltc\] are not one fused LTC layer"):
        registry.load(TARGET).prepare(source, options(chip="loihi2"))
    euler = dataclasses.replace(policy, layers=(dataclasses.replace(policy.layers[0], solver="euler"),))  # type: ignore[call-arg]
    with pytest.raises(Unsupported, match=r"layers \[ltc \(euler\)\] are not .*; use --chip none or spinnaker2$"):
        registry.load(TARGET).prepare(lower_for(Container(euler), CompileOptions()).lowered, options(chip="loihi2"))
    with pytest.raises(Unsupported, match="is not one fused LTC layer"):
        record_of(source.program)
    runtime_dt = Policy("net", policy.layers, policy.input_range, DtRange(0.6, 1.9, 1.0))
    moving = lower_for(Container(runtime_dt), CompileOptions(dt="runtime")).lowered
    with pytest.raises(Unsupported, match="fixed dt"):
        record_of(moving.program)
    with pytest.raises(Unsupported, match=r"layers \[ltc\] with dt as an input are not .*; give --dt fixed"):
        registry.load(TARGET).prepare(moving, options(chip="loihi2"))


@pytest.mark.parametrize("seed", [1, 5])
def test_loihi2_keeps_to_its_arithmetic_and_near_the_policy(seed: int) -> None:
    source, profile = lowered(seed, neurons=10), chips.chip("loihi2")
    record = loihi2(record_of(source.program), study(source.policy), profile)
    _require_widths(record)
    data = Sequences(np.clip(inputs(6, 80).x, -1, 1))
    reference, found = run(source.real, data), execute(record, data).trace
    rmse = float(np.sqrt(np.mean((found.y - reference.y) ** 2)))
    assert rmse <= 0.01 * float(reference.y.std())


def _require_widths(record: GradedLtc) -> None:
    for wires in (record.sensory, record.recurrent):
        assert np.abs(wires.w).max() <= 127
        assert np.abs(wires.we).max() <= 127
        for i in np.unique(wires.post):
            assert len(np.unique(wires.den_shift[wires.post == i])) == 1
            assert len(np.unique(wires.num_shift[wires.post == i])) == 1
    assert (record.state_bits, record.sum_bits, record.inverse_bits) == (24, 24, 12)


@pytest.mark.parametrize("seed", [1, 5])
def test_widths_are_proved_and_no_run_leaves_them(seed: int) -> None:
    """From the corners of the proved box, under the worst inputs: every value stays where the proof says."""
    source = lowered(seed, neurons=10)
    record = loihi2(record_of(source.program), study(source.policy), chips.chip("loihi2"))
    widths = proved_widths(record)
    proved = widths.reached
    rng = np.random.default_rng(seed)
    x = rng.choice([-1.0, 1.0], (20, 60, 3))
    low, high = widths.box.T
    start = np.where(rng.random((20, record.neurons)) < 0.5, low, high)
    found = execute(record, Sequences(np.repeat(x, 2, axis=1), restored=start)).trace
    assert np.all((found.raw_state >= low) & (found.raw_state <= high))
    assert np.all((low <= 0) & (high >= 0))
    assert np.ptp(found.raw_state) > 0.3 * np.ptp(proved["v"])
    assert proved["y"][0] <= found.raw_y.min() < found.raw_y.max() <= proved["y"][1]
    assert all(-(2**23) <= end < 2**23 for ends in proved.values() for end in ends)


def _narrow(record: GradedLtc, **changes: object) -> GradedLtc:
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def test_a_width_too_small_is_refused_before_any_run_and_caught_in_one() -> None:
    """The planted fault: one bit less than is needed. The proof names what can be reached; the run stops too."""
    source = lowered(5, neurons=10)
    record = loihi2(record_of(source.program), study(source.policy), chips.chip("loihi2"))
    bits = max(abs(end).bit_length() for end in proved_widths(record).reached["D"])
    small = _narrow(record, sum_bits=bits)
    with pytest.raises(ProofFailed, match=r"D can reach \d+\.\.\d+, more than its \d+ bits hold"):
        proved_widths(small)
    with pytest.raises(ProofFailed, match=r"graded node: ltc.* leaves Q"):
        execute(_narrow(record, sum_bits=bits - 3), inputs())
    with pytest.raises(ProofFailed, match=r"n\d+ may leave 18 bits"):
        proved_widths(_narrow(record, state_bits=18))
    with pytest.raises(ProofFailed, match="less than the reciprocal's error"):
        proved_widths(_narrow(record, cm_t=np.ones_like(record.cm_t)))
    with pytest.raises(ProofFailed, match="not those of a quotient"):
        proved_widths(_narrow(record, delta_shift=record.delta_shift + 1))


@pytest.mark.slow
def test_a_chosen_factor_beats_the_widest(monkeypatch: pytest.MonkeyPatch) -> None:
    """On nets of the benchmarks' size; the baseline fills 8 bits with each neuron's largest weight."""
    errors = np.zeros(2)
    for seed in (5, 6, 7):
        source = lowered(seed, neurons=10)
        known, base, profile = study(source.policy), record_of(source.program), chips.chip("loihi2")
        data = Sequences(np.clip(inputs(6, 80).x, -1, 1))
        reference = run(source.real, data).y
        for k, trials in enumerate((64, 1)):
            monkeypatch.setattr("ncpc.targets.nir_graded.loihi2.TRIALS", trials)
            y = execute(loihi2(base, known, profile), data).trace.y
            errors[k] += float(np.sqrt(np.mean((y - reference) ** 2)))
    assert errors[0] < 0.8 * errors[1]


def test_every_limit_names_its_source() -> None:
    for name in chips.names():
        profile = chips.chip(name)
        assert "not run" in profile.note
        for limit in profile.limits.values():
            assert len(limit.source) > 20
            assert limit.value > 0


@cache
def small() -> GradedLtc:
    return loihi2(record_of(lowered().program), study(lowered().policy), chips.chip("loihi2"))


@pytest.mark.parametrize("limit", list(chips.chip("loihi2").limits))
def test_what_a_chip_cannot_hold_is_refused_with_numbers(limit: str) -> None:
    """Every limit of the profile is one that is compared."""
    record, profile = small(), chips.chip("loihi2")
    needs = chips.require_fit(record, profile)[limit]
    tight = dataclasses.replace(profile.limits[limit], value=needs - 1)
    less = dataclasses.replace(profile, limits={**profile.limits, limit: tight})
    with pytest.raises(ProofFailed, match=rf"--chip loihi2: needs {needs:,} .*, the chip has {needs - 1:,} \("):
        chips.require_fit(record, less)


def test_weights_too_wide_for_a_chip_are_refused() -> None:
    """The 16-bit layer as it is, and one weight too large or with an exponent of its own in the 8-bit one."""
    profile = chips.chip("loihi2")
    with pytest.raises(ProofFailed, match=r"needs 1[0-9] bits \(weight bits\), the chip has 8"):
        chips.require_fit(record_of(lowered().program), profile)
    for name, value, said in (("we", 128, r"needs 9 bits \(weight bits\)"),
                              ("num_shift", 1, r"needs 2 exponents per post-neuron \(weight exponents\)")):
        wires = small().recurrent
        changed = getattr(wires, name).copy()
        shared = int(np.flatnonzero(wires.post == np.bincount(wires.post).argmax())[0])
        changed[shared] = value if name == "we" else changed[shared] + value
        with pytest.raises(ProofFailed, match=said):
            chips.require_fit(_narrow(small(), recurrent=dataclasses.replace(wires, **{name: changed})), profile)


@pytest.mark.parametrize("factor", [3.0, 12.0])
def test_potentials_far_from_the_states_fit_too(factor: float) -> None:
    """Currents are then many times the conductances: their unit is coarser, weights keep to 8 bits, sums to 24."""
    policy = random_policy(0, neurons=5, density=0.25)
    ltc = policy.layers[0]
    assert isinstance(ltc, Ltc)
    far = {name: dataclasses.replace(wires, erev=wires.erev * factor)
           for name, wires in (("sensory", ltc.sensory), ("recurrent", ltc.recurrent))}
    quick = dataclasses.replace(ltc, **far, cm=ltc.cm * 0.1, gleak=ltc.gleak * 0.2)
    source = lower_for(Container(dataclasses.replace(policy, layers=(quick,))), CompileOptions()).lowered
    record = loihi2(record_of(source.program), study(source.policy), chips.chip("loihi2"))
    _require_widths(record)
    proved_widths(record)
    chips.require_fit(record, chips.chip("loihi2"))
    data = Sequences(np.clip(inputs(6, 80).x, -1, 1))
    reference, found = run(source.real, data), execute(record, data).trace
    assert float(np.sqrt(np.mean((found.y - reference.y) ** 2))) <= 0.01 * float(reference.y.std())


def test_links_name_what_is_compared() -> None:
    target = registry.load(TARGET)
    assert [link.source for link in target.prepare(lowered(), options()).links] == [PROGRAM]
    links = target.prepare(lowered(), options(chip="spinnaker2")).links
    assert [(link.source, link.runtime, link.kind) for link in links] == [
        (PROGRAM, "cortex-m4", "bitwise"), (PROGRAM, "ncpc.nir", "bitwise")]
    assert [link.source for link in target.prepare(lowered(), options(chip="loihi2")).links] == [MODEL]
    assert [link.source for link in target.prepare(lowered(), options(theta="4")).links] == [MODEL]


def test_the_c_of_spinnaker2_is_listed_where_no_compiler_built_it(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    source, target, asked = lowered(), registry.load(TARGET), options(chip="spinnaker2")
    artifact = target.prepare(source, asked)
    assert sorted(artifact.files) == ["c/net.c", "c/net.h", "net.nir"]
    assert not artifact.links[0].required
    (tmp_path / "c").mkdir()
    with pytest.raises(MissingTool, match=r"net\.elf"):
        artifact.run(tmp_path, inputs(), "cortex-m4")


def test_cost_counts_messages_and_the_chips_needs(tmp_path: Path) -> None:
    source = lowered()
    extra = registry.load(TARGET).prepare(source, options(chip="loihi2")).build(tmp_path).extra[TARGET]
    assert extra["messages_per_step"] > 1
    assert extra["synaptic_events_per_step"] > extra["messages_per_step"]
    ltc = source.policy.layers[0]
    assert isinstance(ltc, Ltc)
    assert extra["synapses"] == len(ltc.sensory) + len(ltc.recurrent)
    assert extra["messages_per_synapse"] == pytest.approx(
        extra["synaptic_events_per_step"] / extra["synapses"], abs=1e-3)
    assert extra["chip"]["needs"]["neurons_per_core"] == extra["synapses"] + 6
    assert extra["chip"]["limits"]["state_bits"]["value"] == 24
    assert extra["chip"]["needs"]["proved"]["v"][1] < 2**23


def test_sessions_step_like_runs(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    source, target = lowered(), registry.load(TARGET)
    session = target.prepare(source, options()).open(write(tmp_path, source, options()), "ncpc.nir")
    expected = run(source.program, Sequences(inputs().x[:1, :10]))
    for _ in range(2):
        session.reset()
        for t in range(10):
            assert np.array_equal(session.step(inputs().x[0, t], 1.0), expected.y[0, t])
            assert session.status == expected.flags[0, t]


def test_a_foreign_file_is_one_clear_line(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    (tmp_path / "net.nir").write_bytes(b"not HDF5")
    with pytest.raises(BadInput, match=r"net\.nir: is no NIR file of this build .* compile again"):
        registry.load(TARGET).prepare(lowered(), options()).run(tmp_path, inputs(), "ncpc.nir")


@pytest.mark.slow
def test_spinnaker2_runs_its_c_on_the_simulated_core(tmp_path: Path, require_tool: RequireTool) -> None:
    """The C beside the file, in the element's memory, equal to the Program; an element too small is refused."""
    for tool in ("ziglang", "unicorn", "capstone"):
        require_tool(tool)
    source, target, asked = lowered(), registry.load(TARGET), options(chip="spinnaker2")
    folder = tmp_path
    artifact = target.prepare(source, asked)
    for name, content in artifact.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    needs = artifact.build(folder).extra[TARGET]["chip"]["needs"]
    assert 1000 < needs["core_bytes"] < 131072
    found = artifact.run(folder, inputs(2, 20), "cortex-m4").trace
    expected = run(source.program, inputs(2, 20))
    assert np.array_equal(found.raw_y, expected.raw_y)
    assert np.array_equal(found.raw_state, expected.raw_state)
    profile = chips.chip("spinnaker2")
    limit = dataclasses.replace(profile.limits["core_bytes"], value=1000)
    tight = dataclasses.replace(profile, limits={**profile.limits, "core_bytes": limit})
    with pytest.raises(ProofFailed, match=r"its C needs [\d,]+ bytes, a core has 1,000 \(SpiNNaker2 datasheet"):
        spinnaker2.c_built(folder, spinnaker2.c_artifact(source, asked), tight)
