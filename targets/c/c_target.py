"""The target: C sources, built for this machine and for a core, run there and in the simulator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ncpc.cores import Core
from ncpc.cores.boards import load_board
from ncpc.cores.boards.clock import board_of, hertz, hertz_of, setup_of
from ncpc.cores.elf import Image, read_elf
from ncpc.cores.toolchain import BuiltElf, build_elf, build_host_library, find_compiler
from ncpc.errors import MissingTool, ProofFailed, Unsupported
from ncpc.ir.policy import cautions
from ncpc.ir.schemes import SCHEMES, NumberScheme, Scheme
from ncpc.ir.sequences import Sequences, Trace
from ncpc.sim.run import simulate
from ncpc.system.files import write
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
    Target,
    TargetOption,
)
from ncpc.targets.c.device import cycles_from, plan_for, symbol_roots, trace_from
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.fit import AUTO, MEMORIES, require_fit, require_memory, roomy, with_memories
from ncpc.targets.c.header import HeaderFacts
from ncpc.targets.c.host import run_library
from ncpc.targets.c.interface import Interface, interface_of
from ncpc.targets.c.placement import placement
from ncpc.targets.c.projects.kinds import KINDS, asked
from ncpc.targets.c.projects.render import RATE_HZ, project_files
from ncpc.targets.c.sessions import DeviceSession, HostSession
from ncpc.targets.c.symbols import check_symbols

HOST = "host"
BITWISE_STEPS = 10_000
DEVICE_FLOAT_STEPS = 200
SUMMARIES = {
    "host": "C built for this machine",
    "c": "portable C99 sources, verified on this machine",
}
COMPILER = Requirement("ziglang", "c", "C compiler for this machine and for the cores")
CORE_TOOLS = (Requirement("elftools", "c", "reading linked programs"),
              *(Requirement(module, "sim", "the simulator") for module in ("unicorn", "capstone")))

PROJECT = TargetOption("project", "", "a folder beside the C that an IDE or a build system opens, with headers for C "
                       f"and C++ and a short main; several times, or with commas: {', '.join(KINDS)}", check=asked,
                       several=True)


CLOCKS = {"clock": "Hz of the core's clock, such as 168M, instead of the board's own; gives the time of a step",
          "rate-hz": "steps per second that the worst case must hold, or the verdict does not"}


def _schemes() -> tuple[Scheme, ...]:
    return tuple(row.name for row in SCHEMES.values() if row.arithmetic != "units")


def host_target(name: str) -> Target:
    """C for this machine: ``host`` or ``c``."""
    return Target(name, SUMMARIES[name], Capabilities(_schemes()), _prepared, (COMPILER,), (PROJECT,))


def core_target(core: Core) -> Target:
    """C for a core, and for this machine to compare with."""
    text = "bytes of {} of the chip around the core, such as 256k or 2M; auto: as its description says"
    options = tuple(TargetOption(name, AUTO, text.format(name), check=partial(require_memory, core, name))
                    for name in MEMORIES)
    where = (TargetOption("board", "", "the board the core is on: its clock, memories and wait states; see 'ncpc "
                          "targets --boards'", check=load_board),
             *(TargetOption(name, "", text, check=partial(hertz, name)) for name, text in CLOCKS.items()))
    held = Capabilities(_schemes(), flash_bytes=core.flash.size, ram_bytes=core.ram.size)
    return Target(core.name, f"C for {core.title}, run in the simulator", held, partial(_prepared, core=core),
                  (COMPILER, *CORE_TOOLS), (*options, *where, PROJECT), core.name, core.timing_class,
                  partial(setup_of, core))


def _prepared(lowered: Lowered, options: CompileOptions, core: Core | None = None) -> CArtifact:
    """NAME.c and NAME.h, and the projects that are asked for."""
    face, chip = interface_of(lowered.program), None if core is None else with_memories(core, options.extra)
    if chip is not None:
        require_fit(face, chip, board_of(options.extra))
    notes = cautions(lowered.policy.dt, lowered.policy.compared)
    remarks = tuple(f"NOTE: {note.what}: {note.means}." for note in notes)
    facts = HeaderFacts(remarks, None if face.dt else lowered.policy.dt.nominal, lowered.outputs)
    sources = emit_c(face, facts, chip is not None and chip.hard_float, chip is None or chip.long_products)
    projects = project_files(asked(options.extra.get(PROJECT.name, "")), face, lowered.policy.dt.nominal, sources,
                             hertz_of("rate-hz", options.extra) or RATE_HZ)
    return CArtifact(face, lowered.numbers, chip, options.cc, {**sources, **projects})


@dataclass(frozen=True, eq=False)
class CArtifact:
    """The C of one program; ``chip`` is the core with the memories that the options say, None for this machine.

    ``files`` are NAME.c and NAME.h, and the folders of the projects that were asked for.
    """

    face: Interface
    scheme: NumberScheme
    chip: Core | None
    cc: str
    files: Mapping[str, bytes]

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """Program = C on this machine = C on the core, bit for bit."""
        host = LinkSpec(PROGRAM, HOST, "bitwise", BITWISE_STEPS, restores=True)
        if self.chip is None:
            return (host,)
        steps = DEVICE_FLOAT_STEPS if self.scheme.arithmetic == "float" else BITWISE_STEPS
        return (host, LinkSpec(HOST, self.chip.name, "bitwise", steps, restores=True))

    def model(self, inputs: Sequences) -> Trace:
        """C computes what the Program says: there is no other model."""
        raise Unsupported("C has no arithmetic of its own; compare with the program")

    def build(self, folder: Path) -> Built:
        """NAME.so for this machine; NAME.elf and NAME.map for the core, NAME.test.elf with all of the header in it."""
        files: dict[str, bytes] = {}
        tools: dict[str, str] = {}
        missing: list[str] = []
        sources = {name: (folder / name).read_bytes() for name in map(self.named, ("c", "h"))}
        for make in (_host_files,) if self.chip is None else (_host_files, _core_files):
            try:
                made, used = make(self, sources)
                files, tools = {**files, **made}, {**tools, **used}
            except MissingTool as error:
                missing.append(str(error))
        for name, data in files.items():
            write(folder / name, data)
        elf = files.get(self.named("elf"))
        image = read_elf(elf) if elf else None
        memory = None if image is None or self.chip is None else _memory(image, self.face, self.chip)
        return Built(tuple(files), memory, tools, placement(self.face, image), {}, tuple(missing))

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """Execute the library (``host``) or the linked program (the core's name) that stands in ``folder``.

        States to restore are given to the restore function; save and the self test then run too, on a core those of
        NAME.test.elf.
        """
        if self.chip is None or runtime == HOST:
            library = self._built_file(folder, "so", "C compiler")
            return RunResult(run_library(library, self.face, inputs), HOST, "ctypes", "-O2 -ffp-contract=off")
        elf, chip = self._linked(folder), self.chip
        if inputs.restored is not None:
            result = simulate(self._linked(folder, "test.elf"), roomy(chip), plan_for(self.face, inputs))
        else:
            result = simulate(elf, chip, plan_for(self.face, inputs))
        stepping = result.stack_bytes if inputs.restored is None else None
        memory = _memory(read_elf(elf), self.face, chip, result.stack_bytes, stepping)
        return RunResult(trace_from(self.face, result), runtime, result.emulator, f"timing {result.timing_class}",
                         result.instructions.reshape(-1), cycles_from(self.face, chip, result), memory)

    def open(self, folder: Path, runtime: str) -> Session:
        """One instance in ``runtime``, for closed loops."""
        if self.chip is None or runtime == HOST:
            return HostSession(self._built_file(folder, "so", "C compiler"), self.face)
        return DeviceSession(self._linked(folder), self.chip, self.face)

    def named(self, ending: str) -> str:
        """The name of a file of the build."""
        return f"{self.face.name}.{ending}"

    def _linked(self, folder: Path, ending: str = "elf") -> bytes:
        return self._built_file(folder, ending, "compiler for the core").read_bytes()

    def _built_file(self, folder: Path, ending: str, tool: str) -> Path:
        path = folder / self.named(ending)
        if not path.exists():
            raise MissingTool(f"{path.name} was not built, as the {tool} was missing: pip install 'ncpc[c]', compile "
                              "again")
        return path.resolve()


def _host_files(artifact: CArtifact, sources: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, str]]:
    cc = artifact.cc if artifact.chip is None else "zig"
    library = build_host_library(sources, cc)
    return {artifact.named("so"): library}, {"host compiler": find_compiler(cc).version}


def link(artifact: CArtifact, sources: Mapping[str, bytes], opt: str = "-O2") -> BuiltElf:
    """The program for the artifact's core, and one with all of the header in it; ``build`` asks for -O2.

    Raises as ``build_elf``, and ProofFailed where the code needs functions that are not its own.
    """
    face, chip = artifact.face, artifact.chip
    assert chip is not None
    whole = (roomy(chip), symbol_roots(face, whole=True))
    built = build_elf(sources, chip, artifact.cc, symbol_roots(face), opt, (f"-D{face.macro}_PROFILE",), [whole])
    _check_objects(built, artifact.scheme, chip)
    return built


def _core_files(artifact: CArtifact, sources: dict[str, bytes]) -> tuple[dict[str, bytes], dict[str, str]]:
    built = link(artifact, sources)
    files = {artifact.named("elf"): built.elf, artifact.named("test.elf"): built.also[0],
             artifact.named("map"): built.map.encode()}
    return files, {"compiler": f"{built.compiler} {' '.join(built.flags)}"}


def _check_objects(built: BuiltElf, scheme: NumberScheme, core: Core) -> None:
    foreign = check_symbols(built.objects, allow_soft_float=scheme.arithmetic == "float" and not core.hard_float)
    if foreign:
        raise ProofFailed(f"the code for {core.name} calls {', '.join(foreign)}, which generated code must not need")


def _memory(
    image: Image, face: Interface, chip: Core, stack: int | None = None, stepping: int | None = None
) -> Memory:
    """Flash as linked; RAM is static data (none of ours) and one instance."""
    ram = image.ram_bytes + face.struct_bytes()
    return Memory(image.flash_bytes, ram, stack, chip.flash.size, chip.ram.size, stepping)
