"""Running sequences on the simulated cores: values, carried state, profile, stack, faults, sessions."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ncpc.sim.run as client
from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf
from ncpc.errors import BadInput, MissingTool, NcpcError, ProofFailed
from ncpc.sim.plan import CallInterface, CallPlan
from ncpc.sim.run import open_session, simulate

spec = importlib.util.spec_from_file_location("sim_programs", Path(__file__).parent / "sim_programs.py")
assert spec is not None
assert spec.loader is not None
programs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(programs)
ARM, RISCV = programs.ARM, programs.RISCV
CORES = (ARM, RISCV)
NET = programs.NETWORK_INTERFACE


@pytest.fixture(autouse=True)
def _tools(require_tool):
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)


def network(core: str) -> bytes:
    return programs.compiled(core, programs.NETWORK)


def samples(batch: int, steps: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-3000, 3000, (batch, steps, 1)).astype("<i2")


def run_network(core: str, x: np.ndarray, hook: str = "c", **more):
    return simulate(network(core), load_core(core), CallPlan(NET, x.view(np.uint8), **more), hook)


@pytest.mark.parametrize("core", CORES)
def test_values_state_and_status_over_sequences(core):
    x = samples(3, 40)
    result = run_network(core, x)
    assert not result.faults
    assert result.completed == 120
    for b in range(3):
        y, states = programs.network_in_python(x[b, :, 0])
        assert (result.y[b].view("<i2") == y).all()
        assert (result.state[b, :, :24].view("<i4") == states).all()
        assert result.state[b, :, 24:].view("<u4").ravel().tolist() == list(range(1, 41))
        assert (result.status[b] == (states[:, 0] < 0)).all()
    assert len(np.unique(result.y.view("<i2"))) > 40


@pytest.mark.parametrize("core", CORES)
def test_reset_within_a_sequence_starts_anew(core):
    x = samples(1, 12)
    reset = np.zeros((1, 12), bool)
    reset[0, 5] = True
    result = run_network(core, x, reset=reset)
    parts = [programs.network_in_python(part)[0] for part in (x[0, :5, 0], x[0, 5:, 0])]
    assert (result.y[0].view("<i2") == np.concatenate(parts)).all()


def test_a_reset_that_forgets_a_state_shows():
    forgetful = programs.NETWORK.replace("} s->steps = 0u; return 0; }", "} return 0; }")
    forgetful = forgetful.replace("int init(net_t *s) {", "int init(net_t *s) { s->steps = 0u;")
    x = np.repeat(samples(1, 5), 2, axis=0)
    steps = []
    for source in (programs.NETWORK, forgetful):
        result = simulate(programs.compiled(ARM, source), load_core(ARM), CallPlan(NET, x.view(np.uint8)))
        assert not result.faults
        steps.append(result.state[:, :, 24:].view("<u4")[..., 0].tolist())
    assert steps[0] == [[1, 2, 3, 4, 5]] * 2
    assert steps[1] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]


@pytest.mark.parametrize("core", CORES)
def test_both_hooks_count_the_same(core):
    x = samples(2, 6)
    compiled, python = (run_network(core, x, hook) for hook in ("c", "python"))
    assert (compiled.hook, python.hook) == ("c", "python")
    for name in ("instructions", "lower", "upper", "y", "state", "status"):
        assert (getattr(compiled, name) == getattr(python, name)).all()
    for name in ("functions", "neurons", "neurons_other", "stack_bytes", "completed"):
        assert getattr(compiled, name) == getattr(python, name)
    assert (compiled.lower <= compiled.upper).all()
    assert (compiled.instructions > 300).all()


def test_both_hooks_agree_on_operand_dependent_costs():
    divides = "lw a3, 0(a1)\nlw a4, 4(a1)\ndiv a3, a3, a4\nrem a5, a3, a4\nsw a3, 0(a2)"
    skips = "ldrd r2, r3, [r1]\ncmp r3, r2\nite lt\nsdivlt r2, r2, r3\nldrge r2, [r0]\nit eq\nbxeq lr\nadds r2, #1"
    x = programs.inputs((7, 2), (7, 0), (3, 3), (2, 5), (-4, -9))
    for core, body in ((RISCV, divides), (ARM, skips)):
        elf = programs.assembled(core, body)
        one, other = (programs.run(core, elf, x, hook=hook) for hook in ("c", "python"))
        for name in ("instructions", "lower", "upper"):
            assert (getattr(one, name) == getattr(other, name)).all()
        assert len(set(one.upper[0].tolist())) > 1


@pytest.mark.parametrize("core", CORES)
def test_totals_by_function_and_by_neuron_add_up(core):
    result = run_network(core, samples(2, 7))
    assert result.neurons_other is not None
    for name in ("instructions", "lower", "upper"):
        total = int(getattr(result, name).sum())
        assert sum(getattr(c, name) for c in result.functions.values()) == total
        assert sum(getattr(c, name) for c in (*result.neurons, result.neurons_other)) == total
    assert result.functions["step"].entries == 14
    assert "init" not in result.functions
    assert "reset" not in result.functions
    assert [c.entries for c in result.neurons] == [14 * 3] * 6
    assert result.neurons_other.upper < result.upper.sum() / 3


def test_a_neuron_with_more_work_costs_more():
    last = "for (int k = 0; k < (i == 5 ? 4 : 1); k++, p++)"
    elf = programs.compiled(RISCV, programs.NETWORK.replace("for (int k = 0; k < 4; k++, p++)", last))
    result = simulate(elf, load_core(RISCV), CallPlan(NET, samples(1, 3).view(np.uint8)))
    costs = [c.lower for c in result.neurons]
    assert costs[5] > 2 * max(costs[:5])


def test_functions_are_charged_exclusively():
    source = """
    int init(int *s); int reset(int *s); int step(int *s, const int *x, int *y); int square(int a);
    int init(int *s) { return *s = 0; }
    int reset(int *s) { return *s = 0; }
    __attribute__((noinline)) int square(int a) { __asm__ volatile(""); return a * a; }
    int step(int *s, const int *x, int *y) { *s += square(x[0]) + square(x[1]); *y = *s; return 0; }
    """
    interface = CallInterface("init", "step", "reset", struct_bytes=4, x_bytes=8, y_bytes=4)
    x = programs.inputs((1, 2), (3, 4))
    result = programs.run(RISCV, programs.compiled(RISCV, source), x, interface)
    assert result.y[0].view("<i4").ravel().tolist() == [5, 30]
    assert result.functions["square"].entries == 4
    assert result.functions["square"].instructions == 4 * 2
    assert result.functions["square"].lower == 4 * (3 + 2)
    assert result.functions["step"].entries == 2


@pytest.mark.parametrize(
    ("core", "body", "depth"),
    [
        (ARM, "push {r4, r5, lr}\nsub sp, #100\nstr r0, [sp]\nadd sp, #100\npop {r4, r5, lr}", 112),
        (ARM, "nop", 0),
        (RISCV, "addi sp, sp, -64\nsw ra, 0(sp)\naddi sp, sp, 64", 64),
    ],
)
def test_stack_high_water_mark(core, body, depth):
    body = body.replace("pop {r4, r5, lr}", "ldr r4, [sp], #4\nldr r5, [sp], #4\nldr lr, [sp], #4")
    assert programs.run(core, programs.assembled(core, body)).stack_bytes == depth


def test_state_bytes_and_a_static_instance():
    source = """
    #include <stdint.h>
    typedef struct { uint8_t a; uint8_t pad[3]; uint32_t n; } t;
    t instance = {1, {0, 0, 0}, 2};
    int init(t *s); int reset(t *s); int step(t *s, const uint8_t *x, uint32_t dt, uint8_t *y);
    int init(t *s) { s->a = 0; s->n = s == &instance; return 0; }
    int reset(t *s) { return init(s); }
    int step(t *s, const uint8_t *x, uint32_t dt, uint8_t *y) {
      s->a++; s->n += dt; y[0] = (uint8_t)(x[0] + x[1]); return -1;
    }
    """
    elf = programs.compiled(ARM, source)
    interface = CallInterface(
        "init", "step", "reset", 8, 2, 2, takes_dt=True, state=((4, 4), (0, 1)), struct_symbol="instance"
    )
    x = np.array([[[1, 2], [3, 4]]], np.uint8)
    plan = CallPlan(interface, x, dt=np.array([[10, 4_000_000_000]], np.uint32))
    result = simulate(elf, load_core(ARM), plan)
    assert result.state[0, :, :4].view("<u4").ravel().tolist() == [11, 4_000_000_011]
    assert result.state[0, :, 4].tolist() == [1, 2]
    assert result.status[0].tolist() == [0xFFFFFFFF] * 2
    assert result.y[0].tolist() == [[3, 0xA5], [7, 0xA5]], "a byte that step does not write must show"


@pytest.mark.parametrize("core", CORES)
def test_soft_float_is_ieee_single_precision(core):
    source = """
    int init(float *s); int reset(float *s); int step(float *s, const float x[2], float y[3]);
    int init(float *s) { *s = 0.5f; return 0; }
    int reset(float *s) { return init(s); }
    int step(float *s, const float x[2], float y[3]) {
      *s = *s * x[0] + x[1]; y[0] = *s; y[1] = x[0] / x[1]; y[2] = (float)(int)x[1] - x[0]; return *s < x[0];
    }
    """
    rng = np.random.default_rng(7)
    x = (rng.normal(size=(1, 60, 2)) * 10.0 ** rng.integers(-6, 3, (1, 60, 2))).astype(np.float32)
    interface = CallInterface("init", "step", "reset", struct_bytes=4, x_bytes=8, y_bytes=12)
    elf = programs.compiled(core, source)
    result = programs.run(core, elf, x.view(np.uint8), interface)
    state = np.float32(0.5)
    for t, (a, b) in enumerate(x[0]):
        state = state * a + b
        y = np.array([state, a / b, np.float32(int(b)) - a], np.float32)
        assert result.y[0, t].tobytes() == y.tobytes()
        assert result.status[0, t] == (state < a)
    assert any("mul" in name for name in result.functions)


OTHERS = [
    {"name": "m0", "zig_mcpu": "cortex_m0", "emulator_cpu": "cortex-m0", "zig_flags": ()},
    {"name": "m7", "zig_mcpu": "cortex_m7", "emulator_cpu": "cortex-m7"},
    {"name": "m33", "zig_mcpu": "cortex_m33", "emulator_cpu": "cortex-m33"},
]


@pytest.mark.parametrize("changes", OTHERS, ids=lambda changes: changes["name"])
def test_another_core_is_another_description(changes):
    core = replace(load_core(ARM), timing_class="count", timing_table="count", **changes)
    built = build_elf({"p.c": programs.NETWORK.encode()}, core, None, ["init", "step", "reset"])
    x = samples(1, 10)
    result = simulate(built.elf, core, CallPlan(NET, x.view(np.uint8)))
    assert (result.y[0].view("<i2") == programs.network_in_python(x[0, :, 0])[0]).all()
    assert result.timing_class == "count"
    assert (result.lower == result.instructions).all()
    assert (result.upper == result.instructions).all()


@pytest.mark.parametrize(("cpu", "body", "known"), [
    ("cortex-m0", "umull r2, r3, r0, r1", False), ("cortex-m3", "umull r2, r3, r0, r1", True),
    ("cortex-m3", ".inst.w 0xee300a81", False), ("cortex-m4", ".inst.w 0xee300a81", True),
    ("cortex-m4", ".inst.w 0xfe000a81", False), ("cortex-m7", ".inst.w 0xfe000a81", True),
], ids=["long product", "long product", "vadd.f32", "vadd.f32", "vseleq.f32", "vseleq.f32"])
def test_the_emulator_is_the_processor_that_the_core_names(cpu, body, known):
    """What one has not is a fault there."""
    core = replace(load_core(ARM), timing_table="count", emulator_cpu=cpu)
    result = simulate(programs.assembled(ARM, body), core, CallPlan(programs.PLAIN, programs.inputs((0, 0))))
    assert (not result.faults) == known
    assert all(fault.kind in ("invalid", "exception") for fault in result.faults)


@pytest.mark.parametrize("hard", [False, True])
def test_a_float_argument_is_passed_by_the_core_s_convention(hard):
    fpu = {"zig_target": "thumb-freestanding-eabihf", "zig_mcpu": "cortex_m4+vfp4d16sp", "hard_float": True}
    core = replace(load_core(ARM), timing_table="count", **(fpu if hard else {}))
    source = b"""
    int init(float *s); int reset(float *s); int step(float *s, const float x[1], float dt, float y[1]);
    int init(float *s) { *s = 0.0f; return 0; }
    int reset(float *s) { return init(s); }
    int step(float *s, const float x[1], float dt, float y[1]) { *s += x[0] * dt; y[0] = *s; return 0; }
    """
    interface = CallInterface("init", "step", "reset", 4, 4, 4, takes_dt=True, float_dt=True)
    built = build_elf({"p.c": source}, core, None, ["init", "step", "reset"])
    x, dt = np.array([[[1.5], [2.5]]], np.float32), np.array([[0.5, 0.25]], np.float32)
    result = simulate(built.elf, core, CallPlan(interface, x.view(np.uint8), dt.view(np.uint32)))
    assert result.y[0].view("<f4").ravel().tolist() == [0.75, 1.375]
    assert (set(result.functions) == {"step"}) == hard


FAULTS = [
    (ARM, "ldr r3, =0x30000000\nldr r3, [r3, #8]", "read", 0x30000008, 4),
    (ARM, "ldr r3, =0x30000000\nstrh r0, [r3]", "write", 0x30000000, 2),
    (ARM, "ldr r3, =0x08000100\nstr r0, [r3]", "protected", 0x08000100, 4),
    (ARM, "ldr r3, =0x40000001\nbx r3", "fetch", 0x40000000, None),
    (ARM, "add r3, r0, #1\nbx r3", "protected", None, None),
    (ARM, "udf #0", "invalid", None, None),
    (RISCV, "li a3, 0x30000000\nlw a3, 8(a3)", "read", 0x30000008, 4),
    (RISCV, "li a3, 0x30000000\nsb a0, 0(a3)", "write", 0x30000000, 1),
    (RISCV, "li a3, 0x00100100\nsw a0, 0(a3)", "protected", 0x00100100, 4),
    (RISCV, "li a3, 0x30000000\njr a3", "fetch", 0x30000000, None),
    (RISCV, "ebreak", "invalid", None, None),
    (RISCV, ".word 0", "invalid", None, None),
]


@pytest.mark.parametrize(
    ("core", "body", "kind", "address", "size"), FAULTS, ids=[f"{row[0]} {row[2]} {k}" for k, row in enumerate(FAULTS)]
)
def test_faults_are_reported_with_their_place(core, body, kind, address, size):
    guard = {ARM: "ldr r3, [r1]\ncmp r3, #0\nbeq 9f\n", RISCV: "lw a3, 0(a1)\nbeqz a3, 9f\n"}[core]
    elf = programs.assembled(core, f"{guard}{body}\n9:")
    result = programs.run(core, elf, programs.inputs((0, 0), (0, 0), (1, 0), (0, 0)))
    (fault,) = result.faults
    assert (fault.sequence, fault.step, fault.kind) == (0, 2, kind)
    assert result.completed == 2
    assert (result.instructions[0] > 0).tolist() == [True, True, False, False]
    if address is not None:
        assert fault.address == address
    if size is not None:
        assert (fault.size, fault.function) == (size, "step")
        assert "step 2" in str(fault)


@pytest.mark.parametrize(
    ("core", "body", "size"), [(ARM, "ldr r3, [r1, #2]", 4), (ARM, "strh r3, [r2, #1]", 2), (RISCV, "sh a0, 1(a2)", 2)]
)
def test_a_misaligned_access_is_a_fault(core, body, size):
    result = programs.run(core, programs.assembled(core, body))
    (fault,) = result.faults
    assert (fault.kind, fault.step, fault.size, fault.function) == ("misaligned", 0, size, "step")
    assert fault.address % size
    assert result.completed == 0


def test_a_stack_that_meets_the_data_is_a_fault():
    body = "ldr r3, =0x1ff00\nsub sp, r3\nstr r0, [sp]\nadd sp, r3"
    small = replace(load_core(ARM), ram=replace(load_core(ARM).ram, size=0x20000))
    result = simulate(programs.assembled(ARM, body), small, CallPlan(programs.PLAIN, programs.inputs((0, 0))))
    assert not result.faults
    assert result.stack_bytes == 0x1FF00
    down = "mov r3, sp\nldr r2, =0x1ff94\n1: subs r3, #4\nstr r0, [r3]\nsubs r2, #4\nbne 1b"
    result = programs.run(ARM, programs.assembled(ARM, down))
    assert [f.kind for f in result.faults] == ["stack"]


def test_a_program_that_does_not_return_is_stopped(monkeypatch):
    import ncpc.sim.emulator as emulator

    monkeypatch.setattr(emulator, "CALL_LIMIT", 100_000)
    elf = programs.assembled(RISCV, "1: j 1b")
    device = emulator.open_device(elf, load_core(RISCV), programs.PLAIN)
    done = emulator.call(device, "step", (device.instance, device.x, device.y))
    assert done.fault is not None
    assert (done.fault["kind"], done.fault["function"]) == ("timeout", "step")
    assert 100_000 <= done.instructions <= 100_010


def test_a_session_gives_what_a_run_gives():
    x = samples(1, 9)
    whole = run_network(RISCV, x)
    with open_session(network(RISCV), load_core(RISCV), NET) as session:
        session.reset()
        for _ in range(2):
            steps = [session.step(x[0, t].view(np.uint8)) for t in range(9)]
            for t, step in enumerate(steps):
                assert (step.y == whole.y[0, t]).all()
                assert (step.state == whole.state[0, t]).all()
                assert (step.status, step.upper) == (whole.status[0, t], whole.upper[0, t])
            session.reset()


def test_a_session_reports_a_fault():
    elf = programs.assembled(ARM, "ldr r3, [r1]\nldr r3, [r3]")
    where = pytest.raises(NcpcError, match=r"step 0: read of 4 bytes at 0x00000004 by step")
    with open_session(elf, load_core(ARM), programs.PLAIN) as session, where:
        session.step(programs.inputs((4, 0))[0, 0])


def test_bad_requests_are_refused():
    elf, core = network(ARM), load_core(ARM)
    x = np.zeros((1, 2, 2), np.uint8)
    with pytest.raises(BadInput, match=r"x is uint8\(1, 2, 2\)"):
        simulate(elf, core, CallPlan(replace(NET, x_bytes=4), x))
    with pytest.raises(BadInput, match="takes no dt"):
        simulate(elf, core, CallPlan(NET, x, dt=np.ones((1, 2), np.uint32)))
    with pytest.raises(BadInput, match="needs dt"):
        simulate(elf, core, CallPlan(replace(NET, takes_dt=True), x))
    with pytest.raises(BadInput, match="reset is"):
        simulate(elf, core, CallPlan(NET, x, reset=np.zeros((1, 3), bool)))
    with pytest.raises(BadInput, match="no symbol 'nothing'"):
        simulate(elf, core, CallPlan(replace(NET, step="nothing"), x))
    with pytest.raises(BadInput, match="no label 'axon'"):
        simulate(elf, core, CallPlan(replace(NET, neuron_label="axon"), x))
    with pytest.raises(BadInput, match="EM_ARM, not for core 'rv32imc-ibex'"):
        simulate(elf, load_core(RISCV), CallPlan(NET, x))
    with pytest.raises(BadInput, match="not an ELF"):
        simulate(b"MZ" + bytes(100), core, CallPlan(NET, x))
    with pytest.raises(BadInput, match="static data and instance need"):
        simulate(elf, core, CallPlan(replace(NET, struct_bytes=1 << 20), x))


def test_missing_emulator_is_named(monkeypatch):
    monkeypatch.setattr(client, "find_spec", lambda name: None if name == "unicorn" else object())
    with pytest.raises(MissingTool, match=r"unicorn: pip install 'ncpc\[sim,c\]'"):
        simulate(network(ARM), load_core(ARM), CallPlan(NET, np.zeros((1, 1, 2), np.uint8)))


def test_a_worker_that_dies_is_noticed():
    session = open_session(network(ARM), load_core(ARM), NET)
    session.worker.process.kill()
    with pytest.raises(ProofFailed, match=r"^the simulator was brought down: SIGKILL$"):
        session.step(np.zeros(2, np.uint8))
    session.close()


def test_without_a_compiler_the_python_hook_serves(monkeypatch, tmp_path):
    from ncpc.sim import hook

    def missing(cc):
        raise MissingTool("no compiler")

    monkeypatch.setattr(hook, "find_compiler", missing)
    assert hook.load_hook("auto").kind == "python"
    with pytest.raises(MissingTool):
        hook.load_hook("c")


def test_the_hook_is_built_once_into_the_cache(monkeypatch, tmp_path):
    from ncpc.sim import hook

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert hook.load_hook("c").kind == "c"
    (built,) = (tmp_path / "ncpc").iterdir()
    before = os.stat(built).st_mtime_ns
    hook.load_hook("c")
    assert os.stat(built).st_mtime_ns == before


def test_the_hook_needs_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool) -> None:
    """One that cannot be made, or no home at all."""
    from ncpc.sim import hook

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")
    require_tool("ziglang")
    (tmp_path / "file").touch()
    monkeypatch.setattr(hook, "cache_folder", lambda: tmp_path / "file/ncpc")
    assert hook.load_hook("c").kind == "c"
    monkeypatch.setattr(hook, "cache_folder", homeless)
    assert hook.load_hook("c").kind == "c"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
