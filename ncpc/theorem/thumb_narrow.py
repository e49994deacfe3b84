"""The instructions of 16 bits (Armv7-M Architecture Reference Manual, DDI 0403E, sections A5.2 and A7.7)."""

from __future__ import annotations

from collections.abc import Callable

from ncpc.theorem.thumb_encoding import (
    ALWAYS,
    LR,
    PC,
    SHIFTS,
    SP,
    Encoding,
    Fields,
    Operands,
    either,
    listed,
    none_of,
    registers,
    row,
    signed,
)

Form = Callable[[Fields], Operands]

DATA = ("and", "eor", "lsl", "lsr", "asr", "adc", "sbc", "ror", "tst", "rsb", "cmp", "cmn", "orr", "mul", "bic", "mvn")
"""A5.2.2, by opcode."""
BY_REGISTER = ("str", "strh", "strb", "ldrsb", "ldr", "ldrh", "ldrb", "ldrsh")
"""A5.2.4 with opA = 0101, by opB."""
EXTENSIONS = ("sxth", "sxtb", "uxth", "uxtb")
"""A5.2.5, by bits 7:6."""


def _shifted(kind: str) -> Form:
    """A shift by a number, as a move of a shifted register; 0 stands for 32 in a shift right (A7.4.2)."""
    return lambda f: {"d": f["d"], "m": f["m"], "sets": "outside",
                      "shift": (kind, f["i"] if kind == "lsl" else f["i"] or 32)}


def _data(name: str) -> Form:
    if name in ("tst", "cmp", "cmn"):
        return lambda f: {"n": f["d"], "m": f["m"], "sets": "always"}
    if name == "rsb":
        return lambda f: {"d": f["d"], "n": f["m"], "imm": 0, "sets": "outside"}
    if name == "mvn":
        return lambda f: {"d": f["d"], "m": f["m"], "sets": "outside"}
    if name == "mul":
        return lambda f: {"d": f["d"], "n": f["m"], "m": f["d"], "sets": "outside"}
    return lambda f: {"d": f["d"], "n": f["d"], "m": f["m"], "sets": "outside"}


def _outside(f: Fields) -> Operands:
    return {**registers(f), **({"imm": f["i"]} if "i" in f else {}), "sets": "outside"}


def _onto(f: Fields) -> Operands:
    return {"d": f["d"], "n": f["d"], "imm": f["i"], "sets": "outside"}


def _compared(f: Fields) -> Operands:
    return {"n": f["n"], **({"m": f["m"]} if "m" in f else {"imm": f["i"]}), "sets": "always"}


def _high(f: Fields) -> Operands:
    return {"d": f["d"], "n": f["d"], "m": f["m"]}


def _at(scale: int, base: int | None = None) -> Form:
    """A load or store at a base and an unsigned number of units."""
    return lambda f: {"t": f["t"], "n": f["n"] if base is None else base, "imm": scale * f["i"]}


def _stack(sign: int) -> Form:
    return lambda f: {"d": f.get("d", SP), "n": SP, "imm": 4 * sign * f["i"]}


def _jump(bits: int) -> Form:
    return lambda f: {"imm": 2 * signed(f["i"], bits), "condition": f.get("c", ALWAYS)}


def _several(extra: int) -> Form:
    """PUSH and POP: a store or load of several registers at SP, with bit 8 for ``extra``."""
    return lambda f: {"n": SP, "wback": True, "listed": listed(f["r"] | f["x"] << extra)}


def _list(name: str) -> Form:
    """LDM keeps the base where it loads it (A7.7.41)."""
    return lambda f: {"n": f["n"], "listed": listed(f["r"]),
                      "wback": name == "stm" or not f["r"] >> f["n"] & 1}


def _empty(f: Fields) -> bool:
    return not f["r"] and not f.get("x")


def _base_stored(f: Fields) -> bool:
    """A base in its own list, not as the lowest, is stored with an unknown value (A7.7.159)."""
    return bool(f["r"] >> f["n"] & 1 and f["r"] & ((1 << f["n"]) - 1))


def _no_block(f: Fields) -> bool:
    """A7.7.38: no condition 15, and AL for a lone "then" side only."""
    return f["c"] == 15 or (f["c"] == ALWAYS and f["b"].bit_count() != 1)


def _both_low(f: Fields) -> bool:
    return f["n"] < 8 and f["m"] < 8


NARROW: tuple[Encoding, ...] = (
    # A5.2.1: shift by a number, add, subtract, move, compare. MOV T2 is LSL by 0, but not in an IT block.
    row("movs", "0000000000 mmm ddd", lambda f: {**registers(f), "sets": "always"}),
    *(row("mov", f"000{code:02b} iiiii mmm ddd", _shifted(SHIFTS[code])) for code in range(3)),
    row("add", "0001100 mmm nnn ddd", _outside),
    row("sub", "0001101 mmm nnn ddd", _outside),
    row("add", "0001110 iii nnn ddd", _outside),
    row("sub", "0001111 iii nnn ddd", _outside),
    row("mov", "00100 ddd iiiiiiii", _outside),
    row("cmp", "00101 nnn iiiiiiii", _compared),
    row("add", "00110 ddd iiiiiiii", _onto),
    row("sub", "00111 ddd iiiiiiii", _onto),
    # A5.2.2
    *(row(name, f"010000 {code:04b} mmm ddd", _data(name)) for code, name in enumerate(DATA)),
    # A5.2.3: any registers. What writes PC this way, or reads it as an addend, no compiler writes into a step.
    row("add", "01000100 d 1101 ddd", lambda f: {"d": f["d"], "n": SP, "m": f["d"]}, none_of("d", PC)),
    row("add", "01000100 d mmmm ddd", _high, none_of("dm", PC)),
    row("cmp", "01000101 n mmmm nnn", _compared, either(none_of("nm", PC), _both_low)),
    row("mov", "01000110 d mmmm ddd", registers, none_of("dm", PC)),
    row("bx", "010001110 mmmm 000", registers, none_of("m")),
    row("blx", "010001111 mmmm 000", registers, none_of("m")),
    # A5.2.4: load and store one
    row("ldr", "01001 ttt iiiiiiii", _at(4, PC)),
    *(row(name, f"0101 {code:03b} mmm nnn ttt", registers) for code, name in enumerate(BY_REGISTER)),
    *(row(name, f"{code} iiiii nnn ttt", _at(scale)) for name, code, scale in (
        ("str", "01100", 4), ("ldr", "01101", 4), ("strb", "01110", 1), ("ldrb", "01111", 1), ("strh", "10000", 2),
        ("ldrh", "10001", 2))),
    row("str", "10010 ttt iiiiiiii", _at(4, SP)),
    row("ldr", "10011 ttt iiiiiiii", _at(4, SP)),
    # A5.2, "Generate PC-relative address" and "Generate SP-relative address"
    row("adr", "10100 ddd iiiiiiii", lambda f: {"d": f["d"], "imm": 4 * f["i"]}),
    row("add", "10101 ddd iiiiiiii", _stack(1)),
    # A5.2.5: miscellaneous
    row("add", "101100000 iiiiiii", _stack(1)),
    row("sub", "101100001 iiiiiii", lambda f: {"d": SP, "n": SP, "imm": 4 * f["i"]}),
    row("cbz", "101100 i 1 iiiii nnn", lambda f: {"n": f["n"], "imm": 2 * f["i"]}),
    row("cbnz", "101110 i 1 iiiii nnn", lambda f: {"n": f["n"], "imm": 2 * f["i"]}),
    *(row(name, f"10110010 {code:02b} mmm ddd") for code, name in enumerate(EXTENSIONS)),
    row("push", "1011010 x rrrrrrrr", _several(LR), _empty),
    row("pop", "1011110 x rrrrrrrr", _several(PC), _empty),
    *(row(name, f"10111010 {code} mmm ddd") for name, code in (("rev", "00"), ("rev16", "01"), ("revsh", "11"))),
    row("nop", "1011111100000000"),
    row("it", "10111111 cccc bbbb", lambda f: {"imm": f["c"] << 4 | f["b"]}, either(lambda f: not f["b"], _no_block)),
    # A5.2: several registers, branches
    row("stm", "11000 nnn rrrrrrrr", _list("stm"), either(_empty, _base_stored)),
    row("ldm", "11001 nnn rrrrrrrr", _list("ldm"), _empty),
    row("b", "1101 cccc iiiiiiii", _jump(8), lambda f: f["c"] >= ALWAYS),
    row("b", "11100 iiiiiiiiiii", _jump(11)),
)
