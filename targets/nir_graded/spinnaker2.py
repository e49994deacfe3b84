"""SpiNNaker2's processing elements are Cortex-M4F cores: the same program as C, in one element's memory.

Integers need no floating-point unit, so the core it is built for and simulated on is the Cortex-M4.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ncpc.errors import ProofFailed
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, Artifact, Built, CompileOptions, LinkSpec, Lowered
from ncpc.targets.nir_graded.chips import Chip

CORE = "cortex-m4"
FOLDER = "c"
"""Where the C stands, beside the .nir file."""
STEPS = 300


def c_artifact(lowered: Lowered, options: CompileOptions) -> Artifact:
    """The C for the element's core, with the C target's own defaults."""
    target = registry.load(CORE)
    return target.prepare(lowered, replace(options, extra={option.name: option.default for option in target.options}))


def c_files(artifact: Artifact) -> dict[str, bytes]:
    """The C, its names within the build folder."""
    return {f"{FOLDER}/{name}": content for name, content in artifact.files.items()}


def c_built(folder: Path, artifact: Artifact, profile: Chip) -> tuple[int | None, Built]:
    """Bytes of code, constants and state (None: not built), what was built; raises ProofFailed when too many."""
    built = artifact.build(folder / FOLDER)
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
