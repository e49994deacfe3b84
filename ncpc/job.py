"""One compilation as data: what was asked, for which policy and target, and what is derived from that."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc import builds
from ncpc.errors import EXIT_DOES_NOT_HOLD, BadInput, Unsupported
from ncpc.frontend.container import Container, policy_bytes, read_container
from ncpc.frontend.data import frames_of, read_sequences
from ncpc.ir.heads import products
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.lowering import Lowering
from ncpc.report.record import Facts, Json
from ncpc.targets import registry
from ncpc.targets.base import MODEL, POLICY, Built, CompileOptions, DtMode, LinkSpec, Lowered, Scheme, Target
from ncpc.verify.compare import state_names
from ncpc.verify.links import Setting
from ncpc.verify.sequences import suite, within
from ncpc.verify.verdict import TOLERANCE, Demand, Verdict, Verification

MOST_PRODUCTS, FEWEST_STEPS = 2 * 10**9, 20
"""A policy that reads frames is run for fewer steps: no more than take this many products, but some."""
SEARCHED = 10**5
"""Products of a step beyond which no worst input is searched for."""
MIN_STEPS = 10_000
"""Steps generated where no target asks for more; the same for all targets, so that they can be compared."""


@dataclass(frozen=True)
class Request:
    """What is asked of one compilation. ``quant`` None: int16 where the target has it, else what it has instead.

    ``dt`` None: an input where the policy declares a range, else fixed.

    ``steps`` overrides how many steps each link runs; ``tolerance`` the scheme's own, a fraction of the output range.
    """

    target: str = "host"
    quant: Scheme | None = None
    dt: DtMode | None = None
    cc: str = "zig"
    tolerance: float | None = None
    strict: bool = False
    steps: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """A request made concrete: the container, the target, the options it will see."""

    request: Request
    container: Container
    target: Target
    options: CompileOptions

    @property
    def policy(self) -> Policy:
        return self.container.policy

    @property
    def tolerance(self) -> float:
        """What the verdict asks for: a fraction of the output range."""
        return self.request.tolerance or self.options.tolerance


@dataclass(frozen=True, eq=False)
class Data:
    """The sequences a build is verified on, in words too; ``whole``: every link runs all of them."""

    sequences: Sequences
    whole: bool
    words: str


def job_for(policy: str | Path | Policy, request: Request, calibrate: str | Path | None = None) -> Job:
    """Read the policy, find the target, settle the options. Raises BadInput or Unsupported."""
    target = registry.load(request.target)
    container = Container(policy) if isinstance(policy, Policy) else read_container(policy)
    if calibrate is not None:
        container = _calibrated(container, calibrate)
    require_tolerance(request.tolerance)
    return Job(request, container, target, _options(container.policy, request, target))


def require_tolerance(tolerance: float | None) -> None:
    """Raises BadInput for a tolerance that is no positive fraction."""
    if tolerance is not None and not 0 < tolerance < np.inf:
        raise BadInput(f"--tolerance {tolerance:g}: give a positive fraction of the output range")


def data_for(job: Job, lowered: Lowered, inputs: object | None) -> Data:
    """The user's sequences, limited to the declared ranges, or generated ones that cover them."""
    runtime_dt = job.options.dt == "runtime"
    if inputs is None:
        wanted = max([MIN_STEPS, *(link.steps for link in links(job, lowered))])
        asked = job.request.steps or affordable(job.policy, wanted)
        generated = suite(job.policy, asked, runtime_dt)
        return Data(generated, job.request.steps is not None, "generated sequences within the declared ranges")
    frames = frames_of(job.policy.layers[0])
    given = read_sequences(inputs, job.policy.inputs, job.policy.dt, frames=frames)
    seen, outside = within(given, job.policy, runtime_dt)
    name = Path(inputs).name if isinstance(inputs, str | Path) else "given sequences"
    note = f", {outside} steps saturated at the declared ranges" if outside else ""
    return Data(seen, True, name + note)


def affordable(policy: Policy, steps: int) -> int:
    """As many of ``steps`` as the products of a policy that reads frames allow, a few at least."""
    each = products(policy.layers)
    return steps if not each else max(FEWEST_STEPS, min(steps, MOST_PRODUCTS // each))


def links(job: Job, lowered: Lowered) -> tuple[LinkSpec, ...]:
    """The links the target wants checked."""
    return job.target.links(lowered, job.options)


def setting_for(job: Job, folder: Path, lowered: Lowered, data: Data) -> Setting:
    """What the verifier is given."""
    return Setting(job.target, folder, lowered, job.options, data.sequences, data.whole)


def demand_for(job: Job, reasons: list[str]) -> Demand:
    """What the verifier is asked; ``reasons`` are faults found before it ran."""
    each = products(job.policy.layers)
    if each <= SEARCHED:
        return Demand(job.tolerance, job.request.strict, reasons=tuple(reasons))
    left_out = f"search for the worst input: a step takes {each:,} products"
    return Demand(job.tolerance, job.request.strict, False, tuple(reasons), (left_out,))


def facts_for(
    job: Job, lowering: Lowering | None, built: Built, found: Verification | None, words: str = ""
) -> Facts:
    """What the report is made of; without ``found`` the verdict is still to be filled in."""
    return Facts(
        policy=job.policy,
        policy_sha256=builds.sha256(policy_bytes(job.policy)),
        target=job.target,
        options=job.options,
        verdict=found.verdict if found else Verdict(False, (), (), EXIT_DOES_NOT_HOLD),
        tolerance=job.tolerance,
        strict=job.request.strict,
        formats=_formats(lowering, built),
        proof=_proof(job, lowering, built, found) if lowering else None,
        built=built,
        verification=found,
        tools=tools(),
        data=words,
    )


def tools() -> dict[str, str]:
    """Versions of ncpc and of the library every number goes through."""
    found = {"numpy": np.__version__}
    try:
        found["ncpc"] = version("ncpc")
    except PackageNotFoundError:
        found["ncpc"] = "uninstalled"
    return found


def to_json(value: Mapping[str, Any]) -> bytes:
    """Indented JSON, keys in the order given."""
    return (json.dumps(value, indent=1) + "\n").encode()


def _calibrated(container: Container, path: str | Path) -> Container:
    policy = container.policy
    data = read_sequences(path, policy.inputs, policy.dt, frames=frames_of(policy.layers[0]))
    _, outside = within(data, policy, True)
    if outside:
        raise BadInput(f"{path}: {outside} of {data.steps} steps lie outside the policy's declared input or dt range; "
                       "save the policy with a wider input_range")
    return Container(dataclasses.replace(policy, calibration=data))


def _options(policy: Policy, request: Request, target: Target) -> CompileOptions:
    dt: DtMode = request.dt or ("fixed" if policy.dt.fixed else "runtime")
    can = target.capabilities
    quant: Scheme = request.quant or ("int16" if "int16" in can.schemes else can.schemes[0])
    for option, asked, held in (("--quant", quant, can.schemes), ("--dt", dt, can.dt)):
        _require_held(target, f"{option} {asked}", asked, held, can.instead.get(asked))
    for layer in policy.layers if can.layers is not None else ():
        _require_held(target, f"layer '{layer.kind}'", layer.kind, sorted(can.layers or ()), can.instead.get("layer"))
    return CompileOptions(quant=quant, dt=dt, cc=request.cc, tolerance=request.tolerance or TOLERANCE[quant],
                          extra=_extra(request, target))


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
        if (check := own[name].check) is not None:
            check(value)
    return values


def own_arithmetic(job: Job, lowering: Lowering) -> bool:
    """Whether what is built computes otherwise than the Program, whose proof says nothing of it then."""
    return any(link.source == MODEL for link in links(job, lowering.lowered))


def _formats(lowering: Lowering | None, built: Built) -> Mapping[str, str]:
    """Those of what was built."""
    if built.formats is not None:
        return built.formats
    return lowering.lowered.formats if lowering else {}


def _proof(job: Job, lowering: Lowering, built: Built, found: Verification | None) -> Json | None:
    """What was proved, with the range that was observed beside each proved one."""
    proof = lowering.proof if built.proof is None else built.proof
    if proof is None or (found is None and built.proof is None and own_arithmetic(job, lowering)):
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
    found: list[tuple[float, float]] = []
    for state in lowered.program.states:
        size = int(np.prod(state.inp.shape, dtype=np.int64))
        lsb = state.inp.type.lsb if isinstance(state.inp.type, Fixed) else 1.0
        rows = np.full((size, 2), np.inf) * [-1, 1] if state.box is None else np.asarray(state.box) * lsb
        found += [(float(lo), float(hi)) for lo, hi in rows.reshape(-1, 2)]
    return found


def _observed(found: Verification | None) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    if found is None or found.deployed_trace.state.shape[2] != found.chain.roots[POLICY].state.shape[2]:
        return None
    state = found.deployed_trace.state
    return state.min(axis=(0, 1)), state.max(axis=(0, 1))
