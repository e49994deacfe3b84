"""Instructions that a core has not: held against an assembler, and refused where a program holds one."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.elf_runs import built
from ncpc.cores import core_names, load_core
from ncpc.driver.job import Request
from ncpc.sim.timing_cortex_m import DSP
from ncpc.theorem.equality import Budget
from ncpc.theorem.flash import Flash
from ncpc.theorem.instruction_sets import PERMITTED, every
from ncpc.theorem.riscv import RiscvCode
from ncpc.theorem.thumb import ThumbCode
from ncpc.theorem.thumb_decode import WIDE, decode
from ncpc.theorem.thumb_encoding import Encoding
from ncpc.theorem.thumb_narrow import NARROW
from ncpc.theorem.undecided import Undecided
from tests.conftest import RequireTool
from tests.theorem.builds import ROOT


def word_of(row: Encoding, rng: random.Random) -> int:
    """Any word that is read as this row's instruction."""
    free = ~row.mask & (0xFFFFFFFF if row.value > 0xFFFF else 0xFFFF)
    while True:
        word = row.value | (rng.getrandbits(32) & free)
        try:
            if decode(word, 0).name == row.name:
                return word
        except Undecided:
            continue


def refused_by_assembler(lines: list[str], mcpu: str, file: Path) -> set[int]:
    """The lines that LLVM's assembler has no instruction for on a core."""
    file.write_text("\n".join([".syntax unified", ".thumb", *lines, ""]))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi", f"-mcpu={mcpu}", "-c",
               "-x", "assembler", "-o", os.devnull, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {int(number) - 3 for number in re.findall(r"words\.s:(\d+):\d+: error", done.stderr)}


def test_an_assembler_has_the_same_instructions_for_each_core(
    tmp_path: Path, require_tool: RequireTool
) -> None:
    """Of every row one word, as capstone writes it."""
    cs = require_tool("capstone")
    require_tool("ziglang")
    engine, rng = cs.Cs(cs.CS_ARCH_ARM, cs.CS_MODE_THUMB | cs.CS_MODE_MCLASS), random.Random(1)
    rows = [(row.name, word_of(row, rng)) for row in (*WIDE, *NARROW) if row.name not in ("it", "cbz", "cbnz")]
    found = [next(engine.disasm(code_of(word), 0)) for _, word in rows]
    lines = [f"{one.mnemonic} {one.op_str}" for one in found]
    written = set(range(len(rows))) - refused_by_assembler(lines, "cortex_m4", tmp_path / "words.s")
    assert len([k for k in written if DSP.fullmatch(rows[k][0])]) > 40
    for mcpu, isa in (("cortex_m3", "armv7-m"), ("cortex_m0", "armv6-m")):
        refused = refused_by_assembler(lines, mcpu, tmp_path / "words.s")
        wrong = [lines[k] for k in sorted(written)
                 if (k in refused) == PERMITTED[isa](rows[k][0], 4 if rows[k][1] > 0xFFFF else 2)]
        assert wrong == []


def code_of(word: int) -> bytes:
    halves = (word >> 16, word & 0xFFFF) if word > 0xFFFF else (word,)
    return b"".join(half.to_bytes(2, "little") for half in halves)


def test_every_core_names_a_set_that_is_known() -> None:
    assert {load_core(name).isa for name in core_names()} <= set(PERMITTED)


@pytest.mark.parametrize(("isa", "halves", "name"), [
    ("armv6-m", (0xB100,), "cbz"), ("armv6-m", (0xBF18, 0x2001), "it"), ("armv6-m", (0xFBB0, 0xF0F1), "udiv"),
    ("armv7-m", (0xFB20, 0x0001), "smlad"), ("rv32im", (0x4501,), "addi"),
])
def test_what_the_core_has_not_is_refused_and_what_others_have_is_read(
    isa: str, halves: tuple[int, ...], name: str
) -> None:
    flash = Flash(((0, np.array([*halves, 0x4770, 0x4770], "<u2").view(np.uint8)),))
    kind = RiscvCode if isa.startswith("rv") else ThumbCode
    assert kind(flash, permits=every).at(0).name == name
    with pytest.raises(Undecided, match=f"the core has no {name}"):
        kind(flash, permits=PERMITTED[isa]).at(0)


def test_another_cores_program_is_not_proved(tmp_path: Path, require_tool: RequireTool) -> None:
    """The Cortex-M4's step computes the same, and a Cortex-M0 cannot run it."""
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)
    folders = [tmp_path / core for core in ("cortex-m4", "cortex-m0")]
    for folder in folders:
        folder.mkdir()
    policy = ROOT / "examples" / "sine" / "policy.safetensors"
    large, small = (built(folder, policy, Request(folder.name)) for folder in folders)
    found = small.prove(large.elf, Budget(20.0))
    assert found.answer == "undecided"
    assert "the core has no " in found.why
