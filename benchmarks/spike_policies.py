"""Train the networks of the spike benchmarks: leaky integrals of products of smooth signals.

    python -m benchmarks.spike_policies

writes benchmarks/policies/spikes-*.safetensors. Ten minutes on one core; the files are committed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

FOLDER = Path(__file__).parent / "policies"
LEARNING_RATE, BATCH, LENGTH, WARM_UP = 0.01, 16, 40, 8
RANGE = 2.0
"""Declared range of every input, to both sides."""


def signals(rng: np.random.Generator, rows: int, steps: int, inputs: int) -> F64:
    """(rows, steps, inputs): sums of four sinusoids of random frequency, phase and height."""
    t, x = np.arange(steps), np.zeros((rows, steps, inputs))
    for _ in range(4):
        turns, phase, height = (rng.uniform(*limits, (rows, 1, inputs))
                                for limits in ((0.005, 0.08), (0.0, 2 * np.pi), (0.1, 0.5)))
        x += height * np.sin(2 * np.pi * turns * t[None, :, None] + phase)
    return x


def wanted(x: F64, outputs: int) -> F64:
    """The task: output j leaks towards tanh(2 x_j x_j+1 + x_j+2)."""
    inputs, total, y = x.shape[2], np.zeros((x.shape[0], outputs)), []
    for u in np.swapaxes(x, 0, 1):
        goal = [np.tanh(2 * u[:, j % inputs] * u[:, (j + 1) % inputs] + u[:, (j + 2) % inputs]) for j in range(outputs)]
        total = total + 0.2 * (np.stack(goal, 1) - total)
        y.append(total)
    return np.stack(y, 1)


def networks() -> dict[str, tuple[Callable[[], Any], int, int, int]]:
    """Name -> wiring, inputs, seed, training steps."""
    from ncps.wirings import AutoNCP, FullyConnected

    return {
        "spikes-autoncp12-a": (lambda: AutoNCP(12, 1, seed=1), 3, 0, 500),
        "spikes-autoncp12-b": (lambda: AutoNCP(12, 1, seed=2), 3, 1, 500),
        "spikes-full8": (lambda: FullyConnected(8, 1), 3, 0, 400),
        "spikes-autoncp19": (lambda: AutoNCP(19, 4, seed=1), 5, 0, 300),
    }


def train(path: Path, make: Callable[[], Any], inputs: int, seed: int, steps: int) -> None:
    """Train one network and save it with its calibration."""
    import torch
    from ncps.torch import LTC

    import ncpc

    torch.manual_seed(seed)
    np.random.seed(seed)
    rng, wiring = np.random.default_rng(seed), make()
    model = LTC(inputs, wiring, batch_first=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    for _ in range(steps):
        x = signals(rng, BATCH, LENGTH, inputs)
        y, _ = model(torch.tensor(x, dtype=torch.float32))
        goal = torch.tensor(wanted(x, wiring.output_dim), dtype=torch.float32)
        loss = ((y - goal)[:, WARM_UP:] ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    calibration = signals(np.random.default_rng(999), 6, 150, inputs)
    ncpc.save(model, path, calibration=calibration, input_range=(-RANGE, RANGE), dt=1.0)
    print(f"{path.stem}: loss {loss.item():.4f}")


if __name__ == "__main__":
    for each, how in networks().items():
        train(FOLDER / f"{each}.safetensors", *how)
