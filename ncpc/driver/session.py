"""A build held open for a closed loop: what it is given is looked at once, whatever runs behind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncpc.errors import BadInput
from ncpc.frontend.data import frames_of
from ncpc.ir.policy import Policy
from ncpc.semantics.ops import FLAGS
from ncpc.targets.base import Session

DT_OUT_OF_RANGE = 1 << FLAGS.index("dt_out_of_range")


class OpenBuild:
    """One instance of a build with carried state. ``takes_dt``: the timespan is an input of every step.

    The session behind gets a vector of the policy's length and a timespan within the declared range, so that every
    target does the same with what it is given.
    """

    at_close: Callable[[], None] | None = None
    """Called once the session is closed: what gives back the files it runs."""

    def __init__(self, policy: Policy, session: Session, takes_dt: bool) -> None:
        self._policy, self._takes_dt = policy, takes_dt
        self._session: Session | None = session
        self._shapes = ((policy.inputs,), *frames_of(policy))
        self._status = 0

    @property
    def status(self) -> int:
        """The status bits of the last step; 0 before the first one and after a reset."""
        return self._status

    def reset(self) -> None:
        """Back to the reset state. Raises ``BadInput`` after ``close``."""
        self._open().reset()
        self._status = 0

    def step(self, x: ArrayLike | Mapping[str, ArrayLike], dt: float | None = None) -> NDArray[np.float64]:
        """One step: ``x`` (inputs,) or a frame, in physical units -> (outputs,); ``dt`` None is the nominal timespan.

        Where a policy has several inputs by name, ``x`` may be a mapping that holds all of them.
        A ``dt`` outside the declared range is limited to it and sets the status bit ``dt_out_of_range``. Raises
        ``BadInput`` for another shape, for what is not numbers, for a ``dt`` that is no finite number, for a ``dt``
        given to a build that has its timespan compiled in, and after ``close``.
        """
        session, vector = self._open(), self._vector(x)
        span = self._timespan(dt)
        limited = min(max(span, self._policy.dt.lo), self._policy.dt.hi)
        y = session.step(vector, limited)
        self._status = session.status | (DT_OUT_OF_RANGE if limited != span else 0)
        return y

    def close(self) -> None:
        """End what runs behind; a second time does nothing."""
        if self._session is not None:
            self._session.close()
        self._session = None
        if self.at_close is not None:
            self.at_close()
        self.at_close = None

    def _open(self) -> Session:
        if self._session is None:
            raise BadInput(f"{self._policy.name} was closed: open the build again")
        return self._session

    def _vector(self, x: ArrayLike | Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        if isinstance(x, Mapping):
            return self._named(x)
        name, told = self._policy.name, " or ".join(map(str, self._shapes))
        try:
            given = np.asarray(x, np.float64)
        except (TypeError, ValueError):
            raise BadInput(f"x is not an array of real numbers: a step of {name} takes {told}") from None
        if given.shape not in self._shapes:
            raise BadInput(f"x has shape {given.shape}: a step of {name} takes {told}")
        return given.reshape(-1)

    def _named(self, x: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
        told = ", ".join(f"{group.name} {group.shape}" for group in self._policy.input_groups)
        wrong = f"a step of {self._policy.name} takes {told or self._shapes[0]}"
        try:
            given = {name: np.asarray(part, np.float64) for name, part in x.items()}
        except (TypeError, ValueError):
            raise BadInput(f"x holds what is not an array of real numbers: {wrong}") from None
        if {name: part.shape for name, part in given.items()} != {g.name: g.shape for g in self._policy.input_groups}:
            raise BadInput(f"x holds {', '.join(f'{name} {part.shape}' for name, part in given.items())}: {wrong}")
        return np.concatenate([given[group.name].reshape(-1) for group in self._policy.input_groups])

    def _timespan(self, dt: float | None) -> float:
        policy = self._policy
        if dt is None:
            return policy.dt.nominal
        if not self._takes_dt:
            raise BadInput(f"dt: this build of {policy.name} has its timespan compiled in, {policy.dt.nominal:g}; "
                           "leave dt out, or compile with --dt runtime")
        try:
            span = float(dt)
        except (TypeError, ValueError):
            span = math.nan
        if not math.isfinite(span):
            raise BadInput(f"dt is {dt!r}: a step of {policy.name} takes one finite number, "
                           f"{policy.dt.lo:g} to {policy.dt.hi:g}")
        return span
