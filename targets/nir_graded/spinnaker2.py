"""SpiNNaker2's processing elements are Cortex-M4F cores: the same program as C, in one element's memory.

Integers need no floating-point unit, so the core it is built for and simulated on is the Cortex-M4.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ncpc.errors import ProofFailed
from ncpc.ir.sequences import Sequences
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, Built, CompileOptions, LinkSpec, Lowered, RunResult, Target
from ncpc.targets.nir_graded.chips import Chip

CORE = "cortex-m4"
FOLDER = "c"
"""Where the C stands, beside the .nir file."""
STEPS = 300


def c_target() -> Target:
    """The C target of the element's core."""
    return registry.load(CORE)


def c_options(options: CompileOptions) -> CompileOptions:
    """The C target's options: its own defaults."""
    return replace(options, extra={option.name: option.default for option in c_target().options})


def c_files(lowered: Lowered, options: CompileOptions) -> dict[str, bytes]:
    """The C, its names within the build folder."""
    files = c_target().emit(lowered, c_options(options))
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def c_built(folder: Path, lowered: Lowered, options: CompileOptions, profile: Chip) -> tuple[int | None, Built]:
    """Bytes of code, constants and state (None: not built), what was built; raises ProofFailed when too many."""
    built = c_target().build(folder / FOLDER, lowered, c_options(options))
    built = replace(built, files=tuple(f"{FOLDER}/{name}" for name in built.files))
    if built.memory is None:
        return None, built
    total, limit = built.memory.flash_bytes + built.memory.ram_bytes, profile.limits["core_bytes"]
    if total > limit.value:
        raise ProofFailed(f"--chip {profile.name}: its C needs {total:,} bytes, a core has {limit.value:,} "
                          f"({limit.source}); use a smaller layer")
    return total, built


def c_link() -> LinkSpec:
    """The Program against the C on the simulated core; listed as not run where the tools are missing."""
    return LinkSpec(PROGRAM, CORE, "bitwise", STEPS, required=False)


def c_run(folder: Path, lowered: Lowered, options: CompileOptions, inputs: Sequences) -> RunResult:
    """The C on the simulated core."""
    return c_target().run(folder / FOLDER, lowered, c_options(options), inputs, CORE)
