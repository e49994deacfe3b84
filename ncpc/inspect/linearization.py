"""``ncpc inspect --linearize``: the bilinear view of a policy's LTC, written as npz."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import read_policy
from ncpc.frontend.npz import read_npz
from ncpc.ir.policy import F64, Ltc, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.ir.wires import before
from ncpc.passes.lower import lower
from ncpc.report.bilinear import Bilinear, linearize
from ncpc.semantics.run import run
from ncpc.system.files import write_atomically

SETTLING = 500
"""Steps of held inputs after which a state is taken as settled."""


def write_linearization(path: Path, out: Path, around: Path | None) -> str:
    """Write the arrays of ``Bilinear`` and the names of neurons and inputs to ``out``; one line on what was found.

    ``around`` is an npz with ``v`` (neurons,) and ``x`` (inputs of the LTC,), either of which may be missing: the
    policy's inputs are then in the middle of their ranges, and the state is where that leads from reset. Layers around
    the LTC only decide that point. Raises ``BadInput`` or ``Unsupported``.
    """
    if out.suffix != ".npz":
        raise BadInput(f"{out}: matrices are written as npz; give a name that ends in .npz")
    policy = read_policy(path)
    position, layer = _the_ltc(policy, path)
    found = linearize(layer, *_point(policy, position, layer, around))
    inputs = policy.input_names if position == 0 else tuple(f"u{i}" for i in range(layer.inputs))
    content = io.BytesIO()
    names = np.array(layer.names)
    np.savez(content, A=found.a, B=found.b, C=found.c, f0=found.f0, v=found.v, x=found.x, names=names[found.kept],
             neurons=names, inputs=np.array(inputs))
    write_atomically(out, content.getvalue())
    gone = ", ".join(np.delete(names, found.kept))
    return _told(found) + (f"; without capacitance and eliminated: {gone}" if gone else "")


def _told(found: Bilinear) -> str:
    rates = np.linalg.eigvals(found.a)
    slowest = float(rates.real.max())
    kind = f"stable, slowest time constant {-1 / slowest:.4g}" if slowest < 0 else f"unstable, growing at {slowest:.4g}"
    return (f"A {found.a.shape}, B {found.b.shape}, C {found.c.shape} per unit of dt; {kind}; "
            f"largest |dv/dt| there {np.abs(found.f0).max():.3g}")


def _the_ltc(policy: Policy, path: Path) -> tuple[int, Ltc]:
    """The policy's one LTC, and which of its layers that is."""
    found = [(position, layer) for position, layer in enumerate(policy.layers) if isinstance(layer, Ltc)]
    if len(found) != 1:
        kinds = ", ".join(layer.kind for layer in policy.layers)
        raise Unsupported(f"{path}: the bilinear view is that of one LTC, but the policy's layers are {kinds}; save a "
                          "policy with a single layer 'ltc'")
    position, layer = found[0]
    if not np.any(layer.cm > 0):
        raise BadInput(f"{path}: no neuron has a capacitance, so that no voltage has a rate of change")
    return position, layer


def _point(policy: Policy, position: int, layer: Ltc, around: Path | None) -> tuple[F64, F64]:
    """State and inputs of the LTC: as given, else where inputs in the middle of their ranges lead."""
    given = _read(around, layer) if around is not None else {}
    x = given["x"] if "x" in given else policy.input_range.mean(axis=1)
    if "x" not in given:
        x = _settled(before(policy, position), x).y[0, -1]
    if "v" in given:
        return given["v"], x
    alone = Policy(policy.name, (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)), policy.dt)
    return _settled(alone, x).state[0, -1], x


def _settled(policy: Policy, x: F64) -> Trace:
    """What held inputs lead to."""
    program = lower(policy)
    steps = SETTLING if program.states else 1
    return run(program, Sequences(np.tile(x, (1, steps, 1)), np.full((1, steps), policy.dt.nominal)))


def _read(path: Path, layer: Ltc) -> dict[str, F64]:
    """``v`` and ``x``, whichever are there."""
    wanted = {"v": layer.neurons, "x": layer.inputs}
    arrays = read_npz(path, "write v and x with numpy.savez")
    given = {name: array for name, array in arrays.items() if name in wanted}
    for name, array in given.items():
        if array.dtype.kind not in "fiub":
            raise BadInput(f"{path}: {name} is no array of real numbers")
        if array.shape != (wanted[name],) or not np.isfinite(array).all():
            raise BadInput(f"{path}: {name} has shape {array.shape}, expected ({wanted[name]},), finite")
    found = {name: array.astype(np.float64) for name, array in given.items()}
    if not found:
        raise BadInput(f"{path}: holds neither v nor x")
    return found
