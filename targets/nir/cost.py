"""What a network of spikes costs: units, connections, ticks, spikes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncpc.targets.nir.graph import TICK_S
from ncpc.targets.nir.spikes import Spikes, predict

STEPS = 50


def cost(net: Spikes) -> dict[str, Any]:
    """JSON for the report. ``connections`` counts weights that are not 0, through the two factors of the recurrence;
    ``spikes_per_step`` is a mean over random inputs held for a few steps each.
    """
    face = net.interface
    counts = {name: int(n) for name, n in zip(face.labels, np.diff(face.starts), strict=True)}
    return {
        "units": net.units, "units_per_number": counts, "ring": net.units - int(face.starts[-1]),
        "channels": int(net.decode.shape[0]),
        "connections": {name: int(np.count_nonzero(getattr(net, name)))
                        for name in ("weight", "decode", "encode", "readout")},
        "ticks_per_step": face.unfolds, "tick_s": TICK_S, "spikes_per_step": round(_rate(net), 1),
    }


def _rate(net: Spikes) -> float:
    rng = np.random.default_rng(0)
    lo, hi = net.interface.x_range.T
    x = np.repeat(lo + (hi - lo) * rng.random((4, STEPS // 5, len(lo))), 5, axis=1)
    return predict(net, net.interface.quantized(x)[0]).rate
