"""A running Keras model, read by its attributes: its masks are those it computes with."""

from __future__ import annotations

import sys
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


_ROOTS = ("keras", "tf_keras")
"""Packages of Keras 3, and of Keras 2 up to TensorFlow 2.15 and after it."""
_ALIASES = {"CfcCell": CFC, "WiredCfcCell": WIRED}
"""How keras-ncp spells them."""


def is_keras(model: object) -> bool:
    """Whether ``model`` is a Keras model or layer, told without importing Keras."""
    return _root(model) is not None


def _root(model: object) -> str | None:
    roots = (kind.__module__.partition(".")[0] for kind in type(model).__mro__)
    return next((root for root in roots if root in _ROOTS), None)


def numbers(tensor: Any) -> F64:
    """A variable or tensor as float64. Those of TensorFlow convert themselves: Keras 2 has no ``ops``."""
    if type(tensor).__module__.partition(".")[0] == "tensorflow":
        return np.asarray(tensor.numpy(), np.float64)
    import keras  # 3: it made the tensor

    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float64)


def read_live(model: Any) -> KerasModel:
    """A Sequential or chained functional model, or a single layer that was built."""
    whole = _layers(model)
    for layer in whole:
        told = {"go_backwards": getattr(layer, "go_backwards", False), "name": layer.name}
        require_steps(type(layer).__name__, told, "keras")
    layers = [found for layer in whole if (found := _layer(layer)) is not None]
    shape = tuple(getattr(model, "input_shape", None) or ())
    known = len(shape) > 2 and None not in shape[2:]
    return KerasModel(tuple(layers), tuple(shape[2:]) if known else None,
                      {"source": "keras", "keras_version": _version(model)})


def _version(model: Any) -> str:
    return str(getattr(sys.modules.get(_root(model) or ""), "__version__", ""))


def _layers(model: Any) -> list[Any]:
    """Layers in order. A functional model must be a chain: each layer reads the one before."""
    if not hasattr(model, "layers"):
        return [model]
    before = None
    for layer in [] if type(model).__name__ == "Sequential" else model.layers:
        nodes = layer._inbound_nodes[-1:]
        sources = [_made_by(parent) for node in nodes for parent in node.parent_nodes]
        if sources != ([] if before is None else [before]):
            raise Unsupported(f"keras: layer '{layer.name}' does not read the layer before it alone; "
                              "only a chain of layers can be read")
        before = layer
    return [part for layer in model.layers for part in _layers(layer)]


def _made_by(node: Any) -> Any:
    """The layer of a node: Keras 3 says operation, Keras 2 layer."""
    return node.operation if hasattr(node, "operation") else node.layer


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
    kind = _kind(inner, layer.name)
    weights = by_path(_weights(cell), kind, memory)
    options = _options(inner, kind)
    if memory:
        options["forget_gate_bias"] = cell.forget_gate_bias
    return KerasLayer(kind, layer.name, options, {**weights, **_masks(inner, kind)}, _wiring(inner, kind), memory)


def _kind(cell: Any, name: str) -> str:
    """The class of a cell by its name in ncps.keras. Raises ``Unsupported`` for another class of such a name."""
    kind = _ALIASES.get(type(cell).__name__, type(cell).__name__)
    for attribute in _ATTRIBUTES.get(kind, {}).values():
        if not hasattr(cell, attribute):
            raise Unsupported(f"keras: layer '{name}' has a {type(cell).__name__} that is none of ncps or keras-ncp; "
                              "save its weights as .h5 and import them with --architecture")
    return kind


def _weights(layer: Any) -> list[tuple[str, F64]]:
    """Variables by their path, or by their name in Keras 2."""
    return [(str(getattr(weight, "path", weight.name)), numbers(weight)) for weight in layer.weights]


def _options(cell: Any, kind: str) -> dict[str, Any]:
    """Options by attribute: the config of some cells cannot be asked for without changing them."""
    if kind not in _ATTRIBUTES:
        config: dict[str, Any] = cell.get_config()
        return config
    return {name: getattr(cell, attribute) for name, attribute in _ATTRIBUTES[kind].items()}


def _masks(cell: Any, kind: str) -> dict[str, F64]:
    if kind == LTC:
        return {name: numbers(cell._params[name]) for name in ("sparsity_mask", "sensory_sparsity_mask")}
    mask = getattr(cell, "sparsity_mask", None) if kind == CFC else None
    return {} if mask is None else {"sparsity_mask": numbers(mask)}


def _wiring(cell: Any, kind: str) -> Wiring | None:
    if kind not in (LTC, WIRED):
        return None
    wiring = cell.wiring if hasattr(cell, "wiring") else cell._wiring
    if kind == LTC:
        outputs = min(int(wiring.output_dim), int(wiring.units))
        return Wiring(known_roles([str(wiring.get_type_of_neuron(i)) for i in range(wiring.units)], outputs), outputs)
    found = stages_of(wiring)
    parts = zip(found.stages, cell._cfc_layers, strict=True)
    stages = tuple((neurons, numbers(layer.sparsity_mask)) for (neurons, _), layer in parts)
    return Wiring(found.roles, found.outputs, stages)
