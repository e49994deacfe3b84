"""The target: C sources, built for this machine and for a core, run through ctypes and in the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool, ProofFailed, Unsupported
from ncpc.ir.sequences import Sequences, Trace
from ncpc.sim.elf import Image, read_elf
from ncpc.sim.run import simulate
from ncpc.targets.base import (
    PROGRAM,
    Built,
    Capabilities,
    CompileOptions,
    LinkSpec,
    Lowered,
    Memory,
    Requirement,
    RunResult,
    Session,
    TargetOption,
    TimingClass,
)
from ncpc.targets.c.cores import Core, load_core
from ncpc.targets.c.device import calls, cycles_from, plan_for, symbol_roots, trace_from
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.expressions import OPS
from ncpc.targets.c.fit import AUTO, MEMORIES, require_fit, with_memories
from ncpc.targets.c.host import run_library
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.placement import placement
from ncpc.targets.c.sessions import DeviceSession, HostSession
from ncpc.targets.c.symbols import check_symbols
from ncpc.targets.c.toolchain import BuiltElf, build_elf, build_host_library, find_compiler

HOST = "host"
BITWISE_STEPS = 10_000
DEVICE_FLOAT_STEPS = 200
OTHER_OPS = frozenset(
    {"gather", "segment_sum", "matmul", "matmulshr", "concat", "slice", "lut", "mix", "gt", "conv2d", "pool"})
SUMMARIES = {
    "host": "C built for this machine",
    "c": "portable C99 sources, verified on this machine",
}


@dataclass(frozen=True)
class CTarget:
    """Portable C99. ``name`` is ``host``, ``c`` or a core; see ``ncpc.targets.base.Target``."""

    name: str

    @property
    def summary(self) -> str:
        return SUMMARIES.get(self.name) or f"C for {self._device.title}, run in the simulator"

    @property
    def core(self) -> str | None:
        return None if self.name in SUMMARIES else self.name

    @property
    def timing_class(self) -> TimingClass | None:
        return self._device.timing_class if self.core else None

    @property
    def capabilities(self) -> Capabilities:
        flash, ram = (self._device.flash.size, self._device.ram.size) if self.core else (None, None)
        ops = frozenset(OPS) - {"copy", "start"} | OTHER_OPS
        return Capabilities(("float32", "int16", "int8"), ops=ops, flash_bytes=flash, ram_bytes=ram)

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        compiler = Requirement("ziglang", "c", "C compiler for this machine and for the cores")
        reader = Requirement("elftools", "c", "reading linked programs")
        emulator = [Requirement(m, "sim", "the simulator") for m in ("unicorn", "capstone")]
        return (compiler, reader, *emulator) if self.core else (compiler,)

    @property
    def options(self) -> tuple[TargetOption, ...]:
        if self.core is None:
            return ()
        text = "bytes of {} of the chip around the core, such as 256k or 2M; auto: as its description says"
        return tuple(TargetOption(name, AUTO, text.format(name)) for name in MEMORIES)

    @property
    def _device(self) -> Core:
        return load_core(self.name)

    def _chip(self, options: CompileOptions) -> Core:
        """The core with the memories that the options say."""
        return with_memories(self._device, options.extra)

    def emit(self, lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
        """NAME.c and NAME.h."""
        if self.core:
            require_fit(lowered.program, self._chip(options))
        return emit_c(lowered.program)

    def build(self, folder: Path, lowered: Lowered, options: CompileOptions) -> Built:
        """NAME.so for this machine, NAME.elf and NAME.map for the core."""
        files: dict[str, bytes] = {}
        tools: dict[str, str] = {}
        missing: list[str] = []
        for make in (self._host_files, self._core_files) if self.core else (self._host_files,):
            try:
                made, used = make(_sources(folder, lowered), lowered, options)
                files, tools = {**files, **made}, {**tools, **used}
            except MissingTool as error:
                missing.append(str(error))
        for name, data in files.items():
            (folder / name).write_bytes(data)
        elf = files.get(_file(lowered, "elf"))
        image = read_elf(elf) if elf else None
        memory = _memory(image, lowered, self._chip(options)) if image else None
        return Built(tuple(files), memory, tools, placement(lowered.program, image), {}, tuple(missing))

    def _host_files(self, sources: dict[str, bytes], lowered: Lowered, options: CompileOptions) -> Any:
        cc = "zig" if self.core else options.cc
        library = build_host_library(sources, cc)
        return {_file(lowered, "so"): library}, {"host compiler": find_compiler(cc).version}

    def _core_files(self, sources: dict[str, bytes], lowered: Lowered, options: CompileOptions) -> Any:
        roots, profile = symbol_roots(interface_of(lowered.program)), f"-D{interface_of(lowered.program).macro}_PROFILE"
        built = build_elf(sources, self._chip(options), options.cc, roots, extra_flags=(profile,))
        _check_objects(built, lowered, self._device)
        files = {_file(lowered, "elf"): built.elf, _file(lowered, "map"): built.map.encode()}
        return files, {"compiler": f"{built.compiler} {' '.join(built.flags)}"}

    def links(self, lowered: Lowered, options: CompileOptions) -> tuple[LinkSpec, ...]:
        """Program = C on this machine = C on the core, bit for bit."""
        host = LinkSpec(PROGRAM, HOST, "bitwise", BITWISE_STEPS)
        if self.core is None:
            return (host,)
        steps = DEVICE_FLOAT_STEPS if lowered.scheme == "float32" else BITWISE_STEPS
        return (host, LinkSpec(HOST, self.name, "bitwise", steps))

    def model(self, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> Trace:
        """C computes what the Program says: there is no other model."""
        raise Unsupported(f"target '{self.name}' has no arithmetic of its own; compare with the program")

    def run(self, folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences, runtime: str,
            initial: NDArray[np.int64] | None = None) -> RunResult:
        """Execute the library (``host``) or the linked program (the core's name) that stands in ``folder``."""
        program = lowered.program
        if runtime == HOST:
            library = _built_file(folder, lowered, "so", "C compiler")
            return RunResult(run_library(library, program, inputs, initial), HOST, "ctypes", "-O2 -ffp-contract=off")
        if initial is not None:
            raise Unsupported(f"{runtime}: start states other than reset are given to the host library only")
        elf = _built_file(folder, lowered, "elf", "compiler for the core").read_bytes()
        result = simulate(elf, self._chip(options), plan_for(program, inputs))
        memory = _memory(read_elf(elf), lowered, self._chip(options), result.stack_bytes)
        return RunResult(trace_from(program, result), runtime, result.emulator, f"timing {result.timing_class}",
                         result.instructions.reshape(-1), cycles_from(program, self._device, result), memory)

    def open(self, folder: Path, lowered: Lowered, options: CompileOptions, runtime: str) -> Session:
        """One instance in ``runtime``, for closed loops."""
        if runtime == HOST:
            return HostSession(_built_file(folder, lowered, "so", "C compiler"), lowered.program)
        elf = _built_file(folder, lowered, "elf", "compiler for the core").read_bytes()
        return DeviceSession(elf, self._chip(options), calls(lowered.program), lowered.program)


def _sources(folder: Path, lowered: Lowered) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in (_file(lowered, "c"), _file(lowered, "h"))}


def _file(lowered: Lowered, ending: str) -> str:
    return f"{interface_of(lowered.program).name}.{ending}"


def _built_file(folder: Path, lowered: Lowered, ending: str, tool: str) -> Path:
    path = folder / _file(lowered, ending)
    if not path.exists():
        raise MissingTool(f"{path.name} was not built, as the {tool} was missing: pip install 'ncpc[c]', compile again")
    return path.resolve()


def _check_objects(built: BuiltElf, lowered: Lowered, core: Core) -> None:
    soft_float = lowered.scheme == "float32" and not core.hard_float
    foreign = check_symbols(built.objects, allow_soft_float=soft_float)
    if foreign:
        raise ProofFailed(f"the code for {core.name} calls {', '.join(foreign)}, which generated code must not need")


def _memory(image: Image, lowered: Lowered, chip: Core, stack: int | None = None) -> Memory:
    """Flash as linked; RAM is static data (none of ours) and one instance."""
    ram = image.ram_bytes + interface_of(lowered.program).struct_bytes()
    return Memory(image.flash_bytes, ram, stack, chip.flash.size, chip.ram.size)
