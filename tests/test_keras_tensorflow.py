"""Running models of Keras 2, whose variables are TensorFlow's: they have a name but no path, and there are no ops."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.errors import Unsupported
from ncpc.frontend.keras.live import is_keras
from ncpc.frontend.keras.read import import_model

UNITS = 6


class Tensor:
    """What of a TensorFlow variable or tensor is read."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self.array = f"{name}:0", array

    def numpy(self) -> np.ndarray:
        return self.array


Tensor.__module__ = "tensorflow.python.ops.resource_variable_ops"


def stand_in(kind: str, /, **attributes: Any) -> Any:
    """An object of a class of Keras 2 called ``kind``."""
    made = type(kind, (), {"__module__": "keras.src.engine.base_layer"})()
    vars(made).update(attributes)
    return made


def tensors(layer: Any) -> list[Tensor]:
    from tests.keras_models import keras

    return [Tensor(weight.path, keras.ops.convert_to_numpy(weight)) for weight in layer.weights]


def old_cell(cell: Any, spelling: str | None = None) -> Any:
    """A cell of ncps.keras as ncps.tf or keras-ncp would hold it."""
    from tests.keras_models import keras

    kept = {key: value for key, value in vars(cell).items() if key in ("mode", "_activation", "_ode_unfolds",
            "_epsilon", "_input_mapping", "_output_mapping", "forget_gate_bias")}
    masks = getattr(cell, "_params", {})
    kept["_params"] = {key: Tensor(key, keras.ops.convert_to_numpy(masks[key])) for key in masks if "mask" in key}
    if getattr(cell, "sparsity_mask", None) is not None:
        kept["sparsity_mask"] = Tensor("mask", keras.ops.convert_to_numpy(cell.sparsity_mask))
    if hasattr(cell, "wiring"):
        kept["_wiring"] = cell.wiring
    if hasattr(cell, "_cfc_layers"):
        kept["_cfc_layers"] = [old_cell(layer) for layer in cell._cfc_layers]
    if hasattr(cell, "rnn_cell"):
        kept["rnn_cell"] = old_cell(cell.rnn_cell)
    return stand_in(spelling or type(cell).__name__, weights=tensors(cell), get_config=cell.get_config, **kept)


def old_model(model: Any, spelling: str | None = None) -> Any:
    """A functional model of Keras 2 around the layers of one of Keras 3."""
    layers, before = [stand_in("InputLayer", name="in", _inbound_nodes=[SimpleNamespace(parent_nodes=[])])], None
    for layer in model.layers:
        before = SimpleNamespace(layer=layers[-1])
        options = {"name": layer.name, "get_config": layer.get_config, "weights": tensors(layer),
                   "_inbound_nodes": [SimpleNamespace(parent_nodes=[before])]}
        if getattr(layer, "cell", None) is not None:
            options["cell"] = old_cell(layer.cell, spelling)
        layers.append(stand_in(type(layer).__name__, **options))
    return stand_in("Functional", layers=layers, input_shape=(None, None, 3))


def cells() -> dict[str, Callable[[], Any]]:
    from tests.keras_models import ncps_keras, wirings

    wiring = wirings.NCP(4, 3, 2, 2, 2, 3, 2, seed=5)
    return {
        "ltc": lambda: ncps_keras.LTC(wiring, return_sequences=True),
        "mixed ltc": lambda: ncps_keras.LTC(UNITS, return_sequences=True, mixed_memory=True),
        "cfc": lambda: ncps_keras.CfC(UNITS, return_sequences=True, backbone_units=4),
        "mixed cfc": lambda: ncps_keras.CfC(UNITS, return_sequences=True, mixed_memory=True),
        "wired cfc": lambda: ncps_keras.CfC(wiring, return_sequences=True),
    }


SPELLINGS = {"cfc": "CfcCell", "wired cfc": "WiredCfcCell"}
"""By keras-ncp."""


@pytest.mark.parametrize("name", ["ltc", "mixed ltc", "cfc", "mixed cfc", "wired cfc"])
def test_variables_without_a_path_are_read(name: str) -> None:
    from tests.keras_models import keras

    model = keras.Sequential([keras.layers.Input((None, 3)), keras.layers.Dense(4), cells()[name]()])
    expected = import_model(model).layers
    for spelling in {None, SPELLINGS.get(name)}:
        old = old_model(model, spelling)
        assert is_keras(old)
        np.testing.assert_equal([asdict(layer) for layer in import_model(old).layers],
                                [asdict(layer) for layer in expected])


def test_another_cell_of_the_same_name_is_refused() -> None:
    """``CfcCell`` is a class of keras-ncp and of the code published with the CfC paper, which computes something else.
    """
    cell = stand_in("CfcCell", hparams={"backbone_activation": "silu"}, weights=[])
    layer = stand_in("RNN", name="rnn", cell=cell, weights=[])
    with pytest.raises(Unsupported, match=r"'rnn' has a CfcCell that is none of ncps or keras-ncp; .* --architecture"):
        import_model(stand_in("Sequential", layers=[layer]))


def test_a_running_model_of_tensorflow_is_saved_after_a_check(tmp_path: Path) -> None:
    """Real ones, where TensorFlow 2.15 with its Keras 2 is installed, which the other tests' Keras 3 excludes."""
    tf = pytest.importorskip("tensorflow", reason="optional: needs TensorFlow 2.15")
    if not sys.modules["keras"].__version__.startswith("2."):
        pytest.skip("optional: needs Keras 2")
    old, made = pytest.importorskip("ncps.tf"), pytest.importorskip("ncps.wirings")
    wiring = made.NCP(4, 3, 2, 2, 2, 3, 2, seed=5)
    layers = tf.keras.layers
    for cell in (old.LTC(wiring, return_sequences=True), old.CfC(wiring, return_sequences=True),
                 old.CfC(5, return_sequences=True, mixed_memory=True), old.LTC(5, return_sequences=True)):
        model = tf.keras.Sequential([layers.InputLayer(input_shape=(None, 3)), layers.Dense(4, "relu"), cell])
        policy = ncpc.save(model, tmp_path / "p.safetensors", input_range=(-1, 1), dt=1.0)
        assert policy.compared == "forward"
        assert str(policy.provenance["keras_version"]).startswith("2.")
