"""The verdict: what was checked, whether it holds, and why not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, EXIT_MISSING_TOOL, BadInput
from ncpc.ir.held_out import FEW
from ncpc.ir.policy import INPUT, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.wires import taps_of
from ncpc.phases import Phases
from ncpc.targets.base import MODEL, POLICY, PROGRAM, Artifact
from ncpc.verification.clamping import Clamping, clamping
from ncpc.verification.data import Counting, DataSet
from ncpc.verification.errors import Agreement, ErrorStats, agreement, measure
from ncpc.verification.links import Chain, Link, Setting, check, cut, run_root
from ncpc.verification.search import Worst, search
from ncpc.verification.sequences import take

RECORDED = 2e-3
"""What outputs that the user's own system gave may be from the policy's, a fraction of the output range, where the
tolerance is not wider: logs are rounded, and come from float32 at best.
"""
STILL = 1e-6
"""Outputs that move less than this have no range that an error could be a share of."""

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


@dataclass(frozen=True)
class Criteria:
    """What is asked for: the tolerance, what counts, and faults already found elsewhere."""

    tolerance: float
    counting: Counting = "data+generated"
    search: bool = True
    reasons: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()

    @property
    def recorded(self) -> float:
        """What recorded outputs may be from the policy's."""
        return max(self.tolerance, RECORDED)


@dataclass(frozen=True, eq=False)
class Measured:
    """What the artifact does on one data set. ``reference`` (the float64 policy) and ``trace`` (the artifact, run in
    ``runtime`` or by a root that it equals) both run over ``ran``. ``counts``: its error decides.

    ``agreement`` of decisions is None where the policy is no classifier; ``recorded``, how far the outputs that the
    user's own system gave are from the policy's, where the data holds none; ``clamping`` where no input is limited.
    """

    data: DataSet
    counts: bool
    runtime: str
    ran: Sequences
    reference: Trace
    trace: Trace
    error: ErrorStats
    agreement: Agreement | None = None
    recorded: ErrorStats | None = None
    clamping: Clamping | None = None


@dataclass(frozen=True, eq=False)
class Verification:
    """Everything a verification found: a chain for each data set, errors on those that have one, the worst input."""

    setting: Setting
    chains: tuple[Chain, ...]
    measured: tuple[Measured, ...]
    worst: Worst | None
    demand: Criteria
    verdict: Verdict

    def by_link(self) -> list[list[Link]]:
        """Each link as checked on every data set that it is checked on."""
        longest = max(self.chains, key=lambda chain: len(chain.links))
        return [[link for chain in self.chains for link in chain.links if link.spec is one.spec]
                for one in longest.links]

    @property
    def deciding(self) -> Measured:
        """The data set with the largest error among those that count."""
        return deciding(self.measured)

    @property
    def generated(self) -> Measured:
        """The generated sequences, on which several targets can be compared; the last data set where there are none."""
        return generated(self.measured)


def verify(setting: Setting, demand: Criteria, phases: Phases) -> Verification:
    """Check every link, measure the errors, search for the worst input, and judge. Raises BadInput for outputs that are
    the same on all data.
    """
    chains = check(setting, setting.artifact.links, phases)
    measured = ranged([_measured(setting, chain, demand) for chain in chains if chain.data.purpose != "bitwise"])
    worst = _worse(_search(setting, phases), generated(measured)) if demand.search else None
    return Verification(setting, chains, measured, worst, demand, judge(chains, measured, worst, demand))


def deciding(measured: Sequence[Measured]) -> Measured:
    """The first of those whose error is the largest, of those that count; of all where none does."""
    return max([m for m in measured if m.counts] or measured, key=lambda m: m.error.fraction)


def generated(measured: Sequence[Measured]) -> Measured:
    """The one on generated sequences, else the last."""
    return next((m for m in measured if m.data.purpose == "generated"), measured[-1])


def judge(
    chains: Sequence[Chain], measured: Sequence[Measured], worst: Worst | None, demand: Criteria
) -> Verdict:
    """Bitwise links without a mismatch, and every error that counts within tolerance; the search only if all counts."""
    links = [link for chain in chains for link in chain.links]
    counted = [link for chain in chains for link in chain.links
               if link.spec.kind == "bitwise" or chain.data.counts(demand.counting)]
    failed = [*demand.reasons, *filter(None, map(_reason, counted))]
    failed += [_too_large(m, demand.tolerance) for m in measured
               if m.counts and not m.error.fraction <= demand.tolerance]
    failed += [_not_as_recorded(m, m.recorded, demand.recorded) for m in measured
               if m.counts and m.recorded is not None and not m.recorded.fraction <= demand.recorded]
    if demand.counting == "all" and worst is not None:
        failed += _search_reason(worst, generated(measured), demand.tolerance)
    missing = _unique(_named(link, link.not_run) for link in links if link.not_run)
    required = _unique(_named(link, link.not_run) for link in links if link.not_run and link.spec.required)
    none_ran = all(link.result is None for link in links)
    absent = missing if none_ran else required
    code = EXIT_DOES_NOT_HOLD if failed else EXIT_MISSING_TOOL if absent or none_ran else EXIT_HOLDS
    return Verdict(code == EXIT_HOLDS, (*failed, *(f"not run: {a}" for a in absent)), (*demand.not_run, *missing), code)


def _unique(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _too_large(m: Measured, tolerance: float) -> str:
    return (f"error {_share(m.error.fraction)} of the output range on {m.data.name}, more than {_share(tolerance)}, "
            f"at step {m.error.worst_time} of sequence {m.error.worst_sequence}, output {m.error.worst_output}"
            f"{_clamped(m)}")


def _clamped(m: Measured) -> str:
    """Which part of an error that counts is clamping; that of a declared range does not count."""
    found = m.clamping
    if found is None or m.data.beyond is not None:
        return ""
    parts = (found.clamping, found.arithmetic)
    clamped, rounded = (_share(part / m.error.output_range) if m.error.output_range else "all" for part in parts)
    return (f"; {clamped} is clamping, {rounded} arithmetic: in {found.steps:,} steps an input lies beyond what the "
            "format holds, so save with more calibration data or declare input_range")


def _not_as_recorded(m: Measured, apart: ErrorStats, limit: float) -> str:
    return (f"the y of {m.data.name} and the policy in float64 are {_share(apart.fraction)} of the output range apart, "
            f"more than {_share(limit)}, at step {apart.worst_time} of sequence {apart.worst_sequence}, output "
            f"{apart.worst_output}: y is what your own system gave; leave it out if it is something else")


def _search_reason(worst: Worst, on: Measured, tolerance: float) -> list[str]:
    if worst.max_abs <= tolerance * on.error.output_range:
        return []
    return [f"the search found an input with error {_share(worst.max_abs / on.error.output_range)} "
            f"of the output range, more than {_share(tolerance)}"]


def _reason(link: Link) -> str:
    if link.fault:
        return _named(link, link.fault)
    if link.difference is None or link.holds:
        return ""
    return (f"{link.spec.source} and {link.spec.runtime} differ in {link.difference.mismatches} of "
            f"{link.difference.steps} steps on {link.set_name}; first at {link.difference.first}")


def _named(link: Link, text: str) -> str:
    """``text`` with the runtime in front, where it does not begin so by itself."""
    name = f"{link.spec.runtime}: "
    return text if text.startswith(name) else name + text


def _share(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"


def _measured(setting: Setting, chain: Chain, demand: Criteria) -> Measured:
    runtime, ran, reference, trace = _deployed(setting, chain)
    error = measure(reference, trace, setting.lowered.program, ran)
    return Measured(chain.data, chain.data.counts(demand.counting), runtime, ran, reference, trace, error,
                    agreement(reference, trace) if decides(setting.lowered.policy) else None, _recorded(setting, chain),
                    clamping(chain.data, ran, trace, reference, _limits(setting), partial(run_root, setting, POLICY)))


def _recorded(setting: Setting, chain: Chain) -> ErrorStats | None:
    """The policy against the outputs that came with the data, on all of it."""
    data, policy = chain.data.sequences, chain.roots[POLICY]
    return None if data.y is None else measure(policy, replace(policy, y=data.y), setting.lowered.program, data)


def _limits(setting: Setting) -> NDArray[np.float64] | None:
    """Where the artifact limits inputs whose range is guessed, (inputs, 2); None for floats, which it does not."""
    lowered = setting.lowered
    if lowered.numbers.arithmetic == "float":
        return None
    return lowered.program.x.range if arithmetic(setting.artifact) == PROGRAM else lowered.real.x.range


def ranged(measured: Sequence[Measured]) -> tuple[Measured, ...]:
    """With the widest range of all in the place of one from few steps, or of outputs that do not move.

    Raises BadInput where they move on no data, and are not met exactly: errors are shares of a range.
    """
    widest = max(m.error.output_range for m in measured)
    if widest == 0 and any(m.error.max_abs for m in measured):
        raise BadInput("the policy's outputs are the same at every step of all data: no error can be told as a share "
                       "of their range; was it trained, and do its outputs depend on its inputs?")
    return tuple(m if m.error.steps >= FEW and m.error.output_range > STILL else _with_range(m, widest)
                 for m in measured)


def _with_range(m: Measured, output_range: float) -> Measured:
    recorded = None if m.recorded is None else replace(m.recorded, output_range=output_range)
    return replace(m, error=replace(m.error, output_range=output_range), recorded=recorded)


def decides(policy: Policy) -> bool:
    """Whether a policy is a classifier, whose largest output is what matters."""
    return policy.outputs > 1 and (policy.meaning == "logits" or _sole_output(policy) == "softmax")


def _sole_output(policy: Policy) -> str:
    """The kind of the layer whose results are the outputs, where that is one."""
    sources = {tap.source for tap in taps_of(policy)[-1]}
    return policy.layers[max(sources)].kind if len(sources) == 1 and sources != {INPUT} else ""


def _deployed(setting: Setting, chain: Chain) -> tuple[str, Sequences, Trace, Trace]:
    """Runtime, data, reference trace and deployed trace of the artifact whose error is measured.

    Where it equals a root bit for bit, that root speaks for it on all of the data; otherwise its own run does. When
    nothing ran, the root that the links start from stands in.
    """
    link, policy, data = chain.deployed, chain.roots[POLICY], chain.data.sequences
    if link is None or link.result is None:
        name = arithmetic(setting.artifact)
        return name, data, policy, chain.roots.get(name) or run_root(setting, name, data)
    root = chain.exact_root(link)
    if root is not None:
        return link.spec.runtime, data, policy, chain.roots[root]
    ran = take(link.data, *link.result.trace.y.shape[:2])  # a run may end early
    return link.spec.runtime, ran, cut(policy, ran), link.result.trace


def _worse(worst: Worst, on: Measured) -> Worst:
    """The search's worst input, or that of the generated sequences where it is worse still."""
    if worst.max_abs >= on.error.max_abs:
        return worst
    row = on.error.worst_sequence
    return replace(worst, max_abs=on.error.max_abs, step=on.error.worst_time, witness=on.ran.part(slice(row, row + 1)))


def arithmetic(artifact: Artifact) -> str:
    """The root that says in NumPy what the artifact computes."""
    return MODEL if any(spec.source == MODEL for spec in artifact.links) else PROGRAM


def _search(setting: Setting, phases: Phases) -> Worst:
    own = arithmetic(setting.artifact)
    with phases.phase("search for the worst input") as phase:
        worst = search(
            setting.lowered.policy, partial(run_root, setting, POLICY), partial(run_root, setting, own),
            runtime_dt=setting.options.dt == "runtime", progress=phase.advance, **SEARCH[own],
        )
        phase.note = f"{worst.evaluations} sequences of {len(worst.witness.x[0])} steps"
    return worst
