"""Faults planted into linked steps: what the proof says of each is what an emulator says, which knows nothing of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ncpc.frontend.container import write_policy
from tests.conftest import RequireTool
from tests.nets import random_policy


@pytest.fixture(scope="module", autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla", "unicorn"):
        require_tool(module)


def test_the_committed_run_is_borne_out_by_the_emulator() -> None:
    from benchmarks.elf_faults import RESULT, is_sound, totals
    from benchmarks.elf_plants import KINDS

    record = json.loads(RESULT.read_text())
    rows = record["faults"]
    assert [(row["kind"], row["number"]) for row in rows] == [(k, n) for k, (count, _) in KINDS.items()
                                                              for n in range(count)]
    assert len(rows) == 200
    assert all(map(is_sound, rows))
    assert all(row["runs"] >= 10_000 for row in rows if row["answer"] == "proved")
    assert record["totals"] == totals(rows)


def test_a_fault_of_each_kind_is_judged_as_the_emulator_judges_it(tmp_path: Path) -> None:
    """In another network's step than that of the committed run."""
    from benchmarks.elf_faults import build_of, is_sound, judged
    from benchmarks.elf_plants import faults, linked
    from benchmarks.elf_runs import Board, drawn
    from ncpc.targets.c.device import calls
    from ncpc.theorem.equality import Budget

    write_policy(random_policy(4, neurons=4, outputs=1, unfolds=2), tmp_path / "net.safetensors")
    build = build_of(tmp_path, tmp_path / "net.safetensors")
    batches = [drawn(build, seed) for seed in (1, 2)]
    assert build.prove(build.elf, Budget(120)).answer == "proved"
    assert all(Board(build, build.elf).first_wrong(some) is None for some in batches)
    program = linked(build.elf, calls(build.artifact.face).step)
    rows = [judged(build, program, fault, batches, seconds=4) for fault in faults(program) if fault.number == 0]
    assert [row for row in rows if not is_sound(row)] == []
    assert len({row["kind"] for row in rows}) == len(rows) == 8
    assert {row["answer"] for row in rows} >= {"differs", "proved", "refused"}
