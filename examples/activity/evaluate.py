"""What a compiled activity classifier recognizes, beside the network it came from, on recordings that neither has seen.

The compiled policy is what stands in the build folder: the simulated device's binary, or the library of a host build.
It sees every recording step by step, as a watch would; the network in float64 sees the same.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import ncpc
from examples.activity import data
from examples.activity.data import F64, Recordings
from ncpc.errors import NcpcError
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

EXAMPLES = """examples:
  ncpc compile examples/activity/policy.safetensors --target cortex-m4 --quant w8a16 -o build/
  python -m examples.activity.evaluate build/
  python -m examples.activity.evaluate build/ --json

exit code: 0 if the device recognizes as many recordings as the network, 1 if fewer, 2 for a folder that is no build,
3 if the build's runtime or the recordings are not installed.
"""


@dataclass(frozen=True)
class Figures:
    """Of the last step of every recording, after ten seconds: shares of right answers, cross-entropies in nats, the
    share of equal answers; ``equal_steps`` is that of all steps, ``largest_difference`` of logits over their range.
    """

    recordings: int
    float_accuracy: float
    device_accuracy: float
    float_cross_entropy: float
    device_cross_entropy: float
    equal_answers: float
    equal_steps: float
    largest_difference: float


def accuracy(logits: F64, recordings: Recordings) -> float:
    """The share of recordings whose last step names the right activity; logits (B, T, 4)."""
    return float(np.mean(logits[:, -1].argmax(1) == recordings.label))


def cross_entropy(logits: F64, recordings: Recordings) -> float:
    """Mean cross-entropy of the last step's logits (B, T, 4), in nats."""
    last = logits[:, -1] - logits[:, -1].max(1, keepdims=True)
    return float(np.mean(np.log(np.exp(last).sum(1)) - last[np.arange(len(recordings)), recordings.label]))


def compared(reference: F64, device: F64, recordings: Recordings) -> Figures:
    """The figures of two sets of logits (B, T, 4) for the same recordings."""
    equal = reference.argmax(2) == device.argmax(2)
    return Figures(len(recordings), accuracy(reference, recordings), accuracy(device, recordings),
                   cross_entropy(reference, recordings), cross_entropy(device, recordings), float(equal[:, -1].mean()),
                   float(equal.mean()), float(np.abs(device - reference).max() / np.ptp(reference)))


def evaluate(build: Path, recordings: Recordings) -> Figures:
    """The build in ``build`` and the policy stored with it, on the same recordings."""
    policy = ncpc.load(build / "policy.safetensors")
    reference = run(fix_dt(lower(policy), policy.dt.nominal), Sequences(recordings.x)).y
    device = ncpc.open(build)
    try:
        return compared(reference, np.stack([_watched(device, x) for x in recordings.x]), recordings)
    finally:
        device.close()


def _watched(device: Any, x: F64) -> F64:
    """The logits (T, 4) of one recording (T, 6), from the reset state."""
    device.reset()
    return np.stack([device.step(reading) for reading in x])


def show(found: Figures, console: Console) -> None:
    table = Table(title=f"{found.recordings} recordings that neither has seen")
    for heading in ("", "network", "device"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("recognized", f"{found.float_accuracy:.1%}", f"{found.device_accuracy:.1%}")
    table.add_row("cross-entropy", f"{found.float_cross_entropy:.4f}", f"{found.device_cross_entropy:.4f}")
    console.print(table)
    console.print(f"equal answers: {found.equal_answers:.2%} after ten seconds, {found.equal_steps:.2%} of all steps; "
                  f"logits differ by at most {found.largest_difference:.2%} of their range")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.activity.evaluate", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path, help="folder made by 'ncpc compile'")
    parser.add_argument("--data", type=Path, help="folder with BasicMotions_TEST.ts  [default: the package aeon's]")
    parser.add_argument("--json", action="store_true", help="print figures as JSON instead of a table")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    try:
        found = evaluate(options.build, data.read("TEST", options.data))
    except NcpcError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(asdict(found), indent=2)) if options.json else show(found, Console(width=110))
    return 0 if found.device_accuracy >= found.float_accuracy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
