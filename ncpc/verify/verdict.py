"""The verdict: what was checked, whether it holds, and why not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, EXIT_MISSING_TOOL
from ncpc.ir.sequences import Sequences, Trace
from ncpc.phases import Phases
from ncpc.targets.base import MODEL, POLICY, PROGRAM, Scheme
from ncpc.verify.errors import ErrorStats, measure
from ncpc.verify.links import Chain, Link, Setting, check, cut, run_root, specs
from ncpc.verify.search import Worst, search
from ncpc.verify.sequences import rows_of, take

TOLERANCE: dict[Scheme, float] = {"float32": 1e-5, "int16": 2e-3, "int8": 5e-2, "thresholds": 2e-2}
"""Largest error on the held-out sequences, as a fraction of the float output range."""

SEARCH: dict[str, dict[str, int]] = {
    PROGRAM: {"screens": 8, "generations": 10},
    MODEL: {"screens": 4, "generations": 6},
}
"""The search's effort: the Program runs sequences side by side, a target's own arithmetic often one by one."""


@dataclass(frozen=True)
class Verdict:
    """``reasons`` is empty exactly when the verdict holds; ``not_run`` lists what was left out, and why."""

    holds: bool
    reasons: tuple[str, ...]
    not_run: tuple[str, ...]
    exit_code: int


@dataclass(frozen=True, eq=False)
class Verification:
    """Everything a verification found. ``deployed_trace`` runs over the same steps as ``reference``."""

    setting: Setting
    chain: Chain
    error: ErrorStats
    deployed: str
    reference: Trace
    deployed_trace: Trace
    worst: Worst | None
    tolerance: float
    verdict: Verdict


@dataclass(frozen=True)
class Demand:
    """What is asked for: the tolerance, whether the search counts, and faults already found elsewhere."""

    tolerance: float
    strict: bool = False
    search: bool = True
    reasons: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()


def verify(setting: Setting, demand: Demand, phases: Phases) -> Verification:
    """Check every link, measure the error, search for the worst input, and judge."""
    chain = check(setting, specs(setting), phases)
    deployed, reference, found, data = _deployed(setting, chain)
    error = measure(reference, found, setting.lowered.program, data)
    worst = _worse(_search(setting, phases), error, data) if demand.search else None
    return Verification(setting, chain, error, deployed, reference, found, worst, demand.tolerance,
                        judge(chain, error, worst, demand))


def judge(chain: Chain, error: ErrorStats, worst: Worst | None, demand: Demand) -> Verdict:
    """Bitwise links without a mismatch, and the error within tolerance; the search only with ``strict``."""
    failed = [*demand.reasons, *(reason for link in chain.links if (reason := _reason(link)))]
    if not error.fraction <= demand.tolerance:
        failed.append(f"error {_share(error.fraction)} of the output range, more than {_share(demand.tolerance)}, "
                      f"at step {error.worst_step}, output {error.worst_output}")
    if demand.strict and worst is not None and not worst.max_abs <= demand.tolerance * error.output_range:
        failed.append(f"the search found an input with error {_share(worst.max_abs / error.output_range)} "
                      f"of the output range, more than {_share(demand.tolerance)}")
    missing = [_named(link, link.not_run) for link in chain.links if link.not_run]
    required = [text for link, text in zip([k for k in chain.links if k.not_run], missing, strict=True)
                if link.spec.required]
    none_ran = all(link.result is None for link in chain.links)
    absent = missing if none_ran else required
    code = EXIT_DOES_NOT_HOLD if failed else EXIT_MISSING_TOOL if absent or none_ran else EXIT_HOLDS
    return Verdict(code == EXIT_HOLDS, (*failed, *(f"not run: {a}" for a in absent)), (*demand.not_run, *missing), code)


def _reason(link: Link) -> str:
    if link.fault:
        return _named(link, link.fault)
    if link.difference is None or link.holds:
        return ""
    return (f"{link.spec.source} and {link.spec.runtime} differ in {link.difference.mismatches} of "
            f"{link.difference.steps} steps; first at {link.difference.first}")


def _named(link: Link, text: str) -> str:
    """``text`` with the runtime in front, where it does not begin so by itself."""
    name = f"{link.spec.runtime}: "
    return text if text.startswith(name) else name + text


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _deployed(setting: Setting, chain: Chain) -> tuple[str, Trace, Trace, Sequences]:
    """Name, reference trace, deployed trace and data of the artifact whose error counts.

    Where it equals a root bit for bit, that root speaks for it on all of the data; otherwise its own run does. When
    nothing ran, the root that the links start from stands in.
    """
    link, policy = chain.deployed, chain.roots[POLICY]
    if link is None or link.result is None:
        name = arithmetic(setting)
        return name, policy, chain.roots.get(name) or run_root(setting, name, setting.data), setting.data
    root = chain.exact_root(link)
    if root is not None:
        return link.spec.runtime, policy, chain.roots[root], setting.data
    ran = take(link.data, *link.result.trace.y.shape[:2])  # a run may end early
    return link.spec.runtime, cut(policy, ran), link.result.trace, ran


def _worse(worst: Worst, error: ErrorStats, data: Sequences) -> Worst:
    """The search's worst input, or that of the held-out sequences where it is worse still."""
    if worst.max_abs >= error.max_abs:
        return worst
    row, step = divmod(error.worst_step, data.x.shape[1])
    return replace(worst, max_abs=error.max_abs, step=step, witness=rows_of(data, slice(row, row + 1)))


def arithmetic(setting: Setting) -> str:
    """The root that says in NumPy what the artifact computes."""
    return MODEL if any(spec.source == MODEL for spec in specs(setting)) else PROGRAM


def _search(setting: Setting, phases: Phases) -> Worst:
    with phases.phase("search for the worst input") as phase:
        worst = search(
            setting.lowered.policy, partial(run_root, setting, POLICY), partial(run_root, setting, arithmetic(setting)),
            runtime_dt=setting.options.dt == "runtime", progress=phase.advance, **SEARCH[arithmetic(setting)],
        )
        phase.note = f"{worst.evaluations} sequences of {len(worst.witness.x[0])} steps"
    return worst
