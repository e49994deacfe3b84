"""``ncpc inspect --linearize``: the bilinear view of a policy's LTC, written as npz."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.files import write_atomically
from ncpc.frontend.container import read_policy
from ncpc.ir.policy import F64, Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.report.bilinear import Bilinear, linearize
from ncpc.semantics.run import run

SETTLING = 500
"""Steps of held inputs after which a state is taken as settled."""


def write_linearization(path: Path, out: Path, around: Path | None) -> str:
    """Write A, B, C, f0, v, x and the neurons' names to ``out``; one line on what was found.

    ``around`` is an npz with ``v`` (neurons,) and ``x`` (inputs,), either of which may be missing: inputs are then the
    middle of their ranges, and the state where those lead from reset. Raises ``BadInput`` or ``Unsupported``.
    """
    if out.suffix != ".npz":
        raise BadInput(f"{out}: matrices are written as npz; give a name that ends in .npz")
    policy = read_policy(path)
    layer = _only_ltc(policy, path)
    found = linearize(layer, *_point(policy, layer, around))
    content = io.BytesIO()
    np.savez(content, A=found.a, B=found.b, C=found.c, f0=found.f0, v=found.v, x=found.x, names=np.array(layer.names))
    write_atomically(out, content.getvalue())
    return _told(found)


def _told(found: Bilinear) -> str:
    rates = np.linalg.eigvals(found.a)
    slowest = float(rates.real.max())
    kind = f"stable, slowest time constant {-1 / slowest:.4g}" if slowest < 0 else f"unstable, growing at {slowest:.4g}"
    return (f"A {found.a.shape}, B {found.b.shape}, C {found.c.shape} per unit of dt; {kind}; "
            f"largest |dv/dt| there {np.abs(found.f0).max():.3g}")


def _only_ltc(policy: Policy, path: Path) -> Ltc:
    if len(policy.layers) != 1 or not isinstance(policy.layers[0], Ltc):
        kinds = ", ".join(layer.kind for layer in policy.layers)
        raise Unsupported(f"{path}: the bilinear view is that of an LTC alone, but the policy is {kinds}; "
                          "save the cell without the layers around it")
    layer = policy.layers[0]
    for i in np.flatnonzero(layer.cm <= 0):
        raise BadInput(f"{path}: {layer.names[i]} has no capacitance, so its voltage has no rate of change")
    return layer


def _point(policy: Policy, layer: Ltc, around: Path | None) -> tuple[F64, F64]:
    given = _read(around, layer) if around is not None else {}
    x = given.get("x", policy.input_range.mean(axis=1))
    if "v" in given:
        return given["v"], x
    held = Sequences(np.tile(x, (1, SETTLING, 1)), np.full((1, SETTLING), policy.dt.nominal))
    return run(lower(policy), held).state[0, -1], x


def _read(path: Path, layer: Ltc) -> dict[str, F64]:
    """``v`` and ``x``, whichever are there."""
    wanted = {"v": layer.neurons, "x": layer.inputs}
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name], np.float64) for name in file.files if name in wanted}
    except (OSError, ValueError, EOFError) as error:
        raise BadInput(f"{path}: not a readable npz file ({error}); write v and x with numpy.savez") from None
    for name, array in found.items():
        if array.shape != (wanted[name],) or not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} has shape {array.shape}, expected ({wanted[name]},), finite")
    if not found:
        raise BadInput(f"{path}: holds neither v nor x")
    return found
