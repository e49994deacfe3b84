"""Does the policy compute what the user's own module computes, run by its own forward?

A list of layers says nothing of what a forward does between them, so the module that it was taken from is run too.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.frontend.agreement import probes, tolerance_of
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.system.torch_library import torch_module
from ncpc.system.user_code import one_line

F64 = NDArray[np.float64]
TIMESPANS = "timespans"
"""The argument of forward that takes timespans, as ncps names it."""


def require_module(like: Any) -> Any:
    """``like``, which has to be a torch module. Raises BadInput."""
    if not isinstance(like, torch_module().nn.Module):
        raise BadInput(f"like= is a {type(like).__name__}; give the torch module whose forward runs the layers")
    return like


def runs(like: Any) -> bool:
    """Whether the module has a forward of its own; one that only holds layers has none. Raises BadInput."""
    nn = torch_module().nn
    return type(require_module(like)).forward is not nn.Module.forward and not isinstance(like, nn.ModuleList)


def check_forward(policy: Policy, module: Any, where: str, input_shape: Sequence[int] | None = None) -> None:
    """Run ``policy`` and ``module`` side by side in double precision; raise ``BadInput`` where their outputs differ by
    more than 1e-5 (of the largest output, where that exceeds 1), or the module gives none.

    They run on random inputs and on the calibration; at the nominal dt where forward takes no ``timespans``, sequence
    by sequence where it does (the cells of ncps take timespans at a batch of one). A module without a forward of its
    own, which only holds the layers, says nothing. ``module`` becomes double.
    """
    name = f"{type(module).__name__}.forward"
    if not runs(module):
        return
    timed = TIMESPANS in inspect.signature(module.forward).parameters
    module = module.eval().cpu().double()

    def forwarded(x: Any, spans: Any) -> tuple[Any, ...]:
        return (_forward(module, x, spans, f"{where}: {name}"),)

    for probe in probes(policy):
        nominal = np.full(probe.x.shape[:2], policy.dt.nominal)
        dt = probe.dt if timed and probe.dt is not None else nominal
        expected = run(lower(policy), Sequences(probe.x, dt)).y
        shaped = probe.x if input_shape is None else probe.x.reshape(*probe.x.shape[:2], *input_shape)
        x, spans = (torch_module().as_tensor(part) for part in (shaped, dt))
        (given,) = each_row(forwarded, x, spans) if timed else forwarded(x, None)
        require_equal(given.numpy(), expected, f"{where}: the layers", name)


def each_row(call: Callable[..., tuple[Any, ...]], *rows: Any) -> tuple[Any, ...]:
    """What ``call`` gives for each row (1, ...) of tensors (B, ...) by itself, put together: tensors (B, ...).

    All rows are computed at once by ``torch.vmap``, in which each is alone as it would be in a call of its own; one
    after the other where ``call`` does what that cannot follow (writes into its own tensors, asks for a number).
    """
    torch = torch_module()
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        return tuple(part.flatten(0, 1) for part in torch.vmap(lambda *row: call(*(x[None] for x in row)))(*rows))
    found = [call(*row) for row in zip(*(x.split(1) for x in rows), strict=True)]
    return tuple(map(torch.cat, zip(*found, strict=True)))


def _forward(module: Any, x: Any, dt: Any, what: str) -> Any:
    """What the module's forward gives, (B, T, outputs), or (B, outputs) of the last step."""
    torch, first = torch_module(), time_first(module)
    options = {} if dt is None else {TIMESPANS: dt}
    try:
        with torch.no_grad(), double_by_default():
            given = module(x.transpose(0, 1) if first else x, **options)
    except Exception as error:
        raise BadInput(f"{what} failed on inputs {tuple(x.shape)} ({one_line(error)})") from error
    y = given[0] if isinstance(given, (tuple, list)) and given else given
    if not torch.is_tensor(y):
        raise BadInput(f"{what} returned a {type(y).__name__}; like= takes a module that returns its outputs, or a "
                       "tuple that begins with them")
    return (y.transpose(0, 1) if first and y.ndim == 3 else y).double()


@contextmanager
def double_by_default() -> Iterator[None]:
    """A forward that makes its own first state makes it in torch's default precision."""
    torch = torch_module()
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def time_first(module: Any) -> bool:
    """Whether its recurrent layers take time before the batch."""
    return any(getattr(part, "batch_first", True) is False for part in module.modules())


def require_equal(given: F64, expected: F64, layers: str, forward: str) -> None:
    """Raises BadInput where outputs differ by more than ``tolerance_of`` them, or in shape."""
    expected = expected[:, -1] if given.ndim == 2 else expected
    if given.shape != expected.shape:
        raise BadInput(f"{layers} give outputs {expected.shape}, {forward} {given.shape}")
    apart = np.abs(given - expected)
    worst = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
    if worst > tolerance_of(expected):
        at = np.unravel_index(int(np.nan_to_num(apart, nan=np.inf).argmax()), apart.shape)
        raise BadInput(f"{layers} compute otherwise than {forward}: {float(expected[at]):.6g} where that gives "
                       f"{float(given[at]):.6g}, of outputs up to {float(np.abs(given).max()):.3g}; what forward does "
                       "between them (an activation, a scaling) is missing from the list")
