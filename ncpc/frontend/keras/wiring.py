"""Roles, and the masks of a wired CfC, from what a config tells of an ncps wiring."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from ncpc.errors import BadInput, MissingTool, Unsupported
from ncpc.frontend.keras.model import Wiring
from ncpc.frontend.ncps_torch import known_roles

Config = Mapping[str, Any]
MOST_NEURONS = 1 << 13
"""Of a wiring that a file names; matrices of so many are drawn in memory."""


def wiring_of(config: Config) -> Config | None:
    """The wiring's own config in that of a cell or layer: serialized as an object, as a record, or spread out."""
    found = config.get("wiring", config)
    if isinstance(found, Mapping) and "class_name" in found:
        found = found.get("config")
    known = ("output_dim", "output_size", "motor_neurons")
    for key in ("units", "output_size", "output_dim") if isinstance(found, Mapping) else ():
        if isinstance(found.get(key), int | float) and not 0 <= found[key] <= MOST_NEURONS:
            raise BadInput(f"keras: a wiring's '{key}' is {found[key]:.4g}; the most that is read is {MOST_NEURONS}")
    return found if isinstance(found, Mapping) and any(key in found for key in known) else None


def roles_of(config: Config) -> Wiring:
    """Roles and outputs. An NCP's config lists its neurons, motor first; of AutoNCP's they follow from its sizes."""
    if "motor_neurons" in config:
        motor, command, inter = (len(config[f"{role}_neurons"]) for role in ("motor", "command", "inter"))
    elif "output_size" in config:
        motor = int(config["output_size"])
        command = max(int(0.4 * (config["units"] - motor)), 1)
        inter = config["units"] - motor - command
    else:
        units = int(config["units"])
        motor, command = units if config["output_dim"] is None else int(config["output_dim"]), 0
        inter = units - motor
    return Wiring(known_roles(["motor"] * motor + ["command"] * command + ["inter"] * inter, motor), motor)


def staged(config: Config | None, inputs: int, where: str) -> Wiring:
    """The masks of a wired CfC, which its file lacks: drawn again from the wiring's seed, as Keras itself does."""
    wiring = _rebuilt(config, where)
    wiring.build(inputs)
    return stages_of(wiring)


def stages_of(wiring: Any) -> Wiring:
    """Neurons and masks of each layer of a built ncps wiring; within a layer every neuron reads every other."""
    stages, before = [], None
    for i in range(wiring.num_layers):
        neurons = tuple(int(n) for n in wiring.get_neurons_of_layer(i))
        source = wiring.sensory_adjacency_matrix if before is None else wiring.adjacency_matrix[list(before)]
        mask = np.concatenate([source[:, list(neurons)], np.ones((len(neurons), len(neurons)))]).astype(np.float64)
        stages.append((neurons, mask))
        before = neurons
    found = [str(wiring.get_type_of_neuron(n)) for n in range(wiring.units)]
    return Wiring(known_roles(found, 0), int(wiring.output_dim), tuple(stages))


def _rebuilt(config: Config | None, where: str) -> Any:
    kinds = {"erev_init_seed": "FullyConnected", "random_seed": "Random", "output_size": "AutoNCP"}
    kind = next((kind for key, kind in kinds.items() if config is not None and key in config), None)
    if kind is None or config is None:
        raise Unsupported(f"{where}: a wired CfC's file holds neither its masks nor, for this wiring, the seed they "
                          "are drawn from; save the running model with ncpc.save(model, ...)")
    return getattr(_ncps_wirings(where), kind)(**config)


def _ncps_wirings(where: str) -> Any:
    try:
        return importlib.import_module("ncps.wirings")
    except ImportError:
        raise MissingTool(f"{where}: its wiring is named by a seed, and drawing it needs ncps; "
                          "pip install 'ncpc[torch]'") from None


KNOWN = ("NCP", "AutoNCP", "FullyConnected", "Random")
"""Classes of ncps.wirings that an architecture may name; keras-ncp's draw the same from the same seed."""


def made_wiring(config: Config, inputs: int, where: str) -> Any:
    """The ncps wiring of ``kind`` and arguments, built for ``inputs``. Raises ``BadInput`` for what makes none."""
    kind, options = config.get("kind"), {key: value for key, value in config.items() if key != "kind"}
    if kind not in KNOWN:
        raise BadInput(f"{where}: its wiring is of kind {kind!r}; known are {', '.join(KNOWN)}")
    for key, value in options.items():
        if not isinstance(value, int | float) or (key != "seed" and not key.endswith("_seed")
                                                  and not 0 <= value <= MOST_NEURONS):
            raise BadInput(f"{where}: {key} of its wiring is {value!r}; give a number of 0 to {MOST_NEURONS}")
    try:
        wiring = getattr(_ncps_wirings(where), kind)(**options)
        wiring.build(inputs)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: no wiring of kind {kind} ({' '.join(str(error).split())[:160]}); correct its "
                       "arguments") from None
    return wiring
