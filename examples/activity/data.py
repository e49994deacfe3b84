"""BasicMotions: a smart watch's accelerometer and gyroscope while its wearer stands, walks, runs or plays badminton.

Eighty recordings of ten seconds at 10 Hz, forty of them for training, in the format ``.ts`` of the UEA archive of
multivariate time series (Bagnall et al. 2018, arXiv:1811.00075). The Python package aeon carries them; what else aeon
needs is not needed to read them:

    python -m pip install --no-deps aeon
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, MissingTool

F64 = NDArray[np.float64]

CLASSES = ("standing", "running", "walking", "badminton")
CHANNELS = ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")
STEPS = 100
RATE_HZ = 10.0


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings ``x`` (B, STEPS, 6) and the activity of each, ``label`` (B,): an index into ``CLASSES``."""

    x: F64
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.label)

    def take(self, which: NDArray[np.int64]) -> Recordings:
        return Recordings(self.x[which], self.label[which])


def folder() -> Path:
    """Where the installed package aeon keeps the recordings; it is not imported. Raises ``MissingTool``."""
    spec = find_spec("aeon")
    if spec is None or spec.origin is None:
        raise MissingTool("BasicMotions: the package aeon, which carries it, is not installed; "
                          "python -m pip install --no-deps aeon, or name a folder with --data")
    return Path(spec.origin).parent / "datasets" / "data" / "BasicMotions"


def read(part: str, where: Path | None = None) -> Recordings:
    """The recordings of ``part``, "TRAIN" or "TEST", in ``where`` or the installed package.

    Raises ``BadInput`` where the file is missing or is not BasicMotions, ``MissingTool`` where no folder is named and
    aeon is not installed.
    """
    path = (where or folder()) / f"BasicMotions_{part}.ts"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [line.split(":") for line in lines[lines.index("@data") + 1:] if line]
        x = np.array([[np.array(channel.split(","), np.float64) for channel in row[:-1]] for row in rows])
        label = np.array([CLASSES.index(row[-1].strip().lower()) for row in rows])
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: no recordings of BasicMotions: {error}") from None
    if x.shape[1:] != (len(CHANNELS), STEPS):
        raise BadInput(f"{path}: recordings of {x.shape[1:]} where BasicMotions has {(len(CHANNELS), STEPS)}")
    return Recordings(x.transpose(0, 2, 1), label)


def folds(recordings: Recordings, count: int, seed: int) -> list[tuple[Recordings, Recordings]]:
    """``count`` splits into what to train on and what to keep; each class is spread over them evenly."""
    rng = np.random.default_rng(seed)
    fold = np.empty(len(recordings), np.int64)
    for label in range(len(CLASSES)):
        members = rng.permutation(np.flatnonzero(recordings.label == label))
        fold[members] = np.arange(len(members)) % count
    return [(recordings.take(np.flatnonzero(fold != k)), recordings.take(np.flatnonzero(fold == k)))
            for k in range(count)]
