"""Frames that exist only in part: fused and streamed C equals the program, and what it is fused from."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf, build_host_library
from ncpc.errors import Unsupported
from ncpc.frontend.heads import windows_over
from ncpc.ir.heads import Conv2d, Pool, products
from ncpc.ir.loops import Nest, Stream, Window, to_text
from ncpc.ir.policy import Activation, Dense, Layer, Policy
from ncpc.ir.program import Op, Program, Stmt
from ncpc.ir.sequences import Sequences
from ncpc.passes.arena import arena_bytes, in_arena, slots_of
from ncpc.passes.fold import fold_constants
from ncpc.passes.fuse import fuse
from ncpc.proofs.prove import prove
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.sim.run import simulate
from ncpc.targets.c.device import plan_for, symbol_roots, trace_from
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.host import run_library
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.nest import nest_of
from ncpc.targets.nir_graded.frames import frame_node
from tests.c_programs import assert_c_is_program, assert_same, fixed_program, float_program, tame
from tests.conftest import RequireProgram, RequireTool

Chain = list[Layer]
SEEDS = range(3)


def conv(rng: np.random.Generator, frame: tuple[int, int, int], layout: str, filters: int, groups: int = 1,
         dilation: tuple[int, int] = (1, 1), relu: bool | None = None) -> Conv2d:
    """A random convolution over a frame of (height, width, channels)."""
    kernel = tuple(int(n) for n in rng.integers(1, 4, 2))
    stride = tuple(int(n) for n in rng.integers(1, 3, 2))
    padding = tuple(int(n) for n in rng.integers(0, max(min(kernel), 1), 4))
    windows = windows_over(frame, kernel, stride, padding, layout, "conv", dilation)  # type: ignore[arg-type]
    weight = rng.normal(size=(filters, *kernel, frame[2] // groups))
    return Conv2d(windows, weight, rng.normal(size=filters), bool(rng.integers(2)) if relu is None else relu)


def pool(rng: np.random.Generator, frame: tuple[int, int, int], layout: str) -> Pool:
    """A random pooling, side by side or not, sometimes with padding."""
    kernel = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
    stride = kernel if rng.integers(2) else (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
    padding = (kernel[0] // 2, kernel[0] // 2, 0, 0) if rng.integers(3) == 0 else (0, 0, 0, 0)
    function = ("max", "avg", "avg_inside")[int(rng.integers(3))]
    return Pool(windows_over(frame, kernel, stride, padding, layout, "pool"), function)


def chain(seed: int) -> Chain:
    """Convolutions, activations and pooling of every form, then a dense layer."""
    rng = np.random.default_rng(seed)
    layout = ("hwc", "chw")[int(rng.integers(2))]
    frame = (int(rng.integers(12, 17)), int(rng.integers(12, 17)), int(rng.integers(1, 4)))
    layers: Chain = []
    for _ in range(int(rng.integers(1, 4))):
        if min(frame[:2]) < 6:
            break
        groups = frame[2] if rng.integers(3) == 0 else 1
        dilation = (2, 2) if rng.integers(4) == 0 else (1, 1)
        made = conv(rng, frame, layout, groups * int(rng.choice([1, 2, 3, 4])), groups, dilation)
        layers.append(made)
        frame = (made.windows.rows, made.windows.cols, made.filters)
        if rng.integers(2):
            layers.append(Activation(("tanh", "relu", "sigmoid")[int(rng.integers(3))], made.outputs))
        if rng.integers(2) and min(frame[:2]) >= 4:
            pooled = pool(rng, frame, layout)
            layers.append(pooled)
            frame = (pooled.windows.rows, pooled.windows.cols, frame[2])
    width = layers[-1].outputs
    return [*layers, Dense(rng.normal(size=(3, width)) / np.sqrt(width), rng.normal(size=3))]


def policy_of(layers: Chain) -> Policy:
    return Policy("net", tuple(layers), np.tile([-1.0, 1.0], (layers[0].inputs, 1)))


def require_equal(seed: int, folder: Path) -> None:
    policy = policy_of(chain(seed))
    for program in (float_program(policy), fixed_program(policy), fixed_program(policy, "int8")):
        assert_c_is_program(fold_constants(program), folder, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_c_of_layers_over_frames_equals_the_program(seed: int, tmp_path: Path) -> None:
    require_equal(seed, tmp_path)


def driving(frame: tuple[int, int, int] = (78, 200, 3), filters: tuple[int, int] = (32, 64)) -> Policy:
    """Convolution, pooling, convolution, pooling, dense layer, with random weights."""
    rng = np.random.default_rng(0)
    layers: Chain = []
    for number in filters:
        windows = windows_over(frame, (5, 5), (1, 1), (0, 0, 0, 0), "hwc", "conv")
        weight = rng.normal(size=(number, 5, 5, frame[2])) / np.sqrt(25 * frame[2])
        layers.append(Conv2d(windows, weight, rng.normal(size=number) / 8, relu=True))
        frame = (windows.rows, windows.cols, number)
        layers.append(Pool(windows_over(frame, (2, 2), (2, 2), (0, 0, 0, 0), "hwc", "pool"), "max"))
        frame = (frame[0] // 2, frame[1] // 2, number)
    width = layers[-1].outputs
    return policy_of([*layers, Dense(rng.normal(size=(8, width)) / np.sqrt(width), rng.normal(size=8) / 8)])


def unstreamed(program: Program) -> Nest:
    return in_arena(fuse(fold_constants(program)))


def working_memory(nest: Nest) -> int:
    return arena_bytes(slots_of(nest))


def test_no_frame_between_convolution_and_pooling_exists() -> None:
    program = float_program(driving())
    nest = nest_of(program)
    (stream,) = [node for node in nest.body if isinstance(node, Stream)]
    assert [stage.out for stage in stream.stages] == ["x", "pool_y", "pool_y_2"]
    assert all(isinstance(stage.node, Window) and stage.node.pool for stage in stream.stages[1:])
    numbers = {b.name: b.axes[0].size for b in nest.buffers if b.place == "arena"}
    assert "conv_y" not in numbers
    assert (numbers["x"], numbers["pool_y"], numbers["pool_y_2"]) == (6 * 200 * 3, 6 * 98 * 32, 16 * 47 * 64)
    assert working_memory(unstreamed(program)) > 8 * working_memory(nest)


def test_a_stream_reads_as_text() -> None:
    nest = nest_of(float_program(driving((18, 20, 2), (2, 3))))
    text = to_text(nest)
    assert "by rows {" in text
    assert "pool_y_2 = pool(conv2d(conv_w_2, pool_y, conv_b_2))" in text


@pytest.mark.parametrize("seed", [10])
def test_gcc_has_nothing_to_say_and_agrees(seed: int, tmp_path: Path, require_program: RequireProgram) -> None:
    gcc, policy = require_program("gcc", optional=True), policy_of(chain(seed))
    for program in (float_program(policy), fixed_program(policy)):
        assert_c_is_program(fold_constants(program), tmp_path, seed, cc=gcc)


@pytest.mark.parametrize("seed", range(1))
def test_c_without_streams_equals_the_program_too(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ncpc.targets.c.nest.streamed", lambda nest: nest)
    program = fold_constants(fixed_program(policy_of(chain(seed))))
    assert not any(isinstance(node, Stream) or getattr(node, "pool", None) for node in nest_of(program).body)
    assert_c_is_program(program, tmp_path, seed)


def tightened(program: Program) -> Program:
    """Every convolution limited to a sixth of its range, so that limits are met."""
    def tight(stmt: Stmt) -> Stmt:
        if not isinstance(stmt, Op) or stmt.kind != "conv2d":
            return stmt
        limits = {end: int(stmt.attrs[end] or 0) // 6 for end in ("lo", "hi")}
        return replace(stmt, attrs={**stmt.attrs, **limits})

    return replace(program, body=tuple(map(tight, program.body)))


LIMITED = 1 << FLAGS.index("activation_limited")


@pytest.mark.parametrize("seed", range(2))
def test_a_limited_activation_sets_a_status_bit_in_program_and_c(seed: int, tmp_path: Path) -> None:
    policy = driving((18, 20, 2), (3, 4)) if seed == 0 else policy_of(chain(seed))
    roomy = fold_constants(fixed_program(policy))
    program, data = tightened(roomy), tame(roomy, seed, 20)
    prove(program)
    assert not (run(roomy, data).flags & LIMITED).any()
    assert (run(program, data).flags & LIMITED).any()
    assert_c_is_program(program, tmp_path, seed, inputs=lambda _, __: data)


def test_calibrated_data_meets_no_limit_and_three_times_it_does() -> None:
    policy = driving((18, 20, 2), (3, 4))
    seen = Sequences(np.random.default_rng(3).uniform(-0.2, 0.2, (1, 20, policy.inputs)))
    program = fixed_program(replace(policy, calibration=seen))
    assert not run(program, seen).flags.any()
    assert (run(program, Sequences(seen.x * 5)).flags & LIMITED).any()


FAULTS = {
    "a row too few is kept": (r"(_made < row \* 2 \+) 6", r"\1 5"),
    "rows move one too far": (r"\+= pool_y_first_gone", "+= pool_y_first_gone + 1"),
    "a pooling window is cut": (r"j_pool < 2", "j_pool < 1"),
    "the last row is left out": (r"x_made < pool_y_made \* 2 \+ 6", r"\g<0> && x_made < 27"),
    "a limit is not told": (r"status \|= NET_ACTIVATION_LIMITED;", ";"),
    "a filter has its neighbour's bias": (r"conv_b\[filter \+ 1\]", "conv_b[filter]"),
    "a window begins a column late": (r"col \* 2 \+ j_pool;", "col * 2 + j_pool + (col == 3 && j_pool == 0);"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_faults_are_found(fault: str, tmp_path: Path) -> None:
    program = tightened(fold_constants(fixed_program(driving((28, 40, 2), (2, 4)))))
    data = tame(program, 1, 4)
    expected = run(program, data)
    sources = emit_c(interface_of(program))
    text, times = re.subn(*FAULTS[fault], sources["net.c"].decode())
    assert times
    path = tmp_path / "net.so"
    path.write_bytes(build_host_library({**sources, "net.c": text.encode()}, None))
    found = run_library(path, interface_of(program), data)
    same = [np.array_equal(a, b) for a, b in ((found.raw_y, expected.raw_y), (found.flags, expected.flags))]
    assert not all(same)


@pytest.mark.parametrize(("scheme", "most"), [("int16", 4.7), pytest.param("int8", 4.7, marks=pytest.mark.slow)])
def test_cycles_per_product_on_a_simulated_core(scheme: str, most: float, require_tool: RequireTool) -> None:
    require_tool("unicorn")
    policy = driving((20, 24, 4), (8, 8))
    program, core = fold_constants(fixed_program(policy, scheme)), load_core("cortex-m4")
    face, data = interface_of(program), tame(program, 0, 1)
    elf = build_elf(emit_c(interface_of(program)), core, None, symbol_roots(face)).elf
    result = simulate(elf, core, plan_for(interface_of(program), Sequences(data.x[:1])))
    expected = run(program, Sequences(data.x[:1]))
    found = trace_from(interface_of(program), result)
    np.testing.assert_array_equal(found.raw_y, expected.raw_y)
    np.testing.assert_array_equal(found.flags, expected.flags)
    assert 2.5 < result.upper.max() / products(policy.layers) <= most


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 60))
def test_c_of_many_layers_over_frames_equals_the_program(seed: int, tmp_path: Path) -> None:
    require_equal(seed, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-m4", "rv32imc-ibex"])
@pytest.mark.parametrize("scheme", ["float32", "int16", "int8"])
@pytest.mark.parametrize("seed", [1, 4])
def test_linked_programs_on_cores_equal_the_program(
    seed: int, scheme: str, core: str, require_tool: RequireTool
) -> None:
    require_tool("unicorn")
    policy, chip = policy_of(chain(seed)), load_core(core)
    program = fold_constants(float_program(policy) if scheme == "float32" else fixed_program(policy, scheme))
    data = tame(program, seed, 3)
    face = interface_of(program)
    elf = build_elf(emit_c(face), chip, None, symbol_roots(face)).elf
    result = simulate(elf, chip, plan_for(face, data))
    assert_same(trace_from(face, result), run(program, data))


def test_nir_refuses_what_its_nodes_lack() -> None:
    rng, frame = np.random.default_rng(0), (8, 8, 2)
    wide = windows_over(frame, (2, 2), (1, 1), (0, 0, 0, 0), "hwc", "conv", (2, 2))
    padded = windows_over(frame, (2, 2), (2, 2), (1, 1, 1, 1), "hwc", "pool")
    refused = {
        "a dilation of 2 x 2: .* use a larger kernel": Conv2d(wide, rng.normal(size=(1, 2, 2, 2)), np.zeros(1)),
        "a convolution in 2 groups: .* use groups=1": conv(rng, frame, "hwc", 2, groups=2, relu=False),
        "pooling with padding: .* use none": Pool(padded, "avg_inside"),
    }
    for words, layer in refused.items():
        with pytest.raises(Unsupported, match=words):
            frame_node(None, layer, "layer0")
