"""Convolutional heads on a simulated Cortex-M4: working memory with and without streaming, cycles per product.

    python -m benchmarks.heads         # writes heads.json beside this file

Each network is built, run for one step on the core (the chip's memories as given) and compared with the program bit for
bit. Weights are random: time and memory do not depend on them. ``driving`` is Conv2D(32, 5x5), MaxPool, Conv2D(64,
5x5), MaxPool, Dense(32) on frames of 78 x 200 x 3, ``driving-small`` the same with 6 and 8 filters on 38 x 64 x 3;
``pilot`` has the convolutions of Bojarski et al. 2016 (five, with ELU) on 66 x 200 x 3. An NCP of 19 neurons follows
each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.make_policies import FOLDER
from ncpc.cores import load_core
from ncpc.cores.elf import read_elf
from ncpc.cores.toolchain import build_elf
from ncpc.frontend.container import read_policy
from ncpc.frontend.heads import windows_over
from ncpc.ir.heads import Conv2d, Pool, products
from ncpc.ir.policy import Activation, Dense, Layer, Policy
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.passes.arena import arena_bytes, in_arena, slots_of
from ncpc.passes.fold import fold_constants
from ncpc.passes.fuse import fuse
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.proofs.prove import prove
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics.run import run
from ncpc.sim.run import simulate
from ncpc.targets.c.device import plan_for, symbol_roots, trace_from
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.fit import require_fit, with_memories
from ncpc.targets.c.interface import interface_of

RESULT = Path(__file__).with_suffix(".json")
CORE = "cortex-m4"
CHIPS: dict[str, dict[str, str]] = {"own": {}, "1M-192k": {"ram": "192k"}, "2M-256k": {"flash": "2M", "ram": "256k"}}
RUNS = (("driving-small", "int16", "own"), ("driving-small", "int8", "own"), ("pilot", "int8", "own"),
        ("pilot", "int16", "1M-192k"), ("driving", "int8", "2M-256k"))
Frame = tuple[int, int, int]


def convolution(rng: np.random.Generator, frame: Frame, layout: str, filters: int, side: int, stride: int,
                relu: bool) -> tuple[Conv2d, Frame]:
    """A layer of random weights, and the frame after it."""
    windows = windows_over(frame, (side, side), (stride, stride), (0, 0, 0, 0), layout, "conv")
    weight = rng.normal(size=(filters, side, side, frame[2])) / np.sqrt(side * side * frame[2])
    return (Conv2d(windows, weight, rng.normal(size=filters) / 8, relu), (windows.rows, windows.cols, filters))


def driving(frame: Frame, filters: Sequence[int]) -> list[Layer]:
    """Convolution and pooling, twice; Keras' order of a frame's numbers."""
    rng, layers = np.random.default_rng(0), list[Layer]()
    for number in filters:
        made, frame = convolution(rng, frame, "hwc", number, 5, 1, relu=True)
        pool = Pool(windows_over(frame, (2, 2), (2, 2), (0, 0, 0, 0), "hwc", "pool"), "max")
        layers += [made, pool]
        frame = (pool.windows.rows, pool.windows.cols, number)
    return layers


def pilot(frame: Frame) -> list[Layer]:
    """Five convolutions with ELU; torch's order of a frame's numbers."""
    rng, layers = np.random.default_rng(0), list[Layer]()
    for filters, side, stride in ((24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1)):
        made, frame = convolution(rng, frame, "chw", filters, side, stride, relu=False)
        layers += [made, Activation("elu", made.outputs, (1.0, 1.0))]
    return layers


def network(name: str) -> Policy:
    """The layers of a head, a dense layer and an NCP."""
    head = pilot((66, 200, 3)) if name == "pilot" else driving((78, 200, 3), (32, 64)) if name == "driving" else \
        driving((38, 64, 3), (6, 8))
    cell, rng = read_policy(FOLDER / "autoncp19-trained.safetensors"), np.random.default_rng(1)
    first, width = cell.layers[0].inputs, head[-1].outputs
    dense = [Dense(rng.normal(size=(32, width)) / np.sqrt(width), np.zeros(32)), Activation("relu", 32),
             Dense(rng.normal(size=(first, 32)) / 6, np.zeros(first))]
    return replace(cell, name="head", layers=(*head, *dense, *cell.layers), input_names=(), calibration=None,
                   input_range=np.tile([-1.0, 1.0], (head[0].inputs, 1)))


def integers(policy: Policy, scheme: str) -> Program:
    program = fold_constants(lower_fixed(policy, quantize(policy, scheme, "fixed", 1e-3, Choices(largest_fractions))))
    prove(program)
    return program


def measure(name: str, scheme: str, chip: str) -> dict[str, Any]:
    """Build, run one step, require that it equals the program."""
    policy, core = network(name), with_memories(load_core(CORE), CHIPS[chip])
    program = integers(policy, scheme)
    face = interface_of(program)
    require_fit(face, core)
    elf = build_elf(emit_c(face), core, None, symbol_roots(face), extra_flags=(f"-D{face.macro}_PROFILE",)).elf
    data = Sequences(np.random.default_rng(2).uniform(-1, 1, (1, 1, policy.inputs)))
    result, expected = simulate(elf, core, plan_for(face, data)), run(program, data)
    found = trace_from(face, result)
    for a, b in ((found.raw_y, expected.raw_y), (found.raw_state, expected.raw_state), (found.flags, expected.flags)):
        np.testing.assert_array_equal(a, b)
    count = products(policy.layers) + sum(layer.weight.size for layer in policy.layers if isinstance(layer, Dense))
    return {
        "network": name, "scheme": scheme, "core": CORE, "flash": core.flash.size, "ram": core.ram.size,
        "products": count, "cycles": int(result.upper.max()), "instructions": int(result.instructions.max()),
        "cycles_per_product": round(float(result.upper.max()) / count, 3),
        "flash_bytes": read_elf(elf).flash_bytes, "instance_bytes": face.struct_bytes(),
        "working_bytes": face.arena_bytes(),
        "working_bytes_unstreamed": arena_bytes(slots_of(in_arena(fuse(program)))),
        "input_bytes": face.inputs * face.x.bytes, "stack_bytes": result.stack_bytes,
    }


def main() -> int:
    """Measure, show and store."""
    rows = [measure(*one) for one in RUNS]
    RESULT.write_text(json.dumps({"command": "python -m benchmarks.heads", "rows": rows}, indent=1) + "\n")
    table = Table("network", "scheme", "products", "cycles/product", "cycles", "working memory", "unstreamed", "flash")
    for r in rows:
        table.add_row(r["network"], r["scheme"], f"{r['products']:,}", f"{r['cycles_per_product']}", f"{r['cycles']:,}",
                      f"{r['working_bytes']:,}", f"{r['working_bytes_unstreamed']:,}", f"{r['flash_bytes']:,}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
