"""The records that the simulator shares with ``hook.c``, field by field in the same order."""

from __future__ import annotations

import ctypes
from ctypes import c_int32, c_int64, c_uint32, c_uint64, c_void_p

FIX_ZERO_DIVISOR, FIX_SIGNS_DIFFER, FIX_EXECUTED = 1, 2, 3


class BlockRecord(ctypes.Structure):
    """A basic block: costs by the edge that leaves it (``fall`` to the very next address, ``taken`` to another one),
    cost of arriving from elsewhere, counts of each; and what it led to from the last ``state`` of low bits.
    """

    _fields_ = (
        ("start", c_uint32),
        ("size", c_uint32),
        ("instructions", c_int32),
        ("fall_lower", c_int32),
        ("fall_upper", c_int32),
        ("taken_lower", c_int32),
        ("taken_upper", c_int32),
        ("entry_lower", c_int32),
        ("entry_upper", c_int32),
        ("labels", c_int32),
        ("state", c_int32),
        ("passed", c_int32),
        ("jumped", c_int32),
        ("falls", c_int64),
        ("takens", c_int64),
        ("entries", c_int64),
    )


class FixRecord(ctypes.Structure):
    """An instruction whose cost depends on its operands; ``armed`` once its block has been decoded."""

    _fields_ = (
        ("address", c_uint32),
        ("kind", c_uint32),
        ("condition", c_uint32),
        ("armed", c_uint32),
        ("register_a", c_int32),
        ("register_b", c_int32),
        ("lower", c_int32),
        ("upper", c_int32),
        ("hits", c_int64),
    )


class LabelCostRecord(ctypes.Structure):
    """A label inside a block: cost from the block's start to it; ``next`` chains the labels of a block, -1 ends."""

    _fields_ = (
        ("label", c_int32),
        ("instructions", c_int32),
        ("lower", c_int32),
        ("upper", c_int32),
        ("next", c_int32),
    )


class CostRecord(ctypes.Structure):
    """Running totals."""

    _fields_ = (("instructions", c_int64), ("lower", c_int64), ("upper", c_int64), ("entries", c_int64))


READ_REGISTER = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p, ctypes.c_int, c_void_p)
STOP = ctypes.CFUNCTYPE(ctypes.c_int, c_void_p)
THROUGH = ctypes.CFUNCTYPE(None, c_int32, c_int32)
DECODE = ctypes.CFUNCTYPE(ctypes.c_int, c_uint64, c_uint32)
ON_ADDRESS = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_void_p)


class KnownRecord(ctypes.Structure):
    """What a block leads to from a state: a slot of a table, searched from a place made of both; block -1 is free."""

    _fields_ = (("block", c_int32), ("state", c_int32), ("passed", c_int32), ("jumped", c_int32))


class MachineRecord(ctypes.Structure):
    """The state of the accounting. ``previous`` is the block being executed, ``slot`` the neuron being charged.

    With ``paired`` labels a neuron opens only after the last one was closed. ``passed`` and ``jumped`` are what is
    known of low bits behind it (``ncpc.sim.alignment``); ``misaligned`` is the address of the misaligned access that
    ended the call, of ``misaligned_size`` bytes (0: there was none) by the instruction at ``misaligned_by``.
    """

    _fields_ = (
        ("engine", c_void_p),
        ("read_register", READ_REGISTER),
        ("stop", STOP),
        ("decode", DECODE),
        ("through", THROUGH),
        ("known", ctypes.POINTER(KnownRecord)),
        ("index", ctypes.POINTER(c_int32)),
        ("blocks", ctypes.POINTER(BlockRecord)),
        ("neurons", ctypes.POINTER(CostRecord)),
        ("label_costs", ctypes.POINTER(LabelCostRecord)),
        ("code_start", c_uint32),
        ("code_halfwords", c_uint32),
        ("exit_address", c_uint32),
        ("neuron_count", c_uint32),
        ("previous", c_int32),
        ("slot", c_int32),
        ("paired", c_int32),
        ("flags_register", c_int32),
        ("timed_out", c_int32),
        ("known_mask", c_uint32),
        ("known_count", c_uint32),
        ("passed", c_int32),
        ("jumped", c_int32),
        ("misaligned_size", c_int32),
        ("misaligned", c_uint32),
        ("misaligned_by", c_uint32),
        ("next_neuron", c_int64),
        ("limit", c_int64),
        ("now", CostRecord),
        ("mark", CostRecord),
    )


class FixHook(ctypes.Structure):
    """What a correction's hook is given."""

    _fields_ = (("machine", ctypes.POINTER(MachineRecord)), ("fix", ctypes.POINTER(FixRecord)))


class LabelHook(ctypes.Structure):
    """What a label's hook is given: the label's number, and whether it opens the next neuron or closes the last."""

    _fields_ = (("machine", ctypes.POINTER(MachineRecord)), ("label", c_int32), ("opens", c_int32))


class WatchRecord(ctypes.Structure):
    """What the hook of an access that may be misaligned is given; a register below 0 is none."""

    _fields_ = (("machine", ctypes.POINTER(MachineRecord)), ("condition", c_uint32), ("offset", c_uint32),
                ("base", c_int32), ("index", c_int32), ("shift", c_int32), ("size", c_int32))
