"""From C sources to object files, a linked ELF for a core, or a shared library for the host.

The compiler is ``zig cc`` from pip (``cc`` None or ``"zig"``), or the gcc or clang at the path ``cc``. Same sources and
same compiler give the same ELF bytes: sources are compiled in a folder of their own under relative names, and debug
sections, which alone hold paths, are dropped by the linker script.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from ncpc.cores.core import Core
from ncpc.cores.elf import map_text, read_elf
from ncpc.errors import BadInput, MissingTool, NcpcError
from ncpc.system.files import require_room, write

FREESTANDING = (
    "-std=c99",
    "-ffreestanding",
    "-ffp-contract=off",
    "-fomit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-common",
)
"""Flags of every build for a core. Contraction is off so that float arithmetic is the same on every target."""

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
"""Flags under which generated C is clean, with gcc and with clang."""


class BuildFailed(NcpcError):
    """The compiler or linker refused; the message holds its first error line (exit code 1)."""

    exit_code = 1


@dataclass(frozen=True)
class BuiltElf:
    """A linked ELF for a core.

    ``elf`` the file; ``objects`` name -> object file of each source given (not of the start-up); ``map`` a text of
    sections and symbols by address; ``compiler`` its version in one line; ``flags`` what was passed to it; ``also``
    further links of the same objects.
    """

    elf: bytes
    objects: Mapping[str, bytes]
    map: str
    compiler: str
    flags: tuple[str, ...]
    also: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Compiler:
    """A C compiler as a command prefix, its version in one line, and whether it is zig."""

    command: tuple[str, ...]
    version: str
    is_zig: bool

    def run(self, arguments: Sequence[str], folder: Path) -> None:
        """Run it in ``folder``. Raises BuildFailed with its first error, BadInput where it was ended from outside,
        OSError where there was no room for its files.
        """
        name, environment = ("zig cc", _with_zig_cache()) if self.is_zig else (None, None)
        _run([*self.command, *arguments], folder, name, environment)


def find_compiler(cc: str | None) -> Compiler:
    """The compiler for ``cc``: None or ``"zig"`` the one from pip, else a command or path. Raises MissingTool."""
    return _zig() if cc in (None, "zig") else _named(str(cc))


def _with_zig_cache() -> dict[str, str]:
    """The environment in which zig has a cache: its own, or one of this process where that cannot be written (a
    read-only or full file system, no home), which costs it some seconds.
    """
    own, base, home = (os.environ.get(name) for name in ("ZIG_GLOBAL_CACHE_DIR", "XDG_CACHE_HOME", "HOME"))
    place = own or (base and f"{base}/zig") or (home and f"{home}/.cache/zig")
    try:
        if place:
            Path(place).mkdir(parents=True, exist_ok=True)
            require_room(Path(place))
    except OSError:
        place = None
    return {**os.environ, "ZIG_GLOBAL_CACHE_DIR": place or _private_cache().name}


@cache
def _private_cache() -> tempfile.TemporaryDirectory[str]:
    """Gone when the process ends."""
    return tempfile.TemporaryDirectory(prefix="ncpc-zig-")


@cache
def _zig() -> Compiler:
    if find_spec("ziglang") is None:
        raise MissingTool("the C compiler 'zig cc' is not installed: pip install 'ncpc[c]', or pass --cc PATH")
    command = (sys.executable, "-m", "ziglang")
    version = _run([*command, "version"], Path.cwd(), "zig").strip()
    return Compiler((*command, "cc"), f"zig cc {version}", is_zig=True)


@cache
def _named(cc: str) -> Compiler:
    path = shutil.which(cc)
    if path is None:
        raise MissingTool(f"C compiler '{cc}' was not found: install it, or leave --cc out to use zig cc")
    lines = _run([path, "--version"], Path.cwd()).splitlines()
    return Compiler((path,), lines[0] if lines else Path(path).name, is_zig=False)


def core_flags(core: Core, compiler: Compiler, opt: str = "-O2") -> tuple[str, ...]:
    """Compile flags for ``core`` under ``compiler``; without ``-g`` zig would drop the symbol table at the link."""
    if compiler.is_zig:
        machine = ("-target", core.zig_target, f"-mcpu={core.zig_mcpu}", *core.zig_flags, "-fno-sanitize=undefined")
    else:
        machine = core.gcc_flags
    return (*machine, opt, "-g", *FREESTANDING)


def compile_objects(
    sources: Mapping[str, bytes], core: Core, cc: str | None, opt: str = "-O2", extra_flags: Sequence[str] = ()
) -> dict[str, bytes]:
    """Object files for ``core`` by source name, not linked: what ``check_symbols`` reads. Raises as ``build_elf``."""
    compiler = find_compiler(cc)
    with tempfile.TemporaryDirectory(prefix="ncpc-build-") as name:
        return _compile_all(sources, compiler, (*core_flags(core, compiler, opt), *extra_flags), Path(name))


def build_elf(
    sources: Mapping[str, bytes],
    core: Core,
    cc: str | None,
    symbol_roots: Sequence[str],
    opt: str = "-O2",
    extra_flags: Sequence[str] = (),
    also: Sequence[tuple[Core, Sequence[str]]] = (),
) -> BuiltElf:
    """Compile and link ``sources`` (file name -> text; ``.c`` and ``.S`` are compiled, others lie beside them).

    ``symbol_roots`` are the functions and objects kept by the linker. Start-up code and memcpy, memmove, memset (if
    called) come from ``runtime/``. ``also``: link the same objects again, for these memories and with these roots.
    Raises MissingTool without the compiler, BuildFailed with its first error.
    """
    compiler = find_compiler(cc)
    flags = (*core_flags(core, compiler, opt), *extra_flags)
    with tempfile.TemporaryDirectory(prefix="ncpc-build-") as name:
        folder = Path(name)
        objects = _compile_all(sources, compiler, flags, folder)
        own = _compile_all(_runtime_sources(core), compiler, flags, folder)
        names = [f"{source}.o" for source in (*objects, *own)]
        elf, *others = (_link(compiler, flags, names, linker_script(*link), folder)
                        for link in ((core, symbol_roots), *also))
    return BuiltElf(elf, objects, _map_text(elf), compiler.version, flags, tuple(others))


def _link(compiler: Compiler, flags: Sequence[str], names: Sequence[str], script: str, folder: Path) -> bytes:
    """The ELF of object files that lie in ``folder``."""
    write(folder / "link.ld", script.encode())
    linking = ["-Wl,--gc-sections", "-Wl,-T,link.ld", *(() if compiler.is_zig else ("-nostdlib",))]
    libraries = () if compiler.is_zig else ("-lgcc",)
    compiler.run([*flags, *linking, *names, *libraries, "-o", "out.elf"], folder)
    return (folder / "out.elf").read_bytes()


def build_host_library(
    sources: Mapping[str, bytes],
    cc: str | None = None,
    opt: str = "-O2",
    extra_flags: Sequence[str] = (),
) -> bytes:
    """A shared library for this machine, for ctypes. Raises MissingTool, or BuildFailed with the first error."""
    compiler = find_compiler(cc)
    flags = ["-std=c99", opt, "-ffp-contract=off", "-fPIC", *extra_flags]
    if compiler.is_zig:
        flags.append("-fno-sanitize=undefined")
    with tempfile.TemporaryDirectory(prefix="ncpc-build-") as name:
        folder = Path(name)
        objects = _compile_all(sources, compiler, flags, folder)
        names = [f"{source}.o" for source in objects]
        compiler.run([*flags, "-shared", "-s", *names, "-o", "out.so"], folder)
        return (folder / "out.so").read_bytes()


def linker_script(core: Core, symbol_roots: Sequence[str]) -> str:
    """The linker script for ``core``: text and constants in flash, data in RAM, stack from the end of RAM down."""
    text = (files(__package__) / "runtime" / "link.ld").read_text(encoding="utf-8")
    values = {
        "ROOTS": " ".join(symbol_roots) or "Reset",
        "FLASH_ORIGIN": f"0x{core.flash.origin:08x}",
        "FLASH_BYTES": f"0x{core.flash.size:x}",
        "RAM_ORIGIN": f"0x{core.ram.origin:08x}",
        "RAM_BYTES": f"0x{core.ram.size:x}",
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _runtime_sources(core: Core) -> dict[str, bytes]:
    folder = files(__package__) / "runtime"
    names = (f"startup_{core.arch}.c", "memory.c")
    return {f"ncpc_{name}": (folder / name).read_bytes() for name in names}


def _compile_all(
    sources: Mapping[str, bytes], compiler: Compiler, flags: Sequence[str], folder: Path
) -> dict[str, bytes]:
    """Write the sources, compile them to ``NAME.o`` beside; returns the objects by source name, in order of names."""
    for name, text in sources.items():
        if Path(name).name != name:
            raise BadInput(f"source file name '{name}' holds a folder: give plain names")
        write(folder / name, text)
    compiled = sorted(name for name in sources if name.endswith((".c", ".S")))
    for name in compiled:
        compiler.run([*flags, "-c", name, "-o", f"{name}.o"], folder)
    return {name: (folder / f"{name}.o").read_bytes() for name in compiled}


def _run(
    command: Sequence[str], folder: Path, name: str | None = None, environment: Mapping[str, str] | None = None
) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", errors="replace", check=False,
                          env=environment)
    if done.returncode == 0:
        return done.stdout
    name, said = name or Path(command[0]).name, done.stderr + done.stdout
    require_room(folder)
    if "NoSpaceLeft" in said:
        raise BadInput(f"{name}: no room on the disk of its cache; make room, or set ZIG_GLOBAL_CACHE_DIR")
    killed = -done.returncode if done.returncode < 0 else done.returncode - 128  # the interpreter that runs zig, or sh
    if killed > 0:
        raise BadInput(f"{name} was ended by signal {killed}; is there memory enough for it?")
    raise BuildFailed(f"{name} failed: {_first_error(said)}")


def _first_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line), lines[0] if lines else "no message")


def _map_text(elf: bytes) -> str:
    return map_text(read_elf(elf))
