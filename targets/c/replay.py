"""One step on the simulated core from given numbers, beside what the Program makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ncpc.cores import Core
from ncpc.semantics.run import Executor
from ncpc.sim.plan import CallPlan
from ncpc.sim.run import simulate
from ncpc.targets.c.device import calls, dt_bits, state_bytes, trace_from
from ncpc.targets.c.interface import Interface, to_bytes

Raw = Mapping[str, NDArray[np.int64]]


def differences(elf: bytes, chip: Core, face: Interface, raw: Raw) -> list[str]:
    """What one step of ``elf`` leaves otherwise than the Program does, one phrase each: outputs, states, status word.

    ``raw`` are the integers of x, dt and the states before the step, by the names of their values. Raises ProofFailed
    where the program faults, MissingTool without the simulator.
    """
    program = face.program
    before = np.concatenate([np.zeros(0, np.int64), *(raw[s.inp.name].reshape(-1) for s in program.states)])[None]
    x = raw[program.x.value.name].reshape(1, 1, -1)
    dt = None if program.dt is None else raw[program.dt.value.name].reshape(1, 1)
    plan = CallPlan(replace(calls(face), restore=None, neuron_label=None), to_bytes(x, face.x),
                    None if dt is None else dt_bits(dt, face), start=state_bytes(face, before))
    found = trace_from(face, simulate(elf, chip, plan))
    executor = Executor(program)
    executor.reset(1)
    executor.load({s.inp.name: raw[s.inp.name].reshape(1, *s.inp.shape) for s in program.states})
    y, after, status = executor.step(x[0], None if dt is None else dt[0])
    wanted = np.concatenate([np.zeros((1, 0), np.int64), *(np.asarray(part).reshape(1, -1) for part in after)], axis=1)
    pairs = (("y", found.raw_y[0, 0], np.asarray(y).reshape(-1)), ("state", found.raw_state[0, 0], wanted[0]),
             ("status word", found.flags[0], np.asarray(status)))
    return [phrase for pair in pairs for phrase in _apart(*pair)]


def _apart(what: str, got: NDArray[np.int64], wanted: NDArray[np.int64]) -> Iterator[str]:
    for i in np.flatnonzero(got != wanted):
        yield f"{what}[{i}] is {got[i]}, in the Program {wanted[i]}".replace("word[0]", "word")
