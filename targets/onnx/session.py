"""A step model held open, with its state: for closed loops."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.onnx.runtime import Loaded


@dataclass
class OnnxSession:
    """See ``ncpc.targets.base.Session``. ``start`` is the reset state (S,); ``timed``: dt is an input."""

    model: Loaded
    start: NDArray[np.float32]
    timed: bool
    _state: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    @property
    def status(self) -> int:
        """Always 0: the graph limits bad inputs as every target does, but has no output to say so."""
        return 0

    def reset(self) -> None:
        self._state = self.start[None].copy()

    def step(self, x: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        feeds = {"x": np.asarray(x, np.float32)[None]}
        if self._state.shape[1]:
            feeds["state"] = self._state
        if self.timed:
            feeds["dt"] = np.array([[dt]], np.float32)
        out = self.model.call(feeds)
        self._state = out.get("state_out", self._state)
        y: NDArray[np.float64] = out["y"][0].astype(np.float64)
        return y

    def close(self) -> None:
        """End what runs behind."""
        self.model.close()
