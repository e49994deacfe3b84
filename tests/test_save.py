"""ncpc.save and ncpc.load: ranges, names, dt, calibration data, and the refusal of what differs from the module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import ncpc
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.data import read_sequences
from ncpc.frontend.ranges import widened
from ncpc.frontend.state_dict import import_state_dict
from ncpc.ir.policy import Activation, Dense, DtRange, Ltc
from ncpc.ir.sequences import Sequences
from ncpc.phases import Phases
from ncpc.system.user_code import one_line

torch = pytest.importorskip("torch")
LTC = pytest.importorskip("ncps.torch").LTC
LTCCell = pytest.importorskip("ncps.torch").LTCCell
wirings = pytest.importorskip("ncps.wirings")
nn = torch.nn

X = np.random.default_rng(0).uniform(-2, 3, (40, 3))


@pytest.fixture
def model() -> Any:
    torch.manual_seed(1)
    return LTC(3, wirings.AutoNCP(8, 2, seed=5))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cart-pole.safetensors"


def refused(model: Any, path: Path, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        ncpc.save(model, path, **options)
    assert not os.listdir(path.parent)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_importing_ncpc_imports_no_torch() -> None:
    code = "import sys, ncpc; ncpc.save, ncpc.load; print([m for m in ('torch', 'ncps') if m in sys.modules])"
    assert output_of(code) == "[]"


def output_of(code: str) -> str:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loading_a_policy_imports_no_torch(model: Any, path: Path) -> None:
    ncpc.save(model, path, calibration=X)
    code = f"import sys, ncpc; print(ncpc.load({str(path)!r}).name, 'torch' in sys.modules)"
    assert output_of(code) == "cart_pole False"


def test_saving_without_torch_says_what_to_install() -> None:
    code = """import sys; sys.modules["torch"] = None
import ncpc
from ncpc.errors import MissingTool
try:
    ncpc.save(object(), "p.safetensors", input_range=(-1, 1))
except MissingTool as error:
    print(error, error.exit_code)"""
    assert output_of(code) == "torch is not installed; run: pip install 'ncpc[torch]' 3"


def test_save_returns_what_load_reads(model: Any, path: Path) -> None:
    saved = ncpc.save(model, path, calibration=X, input_names=["a", "b", "c"], output_names=["u", "v"], sample_hz=50,
                      dt=(0.5, 2.0), name="pole")
    loaded = ncpc.load(path)
    assert (loaded.name, loaded.input_names, loaded.output_names) == ("pole", ("a", "b", "c"), ("u", "v"))
    assert (loaded.dt, loaded.sample_hz) == (DtRange(0.5, 2.0, 1.0), 50.0)
    assert loaded.provenance == saved.provenance
    assert loaded.calibration is not None
    assert np.array_equal(loaded.calibration.x[0], X)
    first, second = saved.layers[0], loaded.layers[0]
    assert isinstance(first, Ltc)
    assert isinstance(second, Ltc)
    assert np.array_equal(first.recurrent.w, second.recurrent.w)


def test_saving_twice_gives_the_same_bytes(model: Any, path: Path) -> None:
    ncpc.save(model, path, calibration=X)
    before = path.read_bytes()
    ncpc.save(model, path, calibration=X)
    assert path.read_bytes() == before


@pytest.mark.parametrize(("stem", "name"), [("cart-pole", "cart_pole"), ("3d net", "policy_3d_net"), ("a.b", "a_b")])
def test_names_left_out_follow_the_file_and_the_channels(model: Any, tmp_path: Path, stem: str, name: str) -> None:
    policy = ncpc.save(model, tmp_path / f"{stem}.safetensors", input_range=(-1, 1))
    assert policy.name == name
    assert (policy.input_names, policy.output_names) == (("x0", "x1", "x2"), ("y0", "y1"))


def test_layers_of_the_ir_are_saved_as_they_are(model: Any, path: Path) -> None:
    layers = ncpc.save(model, path, input_range=(-1, 1)).layers
    again = ncpc.save(layers, path, input_range=(-1, 1))
    assert again.provenance == {"source": "layers"}
    assert ncpc.save(layers[0], path, input_range=(-1, 1)).outputs == 2


# --- ranges -----------------------------------------------------------------------------------------------------------


def test_input_range_is_the_calibrations_widened_by_the_margin(model: Any, path: Path) -> None:
    policy = ncpc.save(model, path, calibration=X, margin=0.25)
    lo, hi = X.min(axis=0), X.max(axis=0)
    assert np.allclose(policy.input_range, np.stack([lo - 0.25 * (hi - lo), hi + 0.25 * (hi - lo)], axis=1))


def test_a_given_range_wins_and_one_pair_serves_all_channels(model: Any, path: Path) -> None:
    assert np.array_equal(ncpc.save(model, path, calibration=X, input_range=(-5, 5)).input_range, [[-5, 5]] * 3)
    bounds = [[-1, 1], [0, 2], [-3, 0]]
    assert np.array_equal(ncpc.save(model, path, input_range=bounds).input_range, bounds)


@settings(deadline=None)
@given(arrays(np.float64, (2, 4, 3), elements=st.floats(-1e6, 1e6)), st.floats(0, 2))
def test_widened_ranges_hold_the_data_and_are_never_empty(x: np.ndarray, margin: float) -> None:
    bounds = widened(Sequences(x), margin)
    assert np.all(bounds[:, 0] <= x.min(axis=(0, 1)))
    assert np.all(bounds[:, 1] >= x.max(axis=(0, 1)))
    assert np.all(bounds[:, 0] < bounds[:, 1])


@pytest.mark.parametrize(("value", "expected"), [(0.0, [-1, 1]), (0.2, [-0.8, 1.2]), (-50.0, [-100, 0])])
def test_constant_channels_get_a_width(value: float, expected: list[float]) -> None:
    assert np.allclose(widened(Sequences(np.full((1, 5, 1), value)), 0.1), [expected])


@pytest.mark.parametrize(("dt", "expected"), [
    (1.0, DtRange(1, 1, 1)), (2, DtRange(2, 2, 2)), ((0.5, 4), DtRange(0.5, 4, 1)),
    ((0.01, 0.04), DtRange(0.01, 0.04, 0.02)),
])
def test_dt_is_a_number_or_a_range(model: Any, path: Path, dt: Any, expected: DtRange) -> None:
    found = ncpc.save(model, path, input_range=(-1, 1), dt=dt).dt
    assert (found.lo, found.hi) == (expected.lo, expected.hi)
    assert found.nominal == pytest.approx(expected.nominal)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("options", "words"), [
    ({}, "neither calibration nor input_range given"),
    ({"calibration": X[:, :2]}, "calibration: x has 2 values per step, but the policy takes 3"),
    ({"calibration": "none.npz"}, "none.npz: no such file"),
    ({"calibration": X, "margin": -0.1}, "margin is -0.1"),
    ({"calibration": X, "dt": 0.0}, "dt must be positive and finite"),
    ({"calibration": X, "dt": -1.0}, "dt must be positive and finite"),
    ({"calibration": X, "dt": float("nan")}, "dt must be positive and finite"),
    ({"calibration": X, "dt": (2.0, 1.0)}, "expected lo <= nominal <= hi"),
    ({"calibration": {"x": X, "dt": np.full(40, 0.5)}, "dt": 1.0}, "declare dt=(0.5, 0.5)"),
    ({"input_range": (1, 1)}, "the lower bound must be below the upper"),
    ({"input_range": [[0, 1]] * 2}, "input range has shape (2, 2), expected (3, 2)"),
    ({"input_range": (-1, np.inf)}, "input range holds NaN or infinity"),
    ({"input_range": "wide"}, "input_range is not bounds"),
    ({"input_range": (-1, 1), "input_names": ["a"]}, "input names: 1 given, expected 3"),
    ({"input_range": (-1, 1), "name": "a b"}, "policy name: 'a b' is not an identifier"),
    ({"input_range": (-1, 1), "sample_hz": -3}, "sample_hz is -3.0"),
    ({"input_range": (-1, 1), "dt": "fast"}, "dt is 'fast'"),
    ({"input_range": (-1, 1), "dt": (1, 2, 3)}, "dt is (1, 2, 3)"),
])
def test_bad_options_are_refused_in_one_line(model: Any, path: Path, options: dict[str, Any], words: str) -> None:
    assert words in refused(model, path, **options)


def test_nan_parameters_are_refused(model: Any, path: Path) -> None:
    model.rnn_cell.vleak.data[0] = float("nan")
    assert "layer 0 (ltc): vleak holds NaN or infinity" in refused(model, path, input_range=(-1, 1))


def test_a_neuron_without_denominator_is_refused(path: Path) -> None:
    wiring = wirings.Wiring(2)
    wiring.set_output_dim(1)
    wiring.build(1)
    wiring.add_sensory_synapse(0, 0, 1)
    cell = LTCCell(wiring, 1)
    cell.cm.data[1] = cell.gleak.data[1] = 0
    assert "zero denominator: inter_0 has cm = gleak = 0" in refused(cell, path, input_range=(-1, 1))


def test_an_empty_wiring_is_refused(path: Path) -> None:
    wiring = wirings.Wiring(2)
    wiring.set_output_dim(1)
    assert "empty wiring: it has no synapse at all" in refused(LTC(1, wiring), path, input_range=(-1, 1))


def test_layers_that_do_not_fit_are_refused(model: Any, path: Path) -> None:
    assert "layer 0 (dense) gives 5 values, but layer 1 (ltc) takes 3" in refused(
        [nn.Linear(2, 5), model], path, input_range=(-1, 1))


def test_an_unsupported_module_is_refused(model: Any, path: Path) -> None:
    with pytest.raises(Unsupported, match=r"torch\.Mish cannot be read"):
        ncpc.save([nn.Mish(), model], path, input_range=(-1, 1))


@pytest.mark.parametrize(("name", "words"), [
    ("w", "w of recurrent synapse motor_0 -> motor_0 is -0.5"),
    ("sensory_w", "w of sensory synapse input 0 -> motor_0 is -0.5"),
    ("cm", "cm of motor_0 is -0.5"),
    ("gleak", "gleak of motor_0 is -0.5"),
])
def test_negative_parameters_are_refused_or_clipped_without_touching_the_model(
    path: Path, name: str, words: str
) -> None:
    cell = LTCCell(wirings.FullyConnected(3, 1), 2)
    cell._params[name].data.flatten()[0] = -0.5
    state = import_state_dict(cell.state_dict(), implicit_param_constraints=False, unfolds=6, epsilon=1e-8)
    clipped = []
    for model in (cell, state, list(state.layers)):
        message = refused(model, path, input_range=(-1, 1))
        assert words in message
        assert "apply_weight_constraints()" in message
        assert "clip_negative=True" in message
        clipped.append(ncpc.save(model, path, input_range=(-1, 1), clip_negative=True).layers[0])
        path.unlink()
    assert cell._params[name].data.min() == -0.5
    cell.apply_weight_constraints()
    clipped.append(ncpc.save(cell, path, input_range=(-1, 1)).layers[0])
    values = [(x.sensory.w, x.recurrent.w, x.cm, x.gleak) for x in clipped if isinstance(x, Ltc)]
    assert len(values) == 4
    assert all(np.array_equal(a, b) for one in values for a, b in zip(one, values[-1], strict=True))


def test_a_module_that_computes_something_else_is_refused(model: Any, path: Path) -> None:
    model.rnn_cell.register_forward_hook(lambda module, args, result: (result[0] + 1e-3, result[1]))
    message = refused(model, path, calibration=X)
    assert "policy and module differ by 0.001 (more than 1e-05)" in message


def test_a_difference_that_only_the_calibration_shows_is_refused(model: Any, path: Path) -> None:
    """Its inputs leave the given range, so random inputs in range do not show what happens out there."""
    model.rnn_cell.register_forward_hook(
        lambda module, args, result: (result[0] + (args[0] > 50).any(), result[1]))
    ncpc.save(model, path, input_range=(-1, 1))
    path.unlink()
    assert "policy and module differ by 1 " in refused(model, path, calibration=X * 100, input_range=(-1, 1))


def test_a_network_that_amplifies_rounding_is_saved_with_a_warning(path: Path) -> None:
    """0.1 in float32 is 1.5e-9 above 0.1, which a slope of 1e7 makes visible."""
    cell = LTCCell(wirings.FullyConnected(2, 1), 1)
    cell.sensory_sigma.data[:], cell.sensory_mu.data[:] = 1e7, 0.1
    with pytest.warns(UserWarning, match="amplifies rounding"):
        ncpc.save(cell, path, calibration=np.full((5, 1), 0.1))
    assert ncpc.load(path).outputs == 1


def test_modules_are_left_as_they_were(model: Any, path: Path) -> None:
    model.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ncpc.save([model, nn.Linear(2, 1)], path, calibration=X)
    assert model.training
    assert all(torch.equal(v, before[k]) and v.dtype == torch.float32 for k, v in model.state_dict().items())


def test_double_precision_modules_are_saved(model: Any, path: Path) -> None:
    ncpc.save(model.double(), path, calibration=X)
    assert ncpc.load(path).inputs == 3


# --- data -------------------------------------------------------------------------------------------------------------


ANY_DT = DtRange(0.1, 10)


def test_arrays_tensors_mappings_and_npz_read_alike(tmp_path: Path) -> None:
    x, dt, reset = np.random.default_rng(0).normal(size=(2, 5, 3)), np.full((2, 5), 0.5), np.zeros((2, 5), np.int8)
    reset[1, 2] = 1
    np.savez(tmp_path / "log.npz", x=x, dt=dt, reset=reset, y=np.zeros((2, 5, 1)))
    grad = torch.tensor(x, requires_grad=True)
    sources: list[Any] = [tmp_path / "log.npz", str(tmp_path / "log.npz"), {"x": x, "dt": dt, "reset": reset},
                          {"x": grad, "dt": torch.tensor(dt), "reset": torch.tensor(reset) != 0}]
    for source in sources:
        found = read_sequences(source, 3, ANY_DT)
        assert np.array_equal(found.x, x)
        assert found.dt is not None
        assert np.array_equal(found.dt, dt)
        assert found.reset is not None
        assert found.reset.dtype == np.bool_
        assert np.array_equal(found.reset, reset != 0)


def test_one_sequence_and_one_row_of_timespans() -> None:
    assert read_sequences(np.ones((5, 3), np.float32), 3, ANY_DT).x.shape == (1, 5, 3)
    found = read_sequences({"x": np.ones((2, 5, 3)), "dt": np.arange(1, 6)}, 3, ANY_DT)
    assert found.dt is not None
    assert found.dt.tolist() == [[1, 2, 3, 4, 5]] * 2
    same = Sequences(np.ones((1, 2, 3)))
    assert read_sequences(same, 3, ANY_DT) is same


@pytest.mark.parametrize(("source", "words"), [
    (np.ones((5, 4)), "data: x has 4 values per step, but the policy takes 3"),
    (np.ones(5), "x has shape (5,), expected (steps, inputs)"),
    (np.ones((0, 3)), "x has shape (1, 0, 3)"),
    (np.array([["a"]]), "x is not an array of real numbers"),
    (np.ones((5, 3), complex), "x is not an array of real numbers"),
    ([[1, 2], [3]], "x is not an array of real numbers"),
    (None, "x is not an array of real numbers"),
    (np.full((5, 3), np.inf), "x holds NaN or infinity"),
    ({"dt": np.ones(5)}, "no array x"),
    ({"x": np.ones((5, 3)), "timespans": np.ones(5)}, "unknown array 'timespans'; known are x, dt, reset, y"),
    ({"x": np.ones((5, 3)), "dt": np.ones(4)}, "dt has shape (4,), expected (5,) or (1, 5) as x"),
    ({"x": np.ones((5, 3)), "dt": np.zeros(5)}, "dt holds values that are not positive and finite"),
    ({"x": np.ones((5, 3)), "dt": np.full(5, np.nan)}, "dt holds values that are not positive and finite"),
    ({"x": np.ones((5, 3)), "dt": np.full(5, 11.0)}, "dt spans [11, 11], outside the declared [0.1, 10]"),
    ({"x": np.ones((5, 3)), "reset": np.ones(6)}, "reset has shape (6,), expected (5,) or (1, 5) as x"),
])
def test_bad_data_is_refused_in_one_line(source: Any, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_sequences(source, 3, ANY_DT)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not an archive", b"\x93NUMPY\x01\x00"])
def test_files_that_are_no_npz_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "log.npz").write_bytes(content)
    with pytest.raises(BadInput, match="not a readable npz file"):
        read_sequences(tmp_path / "log.npz", 3, ANY_DT)


def test_a_single_array_file_and_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((5, 3)))
    np.savez(tmp_path / "o.npz", x=np.array([object()]))
    for name in ("x.npy", "o.npz"):
        with pytest.raises(BadInput, match="not a readable npz file"):
            read_sequences(tmp_path / name, 3, ANY_DT)


def linear_and_cell() -> list[Any]:
    torch.manual_seed(0)
    return [torch.nn.Linear(2, 3), LTC(3, wirings.AutoNCP(6, 2), batch_first=True)]


def test_a_dt_that_nobody_said_is_recorded_as_assumed(tmp_path: Path) -> None:
    path, x = tmp_path / "p.safetensors", np.random.default_rng(0).uniform(-1, 1, (2, 30, 2))
    with pytest.warns(UserWarning, match=r"dt 1\.0 \(assumed, the library's default\)"):
        ncpc.save(linear_and_cell(), path, calibration=x)
    assert ncpc.load(path).dt == DtRange(1.0, 1.0, 1.0, assumed=True)


@pytest.mark.parametrize("told", [{"dt": 1.0}, {"dt": (0.5, 2.0)}, {}])
def test_a_dt_that_was_said_is_not(tmp_path: Path, recwarn: pytest.WarningsRecorder, told: dict[str, Any]) -> None:
    """By dt, or by the calibration's timespans; and a network without a cell that reads dt has nothing to say."""
    path, x = tmp_path / "p.safetensors", np.random.default_rng(0).uniform(-1, 1, (2, 30, 2))
    still = [Dense(np.ones((3, 2)), np.zeros(3)), Activation("tanh", 3)]
    ncpc.save(linear_and_cell() if told else still, path, calibration=x, **told)
    assert not ncpc.load(path).dt.assumed
    assert not [w for w in recwarn if "assumed" in str(w.message)]
    assert b"assumed" not in path.read_bytes()


def test_timespans_of_the_calibration_say_the_range_of_dt(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path, rng = tmp_path / "p.safetensors", np.random.default_rng(0)
    data = {"x": rng.uniform(-1, 1, (2, 30, 2)), "dt": rng.uniform(0.02, 0.12, (2, 30))}
    found = ncpc.save(linear_and_cell(), path, calibration=data).dt
    assert (found.lo, found.hi) == (data["dt"].min(), data["dt"].max())
    assert not found.assumed
    assert not [w for w in recwarn if "assumed" in str(w.message)]


def test_a_policy_shows_what_it_is_in_a_notebook(tmp_path: Path) -> None:
    policy = ncpc.save(LTC(3, wirings.AutoNCP(8, 2)), tmp_path / "arm.safetensors", input_range=(-1, 1), dt=1.0)
    shown = policy._repr_html_()
    for words in ("<h4>arm</h4>", "3: x0, x1, x2", "2: y0, y1", "<td>ltc</td>", "<td>8</td>", "dt 1.0",
                  "the module&#x27;s own forward", "<svg xmlns"):
        assert words in shown, words


def test_phases_of_saving_are_seen(tmp_path: Path) -> None:
    phases = Phases()
    ncpc.save(LTC(3, wirings.AutoNCP(8, 2)), tmp_path / "p.safetensors", input_range=(-1, 1), dt=1.0, phases=phases)
    assert list(phases.seconds) == ["read", "compare"]


def test_a_long_reason_ends_behind_a_word() -> None:
    assert one_line(ValueError("short \n enough")) == "ValueError: short enough"
    long = one_line(ValueError("word " * 100))
    assert long.endswith("word ...")
    assert len(long) < 320
    assert one_line(ValueError("x" * 400)) == f"ValueError: {'x' * 300} ..."
