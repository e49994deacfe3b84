"""The same policy gives the same C in every process, whatever the order that Python's sets come in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EMIT = """
import hashlib
import numpy as np
from ncpc.ir.gated import Cfc
from ncpc.ir.policy import Dense, Policy
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.c_programs import fixed_program
rng = np.random.default_rng(0)
dense = [Dense(rng.normal(size=(4, n)), rng.normal(size=4)) for n in (7, 4, 4, 4, 4)]
cell = Cfc((dense[0],), *dense[1:], None, None, "default", "tanh", "tanh", ("inter",) * 4, tuple("abcd"))
program = fixed_program(Policy("net", (cell,), np.tile([-1.0, 1.0], (3, 1))))
print(hashlib.sha256(b"".join(emit_c(interface_of(program)).values())).hexdigest())
"""


def test_the_c_does_not_depend_on_the_order_of_sets() -> None:
    def emitted(seed: int) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}
        return subprocess.run([sys.executable, "-c", EMIT], env=environment, cwd=ROOT, capture_output=True, text=True,
                              check=True).stdout

    assert len({emitted(seed) for seed in (0, 1)}) == 1
