"""A running Keras model, read by its attributes: its masks are those it computes with."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.keras.layers import NOTHING, require_steps
from ncpc.frontend.keras.model import CFC, F64, LTC, MIXED, WIRED, KerasLayer, KerasModel, Wiring
from ncpc.frontend.keras.names import by_path
from ncpc.frontend.keras.wiring import stages_of
from ncpc.frontend.ncps_torch import known_roles

_ATTRIBUTES = {
    LTC: {"ode_unfolds": "_ode_unfolds", "epsilon": "_epsilon", "input_mapping": "_input_mapping",
          "output_mapping": "_output_mapping"},
    CFC: {"mode": "mode", "activation": "_activation"},
    WIRED: {"mode": "mode", "activation": "_activation"},
}


def is_keras(model: object) -> bool:
    """Whether ``model`` is a Keras model or layer, told without importing Keras."""
    return any(kind.__module__.partition(".")[0] == "keras" for kind in type(model).__mro__)


def read_live(model: Any) -> KerasModel:
    """A Sequential or chained functional model, or a single layer that was built."""
    whole = _layers(model)
    for layer in whole:
        told = {"go_backwards": getattr(layer, "go_backwards", False), "name": layer.name}
        require_steps(type(layer).__name__, told, "keras")
    layers = [found for layer in whole if (found := _layer(layer)) is not None]
    import keras  # it made the model

    shape = tuple(getattr(model, "input_shape", None) or ())
    known = len(shape) > 2 and None not in shape[2:]
    return KerasModel(tuple(layers), tuple(shape[2:]) if known else None,
                      {"source": "keras", "keras_version": str(keras.__version__)})


def _layers(model: Any) -> list[Any]:
    """Layers in order. A functional model must be a chain: each layer reads the one before."""
    if not hasattr(model, "layers"):
        return [model]
    before = None
    for layer in [] if type(model).__name__ == "Sequential" else model.layers:
        nodes = layer._inbound_nodes[-1:]
        sources = [parent.operation for node in nodes for parent in node.parent_nodes]
        if sources != ([] if before is None else [before]):
            raise Unsupported(f"keras: layer '{layer.name}' does not read the layer before it alone; "
                              "only a chain of layers can be read")
        before = layer
    return [part for layer in model.layers for part in _layers(layer)]


def _layer(layer: Any) -> KerasLayer | None:
    if type(layer).__name__ in NOTHING:
        return None
    if type(layer).__name__ == "TimeDistributed":
        return _layer(layer.layer)
    cell = getattr(layer, "cell", None)
    if cell is None:
        kind = type(layer).__name__
        return KerasLayer(kind, layer.name, layer.get_config(), by_path(_weights(layer), kind, False))
    memory = type(cell).__name__ == MIXED
    inner = cell.rnn_cell if memory else cell
    kind = type(inner).__name__
    weights = by_path(_weights(cell), kind, memory)
    options = _options(inner, kind)
    if memory:
        options["forget_gate_bias"] = cell.forget_gate_bias
    return KerasLayer(kind, layer.name, options, {**weights, **_masks(inner, kind)}, _wiring(inner, kind), memory)


def _weights(layer: Any) -> list[tuple[str, F64]]:
    return [(weight.path, _array(weight)) for weight in layer.weights]


def _array(tensor: Any) -> F64:
    import keras

    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def _options(cell: Any, kind: str) -> dict[str, Any]:
    """Options by attribute: the config of some cells cannot be asked for without changing them."""
    if kind not in _ATTRIBUTES:
        config: dict[str, Any] = cell.get_config()
        return config
    return {name: getattr(cell, attribute) for name, attribute in _ATTRIBUTES[kind].items()}


def _masks(cell: Any, kind: str) -> dict[str, F64]:
    if kind == LTC:
        return {name: _array(cell._params[name]) for name in ("sparsity_mask", "sensory_sparsity_mask")}
    mask = getattr(cell, "sparsity_mask", None) if kind == CFC else None
    return {} if mask is None else {"sparsity_mask": _array(mask)}


def _wiring(cell: Any, kind: str) -> Wiring | None:
    if kind not in (LTC, WIRED):
        return None
    wiring = cell.wiring
    if kind == LTC:
        outputs = min(int(wiring.output_dim), int(wiring.units))
        return Wiring(known_roles([str(wiring.get_type_of_neuron(i)) for i in range(wiring.units)], outputs), outputs)
    found = stages_of(wiring)
    parts = zip(found.stages, cell._cfc_layers, strict=True)
    stages = tuple((neurons, _array(layer.sparsity_mask)) for (neurons, _), layer in parts)
    return Wiring(found.roles, found.outputs, stages)
