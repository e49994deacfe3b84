"""Every Keras cell's policy equals the model of the original library, running or from its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ncpc
from ncpc.cli.commands import run as cli
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.read import import_file, import_model
from ncpc.frontend.keras.weights import import_weights
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from tests import keras_models
from tests.keras_models import FAMILIES, in_double, keras, ncps_keras, random_model, torch, wirings

h5py = pytest.importorskip("h5py")

from benchmarks.agreement import TOLERANCE, comparable, scale_of  # noqa: E402
from benchmarks.agreement_sources import legacy_weights  # noqa: E402


def outputs(read: Imported, x: np.ndarray) -> np.ndarray:
    policy = Policy("net", read.layers, np.tile([-1.0, 1.0], (x.shape[2], 1)), DtRange())
    return run(lower(policy), Sequences(x)).y


def inputs_of(seed: int, width: int, steps: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (2, steps, width))
    x[0] = np.clip(np.cumsum(x[0], axis=0) * 0.2, -1, 1)
    return x.astype(np.float32).astype(np.float64)  # Keras rounds inputs to binary32


def assert_same(family: str, seed: int, folder: Path, steps: int = 200) -> None:
    """Over the steps that can be compared: linear heads let some networks run away (``benchmarks/agreement.py``)."""
    model, width = random_model(family, seed)
    data = Sequences(inputs_of(seed, width, steps))
    expected = in_double(model, data.x)
    same = comparable(lambda moved, double: keras_models.outputs(model, moved.x, double=double), data, expected)
    assume(same)  # a backbone of one dead relu gives a constant
    expected = expected[:, :same]
    readings = {"live": import_model(model)}
    for suffix in (".keras", ".h5"):
        model.save(folder / f"model{suffix}")
        readings[suffix] = import_file(folder / f"model{suffix}")
    for name, read in readings.items():
        difference = np.abs(outputs(read, data.x[:, :same]) - expected).max() / scale_of(expected)
        assert difference <= TOLERANCE, f"{family} {seed} {name}: {difference} over {same} steps"


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_model(family: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert_same(family, seed, tmp_path_factory.mktemp("keras"))


@pytest.mark.parametrize("family", FAMILIES)
def test_replayed_operations_are_the_models_own(family: str) -> None:
    """What the models' outputs are read from elsewhere in these tests: the same operations in binary32, some of which a
    library sums in another order for another number of rows on some processors.
    """
    for seed in range(2):
        model, width = random_model(family, seed)
        x = inputs_of(seed, width, 12)
        with torch.no_grad():
            own = keras.ops.convert_to_numpy(model(torch.as_tensor(x, dtype=torch.float32)))
        replayed = keras_models.outputs(model, x, double=False)
        np.testing.assert_allclose(replayed, own, rtol=0, atol=2.0**-20 * max(1.0, np.nanmax(np.abs(own))))


MANY = int(os.environ.get("NCPC_EXAMPLES", "40"))
"""Random models per family in the slow test; benchmarks/agreement.json has a hundred of each cell."""


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=MANY, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**30))
def test_policy_equals_model_for_many(family: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert_same(family, seed, tmp_path_factory.mktemp("keras"))


def test_running_model_is_saved_after_a_check(tmp_path: Path) -> None:
    model, width = random_model("around", 5)
    path = tmp_path / "p.safetensors"
    policy = ncpc.save(model, path, input_range=(-1, 1))
    assert ncpc.load(path).layers[0].inputs == policy.inputs == width
    assert policy.provenance["source"] == "keras"


def test_model_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    class Doubled(ncps_keras.CfCCell):
        def call(self, inputs: Any, states: Any, **kwargs: Any) -> Any:
            y, after = super().call(inputs, states, **kwargs)
            return 2 * y, after

    Doubled.__name__ = "CfCCell"
    model = keras.Sequential([keras.layers.Input((None, 2)), keras.layers.RNN(Doubled(3), return_sequences=True)])
    with pytest.raises(BadInput, match="policy and Keras model differ"):
        ncpc.save(model, tmp_path / "p.safetensors", input_range=(-1, 1))
    assert not (tmp_path / "p.safetensors").exists()


@pytest.mark.parametrize("biased", [True, False])
def test_a_gru_that_resets_before_its_matrix_is_one_step_of_an_ode(biased: bool, tmp_path: Path) -> None:
    gru = keras.layers.GRU(5, return_sequences=True, reset_after=False, use_bias=biased, bias_initializer="normal")
    model = keras.Sequential([keras.Input((None, 3)), gru, keras.layers.Dense(2)])
    policy = ncpc.save(model, tmp_path / "p.safetensors", input_range=(-1, 1))
    assert [layer.kind for layer in policy.layers] == ["gru_ode", "dense"]
    assert (policy.dt.lo, policy.dt.hi, policy.dt.assumed) == (1.0, 1.0, False)
    x = inputs_of(0, 3, 40)
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        assert np.abs(outputs(import_file(tmp_path / name), x) - np.asarray(model(x).detach())).max() < 1e-5


def test_last_output_alone_is_compared(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((None, 2)), ncps_keras.CfC(3, backbone_units=4)])
    assert ncpc.save(model, tmp_path / "p.safetensors", input_range=(-1, 1)).outputs == 3


def test_weights_alone_need_their_unfolds(tmp_path: Path) -> None:
    wiring = wirings.AutoNCP(9, 2, seed=3)
    layer = ncps_keras.LTC(wiring, return_sequences=True, ode_unfolds=4)
    model = keras.Sequential([keras.layers.Input((None, 3)), layer])
    legacy_weights(tmp_path / "old.h5", model)
    model.save_weights(tmp_path / "new.weights.h5")
    x = inputs_of(1, 3, 100)
    expected = in_double(model, x)
    for name in ("old.h5", "new.weights.h5"):
        with pytest.raises(BadInput, match="give unfolds"):
            import_weights(tmp_path / name)
        read = import_weights(tmp_path / name, unfolds=4, wiring=wiring)
        assert np.abs(outputs(read, x) - expected).max() <= TOLERANCE
        roles = read.layers[0].roles  # type: ignore[attr-defined]
        assert roles == tuple(wiring.get_type_of_neuron(i) for i in range(9))
        assert import_weights(tmp_path / name, unfolds=4).layers[0].outputs == 2


def test_weights_of_more_than_one_cell_are_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((None, 3)), keras.layers.Dense(2), ncps_keras.LTC(4)])
    legacy_weights(tmp_path / "old.h5", model)
    with pytest.raises(BadInput, match="holds 'bias' too"):
        import_weights(tmp_path / "old.h5", unfolds=6)


def test_numbered_weights_that_are_no_ltcs_are_refused(tmp_path: Path) -> None:
    """Keras 3 stores no names: 13 variables may have either mapping."""
    for layer in (ncps_keras.CfC(4, backbone_units=3), ncps_keras.LTC(4, input_mapping=None)):
        model = keras.Sequential([keras.layers.Input((None, 3)), layer])
        model.save_weights(tmp_path / "new.weights.h5")
        with pytest.raises(BadInput, match="not the weights of one LTC alone"):
            import_weights(tmp_path / "new.weights.h5", unfolds=6)


def test_command_takes_what_weights_do_not_say(tmp_path: Path) -> None:
    layer = ncps_keras.LTC(5, output_mapping=None, input_mapping=None)
    model = keras.Sequential([keras.layers.Input((None, 3)), layer])
    model.save_weights(tmp_path / "new.weights.h5")
    out = tmp_path / "p.safetensors"
    command = ["import", str(tmp_path / "new.weights.h5"), "--input-range", "-1", "1", "-o", str(out), "--unfolds", "4"]
    assert cli(command) == 2
    assert not out.exists()
    assert cli([*command, "--outputs", "2", "--epsilon", "1e-6"]) == 0
    read = ncpc.load(out).layers[0]
    assert (read.outputs, read.unfolds, read.epsilon) == (2, 4, 1e-6)  # type: ignore[attr-defined]


def test_legacy_whole_model_is_read(tmp_path: Path) -> None:
    """Keras 2 with ncps.tf: the wiring spread out in the cell's config, names with ':0', a functional config."""
    wiring = wirings.AutoNCP(9, 2, seed=3)
    model = keras.Sequential([keras.layers.Input((None, 3)), ncps_keras.LTC(wiring, return_sequences=True)])
    wiring_config = {"units": 9, "adjacency_matrix": wiring.adjacency_matrix.tolist(), "input_dim": 3, "output_dim": 2}
    cell = {**wiring_config, "input_mapping": "affine", "output_mapping": "affine", "ode_unfolds": 6, "epsilon": 1e-8}
    entry = {"class_name": "InputLayer", "name": "in", "inbound_nodes": [],
             "config": {"name": "in", "batch_input_shape": [None, None, 3]}}
    rnn = {"class_name": "RNN", "name": "rnn", "inbound_nodes": [[["in", 0, 0, {}]]],
           "config": {"name": "rnn", "cell": {"class_name": "ncps>LTCCell", "config": cell}}}
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": {"layers": [entry, rnn]}})
        group = file.create_group("model_weights/rnn")
        names = [f"rnn/ltc_cell/{w.path.rpartition('/')[2]}:0" for w in model.weights]
        group.attrs["weight_names"] = names
        for name, weight in zip(names, model.weights, strict=True):
            group[name] = keras.ops.convert_to_numpy(weight)
    x = inputs_of(2, 3, 50)
    assert np.abs(outputs(import_file(tmp_path / "m.h5"), x) - in_double(model, x)).max() <= TOLERANCE


def test_branching_model_is_refused(tmp_path: Path) -> None:
    x = keras.layers.Input((None, 3))
    y = keras.layers.Add()([keras.layers.Dense(3)(x), x])
    model = keras.Model(x, ncps_keras.LTC(4)(y))
    model.save(tmp_path / "m.keras")
    for read in (lambda: import_model(model), lambda: import_file(tmp_path / "m.keras")):
        with pytest.raises(Unsupported, match="chain of layers"):
            read()


NOT_STEPWISE = {
    "Masking": (lambda: [keras.layers.Masking()], "skips the steps whose inputs all have its mask_value"),
    "Bidirectional": (lambda: [keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True))],
                      "reads the future"),
    "Conv1D": (lambda: [keras.layers.Conv1D(2, 3, padding="causal")], "works across the steps of time; wrap it in"),
    "backwards": (lambda: [keras.layers.LSTM(2, return_sequences=True, go_backwards=True)], "runs backwards in time"),
}


@pytest.mark.parametrize("name", NOT_STEPWISE)
def test_what_does_not_run_step_by_step_is_refused(name: str, tmp_path: Path) -> None:
    layers, words = NOT_STEPWISE[name]
    model = keras.Sequential([keras.layers.Input((None, 3)), *layers(), ncps_keras.LTC(4)])
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for read in (lambda: import_model(model), *(lambda n=n: import_file(tmp_path / n) for n in ("m.keras", "m.h5"))):
        with pytest.raises(Unsupported, match=words):
            read()


def test_functional_chain_is_read(tmp_path: Path) -> None:
    x = keras.layers.Input((None, 3))
    model = keras.Model(x, ncps_keras.CfC(4, backbone_units=3, return_sequences=True)(keras.layers.Dense(2)(x)))
    model.save(tmp_path / "m.keras")
    data = inputs_of(4, 3, 20)
    expected = in_double(model, data)
    for read in (import_model(model), import_file(tmp_path / "m.keras")):
        assert np.abs(outputs(read, data) - expected).max() <= TOLERANCE


def test_wiring_whose_seed_is_lost_is_refused(tmp_path: Path) -> None:
    """ncps forgets an NCP's seed when its config is asked for, and a wired CfC's file has no mask."""
    model = keras.Sequential([keras.layers.Input((None, 3)), ncps_keras.CfC(wirings.NCP(4, 3, 2, 2, 2, 3, 2))])
    model.save(tmp_path / "m.keras")
    with pytest.raises(Unsupported, match="save the running model"):
        import_file(tmp_path / "m.keras")
    assert import_model(model).layers[0].outputs == 2


@pytest.mark.parametrize(("content", "message"), [(b"", "not a readable"), (b"PK\x03\x04junk", "not a readable")])
@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=message):
        import_file(tmp_path / name)


def test_lambda_in_a_file_is_never_run(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Input((None, 3)), keras.layers.Lambda(lambda x: x * 2), ncps_keras.LTC(4)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(Unsupported, match="Lambda cannot be read"):
        import_file(tmp_path / "m.keras")


def test_command_imports_a_keras_file(tmp_path: Path) -> None:
    model, _ = random_model("ltc", 2)
    model.save(tmp_path / "m.keras")
    out = tmp_path / "p.safetensors"
    assert cli(["import", str(tmp_path / "m.keras"), "--input-range", "-1", "1", "-o", str(out)]) == 0
    assert ncpc.load(out).layers
    assert cli(["import", str(tmp_path / "m.keras"), "--unfolds", "6"]) == 2


def _frame_layers(rng: np.random.Generator) -> list[Any]:
    layers = keras.layers
    def conv() -> Any:
        return layers.Conv2D(int(rng.integers(1, 4)), (2, int(rng.integers(1, 4))), strides=int(rng.integers(1, 3)),
                             padding=str(rng.choice(["valid", "same"])), activation=str(rng.choice(["relu", "tanh"])))

    norm = [layers.Conv2D(2, 2, use_bias=False), layers.BatchNormalization(), layers.Activation("relu")]
    pools = [layers.MaxPooling2D(2), layers.AveragePooling2D(2), layers.MaxPooling2D(2, strides=1)]
    return [conv(), *(norm if rng.integers(2) else []), pools[int(rng.integers(3))], conv(), layers.Flatten()]


@pytest.mark.parametrize("seed", range(6))
def test_head_over_frames_equals_the_model(seed: int, tmp_path: Path) -> None:
    rng, layers = np.random.default_rng(seed), keras.layers
    keras.utils.set_random_seed(seed)
    frame = (int(rng.integers(12, 16)), int(rng.integers(12, 16)), int(rng.integers(1, 4)))
    model = keras.Sequential([
        layers.Input((None, *frame)), *(layers.TimeDistributed(layer) for layer in _frame_layers(rng)),
        layers.TimeDistributed(layers.Dense(4, "relu")), ncps_keras.LTC(wirings.AutoNCP(8, 2), return_sequences=True),
        layers.Dense(3, "softmax"),
    ])
    for weight in model.weights:
        if weight.path.endswith(("gamma", "beta", "moving_mean", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype(np.float32))
    x = inputs_of(seed, int(np.prod(frame)), 8)
    expected = in_double(model, x.reshape(2, 8, *frame))
    assert np.ptp(expected) > 0
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for read in (import_model(model), import_file(tmp_path / "m.keras"), import_file(tmp_path / "m.h5")):
        assert np.abs(outputs(read, x) - expected).max() <= TOLERANCE
