"""Compare a compiled cart-pole policy with the network it came from, in the same carts, in closed loop.

Every episode is one cart with its own pole length and force, started by its own seed. In it run
  1. the network in float64 at the wheel,
  2. the compiled policy listening in: fed the same observations, its answers are compared with the network's,
  3. the compiled policy at the wheel, from the same start, with nothing shared but the start.
The compiled policy is what stands in the build folder: the simulated device's binary, or the library of a host build.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.table import Table

import ncpc
from examples.cartpole import plant
from examples.cartpole.plant import F64, Plants
from ncpc.errors import NcpcError
from ncpc.ir.policy import Policy
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.semantics.run import Executor

EXAMPLES = """examples:
  ncpc compile examples/cartpole/policy.safetensors --target cortex-m4 -o build/
  python -m examples.cartpole.evaluate build/
  python -m examples.cartpole.evaluate build/ --episodes 50 --seed 100 --json

exit code: 0 if the mean returns differ by no more than --max-difference, 1 if they do, 2 for a folder that is no
build, 3 if the build's runtime is not installed.
"""


class Stepper(Protocol):
    """Anything with a memory that turns an observation (4,) into a push (1,)."""

    def reset(self) -> None: ...

    def step(self, x: F64) -> F64: ...


class FloatPolicy:
    """The policy in float64, as ``ncpc.semantics`` defines it, at its nominal timespan."""

    def __init__(self, policy: Policy) -> None:
        self._executor = Executor(fix_dt(lower(policy), policy.dt.nominal))

    def reset(self) -> None:
        self._executor.reset(1)

    def step(self, x: F64) -> F64:
        y, _, _ = self._executor.step(x[None])
        return np.asarray(y[0], np.float64)


@dataclass(frozen=True, eq=False)
class Run:
    """One closed loop: the observations (T, 4) met and the pushes (T,) answered; T is the return."""

    seen: F64
    push: F64

    @property
    def steps(self) -> int:
        return len(self.push)


@dataclass(frozen=True)
class Episode:
    """One cart's figures. ``equal_actions`` is the fraction, and ``largest_difference`` that of the outputs, while
    both see the network's observations; ``part_at`` is the first step at which the two closed loops act differently.
    """

    half_length_m: float
    force_n: float
    float_return: int
    device_return: int
    equal_actions: float
    largest_difference: float
    part_at: int | None


def drive(policy: Stepper, env: Any, seed: int) -> Run:
    """One episode with ``policy`` at the wheel: pushed right where its answer is positive."""
    seen, push = [], []
    x, _ = env.reset(seed=seed)
    policy.reset()
    over = False
    while not over:
        seen.append(x)
        push.append(float(policy.step(np.asarray(x, np.float64))[0]))
        x, _, terminated, truncated, _ = env.step(int(push[-1] > 0))
        over = terminated or truncated
    return Run(np.asarray(seen, np.float64), np.asarray(push))


def listen(policy: Stepper, seen: F64) -> F64:
    """The pushes (T,) that ``policy`` answers to observations it does not influence."""
    policy.reset()
    return np.array([policy.step(x)[0] for x in seen])


def parting(one: Run, other: Run) -> int | None:
    """The first step at which two closed loops act differently; None if they never do."""
    common = min(one.steps, other.steps)
    differs = np.flatnonzero((one.push[:common] > 0) != (other.push[:common] > 0))
    return int(differs[0]) if len(differs) else None


def compare(reference: Stepper, device: Stepper, plants: Plants, index: int, seed: int) -> Episode:
    """Cart ``index``, driven by both from the same seed."""
    env = plant.environment(plants, index)
    ours, theirs = drive(reference, env, seed), drive(device, env, seed)
    heard = listen(device, ours.seen)
    return Episode(
        half_length_m=round(float(plants.half_length[index]), 4),
        force_n=round(float(plants.force[index]), 3),
        float_return=ours.steps,
        device_return=theirs.steps,
        equal_actions=float(np.mean((heard > 0) == (ours.push > 0))),
        largest_difference=float(np.max(np.abs(heard - ours.push))),
        part_at=parting(ours, theirs),
    )


def evaluate(folder: Path, episodes: int, seed: int) -> list[Episode]:
    """``episodes`` perturbed carts; the carts and their starts depend on ``seed`` alone."""
    plants = plant.perturbed(np.random.default_rng(seed), episodes)
    device = ncpc.open(folder)
    try:
        reference = FloatPolicy(ncpc.load(folder / "policy.safetensors"))
        return [compare(reference, device, plants, i, seed + i) for i in range(episodes)]
    finally:
        device.close()


def summary(episodes: list[Episode]) -> dict[str, float]:
    """Figures over all episodes; every step counts alike in the fraction of equal actions."""
    steps = np.array([e.float_return for e in episodes])
    ours, theirs = float(steps.mean()), float(np.mean([e.device_return for e in episodes]))
    return {
        "float_mean_return": ours,
        "device_mean_return": theirs,
        "return_difference": abs(ours - theirs),
        "equal_actions": float(np.average([e.equal_actions for e in episodes], weights=steps)),
        "largest_difference": max(e.largest_difference for e in episodes),
    }


def show(episodes: list[Episode], limit: float, console: Console) -> None:
    table = Table(title="The same carts, driven by both")
    for heading in ("half length", "force", "return float", "return device", "equal actions", "largest difference",
                    "part at step"):
        table.add_column(heading, justify="right")
    for e in episodes:
        part = "never" if e.part_at is None else str(e.part_at)
        table.add_row(f"{e.half_length_m:.3f} m", f"{e.force_n:.2f} N", str(e.float_return), str(e.device_return),
                      f"{e.equal_actions:.2%}", f"{e.largest_difference:.2e}", part)
    total = summary(episodes)
    table.add_section()
    table.add_row("all", "", f"{total['float_mean_return']:.1f}", f"{total['device_mean_return']:.1f}",
                  f"{total['equal_actions']:.2%}", f"{total['largest_difference']:.2e}", "")
    console.print(table)
    words = "no more than" if total["return_difference"] <= limit else "MORE than"
    console.print(f"mean returns differ by {total['return_difference']:.1f}, {words} {limit:g}")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.cartpole.evaluate", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="folder made by 'ncpc compile'")
    parser.add_argument("--episodes", type=int, default=10, help="carts to drive (10)")
    parser.add_argument("--seed", type=int, default=0, help="draws the carts and their starts (0)")
    parser.add_argument("--max-difference", type=float, default=5.0,
                        help="largest difference of the mean returns, in steps of 500 (5)")
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.episodes < 1:
        parser.error("--episodes: give at least 1")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        episodes = evaluate(options.build, options.episodes, options.seed)
    except NcpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    total = summary(episodes)
    if options.json:
        print(json.dumps({"summary": total, "episodes": [asdict(e) for e in episodes]}, indent=2))
    else:
        show(episodes, options.max_difference, Console(width=110 if not sys.stdout.isatty() else None))
    return 0 if total["return_difference"] <= options.max_difference else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
