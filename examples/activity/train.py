"""Train a small liquid time-constant network to tell from a smart watch what its wearer does.

Ten times a second it sees acceleration and turning rate and says, at every step, which of four activities this is; it
learns to be right from the third second on, and better the longer it has watched.

    python -m pip install --no-deps aeon                    # the recordings: examples/activity/data.py
    python -m examples.activity.train                       # about two minutes on one core
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
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import Tensor, nn

import ncpc
from examples.activity import data
from examples.activity.data import F64, Recordings
from examples.activity.evaluate import accuracy, cross_entropy
from ncpc.errors import NcpcError
from ncpc.system.files import write_atomically

FOLDER = Path(__file__).parent
SENSOR = (-40.0, 40.0)  # the declared range of every channel: in all eighty recordings none leaves [-28, 35]
WATCH = 30  # steps before the network is asked
FORGOTTEN = 1e-12  # a squared distance of states that counts as none; its logarithm is finite
KEPT = 12  # recordings that the container carries for calibration


@dataclass(frozen=True)
class Settings:
    """What training depends on; equal settings give equal weights on one machine and torch version."""

    seed: int = 0
    cell: str = "ltc"  # or cfc
    units: int = 20
    epochs: int = 200
    learning_rate: float = 1e-2
    noise: float = 0.1
    calm: float = 0.0


def make_cell(settings: Settings, inputs: int) -> nn.Module:
    """An LTC whose four motor neurons are read, or a CfC of which every unit is."""
    if settings.cell == "ltc":
        return LTC(inputs, AutoNCP(settings.units, 4, seed=settings.seed), ode_unfolds=3)
    return CfC(inputs, settings.units, backbone_units=2 * settings.units, backbone_layers=1)


class Activity(nn.Module):
    """Readings (B, T, 6) to logits (B, T, 4), and the state (B, units)."""

    scale: Tensor

    def __init__(self, settings: Settings, scale: F64) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.cell = make_cell(settings, len(scale))
        self.head = nn.Linear(4 if settings.cell == "ltc" else settings.units, len(data.CLASSES))

    def forward(self, x: Tensor, hx: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, hx = self.cell(torch.tanh(x / self.scale), hx)
        return self.head(h), hx


def jittered(x: Tensor, scale: Tensor, noise: float) -> Tensor:
    """Recordings as another wrist might give them: every channel stronger or weaker, begun elsewhere, with noise."""
    strength = torch.empty(len(x), 1, x.shape[2]).uniform_(0.8, 1.25)
    return torch.roll(x, int(torch.randint(x.shape[1], ())), dims=1) * strength + noise * scale * torch.randn_like(x)


def restlessness(module: Activity, x: Tensor, steps: int = 10, apart: float = 1e-2) -> Tensor:
    """By how many e-foldings two states are further apart after ``steps`` than they should be: one closer than before.

    States (B, units) are met on the way through ``x`` (B, T, 6), its channels in disorder, so that the network stays
    calm where no recording leads. What pushes states apart in floating point does so with what a device rounds, for as
    long as it runs.
    """
    x = torch.stack([x[torch.randperm(len(x)), :, k] for k in torch.randperm(x.shape[2])], 2) * 2
    at = int(torch.randint(5, x.shape[1] - steps, ()))
    with torch.no_grad():
        _, h = module(x[:, :at])
    other = h + apart * torch.randn_like(h)
    after = [module(x[:, at:at + steps], each)[1] for each in (h, other)]
    grown, begun = ((b - a).square().sum(1) + FORGOTTEN for a, b in (after, (h, other)))
    return nn.functional.relu(0.5 * (grown / begun).log() + 1.0).mean()


def train(settings: Settings, recordings: Recordings, say: bool = True) -> Activity:
    """A network trained on ``recordings``; ``say`` prints the loss now and then."""
    torch.manual_seed(settings.seed)
    module = Activity(settings, 0.7 * recordings.x.std((0, 1)))
    x, label = torch.tensor(recordings.x, dtype=torch.float32), torch.tensor(recordings.label)
    optimizer = torch.optim.Adam(module.parameters(), lr=settings.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs, settings.learning_rate / 20)
    for epoch in range(1, settings.epochs + 1):
        logits, _ = module(jittered(x, module.scale, settings.noise))
        asked = logits[:, WATCH:]
        loss = nn.functional.cross_entropy(asked.flatten(0, 1), label.repeat_interleave(asked.shape[1]),
                                           label_smoothing=0.05)
        if settings.calm:
            loss = loss + settings.calm * restlessness(module, x)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        decay.step()
        if say and epoch % 50 == 0:
            print(f"epoch {epoch:4d}  loss {loss.item():.4f}", flush=True)
    return module.eval()


@torch.no_grad()
def logits_of(module: Activity, x: F64) -> F64:
    """The logits (B, T, 4) of recordings (B, T, 6)."""
    return np.asarray(module(torch.tensor(x, dtype=torch.float32))[0].numpy(), np.float64)


def save(module: Activity, recordings: Recordings, output: Path) -> None:
    """The container, with some of the recordings it was trained on, of every class as many."""
    kept = np.concatenate([np.flatnonzero(recordings.label == k)[:KEPT // 4] for k in range(4)])
    ncpc.save(module, output, calibration=recordings.x[kept].round(3), input_range=SENSOR, dt=1.0, name="activity",
              input_names=list(data.CHANNELS), output_names=list(data.CLASSES), outputs="logits",
              sample_hz=data.RATE_HZ)


def keep(module: Activity, settings: Settings, seen: Recordings, unseen: Recordings, output: Path) -> None:
    """Write the container and, beside it, the figures of its training."""
    save(module, seen, output)
    logits = logits_of(module, unseen.x)
    figures = {"accuracy": accuracy(logits, unseen), "cross_entropy": cross_entropy(logits, unseen)}
    record = {"settings": asdict(settings), "test": figures}
    write_atomically(output.with_name("training.json"), (json.dumps(record, indent=2) + "\n").encode())
    print(f"{figures['accuracy']:.1%} of {len(unseen)} test recordings, cross-entropy {figures['cross_entropy']:.3f}\n"
          f"wrote {os.path.relpath(output)} ({output.stat().st_size} bytes)")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="passes over the recordings")
    parser.add_argument("--data", type=Path, help="folder with BasicMotions_TRAIN.ts  [default: the package aeon's]")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "policy.safetensors", help="container to write")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = Settings(epochs=options.epochs)
    try:
        seen, unseen = data.read("TRAIN", options.data), data.read("TEST", options.data)
        keep(train(settings, seen), settings, seen, unseen, options.output)
    except NcpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
