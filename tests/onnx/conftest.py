"""Policies and models that the tests of the ONNX target share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.sequences import Sequences
from ncpc.targets.base import Artifact, CompileOptions, Lowered, Target
from ncpc.targets.onnx import target
from ncpc.targets.onnx.emit import file_names

NETS = {
    "ncp19": ("AutoNCP", (19, 4), 20), "full8": ("FullyConnected", (8, 1), 4), "ncp16": ("AutoNCP", (16, 2), 6),
}


@dataclass(frozen=True, eq=False)
class Case:
    """A torch module, its policy, and what the target made of it."""

    module: Any
    policy: Policy
    lowered: Lowered
    options: CompileOptions
    target: Target
    artifact: Artifact

    @property
    def files(self) -> Mapping[str, bytes]:
        return self.artifact.files

    @property
    def step(self) -> bytes:
        return self.files[file_names(self.lowered)[0]]

    @property
    def sequence(self) -> bytes:
        return self.files[file_names(self.lowered)[1]]


def compiled(module: Any, policy: Policy, quant: str, dt: str, **extra: str) -> Case:
    options = CompileOptions(quant=quant, dt=dt, extra=extra)  # type: ignore[arg-type]
    lowered = lower_for(Container(policy), options).lowered
    onnx = target("onnx")
    return Case(module, policy, lowered, options, onnx, onnx.prepare(lowered, options))


@pytest.fixture(scope="session")
def make(require_tool: Callable[..., Any]) -> Callable[..., Case]:
    """``make("ncp19", seed=0, quant="float32", dt="runtime", form="matrix")``: a random net, compiled."""
    torch, wirings, ncps = (require_tool(m) for m in ("torch", "ncps.wirings", "ncps.torch"))
    require_tool("onnx")

    @cache
    def one(net: str, seed: int = 0, quant: str = "float32", dt: str = "runtime", **extra: str) -> Case:
        wiring, arguments, inputs = NETS[net]
        torch.manual_seed(seed)
        keywords = {"seed": seed} if wiring == "AutoNCP" else {}
        module = ncps.LTC(inputs, getattr(wirings, wiring)(*arguments, **keywords)).eval()
        span = DtRange(0.1, 10.0, 1.0) if dt == "runtime" else DtRange()
        policy = Policy(net, import_model(module).layers, np.tile([-1.0, 1.0], (inputs, 1)), span)
        return compiled(module, policy, quant, dt, **extra)

    return one


@pytest.fixture(scope="session")
def sequences() -> Callable[..., Sequences]:
    """``sequences(policy, batch, steps, seed)``: smooth inputs with jumps, irregular dt where the policy allows it."""

    def one(policy: Policy, batch: int, steps: int, seed: int = 0) -> Sequences:
        rng = np.random.default_rng(seed)
        t = np.arange(steps)[None, :, None]
        x = np.sin(rng.uniform(0.01, 0.5, (batch, 1, policy.inputs)) * t + rng.uniform(0, 6, (batch, 1, policy.inputs)))
        x = np.where(rng.random(x.shape) < 0.1, rng.uniform(-1, 1, x.shape), x)
        dt = np.exp(rng.uniform(np.log(policy.dt.lo), np.log(policy.dt.hi), (batch, steps)))
        return Sequences(x, None if policy.dt.fixed else dt)

    return one
