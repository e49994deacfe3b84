"""The networks that the benchmarks compile: drawn at random or trained for a minute or two, always seeded.

    python -m benchmarks.make_policies --list
    python -m benchmarks.make_policies -o /tmp/policies                     # those drawn at random
    python -m benchmarks.make_policies --train -o benchmarks/policies       # the trained ones, kept in the tree
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP, Wiring
from numpy.typing import NDArray
from torch import nn

import ncpc

F64 = NDArray[np.float64]

FOLDER = Path(__file__).parent / "policies"
GROWTH = (8, 16, 32, 64, 128, 256)
GROWTH_FAN_IN = 6  # recurrent synapses into every neuron of a growth network
GROWTH_SENSORY = 2  # sensory synapses into every neuron of a growth network


@dataclass(frozen=True, eq=False)
class Case:
    """A network and what it was declared for.

    ``x`` (B, T, inputs) calibration inputs, within ``input_range`` (inputs, 2); ``dt`` is (lowest, highest, nominal)
    in the unit of training; ``dt_steps`` (B, T) gives each calibration step its own dt, or None for the nominal one.
    """

    model: LTC
    x: F64
    input_range: F64
    dt: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dt_steps: F64 | None = None


def signals(rng: np.random.Generator, shape: tuple[int, int, int]) -> F64:
    """Smooth inputs (B, T, channels) in [-1, 1]: three sines per channel, periods of 8 to 80 steps."""
    batch, steps, channels = shape
    period = rng.uniform(8.0, 80.0, (batch, 1, channels, 3))
    phase = rng.uniform(0.0, 2 * np.pi, (batch, 1, channels, 3))
    waves: F64 = np.sin(2 * np.pi * np.arange(steps)[None, :, None, None] / period + phase).mean(axis=3)
    return waves


def centre_inputs(model: LTC) -> LTC:
    """Let inputs in [-1, 1] fall on the slopes of the sigmoids as ncps draws them."""
    with torch.no_grad():
        model.rnn_cell.input_w.fill_(0.5)
        model.rnn_cell.input_b.fill_(0.5)
    return model


def unit_range(inputs: int) -> F64:
    return np.tile([-1.0, 1.0], (inputs, 1))


def calibrated(model: LTC, seed: int, dt: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Case:
    """The network with four calibration sequences of 64 steps, their dt log-uniform over the range."""
    rng = np.random.default_rng(seed)
    x = signals(rng, (4, 64, model.input_size))
    steps = None if dt[0] == dt[1] else np.exp(rng.uniform(np.log(dt[0]), np.log(dt[1]), x.shape[:2]))
    return Case(model, x, unit_range(model.input_size), dt, steps)


def fan_in_wiring(units: int, inputs: int, outputs: int, recurrent: list[int], sensory: list[int], seed: int) -> Wiring:
    """A wiring in which neuron i has exactly ``recurrent[i]`` and ``sensory[i]`` synapses, drawn at random."""
    rng = np.random.default_rng(seed)
    wiring = Wiring(units)
    wiring.set_output_dim(outputs)
    wiring.build(inputs)
    for post in range(units):
        for pre in rng.choice(units, recurrent[post], replace=False):
            wiring.add_synapse(int(pre), post, int(rng.choice([-1, 1])))
        for pre in rng.choice(inputs, sensory[post], replace=False):
            wiring.add_sensory_synapse(int(pre), post, int(rng.choice([-1, 1])))
    return wiring


def spread(total: int, over: int) -> list[int]:
    """``total`` split into ``over`` parts that differ by at most one."""
    return [total // over + (i < total % over) for i in range(over)]


def autoncp_random(seed: int = 0, dt: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Case:
    """AutoNCP(19, 4) with 32 inputs, as ncps draws it."""
    torch.manual_seed(seed)
    return calibrated(centre_inputs(LTC(32, AutoNCP(19, 4, seed=seed))), seed, dt)


def reference_network(seed: int = 0) -> Case:
    """19 neurons, 5 inputs, 4 outputs, exactly 120 recurrent and 67 sensory synapses: 787 evaluations per step."""
    torch.manual_seed(seed)
    wiring = fan_in_wiring(19, 5, 4, spread(120, 19), spread(67, 19), seed)
    return calibrated(centre_inputs(LTC(5, wiring)), seed)


def growth_network(units: int, seed: int = 0) -> Case:
    """``units`` neurons with the same number of synapses each: 8 inputs, 2 outputs."""
    torch.manual_seed(seed)
    wiring = fan_in_wiring(units, 8, 2, [GROWTH_FAN_IN] * units, [GROWTH_SENSORY] * units, seed)
    return calibrated(centre_inputs(LTC(8, wiring)), seed)


def arrays(rng: np.random.Generator, shape: tuple[int, int, int], sources: int) -> tuple[F64, F64]:
    """Readings (B, T, channels) in [-1, 1] of sensors that hear one of ``sources`` each, and the sources themselves."""
    batch, steps, channels = shape
    clean = signals(rng, (batch, steps, sources))
    noise = rng.uniform(-0.2, 0.2, shape)
    return 0.8 * clean[:, :, np.arange(channels) % sources] + noise, clean


def lags(drive: F64, dt: F64, tau: F64) -> F64:
    """First-order low-pass filters: ``tau * dy/dt = drive - y`` from rest, exact for a drive held over each dt.

    ``drive`` (B, T, outputs), ``dt`` (B, T), ``tau`` (outputs,); returns (B, T, outputs).
    """
    keep = np.exp(-dt[:, :, None] / tau)
    y = np.zeros_like(drive)
    level = np.zeros_like(drive[:, 0])
    for step in range(drive.shape[1]):
        level = keep[:, step] * level + (1 - keep[:, step]) * drive[:, step]
        y[:, step] = level
    return y


def fit_lags(model: LTC, dt: tuple[float, float, float], seed: int, updates: int = 400) -> float:
    """Teach ``model`` to low-pass filter the sources behind its inputs; returns the last root-mean-square error."""
    rng = np.random.default_rng(seed)
    tau = np.linspace(1.0, 4.0, model.output_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    error = float("nan")
    for update in range(1, updates + 1):
        x, sources = arrays(rng, (16, 32, model.input_size), model.output_size)
        steps = np.exp(rng.uniform(np.log(dt[0]), np.log(dt[1]), x.shape[:2]))
        target = torch.tensor(lags(sources, steps, tau), dtype=torch.float32)
        # ncps broadcasts timespans against the state, so they are given once per neuron.
        spans = torch.tensor(np.repeat(steps[:, :, None], model.state_size, axis=2), dtype=torch.float32)
        y, _ = model(torch.tensor(x, dtype=torch.float32), timespans=spans)
        loss = nn.functional.mse_loss(y, target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        error = loss.item() ** 0.5
        if update % 100 == 0:
            print(f"  update {update}: rms error {error:.4f}, targets {target.std().item():.4f}", flush=True)
    return error


def autoncp_trained(seed: int = 0, dt: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Case:
    """AutoNCP(19, 4) with 32 inputs, trained to low-pass filter the four sources behind them over the dt range."""
    case = autoncp_random(seed, dt)
    fit_lags(case.model, dt, seed)
    x, _ = arrays(np.random.default_rng(seed + 1), (4, 64, case.model.input_size), case.model.output_size)
    return replace(case, x=x)


IRREGULAR = (0.1, 10.0, 1.0)

RANDOM: dict[str, Callable[[], Case]] = {
    "autoncp19-random": autoncp_random,
    **{f"autoncp19-random-dt{dt:g}": partial(autoncp_random, dt=(dt, dt, dt)) for dt in (0.01, 0.1, 10.0)},
    "autoncp19-random-irregular": partial(autoncp_random, dt=IRREGULAR),
    "reference19": reference_network,
    **{f"growth-{units}": partial(growth_network, units) for units in GROWTH},
}

TRAINED: dict[str, Callable[[], Case]] = {
    "autoncp19-trained": autoncp_trained,
    "autoncp19-trained-irregular": partial(autoncp_trained, dt=IRREGULAR),
}


def keep(name: str, case: Case, folder: Path) -> Path:
    """Write the case's container into ``folder`` as ``name``.safetensors."""
    calibration = {"x": case.x} if case.dt_steps is None else {"x": case.x, "dt": case.dt_steps}
    path = folder / f"{name}.safetensors"
    lo, hi, _ = case.dt
    identifier = name.replace("-", "_").replace(".", "p")
    ncpc.save(case.model, path, calibration=calibration, input_range=case.input_range, dt=(lo, hi), name=identifier)
    return path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="only these")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--train", action="store_true", help="the trained networks instead of the random ones")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cases = TRAINED if options.train else RANDOM
    if options.list:
        print("\n".join(f"{name:28s} {kind}" for kind, group in (("random", RANDOM), ("trained", TRAINED))
                        for name in group))
        return 0
    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.names or cases:
        if name not in cases:
            parser.error(f"no such network: {name} (--list shows them)")
        path = keep(name, cases[name](), options.output)
        print(f"{path} ({path.stat().st_size} bytes)", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
