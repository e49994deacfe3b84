"""Products of 64 bits from 16-bit parts, as cores without the instruction form them: exact, defined, certified."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores import core_names, load_core
from ncpc.cores.toolchain import WARNINGS, compile_objects, find_compiler
from ncpc.driver.certification import range_certificate
from ncpc.proofs import certify
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.parts import PARTS
from ncpc.targets.c.support import support
from ncpc.targets.c.symbols import undefined_symbols
from tests.c_programs import assert_c_is_program, deep_policy, fixed_program, small_policy
from tests.test_c_code import cell_programs
from tests.undefined import FLAGS_OF_UBSAN

LARGEST = {"mulshr": 62, "mulshr_u": 62, "mulshr_16": 46, "mix_16": 15}
"""The shifts that each function takes are 1 to this."""
WORDS = [0, 1, 2, 3, (1 << 15) - 1, 1 << 15, (1 << 15) + 1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 0x7FFF0000,
         0x7FFF8000, (1 << 31) - 1, 1 << 31, (1 << 31) + 1, 0x80007FFF, 0x80008000, 0x8000FFFF, 0xFFFF0000, 0xFFFF7FFF,
         0xFFFF8000, (1 << 32) - 1, 0x12345678, 0xABCDEF01]
MAIN = """
#include <stdint.h>
#include <stdio.h>
PIECES
int main(void)
{
    int32_t n[4];
    while (fread(n, sizeof n, 1, stdin) == 1) {
        const int32_t result = CALL;
        fwrite(&result, sizeof result, 1, stdout);
    }
    return 0;
}
"""
CALLS = {"mulshr": "mulshr(n[0], n[1], n[3])", "mulshr_u": "mulshr_u((uint32_t)n[0], n[1], n[3])",
         "mulshr_16": "mulshr_16(n[0], n[1], n[3])", "mix_16": "mix_16(n[0], n[1], n[2], n[3])"}


def arguments(name: str) -> np.ndarray:
    """(n, 4) int64: a, b, t, k; corners of words and halves, drawn ones, all shifts; what 32 bits hold."""
    rng = np.random.default_rng(0)
    corners = np.array(WORDS)
    a, b = (np.concatenate([grid.reshape(-1), rng.integers(0, 1 << 32, 400)]) for grid in np.meshgrid(corners, corners))
    if name != "mulshr_u":
        a = a.astype(np.uint32).astype(np.int32)
    b = b.astype(np.uint32).astype(np.int32)
    if name == "mulshr_16":
        b = b.astype(np.int16)
    t = rng.choice([0, 1, 0x8000, 0x7FFF, 0x4000, 0x1234, 2, 16], len(a))
    rows = [(int(x), int(y), int(z), k) for k in range(1, LARGEST[name] + 1) for x, y, z in zip(a, b, t, strict=True)]
    return np.array([row for row in rows if -(1 << 31) <= exact(name, *row) < 1 << 31
                     and (name != "mix_16" or row[2] <= 1 << row[3])], np.int64)


def exact(name: str, a: int, b: int, t: int, k: int) -> int:
    """What the function is to give, in Python's integers."""
    if name == "mix_16":
        return a + (((b - a) * t + (1 << (k - 1))) >> k)
    return (a * b + (1 << (k - 1))) >> k


def made(name: str, folder: Path, rows: np.ndarray, old: str = "", new: str = "") -> np.ndarray | str:
    """What the C gives, (n,), or what UBSan says; with one text replaced by another."""
    piece = PARTS[name].replace(old, new, 1) if old else PARTS[name]
    (folder / "main.c").write_text(MAIN.replace("PIECES", piece).replace("CALL", CALLS[name]))
    command = [*find_compiler(None).command, *FLAGS_OF_UBSAN, *(w for w in WARNINGS if "error" not in w), "main.c"]
    subprocess.run([*command, "-o", "main"], cwd=folder, check=True)
    done = subprocess.run([folder / "main"], input=rows.astype(np.uint32).tobytes(), capture_output=True, check=False)
    said = done.stderr.decode()
    return said or np.frombuffer(done.stdout, np.int32)


@pytest.mark.parametrize("name", PARTS)
def test_each_function_is_exact_and_defined(name: str, tmp_path: Path) -> None:
    rows = arguments(name)
    assert set(rows[:, 3]) == set(range(1, LARGEST[name] + 1))
    np.testing.assert_array_equal(made(name, tmp_path, rows), [exact(name, *map(int, row)) for row in rows])


@pytest.mark.parametrize(("name", "old", "new"), [
    ("mulshr", "(middle & 65535)", "middle"), ("mulshr", "k > 16 && k <= 32", "k > 16 && k < 32"),
    ("mulshr", "(int32_t)1 << (k - 17)", "(int32_t)1 << (k - 16)"), ("mulshr", "(low >> 16)", "(low >> 15)"),
    ("mulshr", "k <= 16 ?", "k < 16 ?"), ("mulshr", "(uint32_t)upper << 16", "(uint32_t)upper << 15"),
    ("mulshr", "b_high + (middle >> 16)", "b_high + (int32_t)((uint32_t)middle >> 16)"),
    ("mulshr_u", "(int32_t)(upper >> 16)", "((int32_t)upper >> 16)"), ("mulshr_16", "k - 17", "k - 18"),
    ("mulshr_16", "(low >> 16)", "(int32_t)((uint32_t)low >> 16)"), ("mix_16", "(b & 65535)", "(b & 32767)"),
    ("mulshr", "((high >> (k - 33)) + 1) >> 1", "(high >> (k - 32))"),
])
def test_a_slip_in_a_function_is_seen(name: str, old: str, new: str, tmp_path: Path) -> None:
    assert old in PARTS[name]
    rows = arguments(name)
    found = made(name, tmp_path, rows, old, new)
    assert isinstance(found, str) or (found != [exact(name, *map(int, row)) for row in rows]).any()


def test_the_checker_knows_the_functions_as_they_are_emitted() -> None:
    pieces = certify.known_pieces("NET")
    for text in PARTS.values():
        bare = "\n".join(line for _, line in certify.lines_of(text, "parts"))
        assert any(re.fullmatch(piece, bare) for piece in pieces)


PROGRAMS = {
    "int16": lambda: fixed_program(small_policy(3), "int16", "runtime"),
    "int8": lambda: fixed_program(deep_policy(3), "int8", "fixed"),
    "cfc": lambda: cell_programs("cfc", 1, "int16"),
    "gated": lambda: cell_programs("gated", 1, "int16"),
    "ct_gru": lambda: cell_programs("ct_gru", 1, "int16"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_c_is_the_program_and_certified(name: str, tmp_path: Path) -> None:
    program = PROGRAMS[name]()
    assert_c_is_program(program, tmp_path, 3, long_products=False)
    files = emit_c(interface_of(program), long_products=False)
    assert (b"int64_t" in files[f"{interface_of(program).name}.c"]) == (name == "ct_gru")  # a weight of 28 bits
    found = range_certificate(program, files)
    assert found.holds, found.note


def test_cores_without_long_products_call_no_function_for_one(require_tool) -> None:
    require_tool("elftools")
    short = [core for core in map(load_core, core_names()) if not core.long_products]
    assert {core.name.split("-mul32")[0] for core in short} == {"cortex-m0", "cortex-m0plus"}
    face = interface_of(PROGRAMS["int16"]())
    for products, needed in ((True, ["__aeabi_lmul"]), (False, [])):
        objects = compile_objects(emit_c(face, long_products=products), short[0], None)
        assert [name for name in undefined_symbols(objects) if "mul" in name] == needed


def test_pieces_are_those_of_the_core() -> None:
    assert "int64_t" in "".join(support({"mulshr", "mulshr_u"}))
    assert "int64_t" not in "".join(support({"mulshr", "mulshr_u"}, long_products=False))
