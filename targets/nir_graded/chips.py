"""What chips can hold, as data: ``chips/*.toml``, every figure with its source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import ProofFailed, Unsupported
from ncpc.targets.nir_graded.record import MESSAGE_BITS, GradedLtc

FOLDER = Path(__file__).parent / "chips"


@dataclass(frozen=True)
class Limit:
    """One constraint of a chip: a number, its unit, where it is documented."""

    value: int
    unit: str
    source: str


@dataclass(frozen=True)
class Chip:
    """A chip's arithmetic and sizes by the names its file gives them. ``arithmetic`` names the quantizer."""

    name: str
    title: str
    arithmetic: str
    note: str
    limits: Mapping[str, Limit]

    def __getitem__(self, name: str) -> int:
        return self.limits[name].value


@cache
def chip(name: str) -> Chip:
    """The profile called ``name``; raises Unsupported for one there is no file for."""
    if name not in names():
        raise Unsupported(f"--chip {name}: unknown; choose from {', '.join(('none', *names()))}")
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    limits = {key: Limit(**entry) for key, entry in data["limits"].items()}
    return Chip(name, data["title"], data["arithmetic"], data["note"], limits)


def names() -> tuple[str, ...]:
    """All profiles."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def demands(record: GradedLtc) -> dict[str, int]:
    """What a record asks of one core: every synapse is a unit of its own (it holds a slope and a centre), and each
    neuron two accumulators, G and N, and its update.
    """
    sets = (record.sensory, record.recurrent)
    synapses, posts = sum(map(len, sets)), np.concatenate([wires.post for wires in sets])
    return {
        "weight_bits": 1 + max(_bits(weights) for wires in sets for weights in (wires.w, wires.we)),
        "weight_exponents": max(_exponents(posts, np.concatenate(shifts)) for shifts in (
            [wires.den_shift for wires in sets], [wires.num_shift for wires in sets])),
        "state_bits": max(record.state_bits, record.sum_bits), "decay_bits": record.inverse_bits,
        "message_bits": MESSAGE_BITS,
        "neurons_per_core": synapses + record.neurons,
        "fan_in": int(np.bincount(posts, minlength=1).max(initial=0)) * 2,
        "table_bytes": 2 * len(record.table),
        "synapse_bytes": 2 * synapses,
        "parameter_bytes": 4 * 2 * synapses + 4 * 4 * record.neurons,
    }


def _bits(weights: NDArray[np.int64]) -> int:
    return int(np.abs(weights).max(initial=0)).bit_length()


def _exponents(posts: NDArray[np.int64], shifts: NDArray[np.int64]) -> int:
    """How many different shifts the synapses of one neuron have, at most."""
    return max((len(np.unique(shifts[posts == i])) for i in np.unique(posts)), default=0)


def require_fit(record: GradedLtc, profile: Chip) -> dict[str, int]:
    """The demands, after comparing each with the chip's limit; raises ProofFailed with both numbers."""
    asked = demands(record)
    total = asked["table_bytes"] + asked["synapse_bytes"] + asked["parameter_bytes"]
    for name, need in {**asked, "core_bytes": total}.items():
        limit = profile.limits.get(name)
        if limit is not None and need > limit.value:
            what = f"{need:,} {limit.unit} ({name.replace('_', ' ')})"
            raise ProofFailed(f"--chip {profile.name}: needs {what}, the chip has {limit.value:,} ({limit.source}); "
                              "use a smaller layer or another chip")
    return {**asked, "core_bytes": total}
