"""What is written: the graph, what its units mean, and golden vectors; and how it is read back."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.targets.nir.graph import TICK_S, from_bytes, graph, to_bytes
from ncpc.targets.nir.spikes import SpikeInterface, Spikes, predict

GOLDEN_STEPS = 16


def stem(name: str) -> str:
    """The policy's name as a file name."""
    return re.sub(r"\W+", "_", name) or "policy"


def written(net: Spikes) -> dict[str, bytes]:
    """File name -> content."""
    name = stem(net.interface.name)
    return {
        f"{name}.nir": to_bytes(graph(net)),
        f"{name}.json": to_json(net.interface),
        f"{name}_golden.npz": golden(net),
    }


def to_json(face: SpikeInterface) -> bytes:
    """The interface for people and drivers."""
    numbers = [
        {"name": label, "kind": "input" if k < face.sensed else "neuron", "units": [int(a), int(b)],
         "fire_when_less": int(below), "cells": [float(c) for c in centres]}
        for k, (label, a, b, below, centres) in enumerate(
            zip(face.labels, face.starts, face.starts[1:], face.below, face.centres, strict=False))
    ]
    record = {
        "name": face.name, "tick_s": TICK_S, "ticks_per_step": face.unfolds,
        "protocol": "hold x for ticks_per_step ticks; the output of a step is y one tick after its last",
        "x": {"frac": face.x_frac.tolist(), "range": face.x_range.tolist(),
              "unheard": face.unheard.tolist()}, "y": {"frac": face.y_frac.tolist()},
        "ring": int(face.starts[-1]), "numbers": numbers,
    }
    return (json.dumps(record, indent=1) + "\n").encode()


def read_interface(folder: Path, name: str) -> SpikeInterface:
    """The interface of the build of policy ``name``; raises BadInput when it is missing or damaged."""
    path = folder / f"{stem(name)}.json"
    try:
        return _interface(json.loads(path.read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: cannot be read as a network's interface ({error}); compile again") from None


def _interface(record: dict[str, Any]) -> SpikeInterface:
    numbers = record["numbers"]
    return SpikeInterface(
        name=record["name"], unfolds=record["ticks_per_step"],
        x_frac=np.array(record["x"]["frac"], np.int64), y_frac=np.array(record["y"]["frac"], np.int64),
        x_range=np.array(record["x"]["range"], np.float64), unheard=np.array(record["x"]["unheard"], np.bool_),
        sensed=sum(n["kind"] == "input" for n in numbers),
        starts=np.array([*(n["units"][0] for n in numbers), record["ring"]], np.int64),
        below=np.array([n["fire_when_less"] for n in numbers], np.int64),
        centres=tuple(np.array(n["cells"], np.float64) for n in numbers), labels=tuple(n["name"] for n in numbers),
    )


def read_graph(path: Path) -> Any:
    """The graph at ``path``, its types checked by nir; raises BadInput for a file that is none."""
    try:
        return from_bytes(path.read_bytes())
    except (BadInput, OSError, KeyError, ValueError, TypeError, AttributeError, AssertionError) as error:
        said = " ".join(str(error).split()) or "nodes that nir does not know"
        raise BadInput(f"{path}: is no NIR file of this build ({said}); compile again") from None


def golden(net: Spikes) -> bytes:
    """npz: ``x`` (T, inputs) float32 tick by tick, ``y`` (T, outputs) float32, ``spikes`` (T, U) as packed bits."""
    face, rng = net.interface, np.random.default_rng(0)
    lo, hi = face.x_range.T
    raw, _, _ = face.quantized(lo + (hi - lo) * rng.random((1, GOLDEN_STEPS, len(lo))))
    spikes = predict(net, raw, keep=True).spikes
    assert spikes is not None
    step = np.minimum(np.arange(face.ticks(GOLDEN_STEPS)) // face.unfolds, GOLDEN_STEPS - 1)
    y = face.physical_y(spikes[:, 0].astype(np.int64) @ net.readout.T)
    file = io.BytesIO()
    np.savez_compressed(file, x=face.physical_x(raw[0, step]).astype(np.float32), y=y.astype(np.float32),
                        spikes=np.packbits(spikes[:, 0], axis=1), units=net.units)
    return file.getvalue()
