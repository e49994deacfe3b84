"""Calibration: the choices that data and weights decide, as plain JSON that can be stored with the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ncpc.errors import BadInput
from ncpc.ir.policy import F64, Policy
from ncpc.ir.schemes import NumberScheme
from ncpc.quant.observe import output_range
from ncpc.quant.policy import Scales


@dataclass(frozen=True)
class Formats:
    """One scheme's choices: the state's dead band (physical units), fractions per layer position and vector name.

    ``activations`` are the fractions that the calibration data alone would have given ``x``, ``y`` (per channel) and
    the states (by name): not what is compiled, which holds on proved ranges, but what a report shows beside it.
    """

    dead_band: float
    scales: Mapping[str, Mapping[str, int]]
    activations: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What a container stores under the scheme's name."""
        return {
            "activations": {k: list(v) for k, v in self.activations.items()}, "dead_band": self.dead_band,
            "scales": {k: dict(v) for k, v in self.scales.items()},
        }


def formats_from_json(stored: Mapping[str, Any]) -> Formats:
    """Formats as a container holds them; raises ``BadInput`` when they are not of that form."""
    try:
        scales = {str(k): {str(n): int(f) for n, f in v.items()} for k, v in stored["scales"].items()}
        activations = {str(k): [int(f) for f in v] for k, v in stored["activations"].items()}
        return Formats(float(stored["dead_band"]), scales, activations)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"stored formats: not readable ({error!r}); save the policy again") from None


def dead_band(policy: Policy, scheme: NumberScheme, tolerance: float | None = None) -> float:
    """The stall that ``tolerance`` (a fraction of the output range; the scheme's own) allows, in physical units."""
    return scheme.stall_share * (scheme.tolerance if tolerance is None else tolerance) * output_range(policy)


def stored(formats: Formats) -> Scales:
    """The scales as ``quantize`` asks for them; raises ``BadInput`` when one is missing."""

    def scales(position: str, vectors: Mapping[str, F64], bits: int) -> Mapping[str, int]:
        found = formats.scales.get(position, {})
        absent = [name for name in vectors if name not in found]
        if absent:
            names = ", ".join(absent)
            raise BadInput(f"stored formats: layer {position} has no scale for {names}; save the policy again")
        return found

    return scales


def recorded(scales: Scales, into: dict[str, dict[str, int]]) -> Scales:
    """``scales``, writing down every choice."""

    def record(position: str, vectors: Mapping[str, F64], bits: int) -> Mapping[str, int]:
        chosen = dict(scales(position, vectors, bits))
        into.setdefault(position, {}).update(chosen)
        return chosen

    return record
