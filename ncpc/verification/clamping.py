"""How much of an error is clamping: inputs beyond what a build holds, against the reference that holds all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.sequences import Sequences, Trace
from ncpc.verification.compare import largest
from ncpc.verification.data import DataSet
from ncpc.verification.sequences import take

Reference = Callable[[Sequences], Trace]


@dataclass(frozen=True)
class Clamping:
    """The error in two parts, largest differences of outputs in physical units.

    ``steps`` have an input beyond what the build holds. ``whole`` is the artifact against the policy on the inputs as
    they are; ``clamping`` the policy on limited inputs against the policy on these; ``arithmetic`` the artifact against
    the policy on limited inputs. ``whole`` is at most the sum of the other two.
    """

    steps: int
    whole: float
    clamping: float
    arithmetic: float


def clamping(
    data: DataSet, ran: Sequences, trace: Trace, reference: Trace, limits: NDArray[np.float64] | None, policy: Reference
) -> Clamping | None:
    """The parts of the error of ``trace``, whose ``reference`` is the policy over ``ran``; None where no input is
    limited.

    A declared range limits the reference too: ``data.beyond`` holds the inputs as they were given. Elsewhere the
    reference sees what was given, and ``limits`` (inputs, 2) says where the artifact limits it (None: nowhere).
    """
    rows, length = ran.x.shape[:2]
    raw = ran if data.beyond is None else take(data.beyond, rows, length)
    held = ran if data.beyond is not None or limits is None else replace(ran, x=np.clip(ran.x, *limits.T))
    beyond = (raw.x != held.x).any(axis=2)
    if not beyond.any():
        return None
    whole, limited = (reference if one is ran else policy(one) for one in (raw, held))
    return Clamping(int(beyond.sum()), largest(trace.y, whole.y), largest(limited.y, whole.y),
                    largest(trace.y, limited.y))
