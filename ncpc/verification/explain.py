"""Why a verdict does not hold: the place, the roundings that cost most there, and what to try."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ncpc.errors import EXIT_DOES_NOT_HOLD
from ncpc.ir.heads import products
from ncpc.ir.policy import F64
from ncpc.ir.program import statements
from ncpc.ir.sequences import Sequences
from ncpc.phases import Phases
from ncpc.targets.base import POLICY, PROGRAM
from ncpc.verification.amplification import MUCH, TRIED, Amplification, amplification
from ncpc.verification.links import run_root, source_of
from ncpc.verification.rounding import Costs, rounding_costs
from ncpc.verification.verdict import Measured, Verification, arithmetic

MOST_STEPS, MOST_PRODUCTS = 600, 10**10
"""How far back from the worst step roundings are looked at, at most, and what that may take."""
FLOAT64 = "policy in float64"


@dataclass(frozen=True, eq=False)
class ComparedOutputs:
    """The outputs of the sequence in question, (T, outputs) each, and what gave them."""

    expected: F64
    found: F64
    names: tuple[str, str]


@dataclass(frozen=True, eq=False)
class Explanation:
    """``what`` does not hold, where it is worst (``time`` counts the steps of ``sequence``), and ``advice``, the most
    promising first. ``costs`` are None where no rounding of the integer Program is the cause; they are on the steps
    ``since`` to ``time``, and a share of the output range is they over ``output_range``. ``amplified`` is what the
    float network makes of small changes on these steps.
    """

    what: str
    data_set: str
    sequence: int
    time: int
    output: str
    pair: ComparedOutputs
    advice: tuple[str, ...]
    output_range: float = 1.0
    since: int = 0
    costs: Costs | None = None
    amplified: Amplification | None = None


def explain(found: Verification, phases: Phases) -> Explanation | None:
    """The first cause, links before errors; None where the verdict holds, or fails by what no run shows."""
    if found.verdict.exit_code != EXIT_DOES_NOT_HOLD:
        return None
    with phases.phase("look for the cause") as phase:
        why = _broken_link(found) or _too_far(found) or _recorded(found)
        if why is not None:
            phase.note = f"{why.what}, {why.data_set}, step {why.time} of sequence {why.sequence}"
    return why


def _broken_link(found: Verification) -> Explanation | None:
    broken = [(chain, link, link.difference.first) for chain in found.chains for link in chain.links
              if link.difference is not None and link.difference.first is not None and link.spec.kind == "bitwise"]
    if not broken:
        return None
    chain, link, first = broken[0]
    source = source_of(link.spec, chain)
    assert source is not None
    assert link.result is not None
    pair = ComparedOutputs(source.y[first.sequence], link.result.trace.y[first.sequence],
                           (link.spec.source, link.spec.runtime))
    advice = (f"no setting mends this: {link.spec.runtime} does not compute what {link.spec.source} does, and is to",
              "compile again; where it stays, compile with another --cc, and report it with the build folder")
    return Explanation(f"{link.spec.source} = {link.spec.runtime}", link.set_name, first.sequence, first.time,
                       first.neuron.removeprefix("output "), pair, advice)


def _too_far(found: Verification) -> Explanation | None:
    """The deciding data set further from the policy than the tolerance allows, or what the search found."""
    on, error = found.deciding, found.deciding.error
    if error.fraction <= found.demand.tolerance:
        return _found_too_far(found)
    row = error.worst_sequence
    pair = ComparedOutputs(on.reference.y[row], on.trace.y[row], (FLOAT64, f"deployed ({on.runtime})"))
    data, since = _up_to(on.ran.part(slice(row, row + 1)), error.worst_time)
    amplified = _amplified(found, data, error.output_range)
    return Explanation("error", on.data.name, row, error.worst_time, error.worst_output, pair,
                       _advice(found, on, amplified), error.output_range, since, _costs(found, data), amplified)


def _found_too_far(found: Verification) -> Explanation | None:
    worst, wide = found.worst, found.generated.error.output_range
    if found.demand.counting != "all" or worst is None or worst.max_abs <= found.demand.tolerance * wide:
        return None
    name = arithmetic(found.setting.artifact)
    expected, deployed = (run_root(found.setting, root, worst.witness).y[0] for root in (POLICY, name))
    output = int(np.abs(expected - deployed)[worst.step].argmax())
    data, since = _up_to(worst.witness, worst.step)
    advice = (*_finer(found), *_accept(worst.max_abs / wide),
              "--verdict data+generated shows the search for information: a fully connected network may have no bound")
    return Explanation("worst input found", "the search", 0, worst.step, found.setting.lowered.program.y.names[output],
                       ComparedOutputs(expected, deployed, (FLOAT64, name)), advice, wide, since, _costs(found, data),
                       _amplified(found, data, wide))


def _recorded(found: Verification) -> Explanation | None:
    for on in found.measured:
        at, y = on.recorded, on.data.sequences.y
        if not on.counts or at is None or y is None or at.fraction <= found.demand.recorded:
            continue
        policy = next(chain.roots[POLICY] for chain in found.chains if chain.data is on.data)
        row = at.worst_sequence
        advice = ("look whether x, dt and reset are what your system was given: order and units of inputs, timespans, "
                  "the state that a recording begins with (here every sequence begins from the reset state)",
                  "leave y out of the file where it is no output of your system")
        return Explanation("recorded y = policy", on.data.name, row, at.worst_time, at.worst_output,
                           ComparedOutputs(policy.y[row], y[row], (FLOAT64, "recorded y")), advice)
    return None


def _up_to(data: Sequences, time: int) -> tuple[Sequences, int]:
    """One sequence up to ``time``, from the last reset before it, and the step that is."""
    begin = 0 if data.reset is None else int(np.max(np.nonzero(data.reset[0, : time + 1])[0], initial=0))
    since = max(begin, time + 1 - MOST_STEPS)
    return data.part(slice(None), slice(since, time + 1)), since


def _costs(found: Verification, data: Sequences) -> Costs | None:
    """On one sequence; none where the Program is not what runs."""
    lowered = found.setting.lowered
    rows = len(list(statements(lowered.program.body)))
    if not lowered.formats or arithmetic(found.setting.artifact) != PROGRAM or _too_dear(found, data, rows):
        return None
    return rounding_costs(lowered.real, lowered.program, data)


def _amplified(found: Verification, data: Sequences, wide: float) -> Amplification | None:
    return None if _too_dear(found, data, TRIED) else amplification(found.setting.lowered.real, data, wide)


def _too_dear(found: Verification, data: Sequences, rows: int) -> bool:
    """Whether running one sequence ``rows`` times takes more products than may be spent on an explanation."""
    return rows * data.steps * products(found.setting.lowered.policy.layers) > MOST_PRODUCTS


def _advice(found: Verification, on: Measured, amplified: Amplification | None) -> tuple[str, ...]:
    own = [m for m in found.measured if m.data.purpose == "data"]
    advice = [*_finer(found)]
    if on.trace.flags.any():
        advice.append("calibration data that reach as far as these inputs do: a status bit says that one was limited")
    if on.data.purpose == "generated" and own and all(m.error.fraction <= found.demand.tolerance for m in own):
        advice.append("--verdict data, if the device meets nothing but what your own data is like: on that it holds")
    if on.data.name == "held-out" and any(m.error.fraction <= found.demand.tolerance for m in own):
        advice.append("more calibration data: what quantization saw holds, what it did not see does not")
    if amplified is not None and amplified.gain >= MUCH:
        advice.append("training that keeps small changes of states small (docs/quantization.md, Networks that amplify)")
    if not own:
        advice.append("calibration data of your own (--calibrate): generated inputs alone decide")
    return (*advice, *_accept(on.error.fraction))


def _finer(found: Verification) -> tuple[str, ...]:
    finer = found.setting.lowered.numbers.finer
    held = found.setting.target.capabilities.schemes
    return (f"--quant {finer}",) if finer in held else ()


def _accept(fraction: float) -> tuple[str, ...]:
    """The tolerance that would have been enough, on two digits."""
    if not 0 < fraction < 1:
        return ()
    step = 10.0 ** (math.floor(math.log10(fraction)) - 1)
    return (f"--tolerance {math.ceil(fraction / step) * step:.2g}, if that is near enough for the task",)
