"""Does the policy compute what the trained module computes? Asked before anything is saved."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.heads import products
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.system.torch_library import copy_of, torch_module

TOLERANCE = 1e-5
ROUNDING = 10.0
"""How many times the policy's own rounding in binary32 a model, which sums in another order, may stray."""
MANY_PRODUCTS = 10**6
"""Products of a step beyond which only a few steps are run."""
MAX_SEQUENCES, MAX_STEPS = 64, 500
"""How much of the calibration is run: its first sequences, each from its start."""


def check_agreement(
    policy: Policy, modules: list[Any], where: str, input_shape: Sequence[int] | None = None
) -> None:
    """Run ``modules`` (in order) and ``policy`` side by side; raise ``BadInput`` if their outputs differ.

    They run on the calibration and on random inputs and timespans over the declared ranges. The module is run in
    double precision, so that only a difference of meaning counts: more than 1e-5 (of the largest output, where that
    exceeds 1). In its own precision it may stray further if the network amplifies rounding; that is warned about.
    """
    for data in probes(policy):
        expected = run(lower(policy), data).y
        tolerance = tolerance_of(expected)
        exact = _largest(run_modules(modules, data, input_shape, double=True), expected)
        if not exact <= tolerance:
            raise BadInput(f"{where}: policy and module differ by {exact:.3g} (more than {tolerance:.3g}); a hook or "
                           "an override changes what the module computes, remove it before saving")
        own = _largest(run_modules(modules, data, input_shape, double=False), expected)
        if not own <= tolerance:
            warnings.warn(f"{where}: {strays(modules, own)}", stacklevel=5)


def tolerance_of(expected: NDArray[np.float64]) -> float:
    """How far outputs may be from these: 1e-5, of the largest where that exceeds 1."""
    return TOLERANCE * max(1.0, float(np.abs(expected).max(initial=0.0)))


def require_close(found: NDArray[np.float64], exact: NDArray[np.float64], single: NDArray[np.float64], where: str,
                  model: str, remedy: str) -> None:
    """Raises ``BadInput`` where what a model of another library ``found`` in its own precision differs in meaning from
    the policy, ``exact`` in double precision and ``single`` in binary32, all (B, T, outputs).

    A network may amplify rounding: more than 1e-5 (of the largest output, where that exceeds 1) is such a difference
    only if it also exceeds ten times what the policy itself strays in binary32; less than that is warned about.
    """
    tolerance, strayed = tolerance_of(exact), _largest(found, exact)
    if not strayed <= max(tolerance, ROUNDING * _largest(single, exact)):
        raise BadInput(f"{where}: policy and {model} differ by {strayed:.3g} (more than {tolerance:.3g}); {remedy}")
    if not strayed <= tolerance:
        warnings.warn(f"{where}: in its own precision the model strays {strayed:.3g} from exact arithmetic: this "
                      "network amplifies rounding, and so will any deployment of it", stacklevel=6)


def strays(modules: list[Any], by: float) -> str:
    """What to say of modules that are ``by`` from exact arithmetic in their own precision."""
    torch = torch_module()
    dtype = precision(modules)
    why = "this network amplifies rounding, and so will any deployment of it"
    if torch.finfo(dtype).eps > torch.finfo(torch.float32).eps:
        why = f"so coarse is {dtype}; what is deployed computes more exactly, from the same weights"
    return f"in its own precision the module strays {by:.3g} from exact arithmetic: {why}"


def precision(modules: list[Any]) -> Any:
    """The dtype of the modules' first parameter, torch's default without any."""
    torch = torch_module()
    first = next((p for module in modules for p in module.parameters()), None)
    return torch.get_default_dtype() if first is None else first.dtype


def probes(policy: Policy) -> list[Sequences]:
    """Random inputs over the declared ranges, and the first of the calibration's sequences if there are any."""
    rng = np.random.default_rng(0)
    lo, hi = policy.input_range[:, 0], policy.input_range[:, 1]
    frames = products(policy.layers) > MANY_PRODUCTS
    shape = (1, 6) if frames else (4, 50)
    dt = np.exp(rng.uniform(np.log(policy.dt.lo), np.log(policy.dt.hi), shape)).clip(policy.dt.lo, policy.dt.hi)
    found = [Sequences(rng.uniform(lo, hi, (*shape, policy.inputs)), dt)]
    if policy.calibration is not None:
        rows, steps = (1, 6) if frames else (MAX_SEQUENCES, MAX_STEPS)
        x = policy.calibration.x[:rows, :steps]
        timespans = policy.calibration.dt
        nominal = np.full(x.shape[:2], policy.dt.nominal)
        found.append(Sequences(x, nominal if timespans is None else timespans[:rows, :steps]))
    return found


def run_modules(
    modules: list[Any], data: Sequences, input_shape: Sequence[int] | None = None, *, double: bool
) -> NDArray[np.float64]:
    """Outputs (B, T, outputs) of a copy of ``modules`` run in order, in double or in their own precision."""
    from ncpc.cells import Sequential  # needs torch

    torch = torch_module()
    copied = Sequential(copy_of(modules), input_shape).eval().cpu()
    copied = copied.double() if double else copied
    dtype = precision([copied])
    timespans = None if data.dt is None else torch.as_tensor(data.dt, dtype=dtype)
    with torch.no_grad():
        y, _ = copied(torch.as_tensor(data.x, dtype=dtype), None, timespans)
    result: NDArray[np.float64] = y.double().numpy()
    return result


def _largest(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else np.inf
