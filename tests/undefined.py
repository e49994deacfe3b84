"""The emitted C under UBSan, at and beyond the corners of inputs, timespans and restored states.

The program runs as a process of its own: what is undefined ends it with a line that says what and where. In integers
its outputs, states and status bits are those of the semantics, which raise where a number does not fit its C type.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.cores.toolchain import WARNINGS, find_compiler
from ncpc.ir.program import Port, Program
from ncpc.ir.types import Fixed
from ncpc.semantics import ports
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import Executor
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import Interface, StateField, interface_of, numpy_type
from ncpc.targets.c.numbers import CType

FLAGS_OF_UBSAN = ("-std=c99", "-O1", "-ffp-contract=off", "-fsanitize=undefined,float-cast-overflow",
                  "-fno-sanitize-recover=all")
STEP, RESET, RESTORE = 0, 1, 2
MAIN = """
#include <stdio.h>
#include <string.h>
#define {M}_WITH_FLOAT
#include "{n}.c"

static void converted(const float *numbers, int count, const {y} *y)
{{
    volatile float sum = 0.0f;
{convert}    (void)numbers;
    (void)count;
    (void)y;
}}

int main(void)
{{
    static {n}_t s;
    static {n}_state_t kept;
    static float numbers[{most}];
    memset(&s, 0xA5, sizeof s);
    {n}_init(&s);
    if ({n}_self_test() != 0) return 3;
    for (int what = getchar(); what != EOF; what = getchar()) {{
        {x} x[{inputs}];
        {y} y[{outputs}];
        uint32_t status[2] = {{0, 0}};
        if (what == 1) {n}_reset(&s);
        if (what == 2) {{
            if (fread(&kept, sizeof kept, 1, stdin) != 1) return 4;
            status[0] = {n}_restore(&s, &kept);
        }}
        if (fread(x, sizeof x, 1, stdin) != 1 || fread(numbers, sizeof numbers, 1, stdin) != 1) return 4;
{dt}        status[1] = {n}_step(&s, x, {give}y);
        {n}_save(&s, &kept);
        converted(numbers, {most}, y);
        fwrite(status, sizeof status, 1, stdout);
        fwrite(y, sizeof y, 1, stdout);
        fwrite(&kept, sizeof kept, 1, stdout);
    }}
    return 0;
}}
"""
READ_DT = "        {n}_dt_t dt;\n        if (fread(&dt, sizeof dt, 1, stdin) != 1) return 4;\n"
CONVERT = """    for (int i = 0; i < count; i++) sum = sum + (float){n}_x_from_float(i % {inputs}, numbers[i]);
    for (int i = 0; i < {outputs}; i++) sum = sum + {n}_y_to_float(i, y[i]);
"""
FLOATS = np.array([np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0, 1e9, -1e9, 0.5], np.float32)


@dataclass
class Run:
    """A program, the steps it is to make, and where it is built. Corners are drawn by ``rng``."""

    program: Program
    folder: Path
    rng: np.random.Generator
    steps: int = 60
    source: Callable[[str], str] = lambda text: text
    face: Interface = field(init=False)

    def __post_init__(self) -> None:
        self.face = interface_of(self.program)


def run_under_ubsan(run: Run) -> str:
    """What UBSan says of all steps, "" where nothing is undefined; results in integers must be the semantics'."""
    face = run.face
    script = [_step(run, t) for t in range(run.steps)]
    done = subprocess.run([str(_built(run))], input=b"".join(_bytes(face, step) for step in script),
                          capture_output=True, check=False)
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        return next((line for line in said.splitlines() if line.strip()), f"exit code {done.returncode}")
    if run.program.y.fracs is not None:
        _compare(run, script, done.stdout)
    return ""


def _built(run: Run) -> Path:
    face, compiler = run.face, find_compiler(None)
    for name, text in emit_c(interface_of(run.program)).items():
        (run.folder / name).write_text(run.source(text.decode()) if name.endswith(".c") else text.decode())
    words: dict[str, Any] = {"n": face.name, "M": face.macro, "x": face.x.name, "y": face.y.name, "most": len(FLOATS),
                             "inputs": face.inputs, "outputs": face.outputs}
    words["convert"] = CONVERT.format(**words) if run.program.x.fracs is not None else "    (void)sum;\n"
    words["dt"], words["give"] = (READ_DT.format(**words), "dt, ") if face.dt else ("", "")
    (run.folder / "main.c").write_text(MAIN.format(**words))
    command = [*compiler.command, *FLAGS_OF_UBSAN, *(w for w in WARNINGS if "error" not in w), "main.c", "-o", "main"]
    done = subprocess.run(command, cwd=run.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return run.folder / "main"


Step = Mapping[str, Any]


def _step(run: Run, t: int) -> Step:
    """``what`` (``RESET`` first), ``x``, ``dt``, ``floats``, and the state to restore."""
    program, rng = run.program, run.rng
    what = RESET if t == 0 else int(rng.choice([STEP] * 6 + [RESET] + [RESTORE] * 2 * bool(run.face.states)))
    states = [_state(s, rng) for s in run.face.states]
    dt = None if program.dt is None else _numbers(program.dt, rng, t)[0]
    return {"what": what, "x": _numbers(program.x, rng, t // 3), "dt": dt, "states": states,
            "floats": rng.permutation(FLOATS)}


def _numbers(port: Port, rng: np.random.Generator, t: int) -> np.ndarray:
    """Every channel at an end of its range, or of its type, or between; every few steps all at the same end."""
    bounded = np.where(np.isfinite(port.range), port.range, np.sign(port.range) * 1e3)
    lo, hi = ports.encode(port, bounded.T)
    kind = port.value.type
    if not isinstance(kind, Fixed):
        wild = rng.choice(FLOATS, len(lo))
        return np.select([rng.random(len(lo)) < 0.3, rng.random(len(lo)) < 0.5], [wild, lo], hi).astype(np.float32)
    ends = [lo, hi, np.full_like(lo, kind.lo), np.full_like(lo, kind.hi), np.zeros_like(lo) + max(kind.lo, -1)]
    if t % 4 < 3:
        return ends[(t % 4 + t // 4) % len(ends)]
    mixed = rng.integers(np.minimum(lo, hi), np.maximum(lo, hi) + 1)
    choice = rng.integers(0, len(ends) + 3, len(lo))
    return np.choose(np.minimum(choice, len(ends)), [*ends, mixed])


def _state(state: StateField, rng: np.random.Generator) -> np.ndarray:
    """Numbers in the box, at its corners, and at those of the type."""
    if state.ctype.name == "float":
        return rng.choice(np.concatenate([FLOATS, rng.normal(size=10)]), state.size).astype(np.float32)
    kind, box = np.iinfo(numpy_type(state.ctype)), np.asarray(state.box, np.int64)
    ends = [box[:, 0], box[:, 1], np.full(state.size, kind.min), np.full(state.size, kind.max),
            rng.integers(box[:, 0], box[:, 1] + 1)]
    return ends[int(rng.integers(0, 2))] if rng.random() < 0.5 else np.choose(rng.integers(0, 5, state.size), ends)


def _bytes(face: Interface, step: Step) -> bytes:
    parts = [bytes([step["what"]])]
    if step["what"] == RESTORE:
        record = np.zeros((), _record(face))
        for state, numbers in zip(face.states, step["states"], strict=True):
            record[state.name] = numbers
        parts.append(record.tobytes())
    parts += [_raw(step["x"], face.x), step["floats"].astype("<f4").tobytes()]
    return b"".join([*parts, _raw(step["dt"], face.dt) if face.dt else b""])


def _raw(numbers: Any, ctype: CType) -> bytes:
    return np.asarray(numbers).astype(numpy_type(ctype)).tobytes()


def _record(face: Interface) -> np.dtype[Any]:
    if not face.states:
        return np.dtype([("none", "i1")])
    return np.dtype([(s.name, numpy_type(s.ctype), (s.size,)) for s in face.states], align=True)


def _compare(run: Run, script: Sequence[Step], output: bytes) -> None:
    """Every output, state and status bit is what the semantics say, and every state is in its box."""
    face, machine = run.face, Executor(run.program)
    record = _record(face)
    kind = [("status", "<u4", (2,)), ("y", numpy_type(face.y), (face.outputs,)), ("s", "V1", (record.itemsize,))]
    rows = np.frombuffer(output, np.dtype(kind))
    assert len(rows) == len(script)
    for t, (step, row) in enumerate(zip(script, rows, strict=True)):
        if step["what"] == RESET:
            machine.reset(1)
        clamped = step["what"] == RESTORE and _load(run, machine, step)
        y, after, flags = machine.step(step["x"][None], None if step["dt"] is None else np.asarray([step["dt"]]))
        got = np.frombuffer(row["s"].tobytes(), record)[0]
        assert row["status"].tolist() == [int(clamped) << FLAGS.index("state_clamped"), int(flags[0])], t
        np.testing.assert_array_equal(row["y"], np.broadcast_to(y, (1, face.outputs))[0], err_msg=f"step {t}")
        for state, numbers in zip(face.states, after, strict=True):
            flat = np.asarray(numbers).reshape(-1)
            np.testing.assert_array_equal(got[state.name].reshape(-1), flat, err_msg=f"step {t}")
            box = np.asarray(state.box)
            assert ((flat >= box[:, 0]) & (flat <= box[:, 1])).all(), f"step {t}: {state.name} left its box"


def _load(run: Run, machine: Executor, step: Step) -> bool:
    """The restored states, limited to their boxes; whether that changed any."""
    changed = False
    for field_, state, numbers in zip(run.face.states, run.program.states, step["states"], strict=True):
        box = np.asarray(field_.box)
        kept = np.clip(numbers, box[:, 0], box[:, 1])
        changed |= bool((kept != numbers).any())
        machine.load({state.inp.name: kept.reshape(1, *state.inp.shape)})
    return changed
