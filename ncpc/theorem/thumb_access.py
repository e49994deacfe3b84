"""Loads and stores in 32 bits (Armv7-M Architecture Reference Manual, DDI 0403E, A5.3.5 to A5.3.10, A7.7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ncpc.theorem.thumb_encoding import (
    PC,
    Encoding,
    Fields,
    Operands,
    either,
    listed,
    never,
    none_of,
    registers,
    row,
)

Form = Callable[[Fields], Operands]
Check = Callable[[Fields], bool]


def _list(f: Fields) -> Operands:
    return {"n": f["n"], "wback": bool(f["w"]), "listed": listed(f["r"])}


def _no_list(loads: bool) -> Check:
    """A7.7.41, A7.7.159: two registers at least, no SP, no PC stored nor with LR, no base that is also written back."""
    def check(f: Fields) -> bool:
        high = f["r"] >> 13
        return (f["n"] == PC or f["r"].bit_count() < 2 or bool(high & 1) or (high == 6 if loads else bool(high & 4))
                or bool(f["w"] and f["r"] >> f["n"] & 1))
    return check


SEVERAL = tuple(row(name, f"1110100 {code} w {load} nnnn rrrrrrrrrrrrrrrr", _list, _no_list(bool(load)))
                for name, code, load in (
                    ("stm", "010", 0), ("ldm", "010", 1), ("stmdb", "100", 0), ("ldmdb", "100", 1)))
"""A5.3.5. PUSH and POP are among them, at SP."""


def _offset(f: Fields, scale: int = 1) -> Operands:
    """A base with a number added (U) or subtracted, before the access (P) or after it, and kept (W) or not."""
    add, before, keep = f.get("u", 1), bool(f.get("p", 1)), bool(f.get("w", 0))
    return {**registers(f), "imm": scale * (f["i"] if add else -f["i"]), "index": before, "wback": keep}


def _pair(literal: bool) -> Form:
    return lambda f: {**_offset(f, 4), **({"n": PC} if literal else {})}


def _bad_pair(loads: bool) -> Check:
    def check(f: Fields) -> bool:
        kept = not f["p"] and not f["w"]  # exclusive loads and stores, and table branches
        return kept or f["n"] == PC or (loads and f["t"] == f["a"]) or bool(f["w"] and f["n"] in (f["t"], f["a"]))
    return either(check, none_of("ta"))


PAIRS = (
    row("ldrd", "11101001 u 1 0 1 1111 tttt aaaa iiiiiiii", _pair(True),
        either(none_of("ta"), lambda f: f["t"] == f["a"])),
    row("ldrd", "1110100 p u 1 w 1 nnnn tttt aaaa iiiiiiii", _pair(False), _bad_pair(True)),
    row("strd", "1110100 p u 1 w 0 nnnn tttt aaaa iiiiiiii", _pair(False), _bad_pair(False)),
)
"""A7.7.50, A7.7.51, A7.7.166: a double word."""

ACCESSES = {"strb": "0 00 0", "ldrb": "0 00 1", "strh": "0 01 0", "ldrh": "0 01 1", "str": "0 10 0",
            "ldr": "0 10 1", "ldrsb": "1 00 1", "ldrsh": "1 01 1"}
"""A5.3.7 to A5.3.10, by name: signed, size and direction, with the bit between for the long immediate."""


def _access(name: str, code: str) -> Iterator[Encoding]:
    """One load or store: by PC, by 12 bits, by a register, by 8 bits and a sign.

    A word alone may be loaded to PC (a return) or to and from SP; a byte or half loaded to PC is a hint for memory.
    """
    sign, size, load = code.split()
    top, whole, loads = f"1111100{sign}", name in ("ldr", "str"), load == "1"
    target = none_of("t") if not whole else never if loads else none_of("t", PC)
    if loads:
        literal = none_of("t") if whole else target
        yield row(name, f"{top} u {size} 1 1111 tttt iiiiiiiiiiii", lambda f: {**_offset(f), "n": PC}, literal)
    check = either(target, none_of("n", PC))
    yield row(name, f"{top} 1 {size} {load} nnnn tttt iiiiiiiiiiii", _offset, check)
    yield row(name, f"{top} 0 {size} {load} nnnn tttt 000000 ii mmmm",
              lambda f: {**registers(f), "shift": ("lsl", f["i"])}, either(check, none_of("m")))
    yield row(name, f"{top} 0 {size} {load} nnnn tttt 1 p u w iiiiiiii", _offset, either(check, _bad_index))


def _bad_index(f: Fields) -> bool:
    """P = W = 0 is UNDEFINED, P = U = 1 with W = 0 an access without privilege; a base is not its own data."""
    p, u, w = f["p"], f["u"], f["w"]
    return (not p and not w) or (bool(p and u) and not w) or bool(w and f["n"] == f["t"])


ONES = tuple(encoding for name, code in ACCESSES.items() for encoding in _access(name, code))
"""A5.3.7 to A5.3.10: bytes, halves and words."""
