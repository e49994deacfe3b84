"""What one run of a build showed: a record for machines, tables for people, every step as npz."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ncpc.ir.sequences import Sequences
from ncpc.report.record import Json, device_cycles, plain, spread
from ncpc.report.terminal import size
from ncpc.system.files import write_atomically
from ncpc.targets.base import Memory, RunResult


def run_record(result: RunResult, data: Sequences) -> Json:
    """One run as JSON: steps, flags, output ranges, instructions, cycles, profile."""
    record: Json = plain({
        "runtime": result.runtime, "runtime_version": result.runtime_version, "options": result.options,
        "steps": data.steps,
        "steps_with_flags": int((result.trace.flags != 0).sum()),
        "outputs": [{"lo": lo, "hi": hi} for lo, hi in zip(result.trace.y.min(axis=(0, 1)),
                                                           result.trace.y.max(axis=(0, 1)), strict=True)],
        "instructions": spread(result.instructions),
        "cycles": None if result.cycles is None else device_cycles(result.cycles),
        "memory": None if result.memory is None else _memory(result.memory),
    })
    return record


def _memory(memory: Memory) -> Json:
    """As in a report, without the stack of what a run of steps does not call."""
    return {name: getattr(memory, name) for name in ("flash_bytes", "ram_bytes", "step_stack_bytes")}


def run_tables(record: Json) -> list[Table]:
    """One run for people: what it was, and where the cycles went."""
    table = Table(title=f"{record['runtime']} {record['runtime_version']}", title_justify="left", show_header=False)
    table.add_row("steps", f"{record['steps']:,}")
    table.add_row("steps with status flags", f"{record['steps_with_flags']:,}")
    for i, output in enumerate(record["outputs"]):
        table.add_row(f"output {i}", f"{output['lo']:.5g} .. {output['hi']:.5g}")
    for name, counts in (("instructions", record["instructions"]), *_cycle_rows(record)):
        if counts:
            table.add_row(f"{name} per step", f"{counts['min']:,} .. {counts['max']:,}, mean {counts['mean']:,.1f}")
    if record["memory"] and record["memory"]["step_stack_bytes"] is not None:
        table.add_row("stack of a step", size(record["memory"]["step_stack_bytes"]))
    profile = (record["cycles"] or {}).get("per_function", {})
    return [table, *([_profile(profile)] if profile else [])]


def _cycle_rows(record: Json) -> list[tuple[str, Json | None]]:
    cycles = record["cycles"] or {}
    return [("cycles, lower bound", cycles.get("lower")), ("cycles, upper bound", cycles.get("upper"))]


def _profile(profile: Mapping[str, float]) -> Table:
    table = Table(title="cycles per step by function", title_justify="left")
    table.add_column("function")
    table.add_column("cycles", justify="right")
    table.add_column("share", justify="right")
    total = sum(profile.values()) or 1.0
    for name, count in sorted(profile.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{count:,.1f}", f"{100 * count / total:.1f} %")
    return table


def write_run(result: RunResult, data: Sequences, out: Path) -> None:
    """Inputs, outputs, states and counts of every step as npz."""
    arrays: dict[str, Any] = {"x": data.x, "y": result.trace.y, "state": result.trace.state,
                              "flags": result.trace.flags, "raw_y": result.trace.raw_y,
                              "raw_state": result.trace.raw_state}
    optional = {"dt": data.dt, "reset": data.reset, "instructions": result.instructions}
    if result.cycles is not None:
        optional |= {"cycles_lower": result.cycles.lower, "cycles_upper": result.cycles.upper}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_atomically(out, file.getvalue())
