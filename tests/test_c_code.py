"""The generated C, compiled for this machine: equal to its program bit for bit, and as its header says."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.estimates import cfc
from ncpc.cores import core_names, load_core
from ncpc.cores.toolchain import WARNINGS, build_host_library, compile_objects
from ncpc.ir.policy import DtRange, Policy
from ncpc.semantics import ports
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.host import run_library
from ncpc.targets.c.interface import interface_of, numpy_type
from ncpc.targets.c.symbols import check_symbols
from ncpc.targets.c.vectors import vectors_of
from tests.c_programs import (
    Instance,
    assert_c_is_program,
    assert_same,
    deep_policy,
    fixed_program,
    float_program,
    hostile,
    library,
    load,
    program_of,
    small_policy,
    tiny_policy,
)
from tests.nets import random_policy

SCHEMES = ("float32", "int16", "int8")


@pytest.fixture(autouse=True)
def _compiler(require_tool) -> None:
    require_tool("ziglang")


@pytest.mark.parametrize("dt", ["fixed", "runtime"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_c_is_its_program(scheme: str, dt: str, tmp_path: Path) -> None:
    for seed in range(2):
        changes = {"unfolds": 1 + seed * 4, "density": 0.2 + 0.5 * seed}
        assert_c_is_program(program_of(small_policy(seed, **changes), scheme, dt), tmp_path, seed)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_around_the_cell(scheme: str, tmp_path: Path) -> None:
    assert_c_is_program(program_of(deep_policy(5), scheme, "fixed"), tmp_path)


@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_a_cell_whose_units_have_no_names(scheme: str, tmp_path: Path) -> None:
    policy = Policy("net", (cfc(np.random.default_rng(1), 4, 2),), np.tile([-1.0, 1.0], (2, 1)))
    assert_c_is_program(program_of(policy, scheme, "fixed"), tmp_path)


@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_a_16_bit_state_is_double_buffered(scheme: str, tmp_path: Path) -> None:
    program = fixed_program(random_policy(1, DtRange(20.0, 20.0, 20.0), unfolds=3), scheme)
    assert_c_is_program(program, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_c_is_its_program_for_many(scheme: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for seed in range(60):
        policy = small_policy(
            seed, neurons=int(rng.integers(1, 40)), inputs=int(rng.integers(1, 12)), outputs=1,
            density=float(rng.uniform(0.05, 1)), unfolds=int(rng.integers(1, 9)),
        )
        assert_c_is_program(program_of(policy, scheme, ("fixed", "runtime")[seed % 2]), tmp_path, seed)


def cell_programs(family: str, seed: int, scheme: str):
    models = pytest.importorskip("tests.cell_models")
    frontend = pytest.importorskip("ncpc.frontend.ncps_torch")
    from ncpc.ir.policy import Policy

    modules, inputs = models.random_model(family, seed)
    ranges = np.tile([-1.0, 1.0], (inputs, 1))
    policy = Policy("cell", frontend.import_model(modules).layers, ranges, DtRange(0.2, 3.0, 1.0))
    return program_of(policy, scheme, "runtime" if seed % 2 else "fixed")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int16"])
@pytest.mark.parametrize("family", ["cfc", "wired_cfc", "mixed_ltc", "gated", "ode", "ct_gru", "leaky"])
def test_every_cell(family: str, scheme: str, tmp_path: Path) -> None:
    for seed in range(3):
        assert_c_is_program(cell_programs(family, seed, scheme), tmp_path, seed)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_gcc_has_nothing_to_say_and_agrees(scheme: str, tmp_path: Path, require_program) -> None:
    gcc = require_program("gcc", optional=True)
    assert_c_is_program(program_of(small_policy(7), scheme, "runtime"), tmp_path, cc=gcc)
    assert_c_is_program(program_of(deep_policy(7), scheme, "fixed"), tmp_path, cc=gcc)


@pytest.mark.parametrize("scheme", ["float32", "int16"])
@pytest.mark.parametrize("core", core_names())
def test_objects_call_nothing_foreign(core: str, scheme: str, require_tool) -> None:
    require_tool("elftools")
    face, chip = interface_of(program_of(small_policy(0), scheme, "runtime")), load_core(core)
    objects = compile_objects(emit_c(face), chip, None)
    assert check_symbols(objects, allow_soft_float=scheme == "float32" and not chip.hard_float) == []


def test_emission_is_deterministic() -> None:
    for scheme in SCHEMES:
        first, second = (emit_c(interface_of(program_of(small_policy(0), scheme, "fixed"))) for _ in range(2))
        assert first == second


@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_all_of_a_tiny_network_as_text(scheme: str, golden) -> None:
    for name, text in emit_c(interface_of(program_of(tiny_policy(), scheme, "fixed"))).items():
        stem, ending = name.split(".")
        golden(f"{stem}_{scheme}.{ending}", text)


def test_lines_are_short() -> None:
    for scheme in SCHEMES:
        for text in emit_c(interface_of(program_of(small_policy(0), scheme, "runtime"))).values():
            assert max(map(len, text.decode().splitlines())) <= 120


def test_names_that_mean_something_in_c(tmp_path: Path) -> None:
    """Neurons called like comments, a policy called like a keyword."""
    policy = small_policy(0)
    (layer,) = policy.layers
    odd = dataclasses.replace(layer, names=("a */ int", "", "é", "x", "s", "\\", "??/", "%d"))
    named = dataclasses.replace(policy, name="for", layers=(odd,), input_names=("int */", "x\n", "dt"))
    assert_c_is_program(float_program(named), tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_instances_do_not_share_state(scheme: str, tmp_path: Path) -> None:
    program = program_of(small_policy(3), scheme, "fixed")
    face, lib = interface_of(program), load(program, tmp_path)
    data = hostile(program, 1, steps=20)
    x = ports.encode(program.x, data.x)
    alone = run(program, type(data)(data.x))
    first, second = Instance(lib, face), Instance(lib, face)
    for t in range(20):
        y, _ = first.step(x[0, t])
        z, _ = second.step(x[1, t])
        np.testing.assert_array_equal(ports.bits(y), alone.raw_y[0, t])
        np.testing.assert_array_equal(ports.bits(z), alone.raw_y[1, t])


def call(lib: ctypes.CDLL, name: str, *arrays: np.ndarray) -> int:
    function = getattr(lib, name)
    function.restype = ctypes.c_uint32
    return int(function(*(ctypes.c_void_p(a.ctypes.data) for a in arrays)))


@pytest.mark.parametrize("scheme", ["float32", "int16"])
def test_save_restore_and_reset(scheme: str, tmp_path: Path) -> None:
    program = program_of(small_policy(4), scheme, "fixed")
    face, lib = interface_of(program), load(program, tmp_path)
    x = ports.encode(program.x, np.random.default_rng(0).uniform(-1, 1, (6, 3)))
    one, other = Instance(lib, face), Instance(lib, face)
    start = [one.step(row)[0] for row in x[:3]]
    kept = np.zeros_like(one.memory)
    call(lib, f"{face.name}_save", one.memory, kept)
    rest = [one.step(row)[0] for row in x[3:]]
    assert call(lib, f"{face.name}_restore", other.memory, kept) == 0
    np.testing.assert_array_equal([other.step(row)[0] for row in x[3:]], rest)
    one.reset()
    np.testing.assert_array_equal([one.step(row)[0] for row in x[:3]], start)


def test_restore_limits_a_state_to_its_box(tmp_path: Path) -> None:
    program = fixed_program(small_policy(4))
    face, lib = interface_of(program), load(program, tmp_path)
    instance, box = Instance(lib, face), program.states[0].box
    assert box is not None
    beyond = np.where(np.arange(len(box)) % 2 == 0, box[:, 1] + 1, box[:, 0] - 1)
    raw = beyond.astype(numpy_type(face.states[0].ctype)).view(np.uint8)
    assert call(lib, f"{face.name}_restore", instance.memory, raw) == 1 << FLAGS.index("state_clamped")
    np.testing.assert_array_equal(instance.states()[0], np.clip(beyond, box[:, 0], box[:, 1]))


def test_restore_refuses_what_is_no_number(tmp_path: Path) -> None:
    program = float_program(small_policy(4))
    face, lib = interface_of(program), load(program, tmp_path)
    instance, state = Instance(lib, face), np.linspace(-1, 1, 8, dtype=np.float32)
    state[2], state[5] = np.nan, np.inf
    assert call(lib, f"{face.name}_restore", instance.memory, state) == 1 << FLAGS.index("state_clamped")
    expected = np.where(np.isfinite(state), state, 0)
    np.testing.assert_array_equal(instance.states()[0], expected)


def test_status_bits(tmp_path: Path) -> None:
    program = float_program(small_policy(5), "runtime")
    instance = Instance(load(program, tmp_path), interface_of(program))
    quiet, nan = np.zeros(3, np.float32), np.array([0, np.nan, 0], np.float32)
    bit = {flag: 1 << i for i, flag in enumerate(FLAGS)}
    assert instance.step(quiet, 1.0)[1] == 0
    assert instance.step(nan, 1.0)[1] == bit["input_nan"]
    assert instance.step(quiet, 2.5)[1] == bit["dt_out_of_range"]
    assert instance.step(nan, float("nan"))[1] == bit["input_nan"] | bit["dt_out_of_range"]
    program = fixed_program(small_policy(5))
    instance = Instance(load(program, tmp_path), interface_of(program))
    assert instance.step(np.zeros(3))[1] == 0
    assert instance.step(np.array([0, 0, 32767]))[1] == bit["input_saturated"]
    assert instance.step(np.zeros(3))[1] == 0


def self_test(sources: dict[str, bytes], name: str, folder: Path) -> int:
    path = folder / f"self-test-{len(list(folder.iterdir()))}.so"
    path.write_bytes(build_host_library(sources, None, extra_flags=WARNINGS))
    return int(getattr(ctypes.CDLL(str(path)), f"{name}_self_test")())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_self_test_passes_and_finds_planted_faults(scheme: str, tmp_path: Path) -> None:
    program = program_of(small_policy(6), scheme, "fixed")
    sources, name = emit_c(interface_of(program)), interface_of(program).name
    assert self_test(sources, name, tmp_path) == 0
    text = sources[f"{name}.c"].decode()
    step = text.index(f"uint32_t {name}_step")
    for here, fault in (("< NEURONS", "< NEURONS - 1"), ("unfold < 6", "unfold < 5")):
        wrong = text[:step] + text[step:].replace(here, fault, 1)
        assert wrong != text
        assert self_test({**sources, f"{name}.c": wrong.encode()}, name, tmp_path) > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_value_that_the_self_test_compares_can_fail(scheme: str, tmp_path: Path) -> None:
    """Each number of its vectors, changed by the least there is, is found alone; all of them together are counted."""
    program = program_of(small_policy(6), scheme, "runtime")
    face, sources = interface_of(program), emit_c(interface_of(program))
    text = sources["net.c"].decode()
    tables = {"test_y": face.y, **{f"test_{state.name}": state.ctype for state in face.states}}
    for name, ctype in tables.items():
        const = f"static const {ctype.name} {name}["
        assert const in text
        text = text.replace(const, f"{ctype.name} {name}[")
    path = tmp_path / "open.so"
    path.write_bytes(build_host_library({**sources, "net.c": text.encode()}, None, extra_flags=WARNINGS))
    loaded = ctypes.CDLL(str(path))
    wanted = vectors_of(program)
    sizes = {"test_y": wanted.y.size, **{f"test_{s.name}": s.size for s in face.states}}
    places = []
    for name, ctype in tables.items():
        cells = (ctypes.c_uint8 * (ctype.bytes * sizes[name])).in_dll(loaded, name)
        places += [(cells, ctype.bytes * i) for i in range(sizes[name])]
    assert loaded.net_self_test() == 0
    for cells, lowest_bit in places:
        cells[lowest_bit] ^= 1
        assert loaded.net_self_test() == 1
        cells[lowest_bit] ^= 1
    for cells, lowest_bit in places:
        cells[lowest_bit] ^= 1
    assert loaded.net_self_test() == len(places) == wanted.y.size + sum(part.size for part in wanted.states)


CONTRACTING = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-mfma")
GUARD = '#pragma GCC optimize("fp-contract=off")'


@pytest.mark.parametrize("flags", [CONTRACTING, (*CONTRACTING, "-flto")], ids=["alone", "lto"])
def test_no_compiler_flag_fuses_what_the_float_code_keeps_apart(
    flags: tuple[str, ...], tmp_path: Path, require_program
) -> None:
    """Fused multiply-adds change the last bits, which the self test sees; the code forbids them itself."""
    gcc, cpu = require_program("gcc", optional=True), Path("/proc/cpuinfo")
    if not cpu.exists() or " fma " not in cpu.read_text():
        pytest.skip("optional: no fused multiply-add on this processor")
    face = interface_of(float_program(small_policy(8)))
    sources = emit_c(face)
    text = sources[f"{face.name}.c"].decode()
    assert GUARD in text
    wrong = {}
    for name, source in (("as emitted", text), ("without its guard", text.replace(GUARD, ""))):
        path = tmp_path / f"{name}.so"
        path.write_bytes(build_host_library({**sources, f"{face.name}.c": source.encode()}, gcc, extra_flags=flags))
        wrong[name] = getattr(ctypes.CDLL(str(path)), f"{face.name}_self_test")()
    assert wrong["as emitted"] == 0
    assert wrong["without its guard"] > 0


def test_gcc_s_default_uses_no_fused_multiply_add_of_an_fpu(tmp_path: Path, require_program) -> None:
    gcc = require_program("arm-none-eabi-gcc", optional=True)
    for name, text in emit_c(interface_of(float_program(small_policy(8)))).items():
        (tmp_path / name).write_bytes(text)
    source = (tmp_path / "net.c").read_text()
    (tmp_path / "bare.c").write_text(source.replace(GUARD, ""))
    fpu = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")
    for name in ("net", "bare"):
        subprocess.run([gcc, "-std=gnu11", "-O3", *fpu, "-S", f"{name}.c"], cwd=tmp_path, check=True)
    fused = [re.findall(r"\tvfn?m[as]", (tmp_path / f"{name}.s").read_text()) for name in ("net", "bare")]
    assert not fused[0]
    assert fused[1]


SHIM = """
#define NET_WITH_FLOAT
#include "net.h"
int16_t x_from(int c, float v); float y_to(int c, int16_t r); uint32_t dt_from(float v);
int16_t x_from(int c, float v) { return net_x_from_float(c, v); }
float y_to(int c, int16_t r) { return net_y_to_float(c, r); }
uint32_t dt_from(float v) { return net_dt_from_float(v); }
"""


def test_conversions_round_and_saturate_as_the_ports_do(tmp_path: Path) -> None:
    program = fixed_program(small_policy(9), dt="runtime")
    (tmp_path / "c.so").write_bytes(
        build_host_library({**emit_c(interface_of(program)), "shim.c": SHIM.encode()}, None, extra_flags=WARNINGS))
    lib = ctypes.CDLL(str(tmp_path / "c.so"))
    lib.x_from.argtypes, lib.x_from.restype = (ctypes.c_int, ctypes.c_float), ctypes.c_int16
    lib.y_to.argtypes, lib.y_to.restype = (ctypes.c_int, ctypes.c_int16), ctypes.c_float
    assert program.x.fracs is not None
    assert program.y.fracs is not None
    half = 0.5 / 2 ** program.x.fracs[0]
    below = np.nextafter(np.float32(half), np.float32(0))
    edges = [below, half, -half, 3 * half, -3 * half, np.inf, -np.inf, np.nan, 5]
    values = np.concatenate([np.random.default_rng(0).uniform(-1.2, 1.2, 500), edges]).astype(np.float32)
    expected = ports.encode(program.x, np.tile(values.astype(np.float64)[:, None], (1, 3)))[:, 0]
    np.testing.assert_array_equal([lib.x_from(0, float(v)) for v in values], expected)
    raw = np.arange(-32768, 32768, 997)
    np.testing.assert_array_equal([lib.y_to(1, int(r)) for r in raw], raw * 2.0 ** -program.y.fracs[1])
    assert program.dt is not None
    lib.dt_from.argtypes, lib.dt_from.restype = (ctypes.c_float,), ctypes.c_uint32
    ends = [2.0**16, 65535.996, 1e30, 1e-9]
    spans = np.concatenate([values, np.random.default_rng(1).uniform(0, 2.0**17, 500), ends])
    wanted = ports.encode(program.dt, spans.astype(np.float32).astype(np.float64)[:, None])[:, 0]
    np.testing.assert_array_equal([lib.dt_from(float(v)) for v in spans.astype(np.float32)], wanted)


def test_the_header_is_a_cpp_header(tmp_path: Path) -> None:
    import sys

    sources = emit_c(interface_of(fixed_program(small_policy(0))))
    (tmp_path / "net.h").write_bytes(sources["net.h"])
    use = '#define NET_WITH_FLOAT\n#include "net.h"\nint main() { net_t s; net_init(&s); }\n'
    (tmp_path / "use.cpp").write_text(use)
    done = subprocess.run([sys.executable, "-m", "ziglang", "c++", "-Wall", "-Wextra", "-Werror", "-c", "use.cpp"],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_starting_states_can_be_given(tmp_path: Path) -> None:
    program = fixed_program(small_policy(2))
    box = program.states[0].box
    assert box is not None
    data = hostile(program, 0)
    corners = np.stack([box[:, 1], box[:, 0]])
    trace = run_library(library(program, tmp_path), interface_of(program), dataclasses.replace(data, restored=corners))
    from_reset = run_library(library(program, tmp_path), interface_of(program), data)
    assert (trace.raw_state[:, 0] != from_reset.raw_state[:, 0]).any()
    assert ((box[:, 0] <= trace.raw_state) & (trace.raw_state <= box[:, 1])).all()
    with np.errstate(over="ignore"):
        assert_same(from_reset, run(program, data))
