"""What number schemes cost a classifier of real recordings: BasicMotions in five folds, several seeds, three networks.

    python -m benchmarks.activity --seeds 1      # goes on where activity.json ends; about a quarter of an hour a seed

All eighty recordings are split into five folds (examples/activity/data.py); a network is trained on four and asked
about the fifth, once in floating point and once in every scheme: the integer program that C carries out bit for bit.
Networks: the example's LTC; a CfC trained for the task alone; the same CfC trained to keep small changes small.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from examples.activity import data
from examples.activity.data import Recordings
from examples.activity.evaluate import compared
from examples.activity.train import Settings, save, train
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container, read_policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

RESULT = Path(__file__).with_suffix(".json")
FOLDS = 5
NETWORKS = {
    "LTC": Settings(),
    "CfC": Settings(cell="cfc", units=16, epochs=300, learning_rate=4e-3),
    "CfC, calm": Settings(cell="cfc", units=16, epochs=300, learning_rate=4e-3, calm=3.0),
}
SCHEMES: tuple[Any, ...] = ("int16", "w8a16", "w4a16", "int8")


def measured(settings: Settings, seen: Recordings, unseen: Recordings) -> dict[str, dict[str, float]]:
    """The figures of every scheme for a network trained on ``seen``, asked about ``unseen``."""
    module = train(settings, seen, say=False)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # calibration is short
        save(module, seen, Path(folder) / "network.safetensors")
        policy = read_policy(Path(folder) / "network.safetensors")
    sequences = Sequences(unseen.x)
    reference = run(fix_dt(lower(policy), policy.dt.nominal), sequences).y
    found = {}
    for scheme in SCHEMES:
        program = lower_for(Container(policy), CompileOptions(quant=scheme)).lowered.program
        found[scheme] = asdict(compared(reference, run(program, sequences).y, unseen))
    return found


def record(seeds: int, where: Path | None) -> None:
    """Measure what ``RESULT`` does not have yet; each fold is written as soon as it is done."""
    train_, test = data.read("TRAIN", where), data.read("TEST", where)
    everything = Recordings(np.concatenate([train_.x, test.x]), np.concatenate([train_.label, test.label]))
    known: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for seed in range(seeds):
        for fold, (seen, unseen) in enumerate(data.folds(everything, FOLDS, seed)):
            for name, settings in NETWORKS.items():
                key = f"{name}, seed {seed}, fold {fold}"
                if key not in known:
                    known[key] = measured(replace(settings, seed=seed), seen, unseen)
                    RESULT.write_text(json.dumps(known, indent=1) + "\n")
                    print(key, {scheme: round(one["largest_difference"], 4) for scheme, one in known[key].items()},
                          flush=True)


def summary(known: dict[str, Any]) -> dict[tuple[str, str], dict[str, float]]:
    """By network and scheme: means over folds and seeds, median and largest of their largest differences, how many."""
    found = {}
    for name in NETWORKS:
        rows = [row for key, row in known.items() if key.startswith(f"{name}, seed")]
        for scheme in SCHEMES if rows else ():
            mean = {field: float(np.mean([row[scheme][field] for row in rows])) for field in rows[0][scheme]}
            apart = [row[scheme]["largest_difference"] for row in rows]
            found[name, scheme] = {**mean, "median": float(np.median(apart)), "largest": max(apart), "folds": len(rows)}
    return found


def cells(name: str, scheme: str, one: dict[str, float]) -> tuple[str, ...]:
    """A row of the table."""
    return (name, scheme, f"{one['float_accuracy']:.2%}", f"{one['device_accuracy']:.2%}",
            f"{one['float_cross_entropy']:.3f}", f"{one['device_cross_entropy']:.3f}", f"{one['equal_steps']:.2%}",
            f"{one['median']:.2%}", f"{one['largest']:.2%}")


def table(known: dict[str, Any]) -> Table:
    """The summary, as it stands in docs/quantization.md."""
    shown = Table()
    for heading in ("network", "scheme", "recognized: float", "device", "cross-entropy: float", "device", "equal steps",
                    "logits: median", "largest"):
        shown.add_column(heading, justify="left" if heading in ("network", "scheme") else "right")
    for (name, scheme), one in summary(known).items():
        shown.add_row(*cells(name, scheme, one))
    return shown


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=0, help="seeds to have figures of; without, the table alone (0)")
    parser.add_argument("--data", type=Path, help="folder of BasicMotions  [default: the package aeon's]")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    record(options.seeds, options.data) if options.seeds else None
    Console(width=120).print(table(json.loads(RESULT.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
