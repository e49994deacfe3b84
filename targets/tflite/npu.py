"""Arm Ethos-U: the file compiled by Vela, and what Vela says of it.

The figures are Vela's own estimate from its model of the NPU and of the system configuration it names; nothing here
was run on an NPU or on a model of one.
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ncpc.errors import ProofFailed, Unsupported
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.tflite import libraries

CHOICES = ("none", "ethos-u55-128", "ethos-u85-256")
AREAS = ("sram", "dram", "on_chip_flash", "off_chip_flash")


@dataclass(frozen=True)
class Compiled:
    """What Vela made: files added beside the source, tools, what the report gets, what was missing."""

    files: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


def refuse(lowered: Lowered, options: CompileOptions) -> None:
    """Raises Unsupported for an NPU with float32, or with variables: an Ethos-U has neither."""
    unit = options.extra.get("npu", "none")
    if unit != "none" and lowered.numbers.arithmetic == "float":
        raise Unsupported(f"--npu {unit}: an Ethos-U computes in integers; use --quant int16 (int16x8) or int8")
    if unit != "none" and options.extra.get("state", "input") != "input":
        raise Unsupported(f"--npu {unit}: an Ethos-U has no resource variables; use --state input")


def compile_file(source: Path, unit: str) -> Compiled:
    """Vela's output beside ``source`` and its summary; nothing when no NPU is asked for."""
    if unit == "none":
        return Compiled()
    if find_spec("ethosu") is None:
        return Compiled(missing=("ethos-u-vela is not installed, the file was not compiled for the NPU: "
                                 "pip install 'ncpc[npu]'",))
    with tempfile.TemporaryDirectory() as scratch:
        log = _vela(source, unit, Path(scratch))
        made = Path(scratch, f"{source.stem}_vela.tflite")
        target = source.with_name(f"{source.stem}_{unit}.tflite")
        target.write_bytes(made.read_bytes())
        summary = next(Path(scratch).glob("*_summary_*.csv")).read_text()
    version = libraries.installed("ethos-u-vela")
    return Compiled((target.name,), {"ethos-u-vela": version}, {"npu": facts(unit, log, summary, version)})


def _vela(source: Path, unit: str, folder: Path) -> str:
    command = [sys.executable, "-m", "ethosu.vela", str(source), "--accelerator-config", unit,
               "--output-dir", str(folder), "--show-cpu-operations"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["no message"]
        raise ProofFailed(f"vela cannot compile the file for {unit}: {lines[-1]}")
    return done.stdout


def facts(unit: str, log: str, summary: str, version: str) -> dict[str, Any]:
    """What the report says: operators on NPU and CPU, memory in bytes, and Vela's estimate of cycles and time."""
    row = next(csv.DictReader(summary.splitlines()))
    kibibytes = {area: float(row[f"{area}_memory_used"]) for area in AREAS}
    return {
        "accelerator": unit, "vela": version,
        "system_config": row["system_config"], "memory_mode": row["memory_mode"],
        "operators": {"npu": _count(log, "NPU"), "cpu": _count(log, "CPU")},
        "memory_bytes": {area: round(used * 1024) for area, used in kibibytes.items()},
        "estimate": {"by": f"Vela {version}'s own model, nothing was run", "cycles": int(float(row["cycles_total"])),
                     "inference_seconds": float(row["inference_time"]), "clock_hz": float(row["core_clock"])},
    }


def _count(log: str, side: str) -> int:
    found = re.search(rf"{side} operators = ([\d,]+)", log)
    if found is None:
        raise ProofFailed(f"vela did not say how many operators run on the {side}")
    return int(found.group(1).replace(",", ""))
