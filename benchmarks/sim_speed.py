"""How fast the simulator runs code like the compiler's: million instructions per second with cycle counting, one core.

The program is a sparse liquid network of 19 neurons with 120 recurrent and 67 sensory synapses and 6 unfolds: one
struct per synapse, a sigmoid table with linear interpolation, one 32-bit divide per neuron and unfold. Run it as
``python -m benchmarks.sim_speed``; it writes ``sim_speed.json`` beside this file.
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path

import numpy as np

from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf
from ncpc.sim.plan import CallInterface, CallPlan
from ncpc.sim.run import open_session

NEURONS, INPUTS, RECURRENT, SENSORY, UNFOLDS = 19, 5, 120, 67, 6
STEPS, REPEATS = 2000, 3
RESULT = Path(__file__).with_suffix(".json")

SOURCE = """
#include <stdint.h>
typedef struct {{ int16_t sigma, mu, w, we; uint8_t pre, post; }} synapse_t;
typedef struct {{ int32_t v[{neurons}]; }} net_t;
void init(net_t *s); void reset(net_t *s); uint32_t step(net_t *s, const int16_t x[{inputs}], int16_t y[4]);
static const int16_t sigmoid[514] = {{{table}}};
static const synapse_t sensory[{sensory}] = {{{sensory_rows}}};
static const synapse_t recurrent[{recurrent}] = {{{recurrent_rows}}};
static const int16_t first[{neurons} + 1] = {{{first}}};
static int32_t activation(const synapse_t *p, int32_t v)
{{
    int32_t z = (p->sigma * (v - p->mu)) >> 8;
    if (z < -32768) {{ z = -32768; }}
    if (z > 32767) {{ z = 32767; }}
    z += 32768;
    int32_t a = sigmoid[z >> 7], b = sigmoid[(z >> 7) + 1];
    return a + (((b - a) * (z & 127)) >> 7);
}}
void init(net_t *s) {{ reset(s); }}
void reset(net_t *s) {{ for (int i = 0; i < {neurons}; i++) {{ s->v[i] = 0; }} }}
uint32_t step(net_t *s, const int16_t x[{inputs}], int16_t y[4])
{{
    int32_t num_s[{neurons}] = {{0}}, den_s[{neurons}] = {{0}};
    for (int k = 0; k < {sensory}; k++) {{
        const synapse_t *p = &sensory[k];
        int32_t g = activation(p, x[p->pre]);
        num_s[p->post] += (p->we * g) >> 8;
        den_s[p->post] += (p->w * g) >> 8;
    }}
    for (int u = 0; u < {unfolds}; u++) {{
        int32_t next[{neurons}];
        for (int i = 0; i < {neurons}; i++) {{
            int32_t num = num_s[i], den = den_s[i] + 20000;
            for (int k = first[i]; k < first[i + 1]; k++) {{
                const synapse_t *p = &recurrent[k];
                int32_t g = activation(p, s->v[p->pre]);
                num += (p->we * g) >> 8;
                den += (p->w * g) >> 8;
            }}
            next[i] = num / (den >> 10);
        }}
        for (int i = 0; i < {neurons}; i++) {{ s->v[i] = next[i]; }}
    }}
    for (int i = 0; i < 4; i++) {{ y[i] = (int16_t)s->v[i]; }}
    return 0u;
}}
"""


def source() -> str:
    """The program with random parameters, the same every time."""
    rng = np.random.default_rng(1)
    values = np.round(16384 / (1 + np.exp(-np.linspace(-8, 8, 514)))).astype(int)
    posts = np.sort(rng.integers(0, NEURONS, RECURRENT))
    return SOURCE.format(
        neurons=NEURONS,
        inputs=INPUTS,
        sensory=SENSORY,
        recurrent=RECURRENT,
        unfolds=UNFOLDS,
        table=", ".join(map(str, values)),
        sensory_rows=_rows(rng, rng.integers(0, NEURONS, SENSORY), INPUTS),
        recurrent_rows=_rows(rng, posts, NEURONS),
        first=", ".join(str(int(np.searchsorted(posts, i))) for i in range(NEURONS + 1)),
    )


def _rows(rng: np.random.Generator, posts: np.ndarray, sources: int) -> str:
    rows = []
    for post in posts:
        sigma, mu, w = rng.integers(500, 4000), rng.integers(-400, 400), rng.integers(50, 2000)
        we = w * rng.choice([-1, 1])
        rows.append(f"{{{sigma}, {mu}, {w}, {we}, {rng.integers(0, sources)}, {post}}}")
    return ", ".join(rows)


def measure(core_name: str, hook: str, steps: int) -> dict[str, object]:
    """Counts and speed of ``steps`` steps: the best of three runs in a process that is started and warm."""
    core = load_core(core_name)
    built = build_elf({"net.c": source().encode()}, core, None, ["init", "reset", "step"])
    interface = CallInterface("init", "step", "reset", struct_bytes=4 * NEURONS, x_bytes=2 * INPUTS, y_bytes=8)
    x = np.random.default_rng(2).integers(-800, 800, (1, steps, INPUTS)).astype("<i2").view(np.uint8)
    with open_session(built.elf, core, interface, hook) as session:
        session.run(CallPlan(interface, x[:, :2]))
        seconds = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            result = session.run(CallPlan(interface, x))
            seconds.append(time.perf_counter() - begin)
    assert not result.faults
    return {
        "core": core_name,
        "hook": hook,
        "steps": steps,
        "instructions_per_step": int(result.instructions.mean()),
        "cycles_per_step": [int(result.lower.mean()), int(result.upper.mean())],
        "million_instructions_per_second": round(int(result.instructions.sum()) / min(seconds) / 1e6, 1),
        "emulator": result.emulator,
    }


def main() -> None:
    """Measure both cores with both hooks, print a table, write the JSON."""
    rows = [
        measure(core, hook, n) for core in ("cortex-m4", "rv32imc-ibex") for hook, n in (("c", STEPS), ("python", 20))
    ]
    for row in rows:
        print(f"{row['core']:14} {row['hook']:7} {row['million_instructions_per_second']:7} M instructions/s")
    text = json.dumps({"machine": platform.machine(), "rows": rows}, indent=2)
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
