"""Data processing in 32 bits (Armv7-M Architecture Reference Manual, DDI 0403E, A5.3.1 to A5.3.3, A5.3.11, A7.7).

A word is its first halfword above its second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ncpc.theorem.thumb_encoding import (
    PC,
    SHIFTS,
    SP,
    Encoding,
    Fields,
    Operands,
    either,
    none_of,
    registers,
    row,
)

Form = Callable[[Fields], Operands]

DATA = {"and": "0000", "bic": "0001", "orr": "0010", "orn": "0011", "eor": "0100", "add": "1000", "adc": "1010",
        "sbc": "1011", "sub": "1101", "rsb": "1110"}
"""A5.3.1 and A5.3.11, by name."""
COMPARES = {"and": "tst", "eor": "teq", "add": "cmn", "sub": "cmp"}
"""What sets flags and has PC for a destination only compares."""
ALONE = {"orr": "mov", "orn": "mvn"}
"""What has PC for a first operand has one operand only."""


def _sets(f: Fields) -> Operands:
    return {"sets": "always" if f.get("s", 1) else "never"}


def expanded(code: int) -> tuple[int, int | None] | None:
    """A5.3.2, ThumbExpandImm_C: the number and its carry, None for "as it was"; None for UNPREDICTABLE."""
    low, kind = code & 255, code >> 8
    if kind >= 4:
        number, turn = 128 | code & 127, code >> 7
        number = (number >> turn | number << (32 - turn)) & 0xFFFFFFFF
        return number, number >> 31
    if kind and not low:
        return None
    return low * (1, 0x00010001, 0x01000100, 0x01010101)[kind], None


def _modified(f: Fields) -> Operands:
    number, carry = expanded(f["i"]) or (0, None)
    return {**registers(f), **_sets(f), "imm": number, "carry": carry}


def _not_expanded(f: Fields) -> bool:
    return expanded(f["i"]) is None


def shift_of(kind: int, amount: int) -> tuple[str, int]:
    """A7.4.2, DecodeImmShift."""
    if kind == 3 and amount == 0:
        return "rrx", 1
    return SHIFTS[kind], amount if kind in (0, 3) else amount or 32


def _shifted(f: Fields) -> Operands:
    return {**registers(f), **_sets(f), "shift": shift_of(f["k"], f["i"])}


def _unset_pc(f: Fields) -> bool:
    """PC for a destination of what sets no flags; of what does, it is another instruction."""
    return f["d"] == PC


def _to_stack(f: Fields) -> bool:
    """SP is added to or subtracted from in place only, by a register shifted left by 3 at most (A7.7.6)."""
    return f["d"] == SP and (f["k"] != 0 or f["i"] > 3)


def _shifted_by_none(f: Fields) -> Operands:
    return {**registers(f), **_sets(f)}


def _from_stack(form: Form) -> Form:
    return lambda f: {**form(f), "n": SP}


def _moved(f: Fields) -> bool:
    """A7.7.77, T3 of MOV (register): SP may be moved where flags stay, and that not to itself."""
    pair = (f["d"], f["m"])
    return PC in pair or (SP in pair if f["s"] else pair == (SP, SP))


def _data(name: str, code: str) -> Iterator[Encoding]:
    """One operation, by a modified immediate and by a shifted register."""
    free = name in ("add", "sub")  # where SP may be the first operand
    first = none_of("n", PC) if free else none_of("n")
    for form, head, tail, check in (
        (_modified, f"11110 i 0 {code}", "iiiiiiii", _not_expanded),
        (_shifted, f"1110101 {code}", "ii kk mmmm", none_of("m")),
    ):
        if name in COMPARES:
            yield row(COMPARES[name], f"{head} 1 nnnn 0 iii 1111 {tail}", form, either(check, first))
        if name in ALONE:
            if name == "orr" and form is _shifted:
                yield row("mov", "11101010010 s 1111 0 000 dddd 0000 mmmm", _shifted_by_none, _moved)
            yield row(ALONE[name], f"{head} s 1111 0 iii dddd {tail}", form, either(check, none_of("d")))
        if free:
            onto = either(check, _unset_pc, _to_stack) if form is _shifted else either(check, _unset_pc)
            yield row(name, f"{head} s 1101 0 iii dddd {tail}", _from_stack(form), onto)
        yield row(name, f"{head} s nnnn 0 iii dddd {tail}", form, either(check, first, none_of("d")))


def _plain(f: Fields) -> Operands:
    return {**registers(f), "imm": f["i"]}


def _on_stack(f: Fields) -> Operands:
    return {"d": f["d"], "n": SP, "imm": f["i"]}


def _saturated(least: int) -> Form:
    """A5.3.3: SSAT counts its bits from 1, USAT from 0."""
    return lambda f: {"d": f["d"], "n": f["n"], "width": f["w"] + least,
                      "shift": shift_of(2, f["i"]) if f.get("h") else ("lsl", f.get("i", 0))}


def _halves(f: Fields) -> bool:
    """A shift right by 0 is SSAT16 or USAT16."""
    return bool(f["h"] and not f["i"])


def _extracted(f: Fields) -> Operands:
    return {"d": f["d"], "n": f["n"], "lsb": f["i"], "width": f["w"] + 1}


def _inserted(f: Fields) -> Operands:
    return {**registers(f), "lsb": f["i"], "width": f["w"] - f["i"] + 1}


PLAIN: tuple[Encoding, ...] = (
    row("adr", "11110 i 100000 1111 0 iii dddd iiiiiiii", _plain, none_of("d")),
    row("adr", "11110 i 101010 1111 0 iii dddd iiiiiiii", lambda f: {"d": f["d"], "imm": -f["i"]}, none_of("d")),
    row("add", "11110 i 100000 1101 0 iii dddd iiiiiiii", _on_stack, none_of("d", PC)),
    row("sub", "11110 i 101010 1101 0 iii dddd iiiiiiii", _on_stack, none_of("d", PC)),
    row("add", "11110 i 100000 nnnn 0 iii dddd iiiiiiii", _plain, none_of("d")),
    row("sub", "11110 i 101010 nnnn 0 iii dddd iiiiiiii", _plain, none_of("d")),
    row("movw", "11110 j 100100 iiii 0 jjj dddd jjjjjjjj", lambda f: {"d": f["d"], "imm": f["i"] << 12 | f["j"]},
        none_of("d")),
    row("movt", "11110 j 101100 iiii 0 jjj dddd jjjjjjjj", lambda f: {"d": f["d"], "imm": f["i"] << 12 | f["j"]},
        none_of("d")),
    row("ssat16", "111100110010 nnnn 0000 dddd 0000 wwww", _saturated(1), none_of("dn")),
    row("usat16", "111100111010 nnnn 0000 dddd 0000 wwww", _saturated(0), none_of("dn")),
    row("ssat", "1111001100 h 0 nnnn 0 iii dddd ii 0 wwwww", _saturated(1), either(none_of("dn"), _halves)),
    row("usat", "1111001110 h 0 nnnn 0 iii dddd ii 0 wwwww", _saturated(0), either(none_of("dn"), _halves)),
    row("sbfx", "111100110100 nnnn 0 iii dddd ii 0 wwwww", _extracted,
        either(none_of("dn"), lambda f: f["i"] + f["w"] > 31)),
    row("ubfx", "111100111100 nnnn 0 iii dddd ii 0 wwwww", _extracted,
        either(none_of("dn"), lambda f: f["i"] + f["w"] > 31)),
    row("bfc", "111100110110 1111 0 iii dddd ii 0 wwwww", _inserted,
        either(none_of("d"), lambda f: f["w"] < f["i"])),
    row("bfi", "111100110110 nnnn 0 iii dddd ii 0 wwwww", _inserted,
        either(none_of("dn"), lambda f: f["w"] < f["i"])),
)
"""A5.3.3: immediates as they are, saturation, fields."""

SHIFTED_AND_MODIFIED = tuple(encoding for name, code in DATA.items() for encoding in _data(name, code))
"""A5.3.1 and A5.3.11."""


def _packed(kind: int) -> Form:
    return lambda f: {**registers(f), "shift": shift_of(kind, f["i"])}


PACKED = tuple(row(name, f"111010101100 nnnn 0 iii dddd ii {top} 0 mmmm", _packed(kind), none_of("dnm"))
               for name, top, kind in (("pkhbt", 0, 0), ("pkhtb", 1, 2)))
"""A7.7.91: the halves of two registers side by side."""
