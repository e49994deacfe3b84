"""A .tflite file held open for closed loops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.tflite.reading import File
from ncpc.targets.tflite.runtimes import RuntimeInstance

Arrays = dict[str, NDArray[Any]]


class TfliteSession:
    """Steps with carried state; TFLite graphs raise no status bits."""

    def __init__(self, held: RuntimeInstance, file: File) -> None:
        self._held, self._file = held, file
        self._timed = any(edge.name == "dt" for edge in file.inputs)
        self._state: Arrays = {}
        self.reset()

    @property
    def status(self) -> int:
        """Always 0."""
        return 0

    def reset(self) -> None:
        """Back to the reset state; a file that keeps its state is loaded anew."""
        if self._file.keeps_state:
            self._held.fresh()
            return
        self._state = {edge.name: edge.encode(self._file.resets[edge.name])[None] for edge in self._file.states}

    def step(self, x: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        """``x`` (inputs,) physical -> (outputs,)."""
        feeds = {"x": self._file.edge("x").encode(np.asarray(x, np.float64))[None], **self._state}
        if self._timed:
            feeds["dt"] = np.array([dt], np.float32)
        found = self._held.invoke(feeds)
        self._state = {name: found[f"{name}_out"].copy() for name in self._state}
        return self._file.edge("y").decode(found["y"][0])

    def close(self) -> None:
        """End the runtime."""
        self._held.close()
