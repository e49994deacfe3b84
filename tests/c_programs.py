"""Networks as C: lowering, building and running them beside their semantics."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.toolchain import WARNINGS, build_host_library
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.policy import Activation, Dense, DtRange, Ltc, Policy, Synapses
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.passes.fold import fix_dt
from ncpc.passes.lower import lower
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.passes.to_float32 import to_float32
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.targets.c import target
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.host import run_library
from ncpc.targets.c.interface import Interface, from_bytes, interface_of, numpy_type
from tests.nets import random_ltc, random_policy

NONE = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)


def header_of(policy: Policy, options: CompileOptions) -> str:
    """The text of NAME.h for this machine."""
    files = target("host").prepare(lower_for(Container(policy), options).lowered, options).files
    return next(text.decode() for name, text in files.items() if name.endswith(".h"))


def float_program(policy: Policy, dt: str = "fixed") -> Program:
    real = lower(policy)
    return to_float32(fix_dt(real, policy.dt.nominal) if dt == "fixed" else real)


def fixed_program(policy: Policy, scheme: str = "int16", dt: str = "fixed") -> Program:
    stall = 1e-4 if scheme == "int16" else 1e-2
    return lower_fixed(policy, quantize(policy, scheme, dt, stall, Choices(largest_fractions)))


def program_of(policy: Policy, scheme: str, dt: str) -> Program:
    return float_program(policy, dt) if scheme == "float32" else fixed_program(policy, scheme, dt)


def small_policy(seed: int = 0, **changes: object) -> Policy:
    return random_policy(seed, DtRange(0.5, 2.0, 1.0), **changes)


def deep_policy(seed: int) -> Policy:
    """Linear, tanh, LTC, Linear, sigmoid."""
    rng, cell = np.random.default_rng(seed), random_ltc(seed)
    first = Dense(rng.normal(size=(cell.inputs, 4)), rng.normal(size=cell.inputs))
    last = Dense(rng.normal(size=(3, cell.outputs)), rng.normal(size=3))
    layers = (first, Activation("tanh", cell.inputs), cell, last, Activation("sigmoid", 3))
    return Policy("deep", layers, np.tile([-1.0, 1.0], (4, 1)), DtRange(0.5, 2.0, 1.0))


def tiny_policy() -> Policy:
    """Two neurons with names, one input: small enough to read all of its C."""
    def synapses(pre: Sequence[int], post: Sequence[int], erev: Sequence[float]) -> Synapses:
        n = len(pre)
        return Synapses(np.array(pre), np.array(post), np.linspace(0.5, 1.0, n), np.linspace(3, 5, n),
                        np.linspace(0.2, 0.4, n), np.array(erev))

    cell = Ltc(
        synapses([0, 1], [0, 1], [1, -1]), synapses([0, 1, 0], [0, 0, 1], [-1, 1, 1]), np.array([0.5, 0.4]),
        np.array([0.2, 0.3]), np.array([0.0, -0.1]), np.ones(2), np.zeros(2), np.array([1.5]), np.array([0.1]),
        ("motor", "inter"), ("steer", "memory"),
    )
    ranges = np.array([[-1.0, 1.0], [0.0, 4.0]])
    return Policy("tiny", (cell,), ranges, input_names=("offset", "speed"), output_names=("angle",))


def hostile(program: Program, seed: int, steps: int = 40, batch: int = 2) -> Sequences:
    """Inputs beyond their range, NaN, infinite and huge ones, irregular dt beyond its range, resets."""
    rng = np.random.default_rng(seed)
    n = program.x.value.shape[0]
    x = rng.normal(size=(batch, steps, n)) * 1.5
    x[0, 3, 0], x[0, 4, n - 1], x[-1, 5, 0] = np.nan, np.inf, -1e30
    dt = rng.uniform(0.2, 4.0, (batch, steps)) if program.dt else None
    return Sequences(x, dt, rng.random((batch, steps)) < 0.1)


def library(program: Program, folder: Path, cc: str | None = None, flags: Sequence[str] = WARNINGS,
            long_products: bool = True) -> Path:
    """The program's C as a shared library of its own name (loaded libraries are cached by path)."""
    path = folder / f"{interface_of(program).name}-{len(list(folder.iterdir()))}.so"
    sources = emit_c(interface_of(program), long_products=long_products)
    path.write_bytes(build_host_library(sources, cc, extra_flags=flags))
    return path


def load(program: Program, folder: Path, cc: str | None = None) -> ctypes.CDLL:
    return ctypes.CDLL(str(library(program, folder, cc)))


SCALARS: Mapping[str, Any] = {
    "float": ctypes.c_float, "int8_t": ctypes.c_int8, "uint8_t": ctypes.c_uint8, "int16_t": ctypes.c_int16,
    "uint16_t": ctypes.c_uint16, "int32_t": ctypes.c_int32, "uint32_t": ctypes.c_uint32,
}


class Instance:
    """One instance of a policy in a library loaded into this process: its struct is a NumPy array of bytes."""

    def __init__(self, library: ctypes.CDLL, face: Interface) -> None:
        self.face = face
        self.memory = np.full(max(face.struct_bytes(), 1), 0xA5, np.uint8)
        self._y = np.zeros(face.outputs, numpy_type(face.y))
        names = ("init", "reset", "step")
        self._functions = {name: getattr(library, f"{face.name}_{name}") for name in names}
        self._functions["step"].restype = ctypes.c_uint32
        self._pointer = ctypes.c_void_p(self.memory.ctypes.data)
        self._functions["init"](self._pointer)

    def reset(self) -> None:
        """Back to the reset state."""
        self._functions["reset"](self._pointer)

    def step(self, x: NDArray[Any], dt: Any = None) -> tuple[NDArray[Any], int]:
        """One step of raw numbers: ``x`` (inputs,) -> (outputs,) and the status word."""
        raw = np.ascontiguousarray(x, numpy_type(self.face.x))
        args = [self._pointer, ctypes.c_void_p(raw.ctypes.data)]
        if self.face.dt is not None:
            args.append(SCALARS[self.face.dt.name](dt.item() if hasattr(dt, "item") else dt))
        status = self._functions["step"](*args, ctypes.c_void_p(self._y.ctypes.data))
        return self._y.copy(), int(status)

    def states(self) -> list[NDArray[Any]]:
        """The states in program order, each (n,)."""
        ranges = zip(self.face.states, self.face.offsets(), strict=True)
        return [from_bytes(self.memory[at : at + size].copy(), state.ctype) for state, (at, size) in ranges]


def assert_same(a: Trace, b: Trace) -> None:
    """Outputs, states and status bits equal, bit for bit."""
    np.testing.assert_array_equal(a.flags, b.flags)
    np.testing.assert_array_equal(a.raw_state, b.raw_state)
    np.testing.assert_array_equal(a.raw_y, b.raw_y)


def tame(program: Program, seed: int, steps: int = 30) -> Sequences:
    """Inputs within [-1, 1]."""
    return Sequences(np.random.default_rng(seed).uniform(-1, 1, (2, steps, program.x.value.shape[0])))


def assert_c_is_program(program: Program, folder: Path, seed: int = 0, cc: str | None = None,
                        inputs: Callable[[Program, int], Sequences] = hostile, long_products: bool = True) -> None:
    """What the compiled C does is what the semantics say."""
    data = inputs(program, seed)
    with np.errstate(over="ignore"):
        expected = run(program, data)
    assert expected.y.std() > 0
    built = library(program, folder, cc, long_products=long_products)
    assert_same(run_library(built, interface_of(program), data), expected)
