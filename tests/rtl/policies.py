"""Compiled policies, step by step, in the simulator and on the core's RTL."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.cell_cycles import cells, policy
from ncpc.cores import load_core
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container, read_container
from ncpc.ir.policy import DtRange
from ncpc.ir.schemes import Scheme
from ncpc.ir.sequences import Sequences
from ncpc.sim.emulator import Device, open_device
from ncpc.sim.plan import CallPlan
from ncpc.targets.base import CompileOptions, DtMode
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import plan_for
from ncpc.targets.registry import load
from tests.rtl.bench import Tell, bench
from tests.rtl.calls import PlacedCall, differences, run_rtl, run_simulator

EXAMPLES = {path.parent.name: path for path in
            sorted((Path(__file__).parent.parent.parent / "examples").glob("*/policy.safetensors"))}
CELLS = ("cfc", "lstm")
NAMES = (*EXAMPLES, *CELLS)
SCHEMES: tuple[Scheme, ...] = ("int16", "int8", "w8a16", "float32")
MODES: tuple[DtMode, ...] = ("fixed", "runtime")
STEPS = 8


@dataclass(frozen=True)
class PolicyRow:
    """A policy compiled for a core: ``cycles`` on the RTL and ``instructions`` of init and all ``steps``; ``off`` says
    of each call that differs how.
    """

    policy: str
    scheme: str
    dt: str
    steps: int
    cycles: int
    instructions: int
    off: tuple[str, ...]


@cache
def container(name: str, dt: DtMode) -> Container:
    """An example's policy, or a cell with its initial weights; with timespans of half to twice the nominal one."""
    found = read_container(EXAMPLES[name]) if name in EXAMPLES else Container(policy(cells()[name][0]), None)
    nominal = found.policy.dt.nominal
    timespans = DtRange(nominal, nominal, nominal) if dt == "fixed" else DtRange(nominal / 2, 2 * nominal, nominal)
    return Container(replace(found.policy, dt=timespans), None)


def compared(core: str, name: str, scheme: Scheme, dt: DtMode, tell: Tell = print, cc: str = "zig") -> PolicyRow:
    """Compile, run, compare every step. Raises MissingTool."""
    plan, device = _built(core, name, CompileOptions(quant=scheme, dt=dt, cc=cc))
    calls = list(_calls(plan, device))
    rtl = run_rtl(bench(core, tell), device, calls)
    pairs = zip(calls, run_simulator(device, calls), rtl, strict=True)
    off = tuple(f"call {k} ({c.function}): {text}" for k, (c, ours, its) in enumerate(pairs)
                for text in (*differences(ours, its), *(() if ours.exact else ("cycles: two bounds",))))
    return PolicyRow(name, scheme, dt, len(calls) - 1, sum(m.lower for m in rtl), sum(m.instructions for m in rtl), off)


def _built(core: str, name: str, options: CompileOptions) -> tuple[CallPlan, Device]:
    given = container(name, options.dt)
    artifact = load(core).prepare(lower_for(given, options).lowered, options)
    assert isinstance(artifact, CArtifact)
    low, high = given.policy.input_range.T
    rng = np.random.default_rng(5)
    x = rng.uniform(1.2 * low, 1.2 * high, (1, STEPS, len(low)))
    timespans = rng.uniform(given.policy.dt.lo, given.policy.dt.hi, (1, STEPS)) if options.dt == "runtime" else None
    plan = plan_for(artifact.face, Sequences(x, timespans))
    with tempfile.TemporaryDirectory(prefix="ncpc-rtl-") as folder:
        for file, text in artifact.files.items():
            (Path(folder) / file).write_bytes(text)
        artifact.build(Path(folder))
        elf = (Path(folder) / artifact.named("elf")).read_bytes()
    return plan, open_device(elf, load_core(core), plan.interface)


def _calls(plan: CallPlan, device: Device) -> Iterator[PlacedCall]:
    """Init, then the steps; all that lies between the instance and the end of the outputs is read after each."""
    i, size = plan.interface, device.y + plan.interface.y_bytes - device.instance
    yield PlacedCall(i.init, (device.instance,), device.x, b"", device.instance, size)
    for k, x in enumerate(plan.x[0]):
        timespan = () if plan.dt is None else (int(plan.dt[0, k]),)
        yield PlacedCall(i.step, (device.instance, device.x, *timespan, device.y), device.x, x.tobytes(),
                         device.instance, size)
