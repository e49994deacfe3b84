"""Teach a small liquid time-constant network to turn the sine and cosine of an angle into the sine of twice it.

The angle advances at a steady speed, so the inputs are two slow waves and the answer is a wave of twice their
frequency: the introductory task of the ncps documentation, with starting angle and speed varied so that the network
learns the relation and not one recording.

    python -m examples.sine.train                          # about half a minute on one core
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP
from numpy.typing import NDArray
from torch import nn

import ncpc
from ncpc.system.files import write_atomically

F64 = NDArray[np.float64]

FOLDER = Path(__file__).parent
STEPS = 48
TURNS = 1.5  # turns of the angle in the documentation's sequence
SETTLE = 4  # steps in which the network may still be leaving its reset state; not counted in the error


@dataclass(frozen=True)
class Settings:
    """What training depends on; equal settings give equal weights on one machine and torch version."""

    seed: int = 3
    units: int = 12
    updates: int = 400
    batch: int = 12
    learning_rate: float = 2e-2


def waves(start: F64, turns: F64, steps: int = STEPS) -> tuple[F64, F64]:
    """Inputs (B, steps, 2) and targets (B, steps, 1) for B starting angles in rad and B numbers of turns."""
    angle = start[:, None] + 2 * np.pi * turns[:, None] * np.linspace(0.0, 1.0, steps)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2), np.sin(2 * angle)[:, :, None]


def draw(rng: np.random.Generator, count: int) -> tuple[F64, F64]:
    """``count`` sequences of any starting angle, forwards or backwards, at half to full speed."""
    turns = TURNS * rng.uniform(0.5, 1.0, count) * rng.choice([-1.0, 1.0], count)
    return waves(rng.uniform(-np.pi, np.pi, count), turns)


def make_model(settings: Settings) -> LTC:
    """The untrained network, its input map set so that [-1, 1] falls on the sigmoids' slopes."""
    torch.manual_seed(settings.seed)
    model = LTC(2, AutoNCP(settings.units, 1, sparsity_level=0.3, seed=settings.seed))
    with torch.no_grad():
        model.rnn_cell.input_w.fill_(0.5)
        model.rnn_cell.input_b.fill_(0.5)
    return model


def train(settings: Settings) -> LTC:
    rng = np.random.default_rng(settings.seed)
    model = make_model(settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.updates, settings.learning_rate / 20)
    for update in range(1, settings.updates + 1):
        x, target = (torch.tensor(part, dtype=torch.float32) for part in draw(rng, settings.batch))
        y, _ = model(x)
        loss = nn.functional.mse_loss(y[:, SETTLE:], target[:, SETTLE:])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        decay.step()
        if update % 50 == 0:
            print(f"update {update:4d}  rms error {loss.item() ** 0.5:.4f}", flush=True)
    return model


@torch.no_grad()
def rms_error(model: LTC, x: F64, target: F64) -> float:
    """Root-mean-square error after the settling steps; the targets' own root mean square is 0.71."""
    y = model(torch.tensor(x, dtype=torch.float32))[0].numpy()
    return float(np.sqrt(np.mean((y - target)[:, SETTLE:] ** 2)))


def keep(model: LTC, settings: Settings, output: Path) -> None:
    """Write the container and, beside it, the figures of its training."""
    x, _ = draw(np.random.default_rng(2), 16)
    ncpc.save(model, output, calibration=x, input_range=(-1.1, 1.1), dt=1.0, name="sine",
              input_names=["sine", "cosine"], output_names=["sine_of_twice"])
    tutorial = rms_error(model, *waves(np.zeros(1), np.full(1, TURNS)))
    others = rms_error(model, *draw(np.random.default_rng(1), 200))
    record = {"settings": asdict(settings), "rms_error": {"one_and_a_half_turns": tutorial, "200_held_out": others}}
    write_atomically(output.with_name("training.json"), (json.dumps(record, indent=2) + "\n").encode())
    print(f"rms error {tutorial:.4f} on one and a half turns, {others:.4f} on 200 held-out sequences\n"
          f"wrote {os.path.relpath(output)} ({output.stat().st_size} bytes)")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=Settings.updates, help="gradient steps")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "policy.safetensors", help="container to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = Settings(updates=options.updates)
    keep(train(settings), settings, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
