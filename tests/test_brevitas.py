"""Brevitas and the compiled integers: the same numbers, the same rounding, and no brevitas where formats are stored."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import LoweringResult, lower_for
from ncpc.errors import BadInput, MissingTool, Unsupported
from ncpc.frontend.container import Container, write_policy
from ncpc.ir.policy import Dense, DtRange, Ltc, Policy
from ncpc.ir.program import Program
from ncpc.ir.quantized import QuantizedLtc
from ncpc.ir.schemes import SCHEMES, Scheme
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.passes.lower import lower
from ncpc.quant.calibrate import dead_band
from ncpc.quant.policy import Choices, quantize
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load
from tests.conftest import RequireTool
from tests.nets import random_ltc, random_policy, random_synapses

INTEGERS: tuple[Scheme, ...] = ("int16", "int8")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def qat(require_tool: RequireTool) -> ModuleType:
    require_tool("torch")
    require_tool("brevitas")
    import ncpc.quant.qat

    return ncpc.quant.qat


def policy_of(seed: int, **changes: object) -> Policy:
    return random_policy(seed, neurons=10, inputs=4, outputs=3, **changes)


def compiled(policy: Policy, scheme: Scheme) -> Program:
    dt = "fixed" if policy.dt.fixed else "runtime"
    return lower_for(Container(policy), CompileOptions(quant=scheme, dt=dt)).lowered.program


def assert_same_integers(twin: Any, program: Program) -> None:
    """Every weight vector, integer by integer, and its fraction; of few bits, times a power of two for each neuron."""
    found, posts = twin.integers(), {tag: program.constants[f"post{tag}"][1] for tag in ("", "_s")}
    assert set(found) == {"w", "we", "sigma", "w_s", "we_s", "sigma_s"}
    scale: dict[int, float] = {}
    for name, (integers, fraction) in found.items():
        value, data = program.constants[name]
        assert isinstance(value.type, Fixed)
        real, own = data * 2.0**-value.type.frac, integers * 2.0**-fraction
        if name.startswith("sigma") or value.type.bits == 16:
            np.testing.assert_array_equal(real, own, name)
            continue
        for post, ratio in zip(posts["_s" if name.endswith("_s") else ""][own != 0], real[own != 0] / own[own != 0],
                               strict=True):
            assert scale.setdefault(int(post), ratio) == ratio, f"{name}: neuron {post} has one scale"
        assert not real[own == 0].any()
    assert all(np.log2(ratio) in range(7) for ratio in scale.values())


def inputs(policy: Policy, steps: int = 60) -> Sequences:
    rng = np.random.default_rng(5)
    lo, hi = policy.input_range.T
    x = rng.uniform(lo, hi, (3, steps, policy.inputs))
    return Sequences(x, np.exp(rng.uniform(np.log(policy.dt.lo), np.log(policy.dt.hi), x.shape[:2])))


def outputs(twin: Any, data: Sequences) -> np.ndarray:
    import torch

    with torch.no_grad():
        y: np.ndarray = twin(torch.tensor(data.x), torch.tensor(data.dt))[0].numpy()
    return y


@pytest.mark.parametrize("seed", range(4))
def test_brevitas_has_the_compiled_integers(qat: ModuleType, seed: int) -> None:
    """Those of 16 bits; fewer are not each the nearest, but chosen together, until they lie on the grid."""
    policy = policy_of(seed)
    assert_same_integers(qat.quantized_twin(policy, "int16", SCHEMES["int16"].tolerance), compiled(policy, "int16"))


@pytest.mark.parametrize("scheme", INTEGERS)
@pytest.mark.parametrize("dt", [DtRange(), DtRange(0.1, 10.0, 1.0)], ids=["fixed", "irregular"])
@pytest.mark.parametrize("seed", range(2))
def test_the_layer_given_back_is_the_module(qat: ModuleType, scheme: Scheme, dt: DtRange, seed: int) -> None:
    """Quantizing it again gives the same integers; over the reals it computes what the module computes."""
    policy = policy_of(seed)
    policy = dataclasses.replace(policy, dt=dt)
    twin = qat.quantized_twin(policy, scheme, SCHEMES[scheme].tolerance)
    again = dataclasses.replace(policy, layers=(twin.to_layer(),))
    assert_same_integers(twin, compiled(again, scheme))
    twin.activations = False
    data = inputs(policy)
    np.testing.assert_allclose(outputs(twin, data), run(lower(again), data).y, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", INTEGERS)
@pytest.mark.parametrize("seed", range(3))
def test_with_activations_the_module_follows_the_integer_program(qat: ModuleType, scheme: Scheme, seed: int) -> None:
    policy = policy_of(seed)
    twin, data = qat.quantized_twin(policy, scheme, SCHEMES[scheme].tolerance), inputs(policy)
    y = run(compiled(policy, scheme), data).y
    assert np.abs(outputs(twin, data) - y).max() <= SCHEMES[scheme].tolerance * np.ptp(y)
    twin.activations = False
    assert np.abs(outputs(twin, data) - y).max() > 0, "outputs lie on the grid only when activations are rounded"


@pytest.mark.parametrize("scheme", INTEGERS)
def test_activation_scales_are_those_of_the_program(qat: ModuleType, scheme: Scheme) -> None:
    """The boundary's formats, channel by channel, and the view of the state."""
    policy = policy_of(1)
    policy = dataclasses.replace(policy, input_range=policy.input_range * np.array([[1.0], [3.0], [0.1], [20.0]]))
    stall = dead_band(policy, SCHEMES[scheme])
    quantized = quantize(policy, scheme, "fixed", stall, Choices(qat.brevitas_scales))
    own = quantized.layers[0]
    assert isinstance(own, QuantizedLtc)
    twin = qat.quantized_twin(policy, scheme, SCHEMES[scheme].tolerance)

    def fractions(quantizer: Any) -> list[int]:
        return [round(-np.log2(s)) for s in quantizer.act_quant.scale().detach().numpy().reshape(-1)]

    assert fractions(twin.quant_x) == list(quantized.x_fracs)
    assert fractions(twin.quant_y) == list(own.y_fracs)
    assert fractions(twin.quant_v) == [own.u.frac]


def test_training_keeps_module_and_program_the_same(qat: ModuleType) -> None:
    """After updates, as before them; and the loss goes down."""
    policy, data = policy_of(2), inputs(policy_of(2), steps=12)
    target = run(lower(policy), data).y
    assert data.dt is not None
    twin = qat.quantized_twin(policy, "int8", SCHEMES["int8"].tolerance)
    before = twin.integers()
    losses = qat.fine_tune(twin, data.x, target, data.dt, updates=12, rate=1e-3)
    assert np.mean(losses[-3:]) < losses[0]
    again = dataclasses.replace(policy, layers=(twin.to_layer(),))
    assert_same_integers(twin, compiled(again, "int8"))
    assert any((before[name][0] != found).any() for name, (found, _) in twin.integers().items())


def test_the_largest_weight_keeps_its_scale_wherever_it_falls(qat: ModuleType) -> None:
    """A largest integer of exactly half the range would fit a finer scale; quantizing again must not take that one."""
    import torch

    policy = policy_of(0)
    twin = qat.quantized_twin(policy, "int8", SCHEMES["int8"].tolerance)
    with torch.no_grad():
        for part in (twin.sensory, twin.recurrent):
            for vector in (part.w, part.we, part.sigma):
                vector.weight.mul_(64.3 / 128 / vector.weight.abs().max())
    assert {int(np.abs(found).max()) for found, _ in twin.integers().values()} == {64}
    assert_same_integers(twin, compiled(dataclasses.replace(policy, layers=(twin.to_layer(),)), "int8"))


def test_clamping_restores_what_the_step_needs(qat: ModuleType) -> None:
    import torch

    twin = qat.quantized_twin(policy_of(0), "int8", SCHEMES["int8"].tolerance)
    with torch.no_grad():
        twin.recurrent.w.weight[0] = -1.0
        twin.gleak[1] = -0.5
        twin.cm[2] = -0.5
    layer = twin.to_layer()
    assert layer.recurrent.w[0] == 0
    assert layer.gleak[1] == 0
    assert layer.cm[2] == 0
    assert min(layer.recurrent.w.min(), layer.gleak.min(), layer.cm.min()) >= 0


@pytest.mark.parametrize("absent", ["sensory", "recurrent"])
def test_a_layer_may_lack_one_set_of_synapses(qat: ModuleType, absent: str) -> None:
    none = random_synapses(np.random.default_rng(0), 3, 8, 0.0)
    policy = Policy("net", (random_ltc(0, **{absent: none}),), np.tile([-1.0, 1.0], (3, 1)))
    twin = qat.quantized_twin(policy, "int8", SCHEMES["int8"].tolerance)
    data = inputs(policy)
    again = dataclasses.replace(policy, layers=(twin.to_layer(),))
    y = run(compiled(again, "int8"), data).y
    assert np.abs(outputs(twin, data) - y).max() <= SCHEMES["int8"].tolerance * max(np.ptp(y), 0.1)


def test_other_policies_are_refused(qat: ModuleType) -> None:
    layer = random_ltc(0)
    two = Policy("two", (layer, Dense(np.ones((1, 2)), np.zeros(1))), np.tile([-1.0, 1.0], (3, 1)))
    with pytest.raises(Unsupported, match="single LTC"):
        qat.quantized_twin(two, "int8", 0.05)


@pytest.mark.parametrize(("value", "half_up", "half_even"), [(0.5, 1, 0), (-0.5, 0, 0), (2.5, 3, 2), (-1.5, -1, -2)])
def test_halves_round_up_unlike_brevitas_own(qat: ModuleType, value: float, half_up: int, half_even: int) -> None:
    """At 8 bits and a largest weight of 100 the scale is 1: the integers are the rounded numbers."""
    import torch
    from brevitas.quant.fixed_point import Int8ActPerTensorFixedPoint

    from ncpc.quant.brevitas_activations import calibrated
    from ncpc.quant.brevitas_weights import brevitas_integers

    vector = np.array([100.0, value])
    assert brevitas_integers(vector, 8) == (pytest.approx([100, half_up]), 0)
    quantizer = calibrated(vector[:, None], 8)
    assert quantizer(torch.tensor([[value]])).item() == half_up
    assert torch.round(torch.tensor(value)).item() == half_even
    assert Int8ActPerTensorFixedPoint.float_to_int_impl_type.value == "ROUND"


def stored(policy: Policy, scheme: Scheme, path: Path) -> LoweringResult:
    """Write the policy with the formats that lowering it chose."""
    lowering = lower_for(Container(policy), CompileOptions(quant=scheme, dt="fixed"))
    write_policy(policy, path, lowering.formats)
    return lowering


@pytest.mark.parametrize("scheme", INTEGERS)
def test_stored_formats_give_the_same_c_without_torch_and_brevitas(
    require_tool: RequireTool, scheme: Scheme, tmp_path: Path
) -> None:
    require_tool("brevitas")
    lowering = stored(policy_of(3), scheme, tmp_path / "p.safetensors")
    options = CompileOptions(quant=scheme, dt="fixed")
    files = load("c").prepare(lowering.lowered, options).files
    code = f"""
import sys
from ncpc.frontend.container import read_container
from ncpc.driver.lowering import lower_for
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load
options = CompileOptions(quant={scheme!r}, dt="fixed")
lowering = lower_for(read_container("p.safetensors"), options)
for name, text in load("c").prepare(lowering.lowered, options).files.items():
    open("again_" + name.replace("/", "_"), "wb").write(text)
assert lowering.proof["formats"]
print([m for m in ("torch", "brevitas") if m in sys.modules])
"""
    assert python(code, tmp_path) == "[]"
    for name, text in files.items():
        assert (tmp_path / ("again_" + name.replace("/", "_"))).read_bytes() == text


def test_float32_needs_neither(tmp_path: Path) -> None:
    write_policy(policy_of(3), tmp_path / "p.safetensors")
    code = """
import sys
from ncpc.frontend.container import read_container
from ncpc.driver.lowering import lower_for
from ncpc.targets.base import CompileOptions
lower_for(read_container("p.safetensors"), CompileOptions(quant="float32", dt="fixed"))
print([m for m in ("torch", "brevitas") if m in sys.modules])
"""
    assert python(code, tmp_path) == "[]"


def python(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"],
                          cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", ["torch", "brevitas"])
def test_a_missing_library_is_one_line_and_exit_3(require_tool: RequireTool, tmp_path: Path, package: str) -> None:
    require_tool("torch")  # or its absence would be what stops the command when brevitas is meant
    write_policy(policy_of(3), tmp_path / "p.safetensors")
    code = (f"import sys; sys.modules[{package!r}] = None; sys.path.insert(0, {str(ROOT)!r}); "
            "from ncpc.cli.commands import main; main()")
    done = subprocess.run([sys.executable, "-c", code, "compile", "p.safetensors", "--quant", "int8", "-o", "out"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == MissingTool.exit_code == 3, done.stderr
    message = [line for line in done.stderr.splitlines() if "not installed" in line]
    assert len(message) == 1
    assert package in message[0]
    assert "ncpc[torch]" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_report_compares_calibrated_and_proved_formats(require_tool: RequireTool) -> None:
    """Calibration alone never asks for more range than holds always; here it asks for less somewhere."""
    require_tool("brevitas")
    policy = policy_of(1)
    quiet = Sequences(np.full((1, 30, 4), 0.2))
    lowering = lower_for(Container(dataclasses.replace(policy, calibration=quiet)),
                         CompileOptions(quant="int8", dt="fixed"))
    assert lowering.proof is not None
    rows = {row["value"]: (row["calibrated"], row["proved"]) for row in lowering.proof["formats"]}
    assert rows["x0"] == ("Q-2.9", "Q1.6")
    assert set(rows) == {"x0", "x1", "x2", "x3", "y0", "y1", "y2", "v"}
    whole = {name: [int(q[1:].split(".")[0]) for q in pair] for name, pair in rows.items()}
    assert all(calibrated <= proved for calibrated, proved in whole.values())


@pytest.mark.parametrize("activations", [None, 3, {"x": "a"}, {"x": 1}])
def test_unreadable_stored_activations_are_refused(activations: object) -> None:
    from ncpc.quant.calibrate import formats_from_json

    with pytest.raises(BadInput, match="stored formats"):
        formats_from_json({"dead_band": 1.0, "scales": {}, "activations": activations})


def test_the_twin_of_a_policy_keeps_everything_but_numbers(qat: ModuleType) -> None:
    policy = policy_of(0)
    layer, again = policy.layers[0], qat.quantized_twin(policy, "int16", 2e-3).to_layer()
    assert isinstance(layer, Ltc)
    for name in ("roles", "names", "unfolds", "epsilon", "solver"):
        assert getattr(layer, name) == getattr(again, name)
    np.testing.assert_array_equal(layer.recurrent.post, again.recurrent.post)
    np.testing.assert_allclose(again.recurrent.w, layer.recurrent.w, atol=2.0**-14)
