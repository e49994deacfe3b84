"""The accounting hook: compiled from ``hook.c`` for this machine once, or the same in Python where no compiler is.

Both work on the records of ``layout`` and give the same counts; the compiled one is about a hundred times faster.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ncpc.cores.toolchain import build_host_library, find_compiler
from ncpc.errors import NcpcError
from ncpc.sim.layout import (
    FIX_EXECUTED,
    FIX_SIGNS_DIFFER,
    FIX_ZERO_DIVISOR,
    ON_ADDRESS,
    CostRecord,
    FixHook,
    FixRecord,
    LabelHook,
    MachineRecord,
    WatchRecord,
)


@dataclass(frozen=True, eq=False)
class Hook:
    """Callbacks for the emulator (C function pointers), and what opens and closes the count of one call."""

    kind: str
    on_block: Any
    on_fix: Any
    on_label: Any
    on_watch: Any
    start: Callable[[MachineRecord], None]
    finish: Callable[[MachineRecord], None]


def load_hook(kind: str = "auto") -> Hook:
    """The hook: ``c``, ``python``, or ``auto``, the compiled one if a compiler for this machine can be had."""
    if kind == "python":
        return python_hook()
    try:
        return compiled_hook()
    except NcpcError:
        if kind == "c":
            raise
        return python_hook()


def compiled_hook() -> Hook:
    """The compiled hook, built into the user's cache on first use. Raises MissingTool or BuildFailed."""
    library = _library()
    return Hook(
        "c",
        library.ncpc_on_block,
        library.ncpc_on_fix,
        library.ncpc_on_label,
        library.ncpc_on_watch,
        lambda machine: library.ncpc_start(ctypes.byref(machine)),
        lambda machine: library.ncpc_finish(ctypes.byref(machine)),
    )


def python_hook() -> Hook:
    """The hook in Python."""
    on_block, on_fix, on_label, on_watch = map(ON_ADDRESS, (_on_block, _on_fix, _on_label, _on_watch))
    return Hook("python", on_block, on_fix, on_label, on_watch, _start, _finish)


def cache_folder() -> Path:
    """Where built helpers are kept: ``$XDG_CACHE_HOME/ncpc`` or ``~/.cache/ncpc``."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ncpc"


def _library() -> ctypes.CDLL:
    """From the cache; from a folder of its own where that cannot be written: read-only, full, or no home at all."""
    try:
        return ctypes.CDLL(str(_build(cache_folder())))
    except (OSError, RuntimeError):
        with tempfile.TemporaryDirectory(prefix="ncpc-") as folder:
            return ctypes.CDLL(str(_build(Path(folder))))


def _build(folder: Path) -> Path:
    source = (files(__package__) / "hook.c").read_bytes()
    key = hashlib.sha256(source + find_compiler(None).version.encode()).hexdigest()[:16]
    path = folder / f"hook-{key}.so"
    if not path.exists():
        _store(path, build_host_library({"hook.c": source}))
    return path


def _store(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)


def _as(record: Any, pointer: int) -> Any:
    return ctypes.cast(pointer, ctypes.POINTER(record)).contents


def _add(total: CostRecord, instructions: int, lower: int, upper: int) -> None:
    total.instructions += instructions
    total.lower += lower
    total.upper += upper


def _leave(m: MachineRecord, taken: bool) -> None:
    if m.previous < 0:
        return
    b = m.blocks[m.previous]
    if taken:
        b.takens += 1
        _add(m.now, b.instructions, b.taken_lower, b.taken_upper)
    else:
        b.falls += 1
        _add(m.now, b.instructions, b.fall_lower, b.fall_upper)


def _find(m: MachineRecord, address: int, size: int) -> int:
    at = (address - m.code_start) >> 1
    if not 0 <= at < m.code_halfwords:
        return -1
    found = int(m.index[at])
    stale = found < 0 or m.blocks[found].size != size
    return int(m.decode(address, size)) if stale else found


def _on_block(engine: int, address: int, size: int, user: int) -> None:
    m = _as(MachineRecord, user)
    if address == m.exit_address:
        return
    before = m.blocks[m.previous] if m.previous >= 0 else None
    taken = before is not None and before.start + before.size != address
    _leave(m, taken)
    m.previous = _find(m, address, size)
    if m.previous < 0 or m.now.instructions > m.limit:
        m.timed_out = int(m.previous >= 0)
        m.stop(engine)
        return
    m.through(m.previous, m.jumped if taken else m.passed)
    if taken:
        b = m.blocks[m.previous]
        b.entries += 1
        _add(m.now, 0, b.entry_lower, b.entry_upper)


def _passes(condition: int, flags: int) -> bool:
    n, z, c, v = (bool(flags >> bit & 1) for bit in (31, 30, 29, 28))
    holds = (z, c, n, v, c and not z, n == v, n == v and not z)[condition >> 1]
    return holds != bool(condition & 1)


def _register(m: MachineRecord, number: int) -> int:
    value = ctypes.c_uint32(0)
    m.read_register(m.engine, number, ctypes.cast(ctypes.byref(value), ctypes.c_void_p))
    return value.value


def _executes(m: MachineRecord, condition: int) -> bool:
    return condition > 13 or _passes(condition, _register(m, m.flags_register))


def _applies(m: MachineRecord, f: FixRecord) -> bool:
    executed = _executes(m, f.condition)
    if f.kind == FIX_ZERO_DIVISOR:
        return executed and _register(m, f.register_b) == 0
    if f.kind == FIX_SIGNS_DIFFER:
        return executed and (_register(m, f.register_a) ^ _register(m, f.register_b)) >> 31 != 0
    return f.kind == FIX_EXECUTED and executed


def _on_fix(engine: int, address: int, size: int, user: int) -> None:
    hook = _as(FixHook, user)
    m, f = hook.machine.contents, hook.fix.contents
    if f.armed and _applies(m, f):
        f.hits += 1
        _add(m.now, 0, f.lower, f.upper)


def _on_watch(engine: int, address: int, size: int, user: int) -> None:
    w = _as(WatchRecord, user)
    m = w.machine.contents
    if m.misaligned_size or not _executes(m, w.condition):
        return
    base, index = (0 if number < 0 else _register(m, number) for number in (w.base, w.index))
    at = (w.offset + base + (index << w.shift)) & 0xFFFFFFFF
    if at % w.size:
        m.misaligned, m.misaligned_size, m.misaligned_by = at, w.size, address
        m.stop(m.engine)


def _close_interval(m: MachineRecord, now: tuple[int, int, int]) -> None:
    _add(m.neurons[m.slot], now[0] - m.mark.instructions, now[1] - m.mark.lower, now[2] - m.mark.upper)
    m.mark = CostRecord(*now, 0)


def _on_label(engine: int, address: int, size: int, user: int) -> None:
    hook = _as(LabelHook, user)
    m = hook.machine.contents
    if m.previous < 0 or (hook.opens and m.paired and m.slot != m.neuron_count):
        return
    at = m.blocks[m.previous].labels
    while at >= 0 and m.label_costs[at].label != hook.label:
        at = m.label_costs[at].next
    cost = m.label_costs[at] if at >= 0 else CostRecord()
    _close_interval(m, (m.now.instructions + cost.instructions, m.now.lower + cost.lower, m.now.upper + cost.upper))
    m.slot = m.next_neuron % m.neuron_count if hook.opens else m.neuron_count
    m.next_neuron += hook.opens
    m.neurons[m.slot].entries += 1


def _start(m: MachineRecord) -> None:
    m.now, m.mark = CostRecord(), CostRecord()
    m.previous, m.next_neuron, m.slot, m.timed_out, m.misaligned_size = -1, 0, m.neuron_count, 0, 0


def _finish(m: MachineRecord) -> None:
    _leave(m, True)
    m.previous = -1
    _close_interval(m, (m.now.instructions, m.now.lower, m.now.upper))
