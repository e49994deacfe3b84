"""Leaky integrate-and-fire neurons: the equation, the torch module, integers and their proof, every target."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import Container, policy_bytes, read_policy, write_policy
from ncpc.ir.build import Builder
from ncpc.ir.cells import Lif
from ncpc.ir.check import IllFormedError, check
from ncpc.ir.policy import Dense, DtRange, Layer, Policy
from ncpc.ir.program import Port, Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Axis, Fixed, Float32, Real, Type
from ncpc.passes.lower import lower
from ncpc.proofs.prove import prove
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from tests.conftest import RequireTool

INPUTS, UNITS = 3, 6


def lif(seed: int = 0, inputs: int = INPUTS, units: int = UNITS, recurrent: bool = True, **changes: Any) -> Lif:
    """Every parameter differs from neuron to neuron."""
    rng = np.random.default_rng(seed)
    cell = Lif(
        rng.normal(size=(units, inputs)), recurrent * rng.normal(0, 0.5, (units, units)), rng.normal(0, 0.3, units),
        rng.uniform(3, 9, units), rng.uniform(0.5, 4, units), rng.uniform(-0.3, 0.3, units), rng.uniform(0.3, 1, units),
        rng.uniform(-0.4, 0.1, units))
    return dataclasses.replace(cell, **changes)


def policy(*layers: Layer, dt: DtRange | None = None) -> Policy:
    return Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)), dt or DtRange())


def lowered(scheme: str, *layers: Layer, dt: DtRange | None = None) -> Lowered:
    wanted = CompileOptions(quant=scheme, dt="runtime" if dt else "fixed")
    return lower_for(Container(policy(*layers, dt=dt), None), wanted).lowered


def sequences(steps: int = 200, rows: int = 3, irregular: bool = False, seed: int = 0) -> Sequences:
    """Random walks with resets."""
    rng = np.random.default_rng(seed)
    x = np.clip(np.cumsum(rng.uniform(-1, 1, (rows, steps, INPUTS)) * 0.3, axis=1), -1, 1)
    dt = rng.uniform(0.2, 3, (rows, steps)) if irregular else np.ones((rows, steps))
    return Sequences(x, dt, rng.random((rows, steps)) < 0.02)


def by_hand(cell: Lif, data: Sequences) -> np.ndarray:
    """The equation neuron by neuron, in its own units: spikes (B, T, units)."""
    spikes = np.zeros((*data.x.shape[:2], cell.outputs))
    for row in range(len(data.x)):
        v, s = cell.v_reset.copy(), np.zeros(cell.outputs)
        for t in range(data.x.shape[1]):
            if data.reset[row, t]:
                v, s = cell.v_reset.copy(), np.zeros(cell.outputs)
            before = s.copy()
            for n in range(cell.outputs):
                i = cell.weight_x[n] @ data.x[row, t] + cell.weight_h[n] @ before + cell.bias[n]
                v[n] += data.dt[row, t] / cell.tau[n] * ((cell.v_leak[n] - v[n]) + cell.r[n] * i)
                s[n] = float(v[n] > cell.v_threshold[n])
                v[n] = cell.v_reset[n] if s[n] else v[n]
            spikes[row, t] = s
    return spikes


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("recurrent", [True, False])
def test_policy_is_the_equation(seed: int, recurrent: bool) -> None:
    cell, data = lif(seed, recurrent=recurrent), sequences(irregular=True, seed=seed)
    expected = by_hand(cell, data)
    assert 0.02 < expected.mean() < 0.9
    assert np.array_equal(run(lower(policy(cell, dt=DtRange(0.2, 3.0))), data).y, expected)


def test_a_neuron_fires_above_its_threshold_not_at_it_and_starts_again() -> None:
    """Halves are exact: at a drive of 2 and dt = tau/2 the first neuron meets its threshold of 1, the second exceeds
    it; both then come down from there or from the reset potential.
    """
    zero, one = np.zeros(2), np.ones(2)
    cell = Lif(np.array([[2.0], [2.5]]), np.zeros((2, 2)), zero, 2 * one, one, zero, one, -one)
    real = lower(policy(cell))
    trace = run(real, Sequences(np.ones((1, 3, 1))))
    # From -1: 0.5, then 1.25 fires; 0.75, then 1.625 fires.
    assert trace.y[0].tolist() == [[0, 0], [1, 1], [0, 0]]
    quiet = dataclasses.replace(cell, v_reset=zero)
    trace = run(lower(policy(quiet)), Sequences(np.ones((1, 3, 1))))
    assert trace.y[0].tolist() == [[0, 1], [1, 1], [0, 1]]


@pytest.mark.parametrize(("changes", "said"), [
    ({"tau": np.array([1.0, 0.0, 1, 1, 1, 1])}, "tau of neuron 1 is 0, but it must be positive"),
    ({"v_threshold": np.full(UNITS, -0.5)}, "v_threshold of neuron 0 is -0.5, not above its v_reset"),
    ({"v_leak": np.zeros(2)}, r"v_leak has shape \(2,\)"),
    ({"weight_h": np.zeros((2, 2))}, r"weight_h has shape \(2, 2\)"),
    ({"r": np.full(UNITS, np.nan)}, "r holds"),
])
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        write_policy(policy(lif(**changes)), tmp_path / "p.safetensors")


def test_a_saved_policy_comes_back(tmp_path: Path) -> None:
    kept = policy(lif())
    write_policy(kept, tmp_path / "p.safetensors")
    assert policy_bytes(read_policy(tmp_path / "p.safetensors")) == policy_bytes(kept)


def test_a_step_longer_than_tau_is_refused() -> None:
    tau = np.array([5.0, 2.5, 5, 5, 5, 5])
    lower(policy(lif(tau=tau), dt=DtRange(0.5, 2.5)))
    with pytest.raises(Unsupported, match=r"neuron 1: dt 2\.6 is longer than its tau 2\.5.*; use a smaller dt"):
        lower(policy(lif(tau=tau), dt=DtRange(0.5, 2.6)))


class TestModule:
    """``ncpc.cells.LIF``; ``tests/test_cells.py`` compares it with its policy for many random configurations."""

    def test_its_gradient_is_that_of_a_fast_sigmoid(self, require_tool: RequireTool) -> None:
        torch = require_tool("torch")
        from ncpc.cells.lif import spike

        above = torch.linspace(-1, 1, 11, dtype=torch.float64, requires_grad=True)
        spike(above, 10.0).sum().backward()
        expected = 1 / (1 + 10 * np.abs(np.linspace(-1, 1, 11))) ** 2
        np.testing.assert_allclose(above.grad.numpy(), expected, rtol=1e-12)

    def test_it_learns(self, require_tool: RequireTool) -> None:
        """To fire at a given rate."""
        torch = require_tool("torch")
        from ncpc.cells import LIF

        torch.manual_seed(0)
        cell, x = LIF(2, 4, recurrent=True, r=2.0), torch.rand(8, 40, 2)
        optimizer, losses = torch.optim.Adam(cell.parameters(), 0.05), []
        for _ in range(30):
            loss = ((cell(x)[0].mean((0, 1)) - torch.tensor([0.1, 0.2, 0.3, 0.4])) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.2 * losses[0]
        assert all(p.grad.abs().sum() > 0 for p in cell.parameters())

    def test_saving_asks_whether_policy_and_module_agree(self, require_tool: RequireTool, tmp_path: Path) -> None:
        torch = require_tool("torch")
        import ncpc
        from ncpc.cells import LIF

        torch.manual_seed(1)
        cell = LIF(2, 5, recurrent=True, r=3.0)
        x = np.random.default_rng(0).uniform(-1, 1, (2, 60, 2))
        ncpc.save(cell, tmp_path / "p.safetensors", calibration=x)
        (layer,) = read_policy(tmp_path / "p.safetensors").layers
        assert isinstance(layer, Lif)
        assert (layer.inputs, layer.outputs) == (2, 5)
        cell.register_forward_hook(lambda module, given, out: (1 - out[0], out[1]))
        with pytest.raises(BadInput, match="policy and module differ by 1"):
            ncpc.save(cell, tmp_path / "q.safetensors", calibration=x)

    @pytest.mark.parametrize("wrong", [{"tau": 0.5}, {"v_threshold": -1.0}, {"least_tau": 0.0}])
    def test_what_cannot_be_is_refused(self, wrong: dict[str, float], require_tool: RequireTool) -> None:
        require_tool("torch")
        from ncpc.cells import LIF

        with pytest.raises(ValueError, match="; give "):
            LIF(2, 3, **wrong)


def compared(kind: Type, out: Type, second: Any, first: Any = None) -> Program:
    """A program whose output says where its input (or the constant ``first``) exceeds the constant ``second``."""
    builder, axis = Builder(kind), Axis("n", len(second))
    x = builder.value("x", [axis])
    left = x if first is None else builder.const("a", np.array(first), [axis])
    y = builder.op("gt", "y", left, builder.const("b", np.array(second), [axis]), type_=out)
    names, ends = tuple(map(str, range(len(second)))), np.tile([-9.0, 9.0], (len(second), 1))
    fracs = [(k.frac,) * len(second) if isinstance(k, Fixed) else None for k in (kind, out)]
    return Program("p", Port(x, names, fracs[0], ends), Port(y, names, fracs[1], ends), None, (), builder.constants,
                   builder.body)


class TestComparison:
    @pytest.mark.parametrize("kind", [Real(), Float32()])
    def test_floats(self, kind: Type) -> None:
        program = compared(kind, kind, [2.0, 2.0, 2.0, 0.0, 0.0])
        check(program)
        given = Sequences(np.array([[[1.0, 2.0, 3.0, -0.0, np.nan]]]))
        assert run(program, given).y[0, 0].tolist() == [0, 0, 1, 0, 0]

    def test_integers_have_a_one_of_their_own(self) -> None:
        program = compared(Fixed(32, 5), Fixed(16, 8), [64, 64, 64])
        check(program)
        trace = run(program, Sequences(np.array([[[1.0, 2.0, 3.0]]])))
        assert trace.raw_y[0, 0].tolist() == [0, 0, 256]
        assert trace.y[0, 0].tolist() == [0, 0, 1]

    def test_the_proof_knows_what_is_decided(self) -> None:
        found = prove(compared(Fixed(32, 5), Fixed(16, 8), [2, 2, 2], [1, 2, 3])).intervals["y"]
        assert found.lo.tolist() == found.hi.tolist() == [0, 0, 256]
        open_ = prove(compared(Fixed(32, 5), Fixed(16, 8), [2])).intervals["y"]
        assert (open_.lo.tolist(), open_.hi.tolist()) == ([0], [256])

    def test_integers_of_other_fractions_are_ill_formed(self) -> None:
        program = compared(Fixed(32, 5), Fixed(16, 8), [2])
        value, data = program.constants["b"]
        other = dataclasses.replace(value, type=Fixed(32, 6))
        with pytest.raises(IllFormedError, match="arguments have fractions"):
            check(dataclasses.replace(program, constants={"b": (other, data)}))


@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("dt", [None, DtRange(0.2, 3.0)])
def test_the_membrane_is_bounded_and_proved_so(scheme: str, dt: DtRange | None) -> None:
    """Its box is the interval of the drive, with 0: no more than roundings beyond it."""
    cell = lif(1)
    made = lowered(scheme, cell, dt=dt)
    assert made.proved
    box = prove(made.program).box["u"]
    way = cell.v_threshold - cell.v_reset
    reach = np.abs(cell.weight_x).sum(1)
    ends = [cell.v_leak + cell.r * (cell.bias + sign * reach + part.sum(1)) - cell.v_reset for sign, part in
            ((-1, np.minimum(cell.weight_h, 0)), (1, np.maximum(cell.weight_h, 0)))]
    expected = np.stack([np.minimum(ends[0] / way, 0), np.maximum(ends[1] / way, 0)], axis=1)
    room = (0.01 if scheme == "int16" else 0.05) * np.ptp(expected, axis=1)[:, None] + 0.01
    assert (np.abs(box - expected) <= room).all()
    extreme = dataclasses.replace(sequences(irregular=dt is not None), x=np.sign(sequences().x))
    assert not run(made.program, extreme).flags.any()


@pytest.mark.parametrize("seed", range(3))
def test_integer_spikes_differ_only_once_a_membrane_grazed_its_threshold(seed: int) -> None:
    """Up to the first spike that differs both runs are in the same state but for roundings: there the exact membrane
    is near its threshold (1). int16, 5,000 steps.
    """
    made, data = lowered("int16", lif(seed)), sequences(steps=1000, rows=5, seed=seed)
    exact, found = run(made.real, data), run(made.program, data)
    charged = _as_compared(made, data)
    for row, t in _first_differences(exact.y != found.y, data):
        units = np.flatnonzero(exact.y[row, t] != found.y[row, t])
        assert (np.abs(charged[row, t, units] - 1) < 2e-3).all()
    assert (exact.y != found.y).mean() < 2e-3


def _first_differences(wrong: np.ndarray, data: Sequences) -> list[tuple[int, int]]:
    """The first step after each start at which something differs."""
    found = []
    for row in range(len(wrong)):
        starts = [0, *np.flatnonzero(data.reset[row]), wrong.shape[1]]
        for begin, end in pairwise(starts):
            at = np.flatnonzero(wrong[row, begin:end].any(axis=1))
            found += [(row, begin + int(at[0]))] if len(at) else []
    return found


def _as_compared(made: Lowered, data: Sequences) -> np.ndarray:
    """The exact membrane as the comparison sees it, (B, T, units)."""
    seen = next(op.args[0] for op in made.real.body if op.kind == "gt")
    value = next(op.out for op in made.real.body if op.out.name == seen)
    return run(dataclasses.replace(made.real, y=dataclasses.replace(made.real.y, value=value)), data).y


def built(name: str, made: Lowered, folder: Path) -> tuple[Any, CompileOptions]:
    """A target with its files in ``folder``."""
    target = registry.load(name)
    options = CompileOptions(quant=made.scheme, extra={o.name: o.default for o in target.options})
    artifact = target.prepare(made, options)
    for file, content in artifact.files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    artifact.build(folder)
    return target, options


READOUT = Dense(np.random.default_rng(7).normal(size=(2, UNITS)), np.zeros(2))


@pytest.mark.parametrize("core", ["cortex-m4", pytest.param("rv32imc-ibex", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", ["int16", "float32", pytest.param("int8", marks=pytest.mark.slow)])
def test_c_and_core_are_the_program_bit_for_bit(core: str, scheme: str, tmp_path: Path,
                                                require_tool: RequireTool) -> None:
    for tool in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(tool)
    made, data = lowered(scheme, lif(2), lif(3, UNITS, recurrent=False), READOUT), sequences(steps=40)
    target, options = built(core, made, tmp_path)
    expected = run(made.program, data)
    assert np.ptp(expected.y) > 0.5
    for runtime in ("host", core):
        found = target.prepare(made, options).run(tmp_path, data, runtime).trace
        for name in ("raw_y", "raw_state", "flags"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=f"{runtime} {name}")


@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_onnx(scheme: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("onnxruntime")
    made, data = lowered(scheme, lif(2), READOUT), sequences(steps=60)
    target, options = built("onnx", made, tmp_path)
    artifact = target.prepare(made, options)
    runtimes = [link.runtime for link in artifact.links]
    expected = run(made.program, data) if scheme == "float32" else artifact.model(data)
    assert np.ptp(expected.y) > 0.5
    for runtime in runtimes:
        found = artifact.run(tmp_path, data, runtime).trace
        assert np.abs(found.y - expected.y).max() <= 1e-5 * np.ptp(expected.y)


@pytest.mark.parametrize("runtime", ["litert-reference", "litert-xnnpack", "tflite-micro"])
def test_tflite(runtime: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("ai_edge_litert.interpreter")
    require_tool("tflite_micro")
    made, data = lowered("float32", lif(2), READOUT), sequences(steps=60)
    target, options = built("tflite", made, tmp_path)
    expected = run(made.program, data)
    found = target.prepare(made, options).run(tmp_path, data, runtime).trace
    assert np.abs(found.y - expected.y).max() <= 1e-5 * np.ptp(expected.y)


def test_tflite_has_no_comparison_of_integers() -> None:
    target = registry.load("tflite")
    made = lowered("int16", lif(2))
    options = CompileOptions(extra={o.name: o.default for o in target.options})
    with pytest.raises(Unsupported, match=r"made by 'gt', .* no integer kernel .*; use --quant float32"):
        target.prepare(made, options)


def test_a_comparison_the_other_way_is_noticed(tmp_path: Path, require_tool: RequireTool) -> None:
    """A planted fault: >= for > in the C, met by a membrane that is exactly at its threshold."""
    require_tool("ziglang")
    zero, one = np.zeros(1), np.ones(1)
    made = lowered("float32", Lif(np.array([[2.0]]), np.zeros((1, 1)), zero, 2 * one, one, zero, one, zero))
    target, options = built("host", made, tmp_path)
    data = Sequences(np.ones((1, 4, 1)))
    expected = run(made.program, data).y
    artifact = target.prepare(made, options)
    assert np.array_equal(artifact.run(tmp_path, data, "host").trace.y, expected)
    source = tmp_path / "net.c"
    text = source.read_text()
    assert text.count(" > 1.0f ?") == 1
    source.write_text(text.replace(" > 1.0f ?", " >= 1.0f ?"))
    artifact.build(tmp_path)
    assert not np.array_equal(artifact.run(tmp_path, data, "host").trace.y, expected)


def test_the_figures_of_the_document_are_the_benchmarks() -> None:
    root = Path(__file__).parent.parent
    measured = json.loads((root / "benchmarks/lif_spikes.json").read_text())
    text = (root / "docs/cells.md").read_text().split("<!-- table: lif_spikes -->")[1]
    rows = text.split("\n\n")[0].strip().splitlines()[2:]
    for (name, found), row in zip(measured.items(), rows, strict=True):
        cells = [cell.strip() for cell in row.strip("| ").split("|")]
        assert cells[0] == name
        numbers = [float(n) for n in re.findall(r"[\d.]+", " ".join(cells[1:]))]
        assert numbers == [found["rate"], found["int16 spikes"], found["int16 readout"], found["int16 equal"], 10.0,
                           found["int8 spikes"], found["int8 readout"]]
        assert found["float32 spikes"] == 0.0
