"""A program loaded on an emulated core: the only module that imports unicorn.

Only the worker process (``ncpc.sim.worker``) uses it: the emulator's library is under the GPL, version 2, so it lives
in a process of its own.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.core import Core
from ncpc.cores.elf import Image, read_elf
from ncpc.errors import BadInput, MissingTool
from ncpc.sim.accounting import Account, function_name, open_account, restore, snapshot
from ncpc.sim.alignment import low
from ncpc.sim.hook import Hook, load_hook
from ncpc.sim.layout import READ_REGISTER, STOP, FixHook, LabelHook, WatchRecord
from ncpc.sim.plan import CallInterface
from ncpc.sim.timing_tables import timing_model

PAINT = 0xA5
"""Byte that the stack and everything the program should write is filled with beforehand."""
CALL_LIMIT = 2_000_000_000
"""Most instructions of one call: a program that does not return is stopped there."""
PREFETCH_ABORT = 3
"""The emulator's number of the trap that an Arm core takes when it is to execute where its memory map forbids it."""
STACK_GUARD = 16
"""Painted bytes that must survive at the low end of the stack."""


@dataclass(eq=False)
class Device:
    """A loaded program: emulator, its RAM as bytes, the account, and where the harness keeps its buffers.

    ``kept`` is a saved state.
    """

    engine: Any
    core: Core
    image: Image
    account: Account
    hook: Hook
    interface: CallInterface
    ram: Any
    memory: NDArray[np.uint8]
    instance: int
    x: int
    y: int
    kept: int
    stack_floor: int
    pending: dict[str, Any] = field(default_factory=dict)
    keep: list[Any] = field(default_factory=list)
    repeated: int = 0
    """Calls that were made again, to look at addresses that may be misaligned."""


def unicorn_module() -> Any:
    """The emulator's binding. Raises MissingTool."""
    try:
        import unicorn
    except ImportError:
        raise MissingTool("the simulator needs unicorn: pip install 'ncpc[sim]'") from None
    return unicorn


def _library() -> Any:
    """The emulator's C library."""
    return sys.modules[unicorn_module().Uc.__module__].uclib


def open_device(elf: bytes, core: Core, interface: CallInterface, hook_kind: str = "auto") -> Device:
    """Load ``elf`` on an emulated ``core``."""
    image = read_elf(elf)
    if image.machine != core.elf_machine:
        raise BadInput(f"the ELF is for {image.machine}, not for core '{core.name}' ({core.elf_machine})")
    hook, engine = load_hook(hook_kind), _engine(core)
    ram = _map_memories(engine, core)
    _load(engine, image, core)
    labels = _labels(image, interface)
    account = open_account(image, core.arch, timing_model(core.timing_table), labels, interface.neuron_count)
    account.machine.limit = CALL_LIMIT
    account.register_id = lambda number: emulator_register(core.arch, number)
    places = _buffers(image, core, interface)
    memory = np.frombuffer(ram, np.uint8)
    device = Device(engine, core, image, account, hook, interface, ram, memory, *places)
    _connect(device)
    _paint(device)
    return device


def _engine(core: Core) -> Any:
    uc = unicorn_module()
    if core.arch == "arm":
        engine = uc.Uc(uc.UC_ARCH_ARM, uc.UC_MODE_THUMB)  # UC_MODE_MCLASS would make a Cortex-M33 of every model
        engine.ctl_set_cpu_model(_arm_model(core.emulator_cpu))
    else:
        engine = uc.Uc(uc.UC_ARCH_RISCV, uc.UC_MODE_RISCV32)
    return engine


def _arm_model(name: str) -> int:
    from unicorn import arm_const

    key = "UC_CPU_ARM_" + name.upper().replace("-", "_")
    if not hasattr(arm_const, key):
        raise BadInput(f"core description names the unknown emulator CPU '{name}'")
    return int(getattr(arm_const, key))


def exit_address(arch: str) -> int:
    """Where a called function returns to. It must be executable in the architecture's default memory map."""
    return 0x1FFFF000 if arch == "arm" else 0x7FFFF000


def _map_memories(engine: Any, core: Core) -> Any:
    uc = unicorn_module()
    engine.mem_map(core.flash.origin, core.flash.size, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
    engine.mem_map(exit_address(core.arch), 0x1000, uc.UC_PROT_READ | uc.UC_PROT_EXEC)
    ram = (ctypes.c_uint8 * core.ram.size)()
    engine.mem_map_ptr(core.ram.origin, core.ram.size, uc.UC_PROT_READ | uc.UC_PROT_WRITE, ctypes.addressof(ram))
    return ram


def _load(engine: Any, image: Image, core: Core) -> None:
    for segment in image.segments:
        for address in {segment.address, segment.load_address} if segment.data else ():
            end = address + len(segment.data)
            if not any(r.origin <= address and end <= r.end for r in (core.flash, core.ram)):
                raise BadInput(f"the ELF has data at 0x{address:08x}, outside the memories of {core.name}")
            engine.mem_write(address, segment.data)


def _labels(image: Image, interface: CallInterface) -> list[tuple[int, bool]]:
    if interface.neuron_label is None or interface.neuron_count == 0:
        return []
    opens = [(address, True) for address in image.labels(interface.neuron_label)]
    if not opens:
        raise BadInput(f"the ELF has no label '{interface.neuron_label}': keep it when linking, or leave it out")
    return [(a, False) for a in (image.labels(interface.neuron_end) if interface.neuron_end else ())] + opens


def _buffers(image: Image, core: Core, interface: CallInterface) -> tuple[int, int, int, int, int]:
    """Addresses of instance, x, y, a saved state, and the lowest one the stack may reach: behind the static RAM."""
    used = [s.address + s.size for s in image.sections if core.ram.origin <= s.address < core.ram.end]
    at = (max(used, default=core.ram.origin) + 15) & ~15
    places = []
    kept = interface.struct_bytes if interface.save or interface.restore else 0
    for size in (interface.struct_bytes, interface.x_bytes, interface.y_bytes, kept):
        places.append(at)
        at = (at + size + 15) & ~15
    if at + 2 * STACK_GUARD > core.ram.end:
        raise BadInput(
            f"{core.name} has {core.ram.size} bytes of RAM; static data and instance need {at - core.ram.origin}"
        )
    if interface.struct_symbol is not None:
        places[0] = image.address(interface.struct_symbol)
    return places[0], places[1], places[2], places[3], at


def _connect(device: Device) -> None:
    """Give the hook what it calls, and register it for blocks, corrections, labels and faults."""
    uc, library, machine = unicorn_module(), _library(), device.account.machine
    machine.engine = device.engine._uch
    machine.read_register = ctypes.cast(library.uc_reg_read, READ_REGISTER)
    machine.stop = ctypes.cast(library.uc_emu_stop, STOP)
    machine.exit_address = exit_address(device.core.arch)
    machine.flags_register = _register_ids(device.core.arch)["flags"]
    _add_hook(device, uc.UC_HOOK_BLOCK, device.hook.on_block, machine, (1, 0))
    for number, (address, opens) in enumerate(device.account.labels):
        label = LabelHook(ctypes.pointer(machine), number, int(opens))
        _add_hook(device, uc.UC_HOOK_CODE, device.hook.on_label, label, (address, address))
    for fix in device.account.fixes.values():
        hook = FixHook(ctypes.pointer(machine), ctypes.pointer(fix))
        _add_hook(device, uc.UC_HOOK_CODE, device.hook.on_fix, hook, (fix.address, fix.address))
    device.engine.hook_add(uc.UC_HOOK_MEM_INVALID, _on_fault, device)
    device.engine.hook_add(uc.UC_HOOK_INTR, _on_trap, device)


def _add_hook(device: Device, kind: int, callback: Any, user: Any, span: tuple[int, int]) -> None:
    handle = ctypes.c_size_t()
    device.keep += [handle, callback, user]
    code = _library().uc_hook_add(
        ctypes.c_void_p(device.account.machine.engine),
        ctypes.byref(handle),
        kind,
        ctypes.cast(callback, ctypes.c_void_p),
        ctypes.byref(user),
        ctypes.c_uint64(span[0]),
        ctypes.c_uint64(span[1]),
    )
    if code != 0:
        raise BadInput(f"the emulator refused a hook (code {code})")


def _on_fault(engine: Any, access: int, address: int, size: int, value: int, device: Device) -> bool:
    uc = unicorn_module()
    kinds = {
        uc.UC_MEM_READ_UNMAPPED: "read",
        uc.UC_MEM_WRITE_UNMAPPED: "write",
        uc.UC_MEM_FETCH_UNMAPPED: "fetch",
    }
    device.pending = {"kind": kinds.get(access, "protected"), "address": address & 0xFFFFFFFF, "size": size}
    return False


def _on_trap(engine: Any, number: int, device: Device) -> None:
    fetch = device.core.arch == "arm" and number == PREFETCH_ABORT
    device.pending = device.pending or {"kind": "fetch" if fetch else "exception", "address": 0, "size": 0}
    engine.emu_stop()


def _register_ids(arch: str) -> dict[str, int]:
    """The emulator's numbers of stack pointer, return address, program counter, flags and argument registers."""
    if arch == "arm":
        from unicorn import arm_const as a

        names = {"sp": a.UC_ARM_REG_SP, "ra": a.UC_ARM_REG_LR, "pc": a.UC_ARM_REG_PC, "flags": a.UC_ARM_REG_CPSR}
        names["f0"] = a.UC_ARM_REG_S0
        return {**names, **{f"a{k}": a.UC_ARM_REG_R0 + k for k in range(4)}}
    from unicorn import riscv_const as r

    names = {"sp": r.UC_RISCV_REG_X2, "ra": r.UC_RISCV_REG_X1, "pc": r.UC_RISCV_REG_PC, "flags": r.UC_RISCV_REG_X0}
    names["f0"] = r.UC_RISCV_REG_F10
    return {**names, **{f"a{k}": r.UC_RISCV_REG_X10 + k for k in range(4)}}


def emulator_register(arch: str, number: int) -> int:
    """The emulator's number of core register ``number``."""
    if arch == "arm":
        from unicorn import arm_const as a

        special = {13: a.UC_ARM_REG_SP, 14: a.UC_ARM_REG_LR, 15: a.UC_ARM_REG_PC}
        return int(special.get(number, a.UC_ARM_REG_R0 + number))
    from unicorn import riscv_const as r

    return int(r.UC_RISCV_REG_X0) + number


def watched_call(device: Device, function: str, arguments: tuple[int, ...], floating: int | None = None) -> Call:
    """``call``; where it met an access that is not known to be aligned, made again with that address looked at.

    The tables of cycles hold for aligned accesses only: a misaligned one is a fault. The emulator's own hooks on memory
    are no help: under one, a return whose condition holds leaves that condition on what is executed next.
    """
    used = slice(0, device.stack_floor - device.core.ram.origin)
    before = device.memory[used].copy()
    done = call(device, function, arguments, floating)
    if not device.account.doubtful or done.fault is not None:
        return done
    counts = snapshot(device.account)
    _watch(device)
    device.repeated += 1
    device.memory[used] = before
    fault = call(device, function, arguments, floating).fault
    restore(device.account, counts)
    return replace(done, fault=fault)


def _watch(device: Device) -> None:
    """From now on look at the addresses of the accesses that may be misaligned."""
    account = device.account
    for access in account.doubtful.values():
        base, index = (-1 if r is None else account.register_id(r) for r in (access.base, access.index))
        watch = WatchRecord(ctypes.pointer(account.machine), access.condition, access.offset & 0xFFFFFFFF, base, index,
                            access.shift, access.size)
        _add_hook(device, unicorn_module().UC_HOOK_CODE, device.hook.on_watch, watch, (access.address, access.address))
    account.watched |= account.doubtful.keys()
    account.doubtful.clear()
    device.engine.ctl_flush_tb()  # code translated before a hook was added does not call it


@dataclass(frozen=True)
class Call:
    """What a call of a C function gave: its return value, counts, and what stopped it, if something did."""

    value: int
    instructions: int
    lower: int
    upper: int
    fault: dict[str, Any] | None


def call(device: Device, function: str, arguments: tuple[int, ...], floating: int | None = None) -> Call:
    """Call ``function`` by the architecture's convention on a fresh stack; ``floating`` is a float argument's bits."""
    uc = unicorn_module()
    arch, engine, machine = device.core.arch, device.engine, device.account.machine
    ids, thumb = _register_ids(arch), int(arch == "arm")
    engine.reg_write(ids["sp"], device.core.ram.end)
    engine.reg_write(ids["ra"], exit_address(arch) | thumb)
    for k, argument in enumerate(arguments):
        engine.reg_write(ids[f"a{k}"], argument)
    if floating is not None:
        engine.reg_write(ids["f0"], floating)
    device.pending = {}
    device.hook.start(machine)
    machine.passed = machine.jumped = _entry(device, arguments)
    try:
        engine.emu_start(device.image.address(function) | thumb, exit_address(arch))
    except uc.UcError as error:
        kind = "invalid" if error.errno == uc.UC_ERR_INSN_INVALID else "exception"
        device.pending = device.pending or {"kind": kind, "address": 0, "size": 0}
    pc = int(engine.reg_read(ids["pc"]))
    device.hook.finish(machine)
    fault = _fault(device, pc)
    now = machine.now
    return Call(int(engine.reg_read(ids["a0"])) & 0xFFFFFFFF, now.instructions, now.lower, now.upper, fault)


def _entry(device: Device, arguments: tuple[int, ...]) -> int:
    """What is known of low bits at the entry of a function: those of the buffers' addresses."""
    assert device.account.alignment is not None
    places = (device.instance, device.x, device.y, device.kept)
    first = 0 if device.core.arch == "arm" else 10
    return device.account.alignment.entry({first + k: low(a) for k, a in enumerate(arguments) if a in places})


def _fault(device: Device, pc: int) -> dict[str, Any] | None:
    if device.account.error is not None:
        raise device.account.error
    found = device.pending
    machine = device.account.machine
    if machine.misaligned_size:
        found = {"kind": "misaligned", "address": int(machine.misaligned), "size": int(machine.misaligned_size)}
        pc = int(machine.misaligned_by)  # under a condition the emulator does not stop at once
    if device.account.undecodable:
        device.account.undecodable = False
        found = {"kind": "invalid", "address": pc, "size": 0}
    if machine.timed_out:
        found = {"kind": "timeout", "address": pc, "size": 0}
    if not found and bool((device.memory[_guard(device)] != PAINT).any()):
        found = {"kind": "stack", "address": device.stack_floor, "size": STACK_GUARD}
    if not found:
        return None
    if found["kind"] == "fetch":
        found = {**found, "address": pc}
    return {**found, "pc": pc, "function": function_name(device.account, pc)}


def _guard(device: Device) -> slice:
    floor = device.stack_floor - device.core.ram.origin
    return slice(floor, floor + STACK_GUARD)


def _paint(device: Device) -> None:
    """Fill the stack and everything that the program is to write."""
    start = min(device.instance, device.x) - device.core.ram.origin
    device.memory[start : start + device.interface.struct_bytes] = PAINT
    device.memory[device.x - device.core.ram.origin :] = PAINT


def stack_depth(device: Device) -> int:
    """Bytes of stack used so far at its deepest, in whole words."""
    stack = device.memory[device.stack_floor - device.core.ram.origin :]
    touched = np.flatnonzero(stack != PAINT)
    return 0 if touched.size == 0 else (len(stack) - int(touched[0]) + 3) & ~3


def emulator_version() -> str:
    """The emulator's name and version."""
    from importlib.metadata import version

    return f"unicorn {version('unicorn')}"
