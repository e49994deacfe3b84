"""Builds that ``ncpc inspect``'s estimates are fitted to: cycles and flash of random networks on the simulated cores.

    python -m benchmarks.estimates                    # builds all, writes estimates.json, prints factors for the cores
    python -m benchmarks.estimates --core NAME        # the same for one core alone

int16, dt fixed; cycles are the upper bound of the core's timing model, the worst of the measured steps. The factors,
all but the fixed one at least 0, have the least sum of fourth powers of relative errors, as the worst ones matter; they
go into ``ncpc/cores/NAME.toml``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.optimize import least_squares, lsq_linear

from ncpc.cores import core_names, load_core
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.inspect.estimates import COUNTS, way_of
from ncpc.ir.gated import Cfc, Lstm, MixedMemory, WiredCfc
from ncpc.ir.policy import Dense, Layer, Ltc, Policy, Synapses
from ncpc.targets.base import CompileOptions
from ncpc.targets.registry import load
from ncpc.verification.sequences import suite

RESULT = Path(__file__).with_suffix(".json")
CORES = tuple(name for name in core_names() if load_core(name).timing_class != "count")
STEPS = 60
UNITS = {"ltc": (("evaluation", "update"), ("synapse", "neuron")),
         "generic": (("product", "row", "gather", "function", "element", "quotient"), ("weight", "constant", "op"))}
"""What is counted for cycles and for flash, by the form of the integer step."""
Rng = np.random.Generator


def networks() -> Iterator[tuple[str, Policy]]:
    """Name -> network: LTCs, CfCs, wired CfCs, and mixed memories of each, from the smallest on."""
    for neurons, inputs, outputs, density in ((3, 1, 1, 0.5), (4, 2, 1, 0.6), (6, 3, 2, 0.5), (8, 3, 2, 0.4),
                                              (12, 4, 2, 0.4), (16, 5, 2, 0.3), (24, 5, 3, 0.3), (32, 8, 4, 0.3),
                                              (10, 4, 2, 0.9), (20, 4, 1, 0.1), (17, 6, 2, 0.15)):
        yield _named(f"LTC of {neurons}", ltc(np.random.default_rng(neurons), neurons, inputs, outputs, density))
    for neurons, inputs, units, mode in (
        (3, 2, (), "default"), (4, 2, (5,), "default"), (8, 4, (32,), "default"), (8, 4, (16,), "pure"),
        (8, 4, (32,), "no_gate"), (16, 8, (), "default"), (16, 8, (128,), "default"), (24, 6, (64, 64), "default"),
        (40, 8, (128,), "default"), (16, 8, (), "pure"),
    ):
        name = f"CfC of {neurons}, {mode}, backbone {' x '.join(map(str, units)) or 'none'}"
        yield _named(name, cfc(np.random.default_rng(neurons), neurons, inputs, units, mode))
    for inputs, sizes, mode in ((2, (2, 2, 1), "default"), (3, (6, 4, 1), "default"), (4, (5, 3, 2), "default"),
                                (6, (8, 5, 2), "default"), (8, (14, 9, 5), "default"), (8, (24, 16, 8), "default"),
                                (6, (8, 5, 2), "pure"), (8, (14, 9, 5), "no_gate")):
        name = f"wired CfC of {' + '.join(map(str, sizes))}, {mode}"
        yield _named(name, wired(np.random.default_rng(sizes[0]), inputs, sizes, mode))
    for inputs, sizes in ((2, (4, 4)), (2, (3, 3, 2)), (6, (10, 8, 4))):
        yield _named(f"wired CfC of {' + '.join(map(str, sizes))}, every synapse there",
                     wired(np.random.default_rng(sizes[0]), inputs, sizes, density=1.0))
    for kind, neurons, inputs in (("ltc", 3, 2), ("ltc", 6, 3), ("ltc", 12, 4), ("ltc", 20, 6), ("cfc", 4, 2),
                                  ("cfc", 8, 4), ("cfc", 16, 8), ("wired_cfc", 12, 6), ("wired_cfc", 20, 8)):
        yield _named(f"mixed memory of {neurons}, {kind}", mixed(np.random.default_rng(neurons), kind, neurons, inputs))


def ltc(rng: Rng, neurons: int, inputs: int, outputs: int, density: float) -> Ltc:
    """Parameters spread like ncps' initial ones; each pair is a synapse with probability ``density``."""
    def synapses(pre: int) -> Synapses:
        post, source = np.nonzero(rng.uniform(size=(neurons, pre)) < density)
        n = len(post)
        return Synapses(source, post, rng.uniform(0.01, 1, n), rng.uniform(3, 8, n), rng.uniform(-0.3, 0.8, n),
                        rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.2, n))

    return Ltc(synapses(inputs), synapses(neurons), rng.uniform(0.4, 0.6, neurons), rng.uniform(0.1, 1, neurons),
               rng.uniform(-0.2, 0.2, neurons), np.ones(inputs), np.zeros(inputs), np.ones(outputs), np.zeros(outputs),
               ("motor",) * outputs + ("inter",) * (neurons - outputs), tuple(f"n{i}" for i in range(neurons)))


def cfc(rng: Rng, neurons: int, inputs: int, units: tuple[int, ...] = (), mode: str = "default", role: str = "",
        density: float = 1.0) -> Cfc:
    """``units`` are the backbone's; of the synapses that a wiring decides (ff1, ff2) a share is there."""
    widths = (neurons + inputs, *units)
    backbone = tuple(_dense(rng, after, before) for before, after in zip(widths, units, strict=False))
    shape, pure = (neurons, widths[-1]), mode == "pure"
    there = rng.random(shape) < density
    ff1, ff2, time_a, time_b = (_dense(rng, *shape, there if i < 2 else None) for i in range(4))
    w_tau, a = rng.normal(0, 0.4, (2, neurons))
    gates = (ff1, None, None, None, w_tau, a) if pure else (ff1, ff2, time_a, time_b, None, None)
    named = ((role,) * neurons, tuple(f"{role}_{i}" for i in range(neurons))) if role else ((), ())
    return Cfc(backbone, *gates, mode, "lecun_tanh", "tanh", *named)


def wired(rng: Rng, inputs: int, sizes: tuple[int, ...], mode: str = "default", density: float = 0.5) -> WiredCfc:
    """A CfC for each layer of a wiring."""
    read = (inputs, *sizes)
    return WiredCfc(tuple(cfc(rng, neurons, read[i], (), mode, role, density)
                          for i, (neurons, role) in enumerate(zip(sizes, ("inter", "command", "motor"), strict=False))))


def mixed(rng: Rng, kind: str, neurons: int, inputs: int) -> MixedMemory:
    """An LSTM's memory beside a cell."""
    cell: Layer = {
        "ltc": lambda: ltc(rng, neurons, inputs, min(2, neurons - 2), 0.4),
        "cfc": lambda: cfc(rng, neurons, inputs, (4 * neurons,)),
        "wired_cfc": lambda: wired(rng, inputs, (neurons // 2, neurons - neurons // 2 - 2, 2)),
    }[kind]()
    memory = Lstm(rng.normal(0, 0.4 * inputs**-0.5, (4 * neurons, inputs)),
                  rng.normal(0, 0.5 * neurons**-0.5, (4 * neurons, neurons)), rng.normal(0, 0.2, 4 * neurons))
    return MixedMemory(memory, cell, "state")


def measure(policy: Policy, core: str) -> dict[str, int]:
    """Build and run: the most cycles of a step, and bytes of flash."""
    options, target = CompileOptions(), load(core)
    lowered = lower_for(Container(policy), options).lowered
    with tempfile.TemporaryDirectory() as text:
        artifact = target.prepare(lowered, options)
        for file, content in artifact.files.items():
            (Path(text) / file).write_bytes(content)
        built, ran = artifact.build(Path(text)), artifact.run(Path(text), suite(policy, STEPS, False), core)
    assert built.memory is not None
    assert ran.cycles is not None
    return {"cycles": int(ran.cycles.upper.max()), "flash_bytes": built.memory.flash_bytes}


def factors(rows: list[dict[str, Any]], core: str, way: str) -> dict[str, dict[str, float]]:
    """What one of each unit takes on a core."""
    policies = dict(networks())
    mine = [(COUNTS[way](policies[row["network"]]), row) for row in rows
            if row["core"] == core and way_of(policies[row["network"]]) == way]
    found = {}
    for i, (name, key) in enumerate((("cycles", "cycles"), ("flash", "flash_bytes"))):
        units = UNITS[way][i]
        counts = np.array([[*(count[i].get(unit, 0) for unit in units), 1.0] for count, _ in mine])
        total = np.array([row[key] for _, row in mine], np.float64)
        known = np.array([count[2] for count, _ in mine]) if name == "flash" else np.zeros(len(mine))
        found[name] = dict(zip((*units, "fixed"), map(_short, _solved(counts, total - known, total)), strict=True))
    return found


def _solved(counts: NDArray[np.float64], wanted: NDArray[np.float64], total: NDArray[np.float64]) -> list[float]:
    """Of the relative errors the least sum of fourth powers, from that of squares on; units scaled to about 1."""
    lowest = np.array([0.0] * (counts.shape[1] - 1) + [-np.inf])
    scale = 1.0 / (counts / total[:, None]).max(axis=0)
    shares, parts = counts * scale / total[:, None], wanted / total
    start = lsq_linear(shares, parts, (lowest, np.inf)).x

    def signed_squares(x: NDArray[np.float64]) -> NDArray[np.float64]:
        error = shares @ x - parts
        return np.asarray(error * np.abs(error))

    return list(least_squares(signed_squares, start + 1e-9, bounds=(lowest, np.inf)).x * scale)


def _short(value: float) -> float:
    """Three digits."""
    return float(f"{value:.3g}")


def _dense(rng: Rng, outputs: int, inputs: int, there: NDArray[np.bool_] | None = None) -> Dense:
    weight = rng.normal(0, inputs**-0.5, (outputs, inputs))
    return Dense(weight if there is None else weight * there, rng.normal(0, 0.1, outputs))


def _named(name: str, layer: Layer) -> tuple[str, Policy]:
    return name, Policy("net", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)))


def keep(rows: list[dict[str, Any]]) -> None:
    """Into the file, in place of those of the same cores."""
    measured = {row["core"] for row in rows}
    rows = rows + [row for row in json.loads(RESULT.read_text())["rows"] if row["core"] not in measured]
    rows.sort(key=lambda row: CORES.index(row["core"]))
    RESULT.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """Measure and fit."""
    parser = argparse.ArgumentParser("python -m benchmarks.estimates")
    parser.add_argument("--core", choices=CORES, help="only this one; the others' rows stay as they are")
    asked = parser.parse_args(arguments).core
    cores = CORES if asked is None else (asked,)
    jobs = [(name, policy, core) for core in cores for name, policy in networks()]
    rows = [{"network": name, "core": core, **measure(policy, core)}
            for name, policy, core in track(jobs, "networks on cores", console=Console(stderr=True))]
    keep(rows)
    for core in cores:
        print(f"# ncpc/cores/{core}.toml")
        for way in UNITS:
            print(f"[estimate.{way}]")
            for name, by_unit in factors(rows, core, way).items():
                print(f"{name} = {{ {', '.join(f'{unit} = {factor}' for unit, factor in by_unit.items())} }}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
