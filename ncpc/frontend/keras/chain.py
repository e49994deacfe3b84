"""The layers of a Keras model's config in the order in which they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.keras.model import CFC, LTC, MIXED, WIRED

Spec = Mapping[str, Any]
"""A layer as a config holds it: ``class_name`` and ``config``."""


def layers_of(model: Spec, where: str) -> list[Spec]:
    """The layers of a Sequential model, or of a functional one that is a chain. Raises ``Unsupported`` if it is not."""
    kind, config = class_of(model), model.get("config")
    if isinstance(config, list):  # Keras before 2.2.3
        return config
    if kind not in ("Sequential", "Functional", "Model") or not isinstance(config, Mapping):
        raise Unsupported(f"{where}: a Keras model of class '{kind}' does not say what it computes; "
                          "build it as a Sequential or functional model, or save the running model with ncpc.save")
    layers: list[Spec] = list(config.get("layers", ()))
    if kind != "Sequential":
        _require_chain(layers, where)
    return [part for layer in layers for part in _opened(layer, where)]


def _opened(layer: Spec, where: str) -> list[Spec]:
    return layers_of(layer, where) if class_of(layer) in ("Sequential", "Functional", "Model") else [layer]


def class_of(spec: Spec) -> str:
    """The class name without the package it was registered in."""
    name = spec.get("class_name")
    if not isinstance(name, str):
        raise BadInput("keras: a layer without class_name; the file is damaged or of another kind")
    return name.rpartition(">")[2]


def cell_of(spec: Spec) -> tuple[str, bool, Mapping[str, Any]]:
    """Class and options of a layer's cell, or of the layer itself; whether it has a mixed memory around it."""
    kind, config = class_of(spec), spec.get("config", {})
    if kind == "TimeDistributed":
        return cell_of(config["layer"])
    if kind in ("LSTM", "GRU", "SimpleRNN"):
        return f"{kind}Cell", False, config
    cell = config.get("cell")
    if not isinstance(cell, Mapping):
        return kind, False, config
    inner, options = class_of(cell), cell.get("config", {})
    if inner != MIXED:
        return inner, False, options
    options = options["rnn_cell"]
    options = options.get("config", options) if "class_name" in options else options
    found = LTC if "ode_unfolds" in options else WIRED if "fully_recurrent" in options else CFC
    return found, True, options


def _require_chain(layers: list[Spec], where: str) -> None:
    before: str | None = None
    for layer in layers:
        sources = list(_sources(layer.get("inbound_nodes", [])))
        name = str(layer.get("name") or layer["config"].get("name"))
        if sources != ([] if before is None else [before]):
            raise Unsupported(f"{where}: layer '{name}' reads {', '.join(sources) or 'nothing'}, not the layer before "
                              "it; only a chain of layers can be read")
        before = name


def _sources(nodes: Any) -> Iterator[str]:
    """Names of the layers that inbound nodes name, in Keras 3's form and in that of Keras 2."""
    if isinstance(nodes, Mapping):
        if "keras_history" in nodes:
            yield str(nodes["keras_history"][0])
            return
        for value in nodes.values():
            yield from _sources(value)
    elif isinstance(nodes, list):
        if len(nodes) >= 3 and isinstance(nodes[0], str) and isinstance(nodes[1], int):
            yield nodes[0]
            return
        for value in nodes:
            yield from _sources(value)
