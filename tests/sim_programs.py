"""Small programs for the simulator's tests, and how to run them."""

from __future__ import annotations

from functools import cache

import numpy as np
from unicorn import UC_HOOK_CODE

from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf
from ncpc.sim.accounting import _code_range
from ncpc.sim.decode import decode
from ncpc.sim.emulator import Device, call, open_device
from ncpc.sim.plan import CallInterface, SimResult
from ncpc.sim.profile import run_sequences
from ncpc.sim.run import result_of
from ncpc.sim.timing_ibex import BRANCHES, IBEX_CYCLES
from ncpc.worker.process import Answer

ARM, RISCV = "cortex-m4", "rv32imc-ibex"
RETURN = {"arm": "bx lr", "riscv32": "ret"}
RETURNING = {"cortex-m0": (3, 3), "cortex-m0-mul32": (3, 3), "cortex-m0plus": (2, 2), "cortex-m0plus-mul32": (2, 2),
             "rv32im-picorv32": (6, 6)}
"""Cycles of the return where they are not those of most cores of the architecture."""
PLAIN = CallInterface("init", "step", "reset", struct_bytes=64, x_bytes=8, y_bytes=4)


@cache
def assembled(core: str, body: str, after: str = "") -> bytes:
    """An ELF whose ``step`` is ``body`` and a return; ``after`` follows behind."""
    arch = load_core(core).arch
    syntax = ".syntax unified\n.thumb\n" if arch == "arm" else ""
    kind = ".thumb_func\n" if arch == "arm" else ""
    text = f"{syntax}.text\n"
    for name, code in (("init", ""), ("reset", ""), ("step", body)):
        text += f".global {name}\n.type {name}, %function\n.p2align 2\n{kind}{name}:\n{code}\n{RETURN[arch]}\n"
        text += f".size {name}, .-{name}\n"
    return build_elf({"p.S": f"{text}{after}\n".encode()}, load_core(core), None, ["init", "step", "reset"]).elf


@cache
def cases(core: str, bodies: tuple[str, ...]) -> bytes:
    """One ELF with a function ``case_<k>`` for each body, which falls into a return."""
    arch = load_core(core).arch
    syntax = ".syntax unified\n.thumb\n" if arch == "arm" else ""
    kind = ".thumb_func\n" if arch == "arm" else ""
    text = f"{syntax}.text\n"
    names = [f"case_{k}" for k in range(len(bodies))]
    for name, code in zip(names, bodies, strict=True):
        text += f".global {name}\n.type {name}, %function\n.p2align 2\n{kind}{name}:\n{code}\n{RETURN[arch]}\n"
        text += f".ltorg\n.size {name}, .-{name}\n" if arch == "arm" else f".size {name}, .-{name}\n"
    return build_elf({"p.S": text.encode()}, load_core(core), None, names).elf


def charge(elf: bytes, core: str, function: str) -> tuple[int, int, int]:
    """Instructions, lower and upper cycles of one call, in this process, without the return."""
    device = open_device(elf, load_core(core), PLAIN, "c")
    done = call(device, function, (device.instance, device.x, device.y))
    assert done.fault is None
    returning = RETURNING.get(core, (2, 4) if load_core(core).arch == "arm" else (2, 2))
    return done.instructions - 1, done.lower - returning[0], done.upper - returning[1]


@cache
def compiled(core: str, source: str) -> bytes:
    """An ELF from C that defines init, step and reset."""
    return build_elf({"p.c": source.encode()}, load_core(core), None, ["init", "step", "reset"]).elf


def inputs(*steps: tuple[int, int]) -> np.ndarray:
    """(1, T, 8) bytes: two int32 per step."""
    return np.array([steps], "<i4").view(np.uint8)


def run(core: str, elf: bytes, x: np.ndarray | None = None, interface: CallInterface = PLAIN,
        hook: str = "c") -> SimResult:
    """One sequence on ``elf``, in this process."""
    device = open_device(elf, load_core(core), interface, hook)
    given = inputs((0, 0)) if x is None else x
    return result_of(Answer(*run_sequences(device, {"x": given}, lambda: None)), interface, given.shape[:2])


NETWORK = """
#include <stdint.h>
typedef struct { uint16_t pre, post; int16_t w, sigma, mu, erev; } synapse_t;
typedef struct { int32_t v[6]; uint32_t steps; } net_t;
int init(net_t *s); int reset(net_t *s); int step(net_t *s, const int16_t x[], int16_t y[]);
static const synapse_t synapses[6][4] = {
  {{1, 0, 300, 700, 11, 900}, {2, 0, 100, -300, 50, -900}, {3, 0, 10, 60, 7, 1}, {4, 0, 8, 600, -90, 800}},
  {{0, 1, 300, 700, 11, 900}, {2, 1, 100, -300, 50, -900}, {3, 1, 10, 60, 7, 1}, {5, 1, 8, 600, -90, 800}},
  {{1, 2, 300, 700, 11, 900}, {0, 2, 100, -300, 50, -900}, {3, 2, 10, 60, 7, 1}, {4, 2, 8, 600, -90, 800}},
  {{1, 3, 300, 700, 11, 900}, {2, 3, 100, -300, 50, -900}, {0, 3, 10, 60, 7, 1}, {4, 3, 8, 600, -90, 800}},
  {{1, 4, 300, 700, 11, 900}, {2, 4, 100, -300, 50, -900}, {3, 4, 10, 60, 7, 1}, {0, 4, 8, 600, -90, 800}},
  {{1, 5, 300, 700, 11, 900}, {2, 5, 100, -300, 50, -900}, {3, 5, 10, 60, 7, 1}, {4, 5, 8, 600, -90, 800}}};
int init(net_t *s) { return reset(s); }
int reset(net_t *s) { for (int i = 0; i < 6; i++) { s->v[i] = 40 * i; } s->steps = 0u; return 0; }
int step(net_t *s, const int16_t x[], int16_t y[]) {
  int32_t next[6];
  for (int unfold = 0; unfold < 3; unfold++) {
    for (int i = 0; i < 6; i++) {
      int32_t num = x[0] * 8 * (i + 1), den = 200;
      const synapse_t *p = synapses[i];
      __asm__ volatile("neuron_%=:" ::: "memory");
      for (int k = 0; k < 4; k++, p++) {
        int32_t z = p->sigma * (s->v[p->pre] - p->mu) >> 4;
        if (z < -2048) { z = -2048; }
        if (z > 2047) { z = 2047; }
        num += (p->w * p->erev >> 8) * (z + 2048) >> 6;
        den += p->w * (z + 2048) >> 6;
      }
      next[i] = num / (den >> 7);
      __asm__ volatile("neuron_end_%=:" ::: "memory");
    }
    for (int i = 0; i < 6; i++) { s->v[i] = next[i]; }
  }
  s->steps++;
  y[0] = (int16_t)s->v[0];
  y[1] = (int16_t)s->v[1];
  return s->v[0] < 0 ? 1 : 0;
}
"""
NETWORK_INTERFACE = CallInterface(
    "init",
    "step",
    "reset",
    struct_bytes=28,
    x_bytes=2,
    y_bytes=4,
    state=((0, 24), (24, 4)),
    neuron_label="neuron",
    neuron_count=6,
    neuron_end="neuron_end",
)


def network_in_python(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same network on x (T,) int16: outputs (T, 2) and states (T, 6). Divisions truncate, as in C."""
    others = [[1, 2, 3, 4], [0, 2, 3, 5], [1, 0, 3, 4], [1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 3, 4]]
    values = [(300, 700, 11, 900), (100, -300, 50, -900), (10, 60, 7, 1), (8, 600, -90, 800)]
    v, ys, states = [40 * i for i in range(6)], [], []
    for sample in x:
        for _ in range(3):
            following = []
            for i, pre in enumerate(others):
                num, den = int(sample) * 8 * (i + 1), 200
                for k, (w, sigma, mu, erev) in zip(pre, values, strict=True):
                    z = min(2047, max(-2048, sigma * (v[k] - mu) >> 4)) + 2048
                    num += (w * erev >> 8) * z >> 6
                    den += w * z >> 6
                following.append(abs(num) // (den >> 7) * (-1 if num < 0 else 1))
            v = following
        ys.append((v[0], v[1]))
        states.append(list(v))
    return np.array(ys), np.array(states)


def ibex_by_instruction(device: Device, function: str) -> int:
    """Cycles of one call on Ibex by the manual's table, instruction by instruction as they are executed, the return
    included: whatever is a jump is charged as one, however near its target lies.
    """
    start, code = _code_range(device.image)
    executed: list[tuple[int, int]] = []
    device.engine.hook_add(UC_HOOK_CODE, lambda engine, address, size, user: executed.append((address, size)))
    device.engine.ctl_flush_tb()  # what was translated before has no such hook
    assert call(device, function, (device.instance, device.x, device.y)).fault is None
    found = [decode(code[address - start : address - start + size], address, RISCV)[0] for address, size in executed]
    cycles = 0
    for i, then in zip(found, [*found[1:], None], strict=True):
        cycles += IBEX_CYCLES.get(i.name, 1)
        branched = i.name in BRANCHES and then is not None and then.address != i.end
        cycles += 2 if branched else 0
        if (branched or i.name in ("jal", "jalr")) and then is not None and then.size == 4 and then.address % 4 == 2:
            cycles += 1
    return cycles
