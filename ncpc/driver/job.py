"""One compilation as data: what was asked, for which policy and target, and what is derived from that."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.boards.clock import Setup, board_of
from ncpc.driver import builds
from ncpc.driver.lowering import LoweringResult
from ncpc.driver.step_proof import StepProof
from ncpc.errors import EXIT_DOES_NOT_HOLD, BadInput, Unsupported
from ncpc.frontend.container import Container, policy_bytes, read_container
from ncpc.frontend.data import frames_of, read_sequences
from ncpc.frontend.ranges import guessed
from ncpc.ir.heads import affordable, products
from ncpc.ir.held_out import split
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import DEFAULT, SCHEMES, Scheme, canonical
from ncpc.ir.sequences import Sequences
from ncpc.ir.state import box
from ncpc.report.record import Json, ReportFacts
from ncpc.targets import registry
from ncpc.targets.base import Built, CompileOptions, DtMode, LinkSpec, Lowered, Target
from ncpc.verification.beyond import kept_states, outside
from ncpc.verification.compare import state_names
from ncpc.verification.data import Counting, DataSet
from ncpc.verification.deadline import StepTime
from ncpc.verification.explain import Explanation
from ncpc.verification.sequences import prefix, suite, within
from ncpc.verification.verdict import Criteria, Verdict, Verification

RUN_BUDGET, FEWEST_STEPS = 2 * 10**9, 20
"""A policy that reads frames is run for fewer steps: no more than take this many products, but some."""
SEARCHED = 10**5
"""Products of a step beyond which no worst input is searched for."""
MOST_CARRIED = 50_000
"""Steps of each part of the calibration data on which the error is measured, at most."""
MOST_STEPS, MOST_NUMBERS, ALWAYS = 10**6, 10**8, 1000
"""Steps that can be asked for; inputs and outputs of all of them, which are in memory at once; steps of any policy."""
MIN_STEPS = 10_000
"""Steps generated where no target asks for more; the same for all targets, so that they can be compared."""


Certify = Literal["range", "error", "none"]
"""What is certified of an integer C build: that nothing overflows, that and how far its outputs can be off, nothing."""

Proving: TypeAlias = "float | Literal['off']"
"""For how many seconds the proof of a linked step is tried; ``off``: not at all."""
PROVING: Proving = 10.0
"""What compile tries unless it is told otherwise."""


@dataclass(frozen=True)
class Request:
    """What is asked of one compilation. ``quant`` None: int16 where the target has it, else what it has instead.

    ``dt`` None: an input where the policy declares a range, else fixed.

    ``steps`` overrides how many generated steps each link runs; ``tolerance`` the scheme's own, a fraction of the
    output range; ``verdict`` is what counts; ``prove``, for how many seconds the linked step is tried to be proved.
    """

    target: str = "host"
    quant: Scheme | None = None
    dt: DtMode | None = None
    cc: str = "zig"
    tolerance: float | None = None
    verdict: Counting = "data+generated"
    steps: int | None = None
    certify: Certify = "range"
    prove: Proving = PROVING
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.quant is not None:
            object.__setattr__(self, "quant", canonical(self.quant))


def asked(request: Request, target: Target) -> Json:
    """What was asked that is no default, by name; the target's own options among it."""
    own = {option.name: option.default for option in target.options}
    given = {name: value for name, value in own_options(request, target).items() if value != own[name]}
    if (board := board_of(given)) is not None:
        given["board"] = board.name  # one of the user's own is a whole description
    plain = {field.name: getattr(request, field.name) for field in dataclasses.fields(request)
             if field.name not in ("target", "extra") and getattr(request, field.name) != field.default}
    return {**plain, **given}


def own_options(request: Request, target: Target) -> dict[str, str]:
    """Of the options that were given, those that ``target`` has."""
    own = {option.name for option in target.options}
    return {name: value for name, value in request.extra.items() if name in own}


@dataclass(frozen=True, eq=False)
class Job:
    """A request made concrete: the container, the target, the options it will see."""

    request: Request
    container: Container
    target: Target
    options: CompileOptions
    compiler: str | None = None
    """The C compiler to call where it is not what the request names."""
    certificate: str | None = None
    """error_certificate.json of a build that is made again: checked then, not searched again."""

    @property
    def build_options(self) -> CompileOptions:
        """The options outside tools are called with."""
        return dataclasses.replace(self.options, cc=self.compiler or self.options.cc)

    @property
    def setup(self) -> Setup | None:
        """On what board, at what clock and rate a step is to run, where that was asked. Raises BadInput."""
        return None if self.target.setup is None else self.target.setup(self.options.extra)

    @property
    def policy(self) -> Policy:
        return self.container.policy

    @property
    def tolerance(self) -> float:
        """What the verdict asks for: a fraction of the output range."""
        return self.request.tolerance or self.options.tolerance


def job_for(policy: str | Path | Policy, request: Request, calibrate: str | Path | None = None) -> Job:
    """Read the policy, find the target, settle the options. Raises BadInput or Unsupported."""
    target = registry.load(request.target)
    container = Container(policy) if isinstance(policy, Policy) else read_container(policy)
    if calibrate is not None:
        container = _calibrated(container, calibrate)
    require_tolerance(request.tolerance)
    require_proving(request.prove)
    require_steps(container.policy, request.steps)
    job = Job(request, container, target, _options(container, request, target))
    _ = job.setup  # contradictions are told before any work
    return job


def counting(verdict: Counting | None, strict: bool) -> Counting | None:
    """What is to count, where it is said; ``strict`` says "all". Raises BadInput where the two differ."""
    if strict and verdict not in (None, "all"):
        raise BadInput(f"--strict is --verdict all, and --verdict {verdict} is given too; leave one of them out")
    return "all" if strict else verdict


def require_tolerance(tolerance: float | None) -> None:
    """Raises BadInput for a tolerance that is no positive fraction."""
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise BadInput(f"--tolerance {tolerance:g}: give a positive fraction of the output range")


def require_proving(prove: Proving) -> None:
    """Raises BadInput for what is neither a time nor ``off``."""
    if prove != "off" and not 0 < prove < np.inf:
        raise BadInput(f"--prove {prove}: give the seconds that the proof of the linked step may take, or off")


def require_steps(policy: Policy, steps: int | None) -> None:
    """Raises BadInput for a number of steps that is none or takes more memory than is sensible."""
    most = min(MOST_STEPS, max(ALWAYS, MOST_NUMBERS // (policy.inputs + policy.outputs)))
    if steps is not None and not 1 <= steps <= most:
        raise BadInput(f"--steps {steps:,}: policy '{policy.name}' takes 1 to {most:,} steps at a time")


def data_for(
    job: Job, lowered: Lowered, links: tuple[LinkSpec, ...], own: DataSet | None = None
) -> tuple[DataSet, ...]:
    """The data sets of the verdict: the user's ``own``, both parts of the policy's calibration data, generated
    sequences, and for bitwise links what lies outside the declared ranges.

    The user's sequences are limited to the declared ranges, not to a guessed one.
    """
    first = () if own is None else (own,)
    return (*first, *_carried(job), generated(job, links), *_beyond(job, lowered, links))


def require_data(job: Job, own: DataSet | None = None) -> None:
    """Raises BadInput where the user's data alone is to count and there is none."""
    if job.request.verdict == "data" and own is None and job.policy.calibration is None:
        raise BadInput("--verdict data: the policy carries no calibration data; save it with some, or give --calibrate")


def given(job: Job, inputs: object) -> DataSet:
    """The user's own sequences: an npz file, an array or a mapping; every link runs all of them."""
    policy = job.policy
    sequences = _read(inputs, policy)
    name = Path(inputs).name if isinstance(inputs, str | Path) else "given sequences"
    return _own(job, name, "given for this verification", sequences, True)


def _carried(job: Job) -> list[DataSet]:
    """The policy's calibration data: what quantization saw, and what was held out."""
    if job.policy.calibration is None:
        return []
    parts = split(job.policy.calibration)
    found = [_own(job, "calibration", "the policy's calibration data, seen by quantization", parts.seen, False)]
    if parts.held_out is not None:
        words = f"held out of the policy's calibration data: {parts.rule}"
        found.append(_own(job, "held-out", words, parts.held_out, False))
    return found


def _own(job: Job, name: str, words: str, sequences: Sequences, whole: bool) -> DataSet:
    """A data set of the user's, as the deployed policy sees it; of a policy that reads frames, as much as is run."""
    seen, outside = within(sequences, job.policy, job.options.dt == "runtime")
    kept = seen if whole else prefix(seen, _runnable(job, min(seen.steps, MOST_CARRIED)))
    cut = f", the first {kept.steps:,} of {seen.steps:,} steps" if kept.steps < seen.steps else ""
    note = f", {outside} steps saturated at the declared ranges" if outside else ""
    raw = dataclasses.replace(kept, x=sequences.x[: len(kept.x), : kept.x.shape[1]])
    return DataSet(name, words + cut + note, "data", kept, whole, None if np.array_equal(raw.x, kept.x) else raw)


def generated(job: Job, links: tuple[LinkSpec, ...]) -> DataSet:
    """Sequences that cover the declared ranges."""
    wanted = max([MIN_STEPS, *(link.steps for link in links)])
    asked = job.request.steps or _runnable(job, wanted)
    sequences = suite(job.policy, asked, job.options.dt == "runtime")
    return DataSet("generated", "generated sequences within the declared ranges", "generated", sequences,
                   job.request.steps is not None)


def _beyond(job: Job, lowered: Lowered, links: tuple[LinkSpec, ...]) -> list[DataSet]:
    """Inputs and timespans outside their ranges, and states to restore; where a target has bitwise links for them."""
    bitwise = [link for link in links if link.kind == "bitwise"]
    found = {}
    if bitwise:
        words = "inputs and dt at the ends of their ranges, beyond them, and no numbers: status bits, no error"
        found["outside"] = (words, outside(job.policy, job.options.dt == "runtime"))
    if any(link.restores for link in bitwise) and (kept := kept_states(job.policy, lowered.program)) is not None:
        words = "states restored at the ends of their box and beyond, saved again, and the self test: no error"
        found["restored"] = (words, kept)
    return [DataSet(name, words, "bitwise", prefix(data, _runnable(job, data.steps)), True)
            for name, (words, data) in found.items()]


def _runnable(job: Job, steps: int) -> int:
    """As many of ``steps`` as a data set of the job may have."""
    return affordable(job.policy.layers, steps, fewest=FEWEST_STEPS, budget=RUN_BUDGET)


def demand_for(job: Job, reasons: list[str]) -> Criteria:
    """What the verifier is asked; ``reasons`` are faults found before it ran."""
    each = products(job.policy.layers)
    if each <= SEARCHED:
        return Criteria(job.tolerance, job.request.verdict, reasons=tuple(reasons))
    left_out = f"search for the worst input: a step takes {each:,} products"
    return Criteria(job.tolerance, job.request.verdict, False, tuple(reasons), (left_out,))


def facts_for(
    job: Job, lowering: LoweringResult | None, built: Built, found: Verification | None, why: Explanation | None = None,
    step: StepProof | None = None, time: StepTime | None = None,
) -> ReportFacts:
    """What the report is made of; without ``found`` the verdict is still to be filled in."""
    return ReportFacts(
        policy=job.policy,
        policy_sha256=builds.sha256(policy_bytes(job.policy)),
        target=job.target,
        options=job.options,
        verdict=found.verdict if found else Verdict(False, (), (), EXIT_DOES_NOT_HOLD),
        tolerance=job.tolerance,
        counting=job.request.verdict,
        asked=asked(job.request, job.target),
        formats=_formats(lowering, built),
        proof=_proof(lowering, built, found) if lowering else None,
        built=built,
        verification=found,
        explanation=why,
        theorem=None if step is None else step.record,
        time=None if time is None else time.record(),
        tools={**tools(), **({} if step is None else step.tools)},
    )


def tools() -> dict[str, str]:
    """Versions of ncpc and of the library every number goes through, and the vector instructions that it uses here."""
    vector = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
    found = {"numpy": np.__version__, "processor": " ".join([platform.machine(), *vector[-1:]])}
    try:
        found["ncpc"] = version("ncpc")
    except PackageNotFoundError:
        found["ncpc"] = "uninstalled"
    return found


def to_json(value: Mapping[str, Any]) -> bytes:
    """Indented JSON, keys in the order given."""
    return (json.dumps(value, indent=1) + "\n").encode()


def _read(source: object, policy: Policy) -> Sequences:
    return read_sequences(source, policy.inputs, policy.dt, frames=frames_of(policy), outputs=policy.outputs,
                          groups=policy.input_groups)


def _calibrated(container: Container, path: str | Path) -> Container:
    policy = container.policy
    data = _read(path, policy)
    _, outside = within(data, policy, True)
    if outside:
        raise BadInput(f"{path}: {outside} of {data.steps} steps lie outside the policy's declared input or dt range; "
                       "save the policy with a wider input_range")
    return Container(dataclasses.replace(policy, calibration=data, input_range=_suggested(policy, data)))


def _suggested(policy: Policy, data: Sequences) -> NDArray[np.float64]:
    """The input range, wider where it was guessed and ``data`` suggest more."""
    if not policy.range_guessed:
        return policy.input_range
    more = guessed(data, policy)
    (lo, hi), (low, high) = policy.input_range.T, more.T
    return np.stack([np.minimum(lo, low), np.maximum(hi, high)], axis=1)


def _options(container: Container, request: Request, target: Target) -> CompileOptions:
    policy, can = container.policy, target.capabilities
    dt: DtMode = request.dt or policy.dt.mode
    quant: Scheme = request.quant or _default(container, can.schemes)
    for option, asked, held in (("--quant", quant, can.schemes), ("--dt", dt, can.dt)):
        _require_held(target, f"{option} {asked}", asked, held, can.instead.get(asked))
    for layer in policy.layers if can.layers is not None else ():
        _require_held(target, f"layer '{layer.kind}'", layer.kind, sorted(can.layers or ()), can.instead.get("layer"))
    return CompileOptions(quant=quant, dt=dt, cc=request.cc, tolerance=request.tolerance or SCHEMES[quant].tolerance,
                          extra=_extra(request, target))


def _default(container: Container, schemes: Sequence[Scheme]) -> Scheme:
    """Where no scheme is asked for: that whose integers the container holds, if it is a single one and the target's."""
    stored = [SCHEMES[canonical(name)].name for name in container.formats or {} if canonical(name) in schemes]
    return stored[0] if len(stored) == 1 else DEFAULT if DEFAULT in schemes else schemes[0]


def _require_held(target: Target, what: str, asked: str, held: Sequence[str], instead: str | None) -> None:
    if asked not in held:
        rest = f"; {instead}" if instead else ""
        raise Unsupported(f"target '{target.name}' has no {what}; it has {', '.join(held)}{rest}")


def _extra(request: Request, target: Target) -> dict[str, str]:
    """The target's own options, defaults filled in; those of other targets in the same command are left out."""
    own = {option.name: option for option in target.options}
    values = {name: request.extra.get(name, option.default) for name, option in own.items()}
    for name, value in values.items():
        if own[name].choices and value not in own[name].choices:
            raise BadInput(f"--{name} {value}: choose from {', '.join(own[name].choices)}")
        if (check := own[name].check) is not None and value != own[name].default:
            check(value)
    return values


def _formats(lowering: LoweringResult | None, built: Built) -> Mapping[str, str]:
    """Those of what was built."""
    if built.formats is not None:
        return built.formats
    return lowering.lowered.formats if lowering else {}


def _proof(lowering: LoweringResult, built: Built, found: Verification | None) -> Json | None:
    """What was proved, with the range that was observed beside each proved one."""
    proof = lowering.proof if built.proof is None else built.proof
    if proof is None:
        return None
    program = lowering.lowered.program
    observed, proved = _observed(found), _box(lowering.lowered) if built.proof is None else built.proof["box"]
    box = []
    for i, (name, (lo, hi)) in enumerate(zip(state_names(program), proved, strict=True)):
        seen = (None, None) if observed is None else (observed[0][i], observed[1][i])
        box.append({"neuron": name, "lo": lo, "hi": hi, "observed_lo": seen[0], "observed_hi": seen[1]})
    return {**proof, "box": box}


def _box(lowered: Lowered) -> list[tuple[float, float]]:
    """The states' boxes in physical units; infinite where there is none."""
    return [(float(lo), float(hi)) for state in lowered.program.states for lo, hi in box(state)]


def _observed(found: Verification | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if found is None or any(m.trace.state.shape[2] != m.reference.state.shape[2] for m in found.measured):
        return None
    states = [m.trace.state for m in found.measured]
    return (np.min([s.min(axis=(0, 1)) for s in states], axis=0), np.max([s.max(axis=(0, 1)) for s in states], axis=0))
