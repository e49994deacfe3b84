"""Train a liquid time-constant network to balance CartPole-v1 by imitating a linear expert.

The network sees position, velocity, angle and angular velocity in physical units and gives one number; the cart is
pushed right where it is positive. Training follows DAgger (Ross, Gordon and Bagnell 2011): the network drives more
and more of the episodes, the expert says at every state met there what it would have done, and the network learns
from all of them. Pole length and force are perturbed, carts are pushed by hand now and then, and the state of the
network is carried from window to window as it is when the network runs.

    python -m examples.cartpole.train                      # about two minutes on one core
    python -m examples.cartpole.train --rounds 2 -o /tmp/quick.safetensors
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP
from torch import nn

import ncpc
from examples.cartpole import plant
from examples.cartpole.plant import F64, Plants
from ncpc.system.files import write_atomically

FOLDER = Path(__file__).parent
# About three times what a balanced cart shows; inputs beyond it are clamped when the policy is compiled.
INPUT_RANGE = np.array([[-2.4, 2.4], [-4.0, 4.0], [-0.25, 0.25], [-4.0, 4.0]])
# What one unit of the network's inner input means; it only sets where training starts from.
INPUT_SCALE = np.array([1.0, 1.5, 0.15, 1.5])
FORCE_UNIT = 4.0  # N of the expert's force that the network's output 0.76 (= tanh 1) stands for


@dataclass(frozen=True)
class Settings:
    """What training depends on; equal settings give equal weights on one machine and torch version."""

    seed: int = 5
    units: int = 16
    sparsity: float = 0.4
    rounds: int = 10
    episodes: int = 96
    steps: int = 240
    window: int = 24
    batch: int = 96
    updates: int = 80
    learning_rate: float = 1e-2
    trials: int = 100  # carts on which each round's return is measured


@dataclass(frozen=True, eq=False)
class Windows:
    """W windows of T steps: ``x`` (W, T, 4), the state before each ``h`` (W, units), ``target`` (W, T)."""

    x: F64
    h: F64
    target: F64


def make_model(settings: Settings) -> LTC:
    """The untrained network, its input map set so that the usual range falls on the sigmoids' slopes."""
    torch.manual_seed(settings.seed)
    model = LTC(4, AutoNCP(settings.units, 1, sparsity_level=settings.sparsity, seed=settings.seed))
    cell = model.rnn_cell
    with torch.no_grad():
        cell.input_w.copy_(torch.tensor(0.5 / INPUT_SCALE))
        cell.input_b.fill_(0.5)
    return model


def teach(state: F64, gain: F64) -> F64:
    """What the network should answer at ``state`` (..., 4): the expert's force, squeezed into (-1, 1)."""
    force: F64 = np.tanh(state @ gain / FORCE_UNIT)
    return force


@torch.no_grad()
def think(model: LTC, state: F64, h: torch.Tensor) -> tuple[F64, torch.Tensor]:
    """One step of the network for a batch of carts: its answers (B,) and the next hidden state."""
    y, h = model.rnn_cell(torch.tensor(state, dtype=torch.float32), h, 1.0)
    return y[:, 0].double().numpy(), h


def start_states(rng: np.random.Generator, count: int) -> F64:
    """Half the episodes start as CartPole-v1 does, half far from rest."""
    near = rng.uniform(-0.05, 0.05, (count, 4))
    far = rng.uniform(-1.0, 1.0, (count, 4)) * np.array([1.2, 0.6, 0.12, 0.6])
    return np.where(rng.random((count, 1)) < 0.5, near, far)


def nudge(rng: np.random.Generator, state: F64) -> F64:
    """A hand's push: once in a hundred steps the velocities jump."""
    hit = rng.random(len(state)) < 0.01
    jump = rng.normal(0.0, 0.3, (len(state), 2)) * hit[:, None]
    push = np.zeros_like(state)
    push[:, 1::2] = jump
    return state + push


def drive(model: LTC, plants: Plants, state: F64, steps: int, rng: np.random.Generator, expert: F64) -> Windows:
    """Let the network (where ``expert`` (B,) is 0) or the expert (1) drive; one window as long as the run.

    A cart that has left the track or dropped its pole is put back near rest; the network is not told, so that
    every window is one unbroken run of its hidden state.
    """
    gain = plant.expert_gain(plant.nominal())
    h = torch.zeros(len(plants), model.state_size)
    seen, hidden = [], []
    for _ in range(steps):
        seen.append(state)
        hidden.append(h.double().numpy())
        y, h = think(model, state, h)
        right = np.where(expert > 0, state @ gain, y) > 0
        state = nudge(rng, plants.advance(state, np.where(right, plants.force, -plants.force)))
        again = rng.uniform(-0.05, 0.05, state.shape)
        state = np.where(plant.upright(state)[:, None], state, again)
    x = np.stack(seen, axis=1)
    return Windows(x, np.stack(hidden, axis=1), teach(x, gain))


def cut(run: Windows, length: int) -> Windows:
    """A long run cut into windows of ``length`` steps, each with the hidden state it began with."""
    count = run.x.shape[1] // length
    x = run.x[:, : count * length].reshape(-1, length, run.x.shape[2])
    h = run.h[:, : count * length : length].reshape(-1, run.h.shape[2])
    return Windows(x, h, run.target[:, : count * length].reshape(-1, length))


def merge(parts: list[Windows]) -> Windows:
    return Windows(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "h", "target")))


def batches(data: Windows, settings: Settings, rng: np.random.Generator) -> Iterator[list[torch.Tensor]]:
    for _ in range(settings.updates):
        pick = rng.choice(len(data.x), settings.batch)
        yield [torch.tensor(part[pick], dtype=torch.float32) for part in (data.x, data.h, data.target)]


def learn(model: LTC, optimizer: torch.optim.Optimizer, data: Windows, settings: Settings,
          rng: np.random.Generator) -> float:
    """One round of updates; returns the root-mean-square error of the last quarter of them."""
    losses = []
    for x, h, target in batches(data, settings, rng):
        y, _ = model(x, h)
        loss = nn.functional.mse_loss(y[..., 0], target)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return float(np.sqrt(np.mean(losses[-(len(losses) // 4 + 1):])))


def returns(model: LTC, seed: int, episodes: int) -> F64:
    """Steps balanced (episodes,), at most 500, on perturbed plants from CartPole-v1's own start states."""
    rng = np.random.default_rng(seed)
    plants = plant.perturbed(rng, episodes)
    state = rng.uniform(-0.05, 0.05, (episodes, 4))
    h = torch.zeros(episodes, model.state_size)
    alive, total = np.ones(episodes, dtype=bool), np.zeros(episodes)
    for _ in range(plant.EPISODE_STEPS):
        y, h = think(model, state, h)
        state = plants.advance(state, np.where(y > 0, plants.force, -plants.force))
        total += alive
        alive &= plant.upright(state)
    return total


def calibration(model: LTC, seed: int, count: int = 8, steps: int = 150) -> F64:
    """Trajectories (count, steps, 4) of the network at the wheel, each from reset, transients included."""
    rng = np.random.default_rng(seed)
    plants = plant.perturbed(rng, count)
    return drive(model, plants, start_states(rng, count), steps, rng, np.zeros(count)).x


def train(settings: Settings) -> tuple[LTC, list[dict[str, float]]]:
    """The trained network and one record per round: share driven by the expert, error, mean and least return."""
    rng = np.random.default_rng(settings.seed)
    model = make_model(settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.rounds, settings.learning_rate / 10)
    parts: list[Windows] = []
    history = []
    for number in range(settings.rounds):
        share = max(0.0, 1.0 - number / 3)
        who = (rng.random(settings.episodes) < share).astype(float)
        plants = plant.perturbed(rng, settings.episodes)
        run = drive(model, plants, start_states(rng, settings.episodes), settings.steps, rng, who)
        parts = [*parts[-3:], cut(run, settings.window)]
        error = learn(model, optimizer, merge(parts), settings, rng)
        decay.step()
        got = returns(model, seed=1000 + number, episodes=settings.trials)
        history.append(dict(round=number + 1, expert_share=round(share, 3), rms_error=round(error, 4),
                            mean_return=float(got.mean()), least_return=float(got.min())))
        print("round {round:2.0f}  expert {expert_share:4.2f}  rms {rms_error:.4f}  "
              "return mean {mean_return:5.1f}  least {least_return:5.1f}".format(**history[-1]), flush=True)
    return model, history


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="rounds of driving and learning")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER / "policy.safetensors", help="container to write")
    return parser.parse_args(arguments)


def keep(model: LTC, settings: Settings, history: list[dict[str, float]], output: Path) -> None:
    """Write the container and, beside it, the figures of its training."""
    ncpc.save(model, output, calibration=calibration(model, seed=2), input_range=INPUT_RANGE, dt=1.0, name="cartpole",
              input_names=plant.INPUT_NAMES, output_names=["push"], sample_hz=1 / plant.PERIOD)
    final = returns(model, seed=1, episodes=4 * settings.trials)
    record = {"settings": asdict(settings), "rounds": history, "evaluation": {
        "episodes": len(final), "length_scale": plant.LENGTH_SCALE, "force_scale": plant.FORCE_SCALE,
        "mean_return": float(final.mean()), "least_return": float(final.min())}}
    write_atomically(output.with_name("training.json"), (json.dumps(record, indent=2) + "\n").encode())
    print(f"{len(final)} perturbed plants: return mean {final.mean():.1f}, least {final.min():.0f} "
          f"of {plant.EPISODE_STEPS}\nwrote {os.path.relpath(output)} ({output.stat().st_size} bytes)")


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    settings = Settings(rounds=options.rounds, seed=options.seed)
    model, history = train(settings)
    keep(model, settings, history, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
