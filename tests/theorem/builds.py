"""Linked steps to prove: policies compiled for a core, and their ELFs changed by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ncpc.cores.elf import read_elf
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.ir.program import Program
from ncpc.proofs.prove import Proof, prove
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import calls
from ncpc.theorem.equality import Budget
from ncpc.theorem.theorem import Theorem, prove_step

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, eq=False)
class Linked:
    """A Program and the ELF that its C became."""

    artifact: CArtifact
    program: Program
    proof: Proof
    elf: bytes

    def prove(self, elf: bytes | None = None, seconds: float = 120) -> Theorem:
        assert self.artifact.chip is not None
        return prove_step(elf or self.elf, self.artifact.chip, calls(self.artifact.face), self.program, self.proof,
                          Budget(seconds))

    def with_byte(self, symbol: str, offset: int, change: int) -> bytes:
        """The ELF with one byte at an offset from a symbol increased."""
        image = read_elf(self.elf)
        at = image.address(symbol) + offset
        segment = next(s for s in image.segments if s.address <= at < s.address + len(s.data))
        place = self.elf.index(segment.data) + at - segment.address
        return self.elf[:place] + bytes([(self.elf[place] + change) & 0xFF]) + self.elf[place + 1 :]


def linked(folder: Path, policy: Path, request: Request) -> Linked:
    """Compiled and linked, not verified."""
    job = job_for(policy, request)
    lowered = lower_for(job.container, job.options).lowered
    artifact = job.target.prepare(lowered, job.build_options)
    assert isinstance(artifact, CArtifact)
    for name, data in artifact.files.items():
        (folder / name).write_bytes(data)
    artifact.build(folder)
    return Linked(artifact, lowered.program, prove(lowered.program), (folder / artifact.named("elf")).read_bytes())
