"""The emitted C away from this machine's habits: big-endian processors, several threads, under valgrind."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores.toolchain import WARNINGS, find_compiler
from ncpc.ir.program import Program
from ncpc.semantics import ports
from ncpc.semantics.run import run
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.c_programs import Instance, load, program_of, small_policy, tame

Tool = Callable[..., str]
SCHEMES = ("int16", "float32")
BIG_ENDIAN = {"powerpc-linux-none": "qemu-ppc", "s390x-linux-none": "qemu-s390x"}
"""What zig calls the machine, and what runs its programs."""

SELF_TEST = """
#include "net.h"
/* Without a C library, which would first have to be built for the machine: exit is Linux's system call 1 on both. */
void _start(void);
void _start(void)
{
    int wrong = net_self_test();
#if defined(__s390x__)
    register long code __asm__("r2") = wrong > 100 ? 100 : wrong;
    __asm__ volatile("svc 1" : : "r"(code));
#else
    register long code __asm__("r3") = wrong > 100 ? 100 : wrong;
    register long call __asm__("r0") = 1;
    __asm__ volatile("sc" : : "r"(code), "r"(call));
#endif
    for (;;) {
    }
}
"""

DRIVER = """
#include <stdlib.h>
#include "net.h"
/* Instance, input, output and saved state on the heap, just as large as they are to be, and never set by this file. */
int main(void)
{
    net_t *s = malloc(sizeof *s), *other = malloc(sizeof *other);
    net_state_t *kept = malloc(sizeof *kept);
    X_T *x = malloc(NET_INPUTS * sizeof *x);
    Y_T *y = malloc(NET_OUTPUTS * sizeof *y);
    double sum = 0.0;
    uint32_t status = 0u;
    if (!s || !other || !kept || !x || !y) {
        return 2;
    }
    net_init(s);
    net_init(other);
    for (int t = 0; t < 40; t++) {
        for (int i = 0; i < NET_INPUTS; i++) {
            x[i] = (X_T)((t * 37 + i * 11) % 200 * SCALE);
        }
        status |= net_step(s, x, y);
        if (t % 8 == 7) {
            net_save(s, kept);
            status |= net_restore(other, kept);
            net_reset(s);
        }
        status |= net_step(other, x, y);
        for (int i = 0; i < NET_OUTPUTS; i++) {
            sum += (double)y[i];
        }
    }
    int wrong = net_self_test() + (sum > 1e30) + (status > 31u);
    free(y);
    free(x);
    free(kept);
    free(other);
    free(s);
    return wrong;
}
"""


def executable(program: Program, main: str, folder: Path, *flags: str, edit: Callable[[str], str] = str) -> Path:
    """``main`` and the program's C, compiled by zig."""
    for name, text in emit_c(interface_of(program)).items():
        (folder / name).write_text(edit(text.decode()))
    (folder / "main.c").write_text(main)
    command = [*find_compiler(None).command, "-std=c99", "-O2", "-ffp-contract=off", *WARNINGS, *flags]
    subprocess.run([*command, "net.c", "main.c", "-o", "net"], cwd=folder, check=True, capture_output=True)
    return folder / "net"


@pytest.mark.parametrize("machine", BIG_ENDIAN)
@pytest.mark.parametrize("scheme", [*SCHEMES, pytest.param("int8", marks=pytest.mark.slow)])
def test_the_self_test_passes_on_big_endian_machines(
    scheme: str, machine: str, tmp_path: Path, require_tool: Tool, require_program: Tool
) -> None:
    require_tool("ziglang")
    emulator, program = require_program(BIG_ENDIAN[machine]), program_of(small_policy(6), scheme, "runtime")
    flags = ("-target", machine, "-nostdlib", "-ffreestanding", "-static", "-fno-sanitize=undefined", "memory.c")
    (tmp_path / "memory.c").write_bytes((files("ncpc.cores") / "runtime" / "memory.c").read_bytes())
    right = executable(program, SELF_TEST, tmp_path, *flags)
    assert right.read_bytes()[5] == 2, "an ELF for a big-endian machine"
    assert subprocess.run([emulator, str(right)], check=False).returncode == 0

    wrong = executable(program, SELF_TEST, tmp_path, *flags, edit=lambda text: text.replace("unfold < 6", "unfold < 5"))
    assert subprocess.run([emulator, str(wrong)], check=False).returncode > 0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_two_threads_step_two_instances(scheme: str, tmp_path: Path, require_tool: Tool) -> None:
    """The C has no state of its own: instances in different threads (ctypes lets go of the interpreter's lock) give
    what each gives alone.
    """
    require_tool("ziglang")
    program = program_of(small_policy(7), scheme, "fixed")
    data = tame(program, 5, steps=1000)
    expected, raw = run(program, data), ports.encode(program.x, data.x)
    shared = load(program, tmp_path)
    instances = [Instance(shared, interface_of(program)) for _ in range(2)]
    found: list[list[np.ndarray]] = [[], []]
    start = threading.Barrier(2)

    def step(k: int) -> None:
        start.wait()
        for row in raw[k]:
            found[k].append(instances[k].step(row)[0])

    threads = [threading.Thread(target=step, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(ports.bits(np.array(found)), expected.raw_y)


def test_the_emitted_c_has_no_writable_data() -> None:
    """What two threads could meet in does not exist."""
    for scheme in SCHEMES:
        text = emit_c(interface_of(program_of(small_policy(7), scheme, "fixed")))["net.c"].decode()
        assert not [line for line in text.splitlines() if line.lstrip().startswith("static") and
                    "const" not in line and "(" not in line]


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_valgrind_finds_nothing(scheme: str, tmp_path: Path, require_tool: Tool, require_program: Tool) -> None:
    """No read of what was not written, none beyond an array on the heap."""
    require_tool("ziglang")
    valgrind, program = require_program("valgrind"), program_of(small_policy(6), scheme, "fixed")
    face = interface_of(program)
    numbers = (f"-DX_T={face.x.name}", f"-DY_T={face.y.name}", f"-DNET_INPUTS={face.inputs}",
               f"-DNET_OUTPUTS={face.outputs}", f"-DSCALE={'0.01f' if scheme == 'float32' else '150'}")
    machine = ("-g", "-target", "x86_64-linux-gnu", "-mcpu=x86_64")
    flags = (*machine, "-fno-sanitize=undefined", "-Wno-conversion", *numbers)
    check = [valgrind, "-q", "--error-exitcode=99", "--leak-check=full", "--track-origins=yes"]
    right = executable(program, DRIVER, tmp_path, *flags)
    done = subprocess.run([*check, str(right)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

    def forgets(text: str) -> str:
        head = "_reset(net_t *s)\n{\n    for (int i = 0; i < "
        return text.replace(f"{head}8", f"{head}7")

    wrong = executable(program, DRIVER, tmp_path, *flags, edit=forgets)
    done = subprocess.run([*check, str(wrong)], capture_output=True, text=True, check=False)
    assert done.returncode == 99
    assert "uninitialised" in done.stderr
