"""``ncpc.compile``, ``ncpc.verify``, ``ncpc.open`` and ``ncpc.tune``: the command line's work, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ncpc.driver.job import PROVING, Certify, Proving, Request, counting
from ncpc.driver.pipeline import Outcome, compile_policy
from ncpc.driver.reopen import open_build, verify_build
from ncpc.ir.policy import Policy
from ncpc.ir.schemes import Scheme
from ncpc.phases import Phases
from ncpc.targets.base import DtMode
from ncpc.tuning.budgets import Budgets
from ncpc.tuning.choice import Demands, Search
from ncpc.tuning.tune import Tuned, tune_policy
from ncpc.verification.data import Counting

__all__ = ["Outcome", "Tuned", "compile", "open", "tune", "verify"]

open = open_build
verify = verify_build


def compile(
    policy: str | Path | Policy,
    out: str | Path = "build",
    target: str = "host",
    *,
    quant: Scheme | None = None,
    dt: DtMode | None = None,
    calibrate: str | Path | None = None,
    cc: str = "zig",
    tolerance: float | None = None,
    verdict: Counting | None = None,
    strict: bool = False,
    steps: int | None = None,
    certify: Certify = "range",
    prove: Proving = PROVING,
    options: Mapping[str, str] | None = None,
    force: bool = False,
    phases: Phases | None = None,
) -> Outcome:
    """Quantize, lower, emit, build, simulate, verify and report ``policy`` into the folder ``out``.

    ``policy``: a container's path, or a Policy. ``target``: a name of ``ncpc targets``. ``quant``: float32, int16,
    w8a16, w4a16 or int8, also called w8a8 (None: the one whose integers the container holds, else int16, where the
    target has number formats). ``dt``: fixed (the nominal timespan is compiled in) or runtime (an input of each step);
    None is runtime where the policy declares a range. ``calibrate``: npz with calibration data instead of the policy's
    own. ``cc``: zig, or a compiler's path. ``tolerance``: largest error allowed, a fraction of the float output range
    (None: that of the scheme, in ``ncpc.ir.schemes``).
    ``verdict``: what counts, "data" (the policy's calibration data), "data+generated" (sequences that cover the
    declared ranges too; the default) or "all" (the search for the worst input too, as ``strict``). ``steps``: generated
    steps run for every link, a million at most (None: the target's). ``certify``: range (integer C gets a certificate
    that nothing in it can overflow), error (and one of how far an LTC's outputs can ever be off) or none. ``prove``:
    for how many seconds the proof is tried that a core's integer step is the program for every input, or "off".
    ``options``: the target's own.
    ``force``: replace the build of another policy (by its name) or target in ``out`` too. ``phases``: watches progress.

    Returns the outcome: ``holds``, ``report`` (schema 1), ``folder``, ``exit_code`` as the command line gives it. The
    folder is kept when the verdict does not hold. Raises ``BadInput``, ``Unsupported`` or ``MissingTool`` of
    ``ncpc.errors`` with one clear line; nothing is left behind then.
    """
    counts = counting(verdict, strict) or "data+generated"
    request = Request(target, quant, dt, cc, tolerance, counts, steps, certify, prove, options or {})
    return compile_policy(policy, out, request, calibrate=calibrate, force=force, phases=phases)


def tune(
    policy: str | Path,
    out: str | Path = "build",
    target: str = "host",
    *,
    tolerance: float,
    budget: Budgets | None = None,
    calibrate: str | Path | None = None,
    trials: int = Search().trials,
    timeout: float | None = None,
    seed: int = 0,
    steps: int | None = None,
    options: Mapping[str, str] | None = None,
    phases: Phases | None = None,
) -> Tuned:
    """Find the number scheme, the steps and the synapses of ``policy`` that ``budget`` allows, as ``ncpc tune`` does.

    ``tolerance``: largest error against the policy as it is given, a fraction of its output range. ``budget``: the most
    that a build may cost by name: flash, ram, cycles, bytes. ``trials``: points in all, those of earlier runs in
    ``out`` among them; ``timeout``: seconds after which none is begun. The rest as for ``compile``.

    Returns ``record`` (tune.json), ``folder``, ``exit_code``: 0 where a point meets everything, whose build then stands
    in ``out``/chosen. Raises ``BadInput``, ``Unsupported`` or ``MissingTool`` (without optuna).
    """
    request = Request(target, tolerance=tolerance, steps=steps, extra=options or {})
    return tune_policy(policy, out, request, Demands(tolerance, budget or {}), Search(trials, timeout, seed), calibrate,
                       phases)
