"""How exact networks of spikes are for their size, and what their levels' placing gains.

    python -m benchmarks.nir_units            # a table, and benchmarks/nir_units.json

Inputs are held out: the task's signals under another seed. Errors are those of the integer model, which the tests hold
equal, spike by spike, to the written file in Norse, snnTorch and SpikingJelly.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.spike_policies import FOLDER, signals
from ncpc.frontend.container import read_policy
from ncpc.targets.nir.cost import cost
from ncpc.targets.nir.lower import lower
from ncpc.targets.nir.spikes import Spikes, predict
from ncpc.targets.nir.study import Study, study
from ncpc.targets.nir.trajectory import Trajectory, outputs, trajectory

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

UNITS = (500, 1000, 1500, 2000, 3000, 4000, 6000)
POLICIES = ("spikes-autoncp12-a", "spikes-autoncp12-b", "spikes-full8", "spikes-autoncp19")
ROWS, STEPS, SEED = 8, 250, 1999
RESULT = Path(__file__).with_suffix(".json")


def errors(known: Study, net: Spikes, x: F64, run: Trajectory) -> dict[str, float]:
    """Percentages: RMS error of the output's standard deviation, largest error of its range."""
    face, y = net.interface, outputs(known.cell, run)
    found = face.physical_y(predict(net, face.quantized(x)[0]).y)
    return {"rmse_std": _percent(np.sqrt(np.mean((found - y) ** 2)) / y.std()),
            "max_range": _percent(np.abs(found - y).max() / np.ptp(y)),
            "one_step_max_range": _percent(np.abs(one_step(net, x, run) - y).max() / np.ptp(y))}


def _percent(share: float) -> float:
    return round(100.0 * float(share), 3)


def one_step(net: Spikes, x: F64, run: Trajectory) -> F64:
    """Outputs (rows, steps, outputs) of single steps, each from the reference's own state, coded."""
    face = net.interface
    raw = face.quantized(x)[0].reshape(-1, x.shape[2]).astype(np.float64)
    before = np.swapaxes(run.v[: -1 : face.unfolds], 0, 1).reshape(len(raw), -1)
    drive = raw @ net.weight.T.astype(np.float64) + net.bias
    s = coded(net, before) + (drive >= 0.0) * (np.arange(net.units) < face.starts[face.sensed])
    for _ in range(face.unfolds):
        s = (drive + (s @ net.decode.T.astype(np.float64)) @ net.encode.T >= 0.0).astype(np.float64)
    return face.physical_y((s @ net.readout.T).astype(np.int64)).reshape(*x.shape[:2], -1)


def coded(net: Spikes, v: F64) -> F64:
    """Spikes (n, U) that say the states ``v`` (n, neurons), in the ring's first phase; inputs silent."""
    face, s = net.interface, np.zeros((len(v), net.units))
    for k in range(face.sensed, len(face.below)):
        middles = (face.centres[k][1:] + face.centres[k][:-1]) / 2.0
        above = v[:, k - face.sensed, None] >= middles
        below = np.arange(len(middles)) < face.below[k]
        s[:, face.starts[k] : face.starts[k + 1]] = np.where(below, ~above, above)
    s[:, face.starts[-1]] = 1.0
    return s


def measure(name: str) -> dict[str, Any]:
    """Everything about one policy."""
    policy = read_policy(FOLDER / f"{name}.safetensors")
    known = study(policy)
    x = np.clip(signals(np.random.default_rng(SEED), ROWS, STEPS, policy.inputs), *policy.input_range.T)
    run, curve = trajectory(known.cell, x), []
    for units in UNITS:
        row: dict[str, Any] = {"units": units}
        for kind in ("placed", "uniform"):
            net = lower(known, units, kind == "uniform")
            row[kind] = {**errors(known, net, x, run), "spikes_per_step": cost(net)["spikes_per_step"]}
        curve.append(row)
        print(f"{name:20} {units:5}  placed {row['placed']}  uniform {row['uniform']}", flush=True)
    return {"neurons": known.cell.ltc.neurons, "ticks_per_step": known.cell.ltc.unfolds, "curve": curve,
            "cost_at_4000": cost(lower(known, 4000))}


if __name__ == "__main__":
    RESULT.write_text(json.dumps({name: measure(name) for name in POLICIES}, indent=1) + "\n")
