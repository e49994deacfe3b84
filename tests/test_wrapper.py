"""NAME.hpp: C++11 in physical units, bit for bit the C, beside whatever macros a board's headers bring."""

from __future__ import annotations

import ctypes
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores.toolchain import WARNINGS
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.projects.render import facts_of
from tests.c_programs import hostile, program_of, small_policy, tiny_policy
from tests.projects import ARDUINO, laid_out, output, put

DRIVE = """
#include "net.hpp"

/* Several instances side by side; each is copied now and then, led astray and brought back by its copy. */
extern "C" void drive(int batch, int steps, const float *x, const float *dt, const uint8_t *reset, float *y,
                      uint32_t *status)
{
    static net::Policy policies[8];
    for (int t = 0; t < steps; t++) {
        for (int b = 0; b < batch; b++) {
            const int at = b * steps + t;
            net::Policy &policy = policies[b];
            if (t == 0 || reset[at]) {
                policy.reset();
            }
            const net::Input in = {INPUTS};
            if (t % 7 == 3) {
                const net::Policy copy = policy;
                const net_state_t state = policy.save();
                policy.step(in DT);
                policy.step(in DT);
                if (t % 2) {
                    policy = copy;
                } else {
                    policy.restore(state);
                }
            }
            const net::Output out = policy.step(in DT);
            status[at] = policy.status();
            OUTPUTS
        }
    }
    (void)dt;
}

extern "C" int sound() { return net_self_test() + int(sizeof(net::Policy) > sizeof(net_t) + 8); }
"""
CPP = ("-std=c++11", "-fno-exceptions", "-fno-rtti", "-fno-threadsafe-statics", "-nodefaultlibs",
       "-fPIC", "-shared", "-O2", *WARNINGS)


def driver(program: Program, folder: Path) -> str:
    """The C++ that runs a program's wrapper over sequences."""
    facts = facts_of(interface_of(program), 1.0)
    inputs, outputs = ([c["member"] for c in facts[port]["each"]] for port in ("inputs", "outputs"))
    given = ", ".join(f"x[{len(inputs)} * at + {i}]" for i in range(len(inputs)))
    taken = " ".join(f"y[{len(outputs)} * at + {i}] = out.{name};" for i, name in enumerate(outputs))
    text = DRIVE.replace("{INPUTS}", f"{{{given}}}").replace("OUTPUTS", taken)
    return ARDUINO + text.replace(" DT", ", dt[at]" if program.dt is not None else "")


def built(program: Program, folder: Path, require_program) -> ctypes.CDLL:
    """The wrapper and its C in one library, both under the macros of boards."""
    place = laid_out(program, ["cmake"], folder) / "cmake"
    put(place, {"drive.cpp": driver(program, folder), "macros.h": ARDUINO})
    output([require_program("gcc"), "-include", "macros.h", "-std=gnu11", "-O2", "-fPIC", "-Iinclude", *WARNINGS, "-c",
            "src/net.c", "-o", "net.o"], place)
    output([require_program("g++"), *CPP, "-Iinclude", "drive.cpp", "net.o", "-o", "drive.so"], place)
    return ctypes.CDLL(str(place / "drive.so"))


def driven(library: ctypes.CDLL, program: Program, data: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (B, T, n) in physical units, and status words (B, T)."""
    batch, steps, _ = data.x.shape
    x = np.ascontiguousarray(data.x, np.float32)
    dt = np.ascontiguousarray(np.zeros((batch, steps)) if data.dt is None else data.dt, np.float32)
    reset = np.ascontiguousarray(data.reset, np.uint8)
    y, status = np.zeros((batch, steps, program.y.value.shape[0]), np.float32), np.zeros((batch, steps), np.uint32)
    library.drive(batch, steps, *(ctypes.c_void_p(array.ctypes.data) for array in (x, dt, reset, y, status)))
    return y, status


def expected(program: Program, data: Sequences) -> Trace:
    with np.errstate(over="ignore"):
        return run(program, data)


def single(data: Sequences) -> Sequences:
    """The data as floats hold them."""
    dt = None if data.dt is None else data.dt.astype(np.float32).astype(np.float64)
    return dataclasses.replace(data, x=data.x.astype(np.float32).astype(np.float64), dt=dt)


@pytest.mark.parametrize(("scheme", "dt"), [
    ("float32", "runtime"), ("int16", "fixed"), ("int16", "runtime"), ("int8", "fixed"),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (("float32", "fixed"), ("int8", "runtime"))),
])
def test_the_wrapper_is_the_program(scheme: str, dt: str, tmp_path: Path, require_program) -> None:
    program = program_of(small_policy(3), scheme, dt)
    library, data = built(program, tmp_path, require_program), single(hostile(program, 1))
    assert library.sound() == 0
    y, status = driven(library, program, data)
    wanted = expected(program, data)
    assert np.array_equal(y.astype(np.float64), wanted.y.astype(np.float32))
    nan = np.isnan(data.x).any(axis=2)
    assert nan.any()
    said = wanted.flags | (nan << FLAGS.index("input_nan"))
    assert np.array_equal(status, said)


NAMES = ("min", "PI", "Angle", "angle", "class", "2nd wheel", "x", "*/ speed \\")


def test_channels_of_any_name(tmp_path: Path, require_program) -> None:
    """Keywords, macros of boards, names that differ in case alone, none at all: each is a member."""
    policy = small_policy(5, inputs=len(NAMES), outputs=1)
    program = program_of(dataclasses.replace(policy, input_names=NAMES), "int16", "fixed")
    members = [channel["member"] for channel in facts_of(interface_of(program), 1.0)["inputs"]["each"]]
    assert members == ["min", "pi", "angle", "angle_value", "class_value", "_2nd_wheel", "x", "___speed__"]
    library, data = built(program, tmp_path, require_program), single(hostile(program, 2))
    assert library.sound() == 0
    assert np.array_equal(driven(library, program, data)[0], expected(program, data).y.astype(np.float32))


@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_frames_are_arrays(scheme: str, tmp_path: Path, require_program) -> None:
    """80 inputs of one range: one member, no list; in C and C++."""
    program = program_of(small_policy(5, inputs=80), scheme, "runtime")
    assert facts_of(interface_of(program), 1.0)["inputs"]["frame"]
    place = laid_out(program, ["cmake"], tmp_path) / "cmake"
    gcc, gpp = (require_program(name) for name in ("gcc", "g++"))
    output([gcc, "-O2", *WARNINGS, "-Iinclude", "src/net.c", "example/main.c", "-o", "c"], place)
    output([gcc, "-O2", "-Iinclude", "-c", "src/net.c", "-o", "net.o"], place)
    output([gpp, "-std=c++11", *WARNINGS, "-Iinclude", "example/main.cpp", "net.o", "-o", "cpp"], place)
    said = output([place / "c"], place)
    assert said.startswith("net self test: passed\n")
    assert said == output([place / "cpp"], place)


def test_a_policy_whose_name_is_a_keyword(tmp_path: Path, require_program) -> None:
    program = program_of(dataclasses.replace(tiny_policy(), name="switch"), "int16", "fixed")
    place = laid_out(program, ["cmake"], tmp_path) / "cmake"
    output([require_program("g++"), "-std=c++11", *WARNINGS, "-Iinclude", "-c", "example/main.cpp"], place)


def test_the_header_before_the_wrapper_is_told(tmp_path: Path, require_program) -> None:
    place = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["cmake"], tmp_path) / "cmake"
    both = '#include "tiny.h"\n#include "tiny.hpp"\n'
    put(place, {"wrong.cpp": both, "right.cpp": "#define TINY_WITH_FLOAT\n" + both})
    gpp = [require_program("g++"), "-std=c++11", *WARNINGS, "-Iinclude", "-fsyntax-only"]
    output([*gpp, "right.cpp"], place)
    output([*gpp, "wrong.cpp"], place, 1)
