"""The example in docs/targets/c.md is compiled and run; the committed figures reach the goals."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.c_programs import fixed_program, small_policy

pytest.importorskip("torch")
pytest.importorskip("ncps")

from benchmarks import m4_cycles

ROOT = Path(__file__).parent.parent


def test_the_documented_example_runs(tmp_path: Path, require_tool) -> None:
    require_tool("ziglang")
    (example,) = re.findall(r"```c\n(.*?)```", (ROOT / "docs/targets/c.md").read_text(), re.DOTALL)
    sources = emit_c(interface_of(fixed_program(dataclasses.replace(small_policy(0), name="policy"))))
    for name, text in {**sources, "main.c": example.encode()}.items():
        (tmp_path / name).write_bytes(text)
    compiler = [sys.executable, "-m", "ziglang", "cc", "-std=c99", "-Wall", "-Wextra"]
    subprocess.run([*compiler, "policy.c", "main.c", "-o", "demo"], cwd=tmp_path, check=True, capture_output=True)
    assert subprocess.run([tmp_path / "demo"], check=False).returncode == 0


def test_committed_cycles_reach_the_goal() -> None:
    rows = json.loads(m4_cycles.RESULT.read_text())["rows"]
    held = [row for row in rows if m4_cycles.held_to_goal(row)]
    assert len(held) == 2
    for row in held:
        assert row["cycles"] <= row["goal"]
        assert row["ram_bytes"] + row["stack_bytes"] <= m4_cycles.RAM_AND_STACK


def test_committed_costs_grow_with_the_synapses() -> None:
    rows = [row for row in json.loads(m4_cycles.RESULT.read_text())["rows"] if row["network"].startswith("growth")]
    for core in m4_cycles.CORES:
        growth = [row for row in rows if row["core"] == core]
        per_synapse = [row["cycles"] / row["evaluations"] for row in growth]
        assert max(per_synapse) <= 1.1 * min(per_synapse)
        small, middle, large = (growth[i]["flash_bytes"] for i in (0, -2, -1))
        assert large - middle <= 1.1 * (middle - small) * 128 / 120


@pytest.mark.slow
def test_cycles_can_be_had_again(tmp_path: Path, require_tool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone", "torch", "ncps"):
        require_tool(module)
    path = m4_cycles.FOLDER / "autoncp19-trained.safetensors"
    row = m4_cycles.measure("autoncp19-trained", path, "fixed", "cortex-m4", tmp_path)
    (committed,) = [r for r in json.loads(m4_cycles.RESULT.read_text())["rows"]
                    if (r["network"], r["core"]) == (row["network"], row["core"])]
    assert row["cycles"] == committed["cycles"]
