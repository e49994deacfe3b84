"""The chain of links from the policy to what runs on the device: each one checked on sequences, none assumed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ncpc.errors import EXIT_DOES_NOT_HOLD, MissingTool, NcpcError
from ncpc.ir.sequences import Sequences, Trace
from ncpc.phases import Phases
from ncpc.semantics.run import run
from ncpc.targets.base import MODEL, POLICY, PROGRAM, CompileOptions, LinkSpec, Lowered, RunResult, Target
from ncpc.verify import compare
from ncpc.verify.sequences import prefix, take

ROOTS = (POLICY, PROGRAM, MODEL)


@dataclass(frozen=True, eq=False)
class Link:
    """A checked link. ``not_run`` says in one line why it was not; ``fault`` why the run itself failed."""

    spec: LinkSpec
    data: Sequences
    result: RunResult | None = None
    difference: compare.Difference | None = None
    not_run: str = ""
    fault: str = ""

    @property
    def holds(self) -> bool:
        return self.difference is not None and self.difference.mismatches == 0


@dataclass(frozen=True, eq=False)
class Setting:
    """What is being verified: a folder of emitted files, what they were lowered from, and the sequences to run."""

    target: Target
    folder: Path
    lowered: Lowered
    options: CompileOptions
    data: Sequences
    whole: bool = False
    """Run every link on all of the data, instead of as many steps as the link asks for."""


@dataclass(frozen=True, eq=False)
class Chain:
    """All links, and the traces of the roots over all of the data (policy: float64)."""

    links: tuple[Link, ...]
    roots: Mapping[str, Trace] = field(default_factory=dict)

    @property
    def deployed(self) -> Link | None:
        """The last link that ran: the artifact nearest to the device."""
        return next((link for link in reversed(self.links) if link.result is not None), None)

    def exact_root(self, link: Link) -> str | None:
        """The root that ``link`` equals bit for bit through links that all hold, or None."""
        by_runtime = {one.spec.runtime: one for one in self.links}
        while link.spec.kind == "bitwise" and link.holds:
            if link.spec.source in ROOTS:
                return link.spec.source
            link = by_runtime[link.spec.source]
        return None


def specs(setting: Setting) -> tuple[LinkSpec, ...]:
    """The links the target wants checked."""
    return setting.target.links(setting.lowered, setting.options)


def check(setting: Setting, wanted: tuple[LinkSpec, ...], phases: Phases) -> Chain:
    """Run every link in order; a link whose tool is missing is recorded, not raised."""
    with phases.phase("reference"):
        used = {POLICY, *(spec.source for spec in wanted if spec.source in ROOTS)}
        roots = {name: run_root(setting, name, setting.data) for name in sorted(used)}
    done: list[Link] = []
    for spec in wanted:
        with phases.phase(f"{spec.source} = {spec.runtime}") as phase:
            link = _check(setting, spec, roots, {one.spec.runtime: one for one in done})
            phase.note, phase.mark = summary(link), "✓" if link.holds else "-" if link.not_run else "✗"
        done.append(link)
    return Chain(tuple(done), roots)


def summary(link: Link) -> str:
    """One phrase for the phase line."""
    if link.difference is None:
        return link.fault or f"not run: {link.not_run}"
    steps = f"{link.difference.steps} steps"
    if link.difference.mismatches:
        return f"{link.difference.mismatches} of {steps} differ; first {link.difference.first}"
    return f"{steps} equal" + (" bit for bit" if link.spec.kind == "bitwise" else f" within {link.spec.tolerance:g}")


def cut(trace: Trace, data: Sequences) -> Trace:
    """The part of a trace over longer data that belongs to ``data``, its prefix."""
    n, t = data.x.shape[:2]
    return Trace(y=trace.y[:n, :t], state=trace.state[:n, :t], raw_y=trace.raw_y[:n, :t],
                 raw_state=trace.raw_state[:n, :t], flags=trace.flags[:n, :t])


def run_root(setting: Setting, name: str, data: Sequences) -> Trace:
    """``data`` through a root: the float64 policy, the typed program, or the target's own arithmetic."""
    if name == MODEL:
        return setting.target.model(setting.lowered, setting.options, data)
    return run(setting.lowered.real if name == POLICY else setting.lowered.program, data)


def _check(setting: Setting, spec: LinkSpec, roots: Mapping[str, Trace], done: Mapping[str, Link]) -> Link:
    data = setting.data if setting.whole else prefix(setting.data, spec.steps)
    try:
        result = setting.target.run(setting.folder, setting.lowered, setting.options, data, spec.runtime)
    except MissingTool as missing:
        return Link(spec, data, not_run=str(missing))
    except NcpcError as error:
        if error.exit_code != EXIT_DOES_NOT_HOLD:
            raise
        return Link(spec, data, fault=str(error))
    source = _source(spec, roots, done)
    if source is None:
        return Link(spec, data, result, not_run=f"{spec.source} was not run, nothing to compare with")
    return Link(spec, data, result, _difference(setting, spec, source, result.trace, data))


def _source(spec: LinkSpec, roots: Mapping[str, Trace], done: Mapping[str, Link]) -> Trace | None:
    if spec.source in roots:
        return roots[spec.source]
    earlier = done[spec.source].result
    return None if earlier is None else earlier.trace


def _difference(setting: Setting, spec: LinkSpec, source: Trace, found: Trace, data: Sequences) -> compare.Difference:
    """Compare on the shorter of the two runs: one runtime may have been given fewer steps than the other."""
    rows, length = (min(a, b) for a, b in zip(source.y.shape[:2], found.y.shape[:2], strict=True))
    shared = take(data, rows, length)
    expected, program = cut(source, shared), setting.lowered.program
    if spec.kind == "bitwise":
        return compare.bitwise(expected, cut(found, shared), program, shared)
    limit = spec.tolerance * float(np.ptp(expected.y, axis=(0, 1)).max())
    return compare.tolerance(expected, cut(found, shared), limit, program, shared)
