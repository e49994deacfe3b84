"""Policies lowered for the TFLite target, and its files in a folder, shared by its tests."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.passes.to_float32 import to_float32
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.tflite import target
from ncpc.targets.tflite.target import TfliteArtifact
from tests.nets import random_policy

RUNTIME_DT = DtRange(0.5, 2.0, 1.0)


@dataclass(frozen=True, eq=False)
class Emitted:
    """A policy's file in a folder, and what it was made from."""

    artifact: TfliteArtifact
    folder: Path
    lowered: Lowered
    options: CompileOptions

    @property
    def content(self) -> bytes:
        return (self.folder / f"{self.lowered.policy.name}.tflite").read_bytes()


Emit = Callable[..., Emitted]


@pytest.fixture
def emit(tmp_path: Path) -> Emit:
    """``emit(policy, quant, dt)``: lowered, written into a folder of its own."""
    pytest.importorskip("ai_edge_litert")

    def make(policy: Policy, quant: str = "int16", dt: str = "fixed", proved: bool = True, **extra: str) -> Emitted:
        options = CompileOptions(quant=quant, dt=dt, extra={"npu": "none", **extra})  # type: ignore[arg-type]
        lowered = lower_for(Container(policy), options).lowered if proved else unproved(policy, options)
        folder = tmp_path / f"{quant}-{dt}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        artifact = target("tflite").prepare(lowered, options)
        assert isinstance(artifact, TfliteArtifact)
        for name, content in artifact.files.items():
            (folder / name).write_bytes(content)
        return Emitted(artifact, folder, lowered, options)

    return make


def unproved(policy: Policy, options: CompileOptions) -> Lowered:
    """For cells whose integer program and proof are not needed here: the states' ranges come from observation."""
    real = lower(policy)
    real = fix_dt(real, policy.dt.nominal) if options.dt == "fixed" else real
    return Lowered(policy, real, to_float32(real), options.quant)


@pytest.fixture(scope="session")
def small() -> Policy:
    """A network of 8 neurons whose dt may vary."""
    return random_policy(0, dt=RUNTIME_DT)


def sequences(policy: Policy, seed: int, steps: int = 100, batch: int = 2, irregular: bool = False) -> Sequences:
    """Noise and held values across the input range, with a few resets."""
    rng = np.random.default_rng(seed)
    lo, hi = policy.input_range.T
    x = lo + (hi - lo) * rng.random((batch, steps, policy.inputs))
    x[0] = np.repeat(x[0, ::10], 10, axis=0)[:steps]
    dt = rng.uniform(policy.dt.lo, policy.dt.hi, (batch, steps)) if irregular else None
    return Sequences(x, dt, rng.random((batch, steps)) < 0.02)


@pytest.fixture(scope="session")
def old_runtime(request: pytest.FixtureRequest) -> str:
    """The Python of an environment with tflite-runtime 2.14 and NumPy below 2, made once and kept in pytest's cache.

    A skip, with pip's own words, where no wheel fits this machine or none can be fetched.
    """
    given = os.environ.get("NCPC_TFLITE_RUNTIME_PYTHON")
    if given:
        return given
    home = Path(request.config.cache.mkdir("tflite-runtime-2.14")) / "environment"
    python, complete = home / "bin" / "python", home.with_name("complete")
    with home.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # workers of one run come here at the same time
        if not complete.exists():
            _make_environment(home, python)
            complete.touch()
    return str(python)


def _make_environment(home: Path, python: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True, capture_output=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:"]
    done = subprocess.run([*command, "tflite-runtime==2.14.0", "numpy<2"], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
        pytest.skip(f"optional: tflite-runtime 2.14.0 cannot be installed here: {lines[-1]}")
