"""The chain of links from the policy to what runs on the device: each one checked on sequences, none assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ncpc.errors import EXIT_DOES_NOT_HOLD, MissingTool, NcpcError
from ncpc.ir.sequences import Sequences, Trace
from ncpc.phases import Mark, Phases
from ncpc.semantics.run import run
from ncpc.targets.base import MODEL, POLICY, PROGRAM, Artifact, CompileOptions, LinkSpec, Lowered, RunResult, Target
from ncpc.verification import compare
from ncpc.verification.data import DataSet
from ncpc.verification.sequences import take
from ncpc.worker.process import kept

ROOTS = (POLICY, PROGRAM, MODEL)


@dataclass(frozen=True, eq=False)
class Link:
    """A link checked on ``data``, what was run of the data set ``set_name``.

    ``not_run`` says in one line why it was not; ``fault`` why the run itself failed.
    """

    spec: LinkSpec
    set_name: str
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
    """What is being verified: an artifact and the folder of its files, what it was made of, the data sets to run."""

    target: Target
    artifact: Artifact
    folder: Path
    lowered: Lowered
    options: CompileOptions
    sets: tuple[DataSet, ...]


@dataclass(frozen=True, eq=False)
class Chain:
    """All links checked on one data set, and the traces of the roots over all of it (policy: float64)."""

    data: DataSet
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


def check(setting: Setting, wanted: tuple[LinkSpec, ...], phases: Phases) -> tuple[Chain, ...]:
    """Run every link in order on every data set; a link whose tool is missing is recorded, not raised."""
    with phases.phase("reference"):
        chains = [Chain(data, (), _roots(setting, data, wanted)) for data in setting.sets]
    for spec in wanted:
        with phases.phase(f"{spec.source} = {spec.runtime}") as phase, kept():
            chains = [_longer(setting, spec, chain) for chain in chains]
            links = [link for chain in chains for link in chain.links if link.spec is spec]
            phase.note, phase.mark = summary(links), _mark(links)
    return tuple(chains)


def _roots(setting: Setting, data: DataSet, wanted: tuple[LinkSpec, ...]) -> dict[str, Trace]:
    """The roots that the data set's links start from; the policy, where an error is measured on it."""
    used = {spec.source for spec in wanted if spec.source in ROOTS and _checked_on(spec, data)}
    used |= set() if data.purpose == "bitwise" else {POLICY}
    return {name: run_root(setting, name, data.sequences) for name in sorted(used)}


def _checked_on(spec: LinkSpec, data: DataSet) -> bool:
    """Data beyond the ranges is for bitwise links, states to restore for those whose runtimes take some."""
    takes = spec.restores or data.sequences.restored is None
    return data.purpose != "bitwise" or (spec.kind == "bitwise" and takes)


def _longer(setting: Setting, spec: LinkSpec, chain: Chain) -> Chain:
    """The chain with one more link, where that is checked on its data."""
    more = (_check(setting, spec, chain),) if _checked_on(spec, chain.data) else ()
    return replace(chain, links=(*chain.links, *more))


def _mark(links: Sequence[Link]) -> Mark:
    if any(link.fault or (link.difference is not None and not link.holds) for link in links):
        return "✗"
    return "-" if any(link.not_run for link in links) else "✓"


def summary(links: Sequence[Link]) -> str:
    """One phrase for the phase line of a link, on all of its data sets."""
    bad = next((link for link in links if not link.holds), None)
    if bad is not None and bad.difference is None:
        return bad.fault or f"not run: {bad.not_run}"
    if bad is not None and bad.difference is not None:
        return (f"{bad.difference.mismatches} of {bad.difference.steps} {bad.set_name} steps differ; "
                f"first {bad.difference.first}")
    steps = sum(link.difference.steps for link in links if link.difference is not None)
    how = "bit for bit" if links[0].spec.kind == "bitwise" else f"within {links[0].spec.tolerance:g}"
    return f"{steps} steps equal {how}"


def cut(trace: Trace, data: Sequences) -> Trace:
    """The part of a trace over longer data that belongs to ``data``, its prefix."""
    n, t = data.x.shape[:2]
    return Trace(y=trace.y[:n, :t], state=trace.state[:n, :t], raw_y=trace.raw_y[:n, :t],
                 raw_state=trace.raw_state[:n, :t], flags=trace.flags[:n, :t])


def run_root(setting: Setting, name: str, data: Sequences) -> Trace:
    """``data`` through a root: the float64 policy, the typed program, or the target's own arithmetic."""
    if name == MODEL:
        return setting.artifact.model(data)
    return run(setting.lowered.real if name == POLICY else setting.lowered.program, data)


def _check(setting: Setting, spec: LinkSpec, chain: Chain) -> Link:
    link = Link(spec, chain.data.name, chain.data.for_link(spec.steps))
    try:
        result = setting.artifact.run(setting.folder, link.data, spec.runtime)
    except MissingTool as missing:
        return replace(link, not_run=str(missing))
    except NcpcError as error:
        if error.exit_code != EXIT_DOES_NOT_HOLD:
            raise
        return replace(link, fault=str(error))
    source = source_of(spec, chain)
    if source is None:
        return replace(link, result=result, not_run=f"{spec.source} was not run, nothing to compare with")
    return replace(link, result=result, difference=_difference(setting, spec, source, result.trace, link.data))


def source_of(spec: LinkSpec, chain: Chain) -> Trace | None:
    """What a link is compared with: a root, or what an earlier link's runtime gave (None: it was not run)."""
    if spec.source in chain.roots:
        return chain.roots[spec.source]
    earlier = next((link for link in chain.links if link.spec.runtime == spec.source), None)
    return None if earlier is None or earlier.result is None else earlier.result.trace


def _difference(setting: Setting, spec: LinkSpec, source: Trace, found: Trace, data: Sequences) -> compare.Difference:
    """Compare on the shorter of the two runs: one runtime may have been given fewer steps than the other."""
    rows, length = (min(a, b) for a, b in zip(source.y.shape[:2], found.y.shape[:2], strict=True))
    shared = take(data, rows, length)
    expected, program = cut(source, shared), setting.lowered.program
    if spec.kind == "bitwise":
        return compare.bitwise(expected, cut(found, shared), program, shared)
    limit = spec.tolerance * compare.widest_range(expected.y)
    return compare.tolerance(expected, cut(found, shared), limit, program, shared)
