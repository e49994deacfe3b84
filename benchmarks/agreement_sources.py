"""Random configurations of every recurrent cell of every library that ncpc reads: the source modules of agreement.py.

A family and a seed give one configuration. Families of torch modules are those of ``tests/cell_models.py`` and the LTC,
families of Keras models those of ``tests/keras_models.py``, ``legacy`` is an LTC whose weights lie in an HDF5 file as
keras-ncp wrote them. Parameters are moved away from their initial values, those that a mask hides too.
"""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import h5py
import numpy as np
import torch

from ncpc.cells import Sequential, is_recurrent
from ncpc.frontend.keras.read import import_file
from ncpc.frontend.keras.read import import_model as import_keras
from ncpc.frontend.keras.weights import import_weights
from ncpc.frontend.ncps_torch import flatten, import_model
from ncpc.ir.cells import RECURRENT, CtRnn, NeuralOde
from ncpc.ir.gated import Cfc, MixedMemory, WiredCfc
from ncpc.ir.policy import F64, Layer, Ltc
from ncpc.ir.sequences import Sequences
from tests import cell_models, keras_models

LIBRARIES = {"torch": "torch.nn", "ncps": "ncps.torch", "ncpc": "ncpc.cells"}
KERAS_LIBRARIES = {"keras": "keras", "ncps": "ncps.keras"}

Outputs = Callable[[Sequences, bool], F64]
"""Runs a source module: (sequences, in double precision?) -> (B, T, outputs)."""


@dataclass(frozen=True)
class Source:
    """One configuration of a cell.

    ``cell`` names library, class and variant. ``single`` and ``double`` are the layers read from the module in its own
    and in double precision; they differ where reading computes (softplus over an LTC's parameters). ``files`` writes
    the model in its file formats and counts those that are read back to the same numbers.
    """

    cell: str
    single: tuple[Layer, ...]
    double: tuple[Layer, ...]
    inputs: int
    timespans: bool
    outputs: Outputs
    files: Callable[[], int] = lambda: 0


def ltc(rng: np.random.Generator) -> cell_models.Model:
    """An LTC of ncps.torch or its bare cell."""
    inputs, wiring = int(rng.integers(1, 6)), cell_models.any_wiring(rng)
    options: dict[str, Any] = {
        "input_mapping": rng.choice([None, "linear", "affine"]), "ode_unfolds": int(rng.integers(1, 8)),
        "output_mapping": rng.choice([None, "linear", "affine"]), "epsilon": float(rng.choice([0.0, 1e-8, 1e-3])),
        "implicit_param_constraints": bool(rng.integers(2)),
    }
    kinds = cell_models.ncps_cells
    cell = kinds.LTC(inputs, wiring, **options) if rng.integers(2) else kinds.LTCCell(wiring, inputs, **options)
    return [cell], inputs


TORCH = {"ltc": ltc, **cell_models.FAMILIES}
KERAS = {f"keras_{name}": name for name in keras_models.FAMILIES}
FAMILIES = (*TORCH, *KERAS, "keras_legacy")


def source(family: str, seed: int) -> Source:
    """The configuration that a seed gives."""
    if family in TORCH:
        return _torch_source(family, seed)
    return _legacy_source(seed) if family == "keras_legacy" else _keras_source(KERAS[family], seed)


def _torch_source(family: str, seed: int) -> Source:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    modules, inputs = TORCH[family](rng)
    for module in modules:
        cell_models.perturb(module, rng)
    exact = copy.deepcopy(modules)
    for module in exact:
        module.double()
    single, double = (import_model(made).layers for made in (modules, exact))
    cell = next(module for module in flatten(modules) if is_recurrent(module))
    name = f"{LIBRARIES[type(cell).__module__.partition('.')[0]]} {type(cell).__name__}{variant(single)}"

    def outputs(data: Sequences, in_double: bool) -> F64:
        dtype = torch.float64 if in_double else torch.float32
        made = Sequential(exact if in_double else modules).eval()
        with torch.no_grad():
            y, _ = made(torch.tensor(data.x, dtype=dtype), None, torch.tensor(data.dt, dtype=dtype))
        found: F64 = y.double().numpy()
        return found

    return Source(name, single, double, inputs, True, outputs)


def _keras_source(family: str, seed: int) -> Source:
    model, inputs = keras_models.random_model(family, seed)
    layers = import_keras(model).layers
    cell = next(layer for layer in model.layers if hasattr(layer, "cell"))
    name = f"{KERAS_LIBRARIES[type(cell.cell).__module__.partition('.')[0]]} {type(cell).__name__}{variant(layers)}"
    return Source(name, layers, layers, inputs, False, _keras_outputs(model),
                  lambda: _files(model, layers))


def _keras_outputs(model: Any) -> Outputs:
    def outputs(data: Sequences, in_double: bool) -> F64:
        found: F64 = keras_models.outputs(model, data.x, double=in_double).astype(np.float64)
        return found

    return outputs


def _files(model: Any, layers: tuple[Layer, ...]) -> int:
    """How many file formats are read back to the same numbers as the running model."""
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in ("model.keras", "model.h5"):
            model.save(Path(folder) / name)
            found += same(import_file(Path(folder) / name).layers, layers)
    return found


def same(a: object, b: object) -> bool:
    """Whether two layers, or whatever they consist of, hold the same numbers."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and np.array_equal(a, b)
    if isinstance(a, tuple | list):
        return isinstance(b, tuple | list) and len(a) == len(b) and all(map(same, a, b))
    fields = getattr(a, "__dataclass_fields__", None)
    return a == b if fields is None else type(a) is type(b) and all(same(getattr(a, f), getattr(b, f)) for f in fields)


def _legacy_source(seed: int) -> Source:
    rng = np.random.default_rng(seed)
    keras_models.keras.utils.set_random_seed(seed)
    inputs, unfolds, wiring = int(rng.integers(1, 6)), int(rng.integers(1, 7)), keras_models.any_wiring(rng)
    model = keras_models.model_of([keras_models.ncps_keras.LTC(wiring, return_sequences=True, ode_unfolds=unfolds)],
                                  inputs, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "old.h5"
        legacy_weights(path, model)
        layers = import_weights(path, unfolds=unfolds, wiring=wiring).layers
    return Source("keras-ncp LTC, weights in HDF5", layers, layers, inputs, False, _keras_outputs(model))


def legacy_weights(path: Path, model: Any, prefix: str = "rnn/ltc_cell/") -> None:
    """A model's weights as keras-ncp wrote them under TensorFlow: names with a prefix and ':0'."""
    with h5py.File(path, "w") as file:
        for weight in model.weights:
            name = weight.path.rpartition("/")[2]
            file[f"layer/{prefix}{name}:0"] = keras_models.keras.ops.convert_to_numpy(weight)


def variant(layers: tuple[Layer, ...]) -> str:
    """What the class of the recurrent layer does not say, after a comma: mode, wiring, solver, memory."""
    return "".join(f", {word}" for word in _words(next(layer for layer in layers if layer.kind in RECURRENT)))


def _words(layer: Layer) -> list[str]:
    if isinstance(layer, MixedMemory):
        return [*_words(layer.cell), "mixed memory"]
    if isinstance(layer, WiredCfc):
        return ["wired", layer.stages[0].mode]
    if isinstance(layer, Cfc):
        return [layer.mode]
    if isinstance(layer, Ltc):
        return [] if layer.solver == "fused" else [layer.solver]
    return [layer.solver] if isinstance(layer, CtRnn | NeuralOde) else []
