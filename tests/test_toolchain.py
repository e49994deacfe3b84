"""The C toolchain: core descriptions, ELF files and host libraries, the symbol check."""

from __future__ import annotations

import ctypes
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import ncpc.cores.toolchain as toolchain
from ncpc.cores import core_from_table, core_names, load_core
from ncpc.cores.elf import read_elf
from ncpc.cores.toolchain import BuildFailed, build_elf, build_host_library, compile_objects, linker_script
from ncpc.errors import BadInput, MissingTool
from ncpc.targets.c.symbols import check_symbols, undefined_symbols

CORES = ("cortex-m4", "rv32imc-ibex")
SOURCE = b"""
#include <stdint.h>
int32_t kept(int32_t a, int32_t b); int32_t unused(int32_t a);
static const int16_t table[4] = {1, -2, 3, -4};
static int32_t count = 7;
int32_t kept(int32_t a, int32_t b) { count += a; return table[b & 3] * a + count; }
int32_t unused(int32_t a) { return a + 1; }
"""


@pytest.fixture(autouse=True)
def _compiler(require_tool):
    require_tool("ziglang")
    require_tool("elftools")


def test_cores_are_described():
    assert set(CORES) <= set(core_names())
    for name in core_names():
        core = load_core(name)
        assert core.name == name
        assert core.timing_class in ("rtl-checked", "manual", "bounds", "count")
        assert core.flash.end <= core.ram.origin or core.ram.end <= core.flash.origin


def test_an_unknown_core_lists_the_known_ones():
    with pytest.raises(BadInput, match=r"unknown core 'z80'.*cortex-m4.*rv32imc-ibex"):
        load_core("z80")


def test_an_incomplete_description_names_the_entry():
    text = (Path(toolchain.__file__).parent / "cortex-m4.toml").read_text()
    table = tomllib.loads(text)
    del table["ram"]["bytes"]
    with pytest.raises(BadInput, match="'bytes' is missing"):
        core_from_table(table, "here")


@pytest.mark.parametrize("name", core_names())
def test_the_same_sources_give_the_same_bytes(name):
    first, second = (build_elf({"a.c": SOURCE}, load_core(name), None, ["kept"]) for _ in range(2))
    assert first.elf == second.elf
    assert first.map == second.map
    for trace_of_the_folder in (b"ncpc-build-", b"/tmp", b".debug"):
        assert trace_of_the_folder not in first.elf


@pytest.mark.parametrize("name", core_names())
def test_roots_are_kept_and_the_rest_is_dropped(name):
    core = load_core(name)
    image = read_elf(build_elf({"a.c": SOURCE}, core, None, ["kept"]).elf)
    names = {s.name for s in image.symbols}
    assert {"kept", "table", "count", "Reset"} <= names
    assert "unused" not in names
    assert "memcpy" not in names
    assert core.flash.origin <= image.address("kept") < core.flash.end
    assert core.ram.origin <= image.address("count") < core.ram.end
    assert image.ram_bytes == 4
    assert image.flash_bytes >= image.symbol("kept").size + 8 + 4
    with pytest.raises(BadInput, match="no symbol 'unused'"):
        image.address("unused")


def test_other_sources_lie_beside_the_compiled_ones():
    files = {"a.c": b'#include "a.h"\nint f(void) { return A; }\n', "a.h": b"#define A 3\nint f(void);\n"}
    built = build_elf(files, load_core("cortex-m4"), None, ["f"])
    assert list(built.objects) == ["a.c"]
    assert " f\n" in built.map


def test_memory_for_the_script_comes_from_the_core():
    core = load_core("cortex-m4")
    small = replace(core, flash=replace(core.flash, size=64))
    assert "ORIGIN = 0x08000000, LENGTH = 0x40" in linker_script(small, ["f"])
    with pytest.raises(BuildFailed, match="FLASH"):
        build_elf({"a.c": SOURCE}, small, None, ["kept"])


def test_a_refused_source_gives_its_first_error_in_one_line():
    with pytest.raises(BuildFailed, match=r"a\.c:1:\d+: error: ") as caught:
        build_elf({"a.c": b"int f(void) { return nothing; }"}, load_core("cortex-m4"), None, ["f"])
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_a_source_name_with_a_folder_is_refused():
    with pytest.raises(BadInput, match="plain names"):
        build_elf({"../a.c": SOURCE}, load_core("cortex-m4"), None, ["kept"])


@pytest.mark.parametrize("cc", [None, "zig", "gcc", "clang"])
def test_host_library_runs(cc, tmp_path, require_program):
    if cc in ("gcc", "clang"):
        require_program(cc, optional=True)
    path = tmp_path / "a.so"
    path.write_bytes(build_host_library({"a.c": SOURCE}, cc))
    library = ctypes.CDLL(str(path))
    assert library.kept(10, 1) == -20 + 17
    assert library.kept(10, 1) == -20 + 27


def test_missing_compilers_are_named(monkeypatch):
    with pytest.raises(MissingTool, match="'no-such-cc' was not found"):
        build_elf({"a.c": SOURCE}, load_core("cortex-m4"), "no-such-cc", ["kept"])
    monkeypatch.setattr(toolchain, "find_spec", lambda name: None)
    toolchain._zig.cache_clear()
    with pytest.raises(MissingTool, match=r"pip install 'ncpc\[c\]'"):
        build_host_library({"a.c": SOURCE})


def test_warnings_are_those_of_both_compilers(require_program):
    clean = b"int f(int a); int f(int a) { return a; }\n"
    narrowing = b"#include <stdint.h>\nint16_t f(int a); int16_t f(int a) { return a; }\n"
    for cc in (None, require_program("gcc", optional=True)):
        build_host_library({"a.c": clean}, cc, extra_flags=toolchain.WARNINGS)
        with pytest.raises(BuildFailed, match="conversion"):
            build_host_library({"a.c": narrowing}, cc, extra_flags=toolchain.WARNINGS)


@pytest.mark.parametrize("name", core_names())
def test_the_core_s_gcc_links_the_same_program(name, require_program):
    core = load_core(name)
    require_program(core.gcc_command, optional=True)
    first, second = (build_elf({"a.c": SOURCE}, core, core.gcc_command, ["kept"]) for _ in range(2))
    image = read_elf(first.elf)
    assert first.elf == second.elf
    assert image.machine == core.elf_machine
    assert core.flash.origin <= image.address("kept") < core.flash.end
    assert "gcc" in first.compiler
    assert check_symbols(first.objects) == []


M0 = {"zig_mcpu": "cortex_m0", "zig_flags": ()}
NO_MULTIPLY = {"zig_mcpu": "generic_rv32+c"}
FORBIDDEN = [
    ("cortex-m4", {}, "void *f(int a) { return malloc((unsigned)a); }", "malloc"),
    ("cortex-m4", {}, 'int f(int a) { return printf("%d", a); }', "printf"),
    ("cortex-m4", {}, "double sqrt(double); float expf(float); float f(float a) { return expf(a); }", "expf"),
    ("cortex-m4", {}, "long long f(long long a, long long b) { return a / b; }", "__aeabi_ldivmod"),
    ("cortex-m4", {}, "unsigned long long f(unsigned long long a, unsigned b) { return a / b; }", "__aeabi_uldivmod"),
    ("cortex-m4", {}, "float f(float a, float b) { return a + b; }", "__aeabi_fadd"),
    ("cortex-m4", M0, "int f(int a, int b) { return a / b; }", "__aeabi_idiv"),
    ("cortex-m4", M0, "unsigned f(unsigned a, unsigned b) { return a / b; }", "__aeabi_uidiv"),
    ("rv32imc-ibex", {}, "long long f(long long a, long long b) { return a / b; }", "__divdi3"),
    ("rv32imc-ibex", NO_MULTIPLY, "unsigned f(unsigned a, unsigned b) { return a / b; }", "__udivsi3"),
]


@pytest.mark.parametrize(("name", "changes", "code", "symbol"), FORBIDDEN, ids=[row[3] for row in FORBIDDEN])
def test_symbol_check_refuses(name, changes, code, symbol):
    text = f"#include <stddef.h>\nvoid *malloc(size_t); int printf(const char *, ...);\n{code}\n"
    core = replace(load_core(name), **changes)
    assert check_symbols(compile_objects({"a.c": text.encode()}, core, None)) == [symbol]


@pytest.mark.parametrize("name", CORES)
def test_symbol_check_accepts_integer_code_and_soft_float_on_request(name):
    core = load_core(name)
    copy = b"typedef struct { int v[40]; } t; void f(t *a, const t *b); void f(t *a, const t *b) { *a = *b; }"
    wide = b"long long g(long long a, int b) { return (a * b) >> (b & 31); } int h(int a, int b) { return a / b; }"
    objects = compile_objects({"a.c": copy, "b.c": wide, "c.c": SOURCE}, core, None)
    assert check_symbols(objects) == []
    assert any("memcpy" in name for name in undefined_symbols(objects))
    soft = compile_objects({"a.c": b"float f(float a, int b) { return (a * (float)b) / (a - 1.0f); }"}, core, None)
    assert check_symbols(soft) != []
    assert check_symbols(soft, allow_soft_float=True) == []


def test_a_symbol_defined_in_another_object_is_not_missing():
    files = {"a.c": b"int g(int); int f(int a) { return g(a); }", "b.c": b"int g(int a) { return a; }"}
    objects = compile_objects(files, load_core("cortex-m4"), None)
    assert undefined_symbols({"a.c": objects["a.c"]}) == ["g"]
    assert check_symbols(objects) == []
