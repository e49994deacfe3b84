"""The cycle account of a program: blocks decoded once, corrections found beforehand, totals by function and neuron."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any

import numpy as np

from ncpc.cores.elf import CODE, Image, Symbol, function_at
from ncpc.errors import BadInput, Unsupported
from ncpc.sim.alignment import Access, Alignment
from ncpc.sim.decode import decode
from ncpc.sim.layout import (
    DECODE,
    FIX_EXECUTED,
    FIX_SIGNS_DIFFER,
    FIX_ZERO_DIVISOR,
    THROUGH,
    BlockRecord,
    CostRecord,
    FixRecord,
    KnownRecord,
    LabelCostRecord,
    MachineRecord,
)
from ncpc.sim.plan import Cost
from ncpc.sim.timing import ALWAYS, NONE, BlockCost, Correction, Cycles, Instruction, TimingModel, total

FIX_KINDS = {"zero-divisor": FIX_ZERO_DIVISOR, "signs-differ": FIX_SIGNS_DIFFER, "executed": FIX_EXECUTED}
KNOWN = 1 << 16
"""Slots of the table of what blocks make of what is known of low bits; a power of two."""
WINDOW = 20
"""Bytes that hold an IT instruction and the four it governs."""


@dataclass(eq=False)
class Account:
    """What the hook works on, and Python's side of it.

    ``machine`` is the shared record; ``functions`` are sorted by address; ``owner`` maps a block to its function's
    index (-1: none); ``labels`` are (address, opens a neuron) pairs and ``placed`` how many records they take;
    ``register_id`` turns a register's number into the emulator's; ``error`` keeps an exception raised in a callback;
    ``undecodable`` says that the run met an instruction that the disassembler does not know; ``governed`` holds the
    conditional instructions behind a block, for the emulator may end one between IT and what it governs; ``doubtful``
    are accesses that were met and may be misaligned, by address, ``watched`` those whose addresses are looked at.
    """

    image: Image
    arch: str
    model: TimingModel
    code: bytes
    machine: MachineRecord
    blocks: Any
    fixes: dict[tuple[int, str], FixRecord]
    labels: tuple[tuple[int, bool], ...]
    label_costs: Any
    functions: tuple[Symbol, ...]
    owner: list[int] = field(default_factory=list)
    placed: int = 0
    undecodable: bool = False
    governed: dict[int, Instruction] = field(default_factory=dict)
    register_id: Callable[[int], int] = int
    alignment: Alignment | None = None
    doubtful: dict[int, Access] = field(default_factory=dict)
    watched: set[int] = field(default_factory=set)
    error: BaseException | None = None
    keep: list[Any] = field(default_factory=list)


def open_account(
    image: Image, arch: str, model: TimingModel, labels: Sequence[tuple[int, bool]], neuron_count: int
) -> Account:
    """An account for ``image`` under ``model``.

    ``labels`` are (address, opens a neuron) pairs.
    """
    start, code = _code_range(image)
    capacity = len(code) // 2 + 1024
    index = (ctypes.c_int32 * (len(code) // 2 + 1))(*([-1] * (len(code) // 2 + 1)))
    blocks = (BlockRecord * capacity)()
    neurons = (CostRecord * (neuron_count + 1))()
    machine = MachineRecord(code_start=start, code_halfwords=len(code) // 2, neuron_count=neuron_count)
    machine.index, machine.blocks, machine.neurons = index, blocks, neurons
    fixes = {key: FixRecord(address=key[0]) for key in _candidates(code, start, arch, model)}
    label_costs = (LabelCostRecord * (64 * len(labels) + 1))()
    machine.label_costs = label_costs
    account = Account(image, arch, model, code, machine, blocks, fixes, tuple(labels), label_costs, image.functions)
    machine.decode = DECODE(lambda address, size: _decode_safely(account, address, size))
    alignment = account.alignment = Alignment(code, start, arch, account.governed)
    machine.through = THROUGH(lambda block, state: _through(account, alignment, block, state))
    known = (KnownRecord * KNOWN)()
    ctypes.memset(known, 0xFF, ctypes.sizeof(known))
    machine.known, machine.known_mask = known, KNOWN - 1
    machine.paired = int(any(not opens for _, opens in labels))
    account.keep = [index, blocks, neurons, label_costs, known]
    return account


def _code_range(image: Image) -> tuple[int, bytes]:
    """First address and bytes of everything executable, as one stretch."""
    parts = [s for s in image.sections if s.kind == CODE]
    if not parts:
        raise BadInput("the ELF has no code: nothing to simulate")
    start, end = min(s.address for s in parts), max(s.address + s.size for s in parts)
    code = bytearray(end - start)
    for segment in image.segments:
        first, last = max(segment.address, start), min(segment.address + len(segment.data), end)
        if first < last:
            code[first - start : last - start] = segment.data[first - segment.address : last - segment.address]
    return start, bytes(code)


def _candidates(code: bytes, start: int, arch: str, model: TimingModel) -> set[tuple[int, str]]:
    """(address, kind) of every correction that some run could need; hooks must be set before code is translated.

    Bit patterns are searched at every halfword, so constants between code may add candidates; they are never armed.
    Only the suspect itself is looked at, and what it governs if it is an IT: what lies behind may be no code.
    """
    found: set[tuple[int, str]] = set()
    for at in _suspects(code, arch):
        first, *rest = decode(code[at : at + WINDOW], start + at, arch) or (None,)
        if first is None:
            continue
        governed = list(takewhile(lambda i: i.condition != ALWAYS, rest)) if first.name == "it" else []
        found |= {(i.address, "executed") for i in governed}
        with suppress(Unsupported):  # a constant that looks like code; where it is code, executing it raises this
            found |= {(c.address, c.kind) for c in model.cost([first, *governed], None).corrections}
    return found


def _suspects(code: bytes, arch: str) -> list[int]:
    """Offsets where a divide or an IT instruction may start."""
    halves = np.frombuffer(code[: len(code) // 2 * 2], dtype="<u2").astype(np.uint32)
    if arch == "arm":
        it = ((halves & 0xFF00) == 0xBF00) & ((halves & 0xF) != 0)
        hits = it | ((halves & 0xFFD0) == 0xFB90)
    else:
        words = halves | np.append(halves[1:], 0).astype(np.uint32) << 16
        hits = (words & 0xFE00407F) == 0x02004033
    return [2 * int(i) for i in np.flatnonzero(hits)]


def _decode_safely(account: Account, address: int, size: int) -> int:
    """An exception raised in a callback would vanish: keep it for the caller and stop the run."""
    try:
        return _decode_block(account, address, size)
    except BaseException as error:
        account.error = error
        return -1


def _through(account: Account, alignment: Alignment, block: int, state: int) -> None:
    """What the hook asks of a block it has not met in this state."""
    try:
        b, machine = account.blocks[block], account.machine
        found = alignment.through(b.start, b.size, state)
        machine.passed, machine.jumped = found.passed, found.jumped
        account.doubtful.update((a.address, a) for a in found.doubtful if a.address not in account.watched)
    except BaseException as error:
        account.error = error


def _decode_block(account: Account, address: int, size: int) -> int:
    offset = address - account.machine.code_start
    run = decode(account.code[offset : offset + size + WINDOW], address, account.arch)
    run = tuple(account.governed.get(i.address, i) for i in run)
    block = [i for i in run if i.address < address + size]
    behind = _reachable(block[-1], run[len(block) :]) if block else ()
    following = behind[0] if behind and behind[0].address == address + size else None
    account.governed.update((i.address, i) for i in takewhile(lambda i: i.condition != ALWAYS, behind))
    if not block or block[-1].address + block[-1].size != address + size:
        account.undecodable = True
        return -1
    cost = account.model.cost(block, following)
    _arm(account, cost.corrections)
    labels = _place_labels(account, [i.address for i in block], cost)
    return _enter(account, address, size, cost, labels)


def _reachable(last: Instruction, behind: Sequence[Instruction]) -> Sequence[Instruction]:
    """Of the instructions ``behind`` a block those that may be executed next: constants may lie behind a jump."""
    if not last.always_jumps:
        return behind
    return behind[:1] if last.target in (None, last.end) else ()


def _enter(account: Account, address: int, size: int, cost: BlockCost, labels: int) -> int:
    number = len(account.owner)
    if number >= len(account.blocks):
        raise BadInput("the program has more basic blocks than code: it modifies itself, which is not supported")
    fall = total(cost.body)
    taken = total(cost.body[:-1]) + cost.taken
    account.blocks[number] = BlockRecord(
        address, size, len(cost.body), *_pair(fall), *_pair(taken), *_pair(cost.entry), labels, state=-1
    )
    account.owner.append(function_at(account.functions, address))
    account.machine.index[(address - account.machine.code_start) >> 1] = number
    return number


def _pair(cycles: Cycles) -> tuple[int, int]:
    return cycles.lower, cycles.upper


def _arm(account: Account, corrections: Sequence[Correction]) -> None:
    for c in corrections:
        fix = account.fixes[c.address, c.kind]
        fix.kind, fix.condition, fix.armed = FIX_KINDS[c.kind], c.condition, 1
        fix.register_a, fix.register_b = account.register_id(c.register_a), account.register_id(c.register_b)
        fix.lower, fix.upper = c.cycles.lower, c.cycles.upper


def _place_labels(account: Account, addresses: Sequence[int], cost: BlockCost) -> int:
    """Enter the labels that lie in a block; the number of the first one's record, or -1."""
    before = list(accumulate(cost.body, initial=NONE))
    chain = -1
    for number, (address, _) in enumerate(account.labels):
        if address in addresses:
            at = addresses.index(address)
            if account.placed >= len(account.label_costs):
                raise BadInput("a neuron label lies in too many overlapping blocks: keep it at the loop's head")
            account.label_costs[account.placed] = LabelCostRecord(number, at, *_pair(before[at]), chain)
            chain = account.placed
            account.placed += 1
    return chain


def clear(account: Account) -> None:
    """Forget what was counted, keep what was decoded."""
    restore(account, Counts([], [], []))


@dataclass(frozen=True)
class Counts:
    """A copy of everything counted so far."""

    blocks: list[tuple[int, int, int]]
    fixes: list[int]
    neurons: list[CostRecord]


def snapshot(account: Account) -> Counts:
    """A copy of the counts, to go back to after a call that is not to be charged."""
    blocks = [(b.falls, b.takens, b.entries) for b in account.blocks[: len(account.owner)]]
    neurons = account.machine.neurons[: account.machine.neuron_count + 1]
    return Counts(blocks, [f.hits for f in account.fixes.values()], [CostRecord.from_buffer_copy(n) for n in neurons])


def restore(account: Account, counts: Counts) -> None:
    """Set the counts to those of ``counts``; what it does not hold becomes zero."""
    for number in range(len(account.owner)):
        b = account.blocks[number]
        b.falls, b.takens, b.entries = counts.blocks[number] if number < len(counts.blocks) else (0, 0, 0)
    for number, fix in enumerate(account.fixes.values()):
        fix.hits = counts.fixes[number] if counts.fixes else 0
    for slot in range(account.machine.neuron_count + 1):
        account.machine.neurons[slot] = counts.neurons[slot] if counts.neurons else CostRecord()


def by_function(account: Account) -> dict[str, Cost]:
    """Exclusive totals of each function that ran; code outside all functions counts as ``?``."""
    sums: dict[str, list[int]] = {}
    for number, owner in enumerate(account.owner):
        b = account.blocks[number]
        runs = b.falls + b.takens
        entered = runs if owner >= 0 and account.functions[owner].address == b.start else 0
        lower = b.falls * b.fall_lower + b.takens * b.taken_lower + b.entries * b.entry_lower
        upper = b.falls * b.fall_upper + b.takens * b.taken_upper + b.entries * b.entry_upper
        _sum_into(sums, _name(account, owner), (runs * b.instructions, lower, upper, entered))
    for (address, _), fix in account.fixes.items():
        owner = function_at(account.functions, address)
        _sum_into(sums, _name(account, owner), (0, fix.hits * fix.lower, fix.hits * fix.upper, 0))
    return {name: Cost(*values) for name, values in sorted(sums.items()) if any(values)}


def by_neuron(account: Account) -> tuple[list[Cost], Cost]:
    """Totals of each neuron, and of everything outside the neuron loop."""
    count = account.machine.neuron_count
    costs = [account.machine.neurons[k] for k in range(count + 1)]
    values = [Cost(c.instructions, c.lower, c.upper, c.entries) for c in costs]
    return values[:count], values[count]


def _name(account: Account, owner: int) -> str:
    return account.functions[owner].name if owner >= 0 else "?"


def _sum_into(sums: dict[str, list[int]], name: str, values: Sequence[int]) -> None:
    row = sums.setdefault(name, [0, 0, 0, 0])
    for k, value in enumerate(values):
        row[k] += value


def function_name(account: Account, address: int) -> str:
    """The function ``address`` lies in, or ``?``."""
    return _name(account, function_at(account.functions, address))
