"""A build held open for a closed loop: inputs are looked at once, whatever runs behind."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ncpc.errors import BadInput
from ncpc.frontend.data import frames_of
from ncpc.ir.policy import Policy
from ncpc.targets.base import Session


class OpenBuild:
    """See ``ncpc.targets.base.Session``; a policy that reads frames takes them as they are, or flat."""

    def __init__(self, policy: Policy, session: Session) -> None:
        self._name, self._session = policy.name, session
        self._shapes = ((policy.inputs,), *frames_of(policy.layers[0]))

    @property
    def status(self) -> int:
        """The status bits of the last step."""
        return self._session.status

    def reset(self) -> None:
        """Back to the reset state."""
        self._session.reset()

    def step(self, x: ArrayLike, dt: float | None = None) -> NDArray[np.float64]:
        """One step: ``x`` (inputs,) or a frame, in physical units -> (outputs,); ``dt`` None is the nominal timespan.

        Raises ``BadInput`` for another shape, or for what is not numbers.
        """
        try:
            given = np.asarray(x, np.float64)
        except (TypeError, ValueError):
            raise BadInput(f"x is not an array of real numbers: a step of {self._name} takes {self._told()}") from None
        if given.shape not in self._shapes:
            raise BadInput(f"x has shape {given.shape}: a step of {self._name} takes {self._told()}")
        return self._session.step(given.reshape(-1), dt)

    def _told(self) -> str:
        return " or ".join(map(str, self._shapes))

    def close(self) -> None:
        """End what runs behind."""
        self._session.close()
