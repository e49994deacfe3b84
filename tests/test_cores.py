"""Every core there is a description of: the shipped policy is compiled for it, runs bit for bit, and holds."""

from __future__ import annotations

import io
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import ncpc
from ncpc.cores import core_names, likely_core, load_core
from ncpc.cores.elf import read_elf
from ncpc.cores.toolchain import BuildFailed, compile_objects
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import read_container
from ncpc.inspect.targets import target_records, target_table
from ncpc.ir.schemes import Scheme
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.base import Built, CompileOptions, Lowered, RunResult
from ncpc.targets.registry import load
from ncpc.theorem.thumb_decode import decode
from ncpc.theorem.undecided import Undecided
from tests.conftest import RequireProgram, RequireTool

ROOT = Path(__file__).parent.parent
CARTPOLE = ROOT / "examples" / "cartpole" / "policy.safetensors"
FLOATING = [name for name in core_names() if load_core(name).hard_float]
STEPS: dict[Scheme, int] = {"int16": 100, "float32": 8}


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


@cache
def lowered(scheme: Scheme) -> Lowered:
    return lower_for(read_container(CARTPOLE), CompileOptions(quant=scheme)).lowered


def inputs(scheme: Scheme) -> Sequences:
    """Observations over the declared ranges and beyond, with a reset in between."""
    low, high = lowered(scheme).policy.input_range.T
    x = np.random.default_rng(5).uniform(1.2 * low, 1.2 * high, (2, STEPS[scheme] // 2, len(low)))
    reset = np.zeros(x.shape[:2], bool)
    reset[1, STEPS[scheme] // 4] = True
    return Sequences(x, reset=reset)


def executed(core: str, scheme: Scheme, folder: Path, cc: str = "zig") -> tuple[Built, RunResult]:
    artifact = load(core).prepare(lowered(scheme), CompileOptions(quant=scheme, cc=cc))
    for name, text in artifact.files.items():
        (folder / name).write_bytes(text)
    return artifact.build(folder), artifact.run(folder, inputs(scheme), core)


@pytest.mark.parametrize("scheme", STEPS)
@pytest.mark.parametrize("core", core_names())
def test_cartpole_runs_bit_for_bit(core: str, scheme: Scheme, tmp_path: Path) -> None:
    built, result = executed(core, scheme, tmp_path)
    expected = run(lowered(scheme).program, inputs(scheme))
    for name in ("raw_y", "raw_state", "flags"):
        assert np.array_equal(getattr(result.trace, name), getattr(expected, name)), name
    assert np.ptp(expected.y) > 0.1
    assert built.memory is not None
    assert 1000 < built.memory.flash_bytes < 20_000
    counts = result.cycles
    assert (counts is None) == (load_core(core).timing_class == "count")
    if counts is not None:
        assert (counts.lower >= result.instructions).all()
        assert (counts.lower <= counts.upper).all()
        exact = load_core(core).timing_class in ("manual", "rtl-checked")
        assert np.array_equal(counts.lower, counts.upper) == exact


@pytest.mark.parametrize("core", core_names())
def test_cartpole_runs_bit_for_bit_as_the_core_s_gcc_compiles_it(
    core: str, tmp_path: Path, require_program: RequireProgram
) -> None:
    gcc = require_program(load_core(core).gcc_command, optional=True)
    _, result = executed(core, "int16", tmp_path, gcc)
    assert np.array_equal(result.trace.raw_state, run(lowered("int16").program, inputs("int16")).raw_state)


@pytest.mark.slow
@pytest.mark.parametrize(("core", "scheme"), [*((name, "int16") for name in core_names()),
                                              *((name, "float32") for name in FLOATING)])
def test_cartpole_holds(core: str, scheme: Scheme, tmp_path: Path) -> None:
    outcome = ncpc.compile(CARTPOLE, tmp_path, target=core, quant=scheme, steps=400)
    assert outcome.holds
    assert [link["holds"] for link in outcome.report["links"] if link["kind"] == "bitwise"] == [True, True]


@pytest.mark.parametrize("core", FLOATING)
def test_floats_run_on_the_fpu_and_only_there(core: str, tmp_path: Path) -> None:
    """No function of a library is called; and compiled without the FPU, the sources say what is missing."""
    executed(core, "float32", tmp_path)
    assert not [s for s in read_elf((tmp_path / "cartpole.elf").read_bytes()).functions if "aeabi_f" in s.name]
    files = {name: (tmp_path / name).read_bytes() for name in ("cartpole.c", "cartpole.h")}
    compile_objects(files, load_core(core), None)
    with pytest.raises(BuildFailed, match="made for a core with an FPU: compile it with -mfloat-abi=hard"):
        compile_objects(files, load_core("cortex-m4"), None)
    soft = load("cortex-m4").prepare(lowered("float32"), CompileOptions(quant="float32"))
    assert b"__ARM_PCS_VFP" not in soft.files["cartpole.c"]


MEANT = {"stm32f4": "cortex-m4f", "STM32F407VG": "cortex-m4f", "nRF52840": "cortex-m4f", "m4f": "cortex-m4f",
         "Cortex-M4F": "cortex-m4f", "cortex_m4": "cortex-m4", "stm32f103": "cortex-m3", "stm32h743": "cortex-m7",
         "stm32u5": "cortex-m33f", "rp2040": "cortex-m0plus", "m0+": "cortex-m0plus",
         "rp2350": "cortex-m33f", "RP2350-RISCV": "rv32imac-hazard3", "ESP32-C3-MINI": "rv32imc-esp32c3",
         "ibex": "rv32imc-ibex"}


@pytest.mark.parametrize("name", MEANT)
def test_an_unknown_name_is_answered_with_the_likely_core(name: str) -> None:
    assert likely_core(name) == MEANT[name]
    with pytest.raises(Unsupported, match=f"target '{re.escape(name)}': unknown; did you mean '{MEANT[name]}'"):
        load(name)
    with pytest.raises(BadInput, match=f"unknown core '{re.escape(name)}': did you mean '{MEANT[name]}'"):
        load_core(name)


@pytest.mark.parametrize("name", ["z80", "toaster", "", "m"])
def test_what_is_like_no_core_is_answered_with_none(name: str) -> None:
    assert likely_core(name) is None


def test_the_table_of_targets_names_every_core_in_full() -> None:
    table = Console(width=80, record=True, file=io.StringIO())
    table.print(target_table(target_records()))
    shown = table.export_text()
    assert all(re.search(rf"│ {name} +│", shown) for name in core_names())
    assert all(line.endswith(("│", "┓", "┩", "┘")) for line in shown.splitlines() if line[:1] in "│┏┡└")


def test_no_chip_belongs_to_two_cores() -> None:
    chips = [chip for name in core_names() for chip in load_core(name).chips]
    assert len(chips) == len(set(chips))
    assert all(likely_core(chip) == name for name in core_names() for chip in load_core(name).chips)


def test_the_docs_name_every_core_in_the_class_that_it_claims() -> None:
    text = (ROOT / "docs" / "simulator.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| .*? \| (.*?) ?\|$", text, re.MULTILINE))
    classes = {cls: set(re.findall(r"`([\w-]+)`", cores)) for cls, cores in rows.items()}
    assert classes == {cls: {name for name in core_names() if load_core(name).timing_class == cls}
                       for cls in ("rtl-checked", "manual", "bounds", "count")}
    assert set(re.findall(r"`([\w-]+)`", next(line for line in (ROOT / "docs" / "targets" / "c.md").read_text()
                                              .splitlines() if line.startswith("| `cortex-m4`")))) >= set(core_names())


OTHER_CODE = {"vadd.f32 s0, s1, s2": 0xEE300A81, "vldr s0, [r0]": 0xED900A00, "vpush {d8, d9}": 0xED2D8B04,
              "vmov r0, s0": 0xEE100A10, "vmrs APSR_nzcv, fpscr": 0xEEF1FA10, "vseleq.f32 s0, s0, s2": 0xFE000A01,
              "lda r0, [r1]": 0xE8D10FAF, "stl r0, [r1]": 0xE8C10FAF, "sg": 0xE97FE97F, "tt r0, r1": 0xE841F000,
              "bxns lr": 0x4774, "blxns r3": 0x479C}
"""Of the FPU, and of Armv8-M."""


@pytest.mark.parametrize("name", OTHER_CODE)
def test_code_that_the_theorem_does_not_speak_of_ends_a_proof(name: str) -> None:
    with pytest.raises(Undecided):
        decode(OTHER_CODE[name], 0)


def test_no_coprocessor_s_instruction_is_taken_for_another() -> None:
    """All of Thumb's space for coprocessors, where the FPU's are (Armv7-M Architecture Reference Manual, A5.3.18)."""
    rng = np.random.default_rng(1)
    tops = [top for top in range(0xEC00, 0x10000) if top >> 8 & 0xEC == 0xEC]
    assert {top >> 8 for top in tops} == {*range(0xEC, 0xF0), *range(0xFC, 0x100)}
    for top in tops:
        for low in rng.integers(0, 1 << 16, 4):
            with pytest.raises(Undecided):
                decode(top << 16 | int(low), 0)
