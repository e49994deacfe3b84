"""Random RV32IMC programs that end: every row of the decoder's tables, with operands and offsets near the corners."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from ncpc.theorem.riscv import COMPARISONS, LOADS, STORES
from ncpc.theorem.riscv_decode import LAYOUTS, Riscv, RiscvLayout

STACK, DATA = 2, 8
"""The two registers that hold an address; compressed loads and stores can name them."""
POSITIVE, NEGATIVE, LINK = 28, 29, 15
"""Two registers to divide by, and one for the address of a jump."""
KEPT = (STACK, DATA, POSITIVE, NEGATIVE)
SPANS = {STACK: (0, 16), DATA: (-8, 8)}
"""The bytes from either address that are used: few, so that accesses of all widths overlap."""
TRAP = (0xFFFECE93, 4)
"""xori x29, x29, -1: what jumps have to pass, or a kept register is another."""
ROWS = [*LAYOUTS[2], *LAYOUTS[4]]
Piece = tuple[int, int]
"""A word and its size in bytes."""


def encoded(layout: RiscvLayout, **values: int) -> tuple[int, Riscv] | None:
    """The word of a row with these registers and this immediate, and what it is read as; None if there is none."""
    word, names = layout.match, {field.name for field in layout.fields}
    for field in layout.fields:
        value = values[field.name.removesuffix("'")] - (8 if field.name.endswith("'") else 0)
        word |= (value >> field.place & (1 << field.width) - 1) << field.low
    read = layout.read(word)
    if read is None or any(getattr(read, name) != values[name] for name in (n.removesuffix("'") for n in names)):
        return None
    return word, read


def one(layout: RiscvLayout, **values: int) -> Piece:
    found = encoded(layout, **values)
    assert found is not None, (layout.name, values)
    return found[0], layout.size


def row(name: str) -> RiscvLayout:
    return next(layout for layout in LAYOUTS[4] if layout.name == name)


def immediate(rng: random.Random) -> int:
    bits = rng.randrange(1, 21)
    number = rng.choice((0, 1, -1, (1 << bits) - 1, -(1 << bits), rng.getrandbits(bits), -rng.getrandbits(bits)))
    return number << rng.choice((0, 0, 0, 2, 4, 12))


def plain(layout: RiscvLayout, rng: random.Random) -> Piece:
    """An instruction that only calculates, loads or stores, and leaves KEPT as it is."""
    size = LOADS[layout.name][0] if layout.name in LOADS else STORES.get(layout.name, 0)
    while True:
        rd, rs1, rs2, imm = rng.randrange(32), rng.randrange(32), rng.randrange(32), immediate(rng)
        if rng.random() < 0.5 or layout.size == 2:
            rs1 = rd
        if size:
            rs1 = rng.choice((STACK, DATA))
            imm = rng.randrange(*SPANS[rs1]) // size * size
        if layout.name[:3] in ("div", "rem"):
            rs2 = rng.choice((POSITIVE, NEGATIVE))
        found = encoded(layout, rd=rd, rs1=rs1, rs2=rs2, imm=imm)
        if found and (found[1].rd not in KEPT):
            return found[0], layout.size


def jump(layout: RiscvLayout, rng: random.Random) -> list[Piece]:
    """``jal`` over a trap; ``jalr`` too, to an address that is made before, and one too high where bits allow."""
    links = [r for r in range(32) if r not in KEPT]
    size, rd = layout.size, rng.choice(links)
    if layout.name == "jal":
        return [one(layout, rd=rd, imm=size + 4), TRAP]
    ahead = size + 8 if size == 2 else rng.choice((0, 8, 2000))
    jumping = one(layout, rd=rd, rs1=LINK, imm=size + 12 - ahead + rng.randrange(2) if size == 4 else 0)
    make = one(row("auipc"), rd=LINK, imm=0), one(row("addi"), rd=LINK, rs1=LINK, imm=ahead + 4 * (size == 2))
    return [*make, jumping, TRAP]


def branch(layout: RiscvLayout, rng: random.Random) -> list[Piece]:
    """A branch over some instructions that calculate, by operands that are often the same or far apart."""
    names = [r for r in ROWS if r.name not in {*COMPARISONS, *STORES, "jal", "jalr"} and dict(r.fixed)["rd"] != STACK]
    body = [plain(rng.choice(names), rng) for _ in range(rng.randrange(1, 4))]
    rs1, rs2 = (rng.randrange(8, 16) if layout.size == 2 else rng.randrange(32) for _ in range(2))
    return [one(layout, rs1=rs1, rs2=rs2, imm=layout.size + sum(size for _, size in body)), *body]


def pieces(layout: RiscvLayout, rng: random.Random) -> Iterable[Piece]:
    """The row's instruction with what it needs around it."""
    if dict(layout.fixed)["rd"] == STACK:  # there and back
        imm = rng.choice((-16, -496))  # down first: what the stack pointer rises above is forgotten
        return [one(layout, imm=imm), one(layout, imm=-imm)]
    if layout.name in ("jal", "jalr"):
        return jump(layout, rng)
    return branch(layout, rng) if layout.name in COMPARISONS else [plain(layout, rng)]


def programs(rng: random.Random, count: int, length: int) -> Iterator[bytes]:
    """Programs of about ``length`` instructions; together they hold every row once at least."""
    left: list[RiscvLayout] = []
    for _ in range(count):
        code = b""
        for _ in range(length):
            if not left:
                left = rng.sample(ROWS, len(ROWS))
            code += b"".join(word.to_bytes(size, "little") for word, size in pieces(left.pop(), rng))
        yield code
