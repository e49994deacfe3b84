"""Millions of steps on the device: the linked program in the simulator, and C on this machine, against the semantics.

    python -m benchmarks.evidence --steps 50000            # what has no result yet; writes evidence.json
    python -m benchmarks.evidence --only random --most 20  # so many builds of one kind, then stop

A build is a policy in a number format on a core. Policies are the trained ones of this repository, small random LTCs
(``random``) and networks of every kind whose parameters spread over orders of magnitude (``extreme``). Each runs
generated sequences that cover its ranges, inputs and timespans beyond them, and states restored at the corners of their
box and beyond; outputs, states and status bits have to be those of the Program, bit for bit. ``steps`` in
``evidence.json`` counts those on the device; C on this machine runs them all as well.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ncpc.driver.lowering import lower_for
from ncpc.errors import NcpcError
from ncpc.frontend.container import Container, read_container
from ncpc.frontend.validate import check_policy
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import Artifact, CompileOptions, Lowered
from ncpc.targets.c.c_target import HOST
from ncpc.verification import beyond, compare
from ncpc.verification.sequences import SEEDS, families, suite
from tests.extreme_nets import KINDS, extreme_policy
from tests.nets import random_policy

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_suffix(".json")
TRAINED = sorted([*(ROOT / "benchmarks" / "policies").glob("*.safetensors"),
                  *(ROOT / "examples").glob("*/policy.safetensors")])
CORES = ("cortex-m4", "rv32imc-ibex")
Scheme = Literal["int16", "int8", "float32"]
SCHEMES: tuple[Scheme, ...] = ("int16", "int8", "float32")
RANDOM, EXTREME = 200, 6 * len(KINDS)
BUDGET = 300_000_000
"""Instructions of a build at most: large networks run fewer steps."""
LENGTH = 4 * beyond.STEPS
"""Steps of a sequence."""


@dataclass(frozen=True)
class Build:
    """``name`` is a file's of the trained policies, or a seed; ``kind`` is trained, random or extreme."""

    kind: str
    name: str
    scheme: Scheme
    core: str

    @property
    def key(self) -> str:
        return f"{self.kind} {self.name} {self.scheme} {self.core}"

    def container(self) -> Container:
        if self.kind == "trained":
            return replace(read_container(ROOT / self.name), formats=None)
        seed = int(self.name)
        return Container(extreme_policy(seed) if self.kind == "extreme" else small_policy(seed))


@dataclass(frozen=True)
class Found:
    """Steps on the device, those that differ there and on this machine; ``refused`` says why there are none."""

    steps: int = 0
    device: int = 0
    host: int = 0
    refused: str = ""


def small_policy(seed: int) -> Policy:
    """An LTC of 2 to 8 neurons and 1 or 2 unfolds; every third has timespans from a range."""
    rng = np.random.default_rng(seed)
    neurons = int(rng.integers(2, 9))
    dt = DtRange(0.1, 3.0, 1.0) if seed % 3 == 0 else DtRange()
    return random_policy(seed, dt, neurons=neurons, inputs=int(rng.integers(1, 4)), outputs=int(rng.integers(1, 3)),
                         density=float(rng.uniform(0.2, 0.9)), unfolds=int(rng.integers(1, 3)))


def builds(kind: str) -> Iterator[Build]:
    """Trained policies in every format on every core; of the others each seed once, formats and cores in turn."""
    if kind == "trained":
        names = [path.relative_to(ROOT).as_posix() for path in TRAINED]
        yield from (Build(kind, name, scheme, core) for name in names for scheme in SCHEMES for core in CORES)
        return
    for seed in range({"random": RANDOM, "extreme": EXTREME}[kind]):
        turn = seed if kind == "random" else seed // len(KINDS)
        scheme = SCHEMES[turn % 3 if turn % 4 else 0] if kind == "random" else SCHEMES[turn % 3]
        yield Build(kind, str(seed), scheme, CORES[(seed + turn) % 2 if kind == "extreme" else turn // 3 % 2])


def sequences(policy: Policy, steps: int, runtime_dt: bool) -> Sequences:
    """About ``steps`` steps: four sequences beyond the ranges, and as many generated ones as there is room for."""
    rows, at_once = max(1, steps // LENGTH - 4), SEEDS * len(families(policy))
    found = [_repeated(beyond.outside(policy, runtime_dt), policy)]
    found += [suite(policy, at_once * LENGTH, runtime_dt, seed) for seed in range(1, 2 + rows // at_once)]
    whole = Sequences(*(np.concatenate([getattr(part, name) for part in found]) for name in ("x", "dt", "reset")))
    return whole.part(slice(4 + rows))


def _repeated(data: Sequences, policy: Policy) -> Sequences:
    """Short sequences over and over."""
    times = LENGTH // data.x.shape[1]
    dt = np.full(data.x.shape[:2], policy.dt.nominal) if data.dt is None else data.dt
    assert data.reset is not None
    return Sequences(np.tile(data.x, (1, times, 1)), np.tile(dt, (1, times)), np.tile(data.reset, (1, times)))


def measure(build: Build, steps: int) -> Found:
    """Make the build in a folder of its own, run it, compare; a policy that is refused has no steps."""
    container = build.container()
    dt: Any = "fixed" if container.policy.dt.fixed else "runtime"
    options = CompileOptions(quant=build.scheme, dt=dt)
    target = registry.load(build.core)
    try:
        check_policy(container.policy, "policy")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            lowered = lower_for(container, options).lowered
        artifact = target.prepare(lowered, options)
    except NcpcError as error:
        return Found(refused=str(error)[:120])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, data in artifact.files.items():
            (folder / file).write_bytes(data)
        artifact.build(folder)
        return _compared(target.name, artifact, folder, lowered, options, steps)


def _compared(
    core: str, artifact: Artifact, folder: Path, lowered: Lowered, options: CompileOptions, steps: int
) -> Found:
    policy, runtime_dt = lowered.policy, options.dt == "runtime"
    found, per_step = Found(), 1_000.0
    restored = beyond.kept_states(policy, lowered.program)
    if restored is not None:
        found, per_step = _one(core, artifact, folder, lowered, restored)
    data = sequences(policy, min(steps, int(BUDGET / per_step)), runtime_dt)
    return _sum(found, _one(core, artifact, folder, lowered, data)[0])


def _one(
    core: str, artifact: Artifact, folder: Path, lowered: Lowered, data: Sequences
) -> tuple[Found, float]:
    """The mismatches on one data set, and instructions per step."""
    with np.errstate(all="ignore"):
        expected = run(lowered.program, data)
    wrong, instructions = [], 1.0
    for runtime in (HOST, core):
        result = artifact.run(folder, data, runtime)
        wrong.append(compare.bitwise(expected, result.trace, lowered.program, data).mismatches)
        if result.instructions is not None:
            instructions = float(result.instructions.mean())
    return Found(data.steps, device=wrong[1], host=wrong[0]), instructions


def _sum(a: Found, b: Found) -> Found:
    return Found(a.steps + b.steps, a.device + b.device, a.host + b.host)


def summary(rows: dict[str, list[Any]]) -> dict[str, Any]:
    """Per kind of policy, and in all: policies that ran, builds, steps, mismatches, refused builds."""
    total: dict[str, Any] = {}
    for kind in ("trained", "random", "extreme", ""):
        mine = {key: row for key, row in rows.items() if key.startswith(kind)}
        ran = {key: row for key, row in mine.items() if not row[3]}
        total[kind or "all"] = {
            "policies": len({tuple(key.split(" ")[:2]) for key in ran}), "builds": len(ran),
            "refused": len(mine) - len(ran),
            "steps": sum(row[0] for row in ran.values()), "device_mismatches": sum(row[1] for row in ran.values()),
            "host_mismatches": sum(row[2] for row in ran.values()),
            "formats": dict(sorted(Counter(key.split(" ")[2] for key in ran).items())),
        }
    return total


def load() -> dict[str, list[Any]]:
    """By build, what it gave: steps, mismatches on the device and on this machine, why it was refused."""
    return json.loads(RESULT.read_text())["builds"] if RESULT.exists() else {}


def store(rows: dict[str, list[Any]]) -> None:
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in sorted(rows.items()))
    text = f'{{\n "summary": {json.dumps(summary(rows), indent=1)},\n "builds": {{\n{lines}\n }}\n}}\n'
    RESULT.with_suffix(".new").write_text(text)
    RESULT.with_suffix(".new").replace(RESULT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--only", nargs="+", default=["trained", "random", "extreme"])
    parser.add_argument("--most", type=int, default=1 << 30)
    given = parser.parse_args()
    rows = load()
    rest = [build for kind in given.only for build in builds(kind) if build.key not in rows]
    for build in rest[: given.most]:
        found = measure(build, given.steps)
        rows[build.key] = [found.steps, found.device, found.host, found.refused]
        store(rows)
        print(build.key, *rows[build.key], flush=True)


if __name__ == "__main__":
    main()
