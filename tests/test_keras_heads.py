"""Every Keras layer over frames that is read equals its model, from the running model and from its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import Unsupported
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.read import import_file, import_model
from ncpc.frontend.validate import check_policy
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from tests.keras_models import in_double, keras, ncps_keras

TOLERANCE = 1e-5
layers = keras.layers
FRAME = (9, 10, 2)


def adapted() -> Any:
    """A Normalization that has seen data."""
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(4).normal(0.3, 2.0, (20, *FRAME)))
    return layer


FORMS: dict[str, Callable[[], list[Any]]] = {
    "depthwise": lambda: [layers.DepthwiseConv2D((3, 2), depth_multiplier=2, padding="same", activation="elu")],
    "depthwise strided": lambda: [layers.DepthwiseConv2D(3, strides=2, use_bias=False)],
    "separable": lambda: [layers.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu6")],
    "groups": lambda: [layers.Conv2D(6, (2, 3), groups=2, activation="leaky_relu")],
    "dilation": lambda: [layers.Conv2D(3, 3, dilation_rate=(2, 3), padding="same", activation="silu")],
    "normalization behind an activation": lambda: [layers.Conv2D(4, 3, activation="elu"), layers.BatchNormalization(),
                                                   layers.Conv2D(3, 2)],
    "normalization before padding": lambda: [layers.Conv2D(4, 3, activation="relu"), layers.BatchNormalization(),
                                             layers.Conv2D(3, 2, padding="same")],
    "normalization before pooling": lambda: [layers.Conv2D(4, 3, activation="gelu"), layers.BatchNormalization(),
                                             layers.MaxPooling2D(2), layers.Conv2D(3, 2)],
    "normalization first": lambda: [layers.BatchNormalization(), layers.Conv2D(3, 2)],
    "same pooling": lambda: [layers.AveragePooling2D(2, strides=2, padding="same"),
                             layers.MaxPooling2D(3, strides=1, padding="same")],
    "activation layers": lambda: [layers.Conv2D(4, 3), layers.LeakyReLU(), layers.Conv2D(4, 2), layers.ELU(0.5),
                                  layers.Conv2D(2, 2), layers.ReLU(max_value=0.7)],
    "dense over a frame": lambda: [layers.Dense(3, "tanh"), layers.GlobalAveragePooling2D()],
    "rescaling and normalization": lambda: [layers.Rescaling(0.5, offset=-0.25), adapted(), layers.Conv2D(3, 2)],
    "normalization by numbers": lambda: [layers.Conv2D(3, 2, activation="elu"), layers.Normalization(
        mean=[0.1, -0.2, 0.3], variance=[0.5, 1.5, 0.0]), layers.Conv2D(3, 2, padding="same")],
    "selu and dropout": lambda: [layers.Conv2D(3, 2, activation="selu"), layers.SpatialDropout2D(0.5),
                                 layers.GlobalMaxPooling2D()],
}

ROW = (12, 2)
ROWS: dict[str, Callable[[], list[Any]]] = {
    "depthwise row": lambda: [layers.DepthwiseConv1D(3, padding="same", activation="elu"), layers.MaxPooling1D(2)],
    "separable row": lambda: [layers.SeparableConv1D(4, 3, activation="relu"), layers.BatchNormalization(),
                              layers.GlobalAveragePooling1D()],
    "dilated row": lambda: [layers.Conv1D(4, 3, dilation_rate=2, groups=2, activation="hard_silu"),
                            layers.AveragePooling1D(3, strides=1, padding="same")],
}


def model_of(form: str) -> Any:
    """The layers of a form over frames or rows, then a small cell, all parameters moved."""
    keras.utils.set_random_seed(1)
    made = {**FORMS, **ROWS}[form]()
    if not type(made[-1]).__name__.startswith("Global"):
        made.append(layers.Flatten())
    frame = ROW if form in ROWS else FRAME
    model = keras.Sequential([layers.Input((None, *frame)), *map(layers.TimeDistributed, made),
                              layers.TimeDistributed(layers.Dense(3)), ncps_keras.CfC(2, return_sequences=True)])
    rng = np.random.default_rng(2)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape).astype(np.float32))
        elif weight.path.endswith(("beta", "bias", "moving_mean")):
            weight.assign(rng.uniform(-0.5, 0.5, weight.shape).astype(np.float32))
    return model


def outputs(read: Imported, x: np.ndarray) -> np.ndarray:
    policy = Policy("net", read.layers, np.tile([-1.0, 1.0], (x.shape[2], 1)))
    check_policy(policy, "net")
    return run(lower(policy), Sequences(x)).y


@pytest.mark.parametrize("form", [*FORMS, *ROWS])
def test_layers_over_frames_equal_the_model(form: str, tmp_path: Path) -> None:
    model = model_of(form)
    frame = ROW if form in ROWS else FRAME
    x = np.random.default_rng(3).uniform(-1, 1, (2, 3, int(np.prod(frame))))
    expected = in_double(model, x.reshape(2, 3, *frame))
    assert np.ptp(expected) > 0
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    for read in (import_model(model), import_file(tmp_path / "m.keras"), import_file(tmp_path / "m.h5")):
        assert np.abs(outputs(read, x) - expected).max() <= TOLERANCE


def test_factors_before_a_convolution_or_dense_layer_go_into_it() -> None:
    kinds = {form: [layer.kind for layer in import_model(model_of(form)).layers] for form in FORMS}
    assert kinds["normalization behind an activation"] == ["conv2d", "activation", "conv2d", "dense", "cfc"]
    assert kinds["normalization before pooling"] == ["conv2d", "activation", "pool", "conv2d", "dense", "cfc"]
    assert kinds["normalization before padding"] == ["conv2d", "conv2d", "conv2d", "dense", "cfc"]
    assert kinds["normalization first"] == ["conv2d", "dense", "cfc"]


@pytest.mark.parametrize(("layer", "words"), [
    (lambda: layers.LayerNormalization(), "use BatchNormalization instead"),
    (lambda: layers.PReLU(), "use LeakyReLU instead"),
    (lambda: layers.ReLU(threshold=0.5), "use ReLU.max_value. or LeakyReLU"),
    (lambda: layers.Activation("softsign"), "has the activation 'softsign'; known are"),
    (lambda: layers.Activation("hard_sigmoid"), "has the activation 'hard_sigmoid'; known are"),
    (lambda: layers.BatchNormalization(axis=2), "with axis 2 cannot be read; use -1"),
    (lambda: layers.AveragePooling2D(3, strides=2, padding="same"), "backends make different means; use padding valid"),
])
def test_layer_that_means_something_else_is_refused(layer: Callable[[], Any], words: str) -> None:
    model = keras.Sequential([layers.Input((None, *FRAME)), layers.TimeDistributed(layer()),
                              layers.TimeDistributed(layers.Flatten()), ncps_keras.CfC(2)])
    with pytest.raises(Unsupported, match=words):
        import_model(model)
