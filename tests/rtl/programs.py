"""Random programs of every instruction that a compiler writes into a step, in pieces that can be left out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ncpc.cores.core import Core

CORNERS = (0, 1, 2, 3, 0xFFFFFFFF, 0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 0x80000001, 0xFFFF, 0x10000, 0xFFFF8000)
DATA, COUNTER = 9, 27
"""Registers that point to the data, and that count a loop's rounds."""
REGISTERS = tuple(n for n in range(5, 32) if n not in (DATA, COUNTER))
POPULAR = (8, 10, 11, 12, 13, 14, 15)
"""Those that compressed instructions name in three bits."""
LEAVES, CONSTANTS, LOCALS = 8, 16, 48
"""Functions that programs call, words in flash that they read, bytes of their own on the stack."""
DATA_BYTES, SAVED = 512, 512
"""The data that a program reads and writes; behind it the registers are left."""
ARITHMETIC = ("add", "sub", "xor", "or", "and", "sll", "srl", "sra", "slt", "sltu", "mul", "mul", "mulh", "mulhu",
              "mulhsu")
IMMEDIATE = ("addi", "xori", "ori", "andi", "slti", "sltiu")
BRANCHES = ("beq", "bne", "blt", "bge", "bltu", "bgeu")
ACCESSES = {"lw": 4, "lh": 2, "lhu": 2, "lb": 1, "lbu": 1, "sw": 4, "sh": 2, "sb": 1}
SYSTEM = (*[".word 0x0000100f"] * 4, "csrr x{a}, mscratch", "csrw mscratch, x{a}",
          "csrrs x{a}, mscratch, x{b}", "csrrc x{a}, mscratch, x{b}", "csrrwi x{a}, mscratch, 5",
          "csrrsi x{a}, mscratch, 9", "csrrci x{a}, mscratch, 3")
"""What a compiler writes into no step: fence.i, by its number, and reading and writing of status registers."""


@dataclass(frozen=True)
class Piece:
    """Lines around other pieces; ``@`` in a label stands for the piece's own number. Whatever is left out of a program,
    and whatever piece gives way to what is in it, the rest ends.
    """

    before: tuple[str, ...]
    inner: tuple[Piece, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class RandomProgram:
    """Pieces, and what they are set into: ``leaves`` are called, ``constants`` read."""

    pieces: tuple[Piece, ...]
    leaves: tuple[tuple[str, ...], ...]
    constants: tuple[int, ...]


class ProgramWriter:
    """Draws pieces for one core."""

    def __init__(self, rng: random.Random, core: Core, nowhere: float = 0.0) -> None:
        """``nowhere`` is how often a conditional branch goes to the very next address."""
        self.rng, self.compressed, self.nowhere = rng, core.isa.endswith("c"), nowhere

    def program(self) -> RandomProgram:
        rng = self.rng
        leaves = tuple((*self.lines(rng.randrange(3)), rng.choice(("nop", "add x20, x21, x22", "lw x14, 4(x9)",
                                                                   "mul x10, x10, x13"))) for _ in range(LEAVES))
        return RandomProgram(self.block(2), leaves, tuple(rng.getrandbits(32) for _ in range(CONSTANTS)))

    def lines(self, count: int) -> tuple[str, ...]:
        return tuple(line for _ in range(count) for line in self.straight().before)

    def block(self, depth: int) -> tuple[Piece, ...]:
        """``depth`` is how deep loops and branches are set into each other."""
        return tuple(piece for _ in range(self.rng.randint(2, 5 if depth < 2 else 9))
                     for piece in (*self.run(0), self.jumping(depth)))

    def run(self, fewest: int) -> tuple[Piece, ...]:
        return tuple(self.straight() for _ in range(self.rng.randint(fewest, 6)))

    def register(self) -> int:
        return self.rng.choice(POPULAR if self.rng.random() < 0.5 else REGISTERS)

    def word(self) -> int:
        return self.rng.choice(CORNERS) if self.rng.random() < 0.6 else self.rng.getrandbits(32)

    def number(self) -> int:
        return self.rng.choice((self.rng.randint(-2048, 2047), self.rng.randint(-32, 31)))

    def straight(self) -> Piece:
        """Instructions that lead to the next one."""
        kinds = {self.register_form: 30, self.immediate_form: 25, self.shift: 12, self.constant: 14, self.access: 25,
                 self.divide: 6, self.flash: 3, self.stack: 6, self.system: 3, self.wide: 3, self.short: 12}
        return Piece(self.rng.choices(list(kinds), list(kinds.values()))[0]())

    def operands(self) -> tuple[int, int, int]:
        """Target and sources; often the target is a source, as compressed instructions have it."""
        d, a, b = self.register(), self.register(), self.register()
        return d, d if self.rng.random() < 0.4 else a, b

    def register_form(self) -> tuple[str, ...]:
        d, a, b = self.operands()
        return (f"{self.rng.choice(ARITHMETIC)} x{d}, x{a}, x{b}",)

    def short(self) -> tuple[str, ...]:
        """What the assembler compresses where the core has that."""
        d, b = self.rng.choice(POPULAR), self.rng.choice(POPULAR)
        name = self.rng.choice(("and", "or", "xor", "sub", "andi", "srli", "srai"))
        last = f"x{b}" if name in ARITHMETIC else self.rng.randint(1, 31)
        return (f"{name} x{d}, x{d}, {last}",)

    def immediate_form(self) -> tuple[str, ...]:
        d, a, _ = self.operands()
        return (f"{self.rng.choice(IMMEDIATE)} x{d}, x{a}, {self.number()}",)

    def shift(self) -> tuple[str, ...]:
        d, a, _ = self.operands()
        return (f"{self.rng.choice(('slli', 'srli', 'srai'))} x{d}, x{a}, {self.rng.randint(0, 31)}",)

    def constant(self) -> tuple[str, ...]:
        d, a, _ = self.operands()
        return (self.rng.choice((f"li x{d}, {self.number()}", f"li x{d}, {self.word()}", f"mv x{d}, x{a}", "nop",
                                 f"lui x{d}, {self.rng.randint(1, 31)}", f"lui x{d}, {self.rng.getrandbits(20)}",
                                 f"auipc x{d}, {self.rng.getrandbits(8)}", "fence")),)

    def access(self) -> tuple[str, ...]:
        name, size = self.rng.choice(list(ACCESSES.items()))
        offset = self.rng.randrange(0, self.rng.choice((128, DATA_BYTES)), size)
        load = f"{name} x{self.register()}, {offset}(x{DATA})"
        d, a, b = self.operands()
        then = (f"{self.rng.choice(ARITHMETIC)} x{d}, x{a}, x{b}", f"lw x{b}, {offset & ~3}(x{DATA})")
        return (load, self.rng.choice(then)) if self.rng.random() < 0.3 else (load,)

    def divide(self) -> tuple[str, ...]:
        d, a, b = self.operands()
        given = tuple(f"li x{n}, {self.word()}" for n in (a, b) if self.rng.random() < 0.5)
        return (*given, f"{self.rng.choice(('div', 'divu', 'rem', 'remu'))} x{d}, x{a}, x{b}")

    def flash(self) -> tuple[str, ...]:
        d, at = self.register(), 4 * self.rng.randrange(CONSTANTS)
        return (f"lui x{d}, %hi(constants + {at})", f"lw x{self.register()}, %lo(constants + {at})(x{d})")

    def stack(self) -> tuple[str, ...]:
        d, at = self.register(), 4 * self.rng.randrange(LOCALS // 4)
        return (self.rng.choice((f"lw x{d}, {at}(sp)", f"sw x{d}, {at}(sp)", f"addi x{d}, sp, {at + 4}")),)

    def system(self) -> tuple[str, ...]:
        """PicoRV32 has neither fence.i nor the register."""
        a, b, _ = self.operands()
        return (self.rng.choice(SYSTEM).format(a=a, b=b),) if self.compressed else ("fence",)

    def wide(self) -> tuple[str, ...]:
        """What could be compressed and is not: an odd halfword stays odd."""
        return (".option push", ".option norvc", *self.register_form(), *self.immediate_form(), ".option pop")

    def condition(self, label: str) -> str:
        if self.rng.random() < 0.4:
            return f"{self.rng.choice(('beqz', 'bnez'))} x{self.rng.choice(POPULAR)}, {label}"
        return f"{self.rng.choice(BRANCHES)} x{self.register()}, x{self.rng.choice((self.register(), 0))}, {label}"

    def aligned(self, label: str) -> tuple[str, ...]:
        return (".balign 4", f"{label}:") if self.rng.random() < 0.3 else (f"{label}:",)

    def jumping(self, depth: int) -> Piece:
        """A piece with a jump in it."""
        kinds = {self.branch: 30, self.jump: 12, self.call: 14, self.local_call: 8, self.by_register: 8,
                 self.two_branches: 8, self.frame: 4, **({self.loop: 16} if depth else {})}
        return self.rng.choices(list(kinds), list(kinds.values()))[0](depth)

    def inside(self, depth: int, fewest: int) -> tuple[Piece, ...]:
        return self.block(depth - 1) if depth and self.rng.random() < 0.3 else self.run(fewest)

    def branch(self, depth: int) -> Piece:
        inner = () if self.rng.random() < self.nowhere else self.inside(depth, 1)
        return Piece((self.condition(".La@"),), inner, self.aligned(".La@"))

    def two_branches(self, depth: int) -> Piece:
        after = (*self.lines(1), *self.aligned(".Lb@"))
        return Piece((self.condition(".La@"), self.condition(".Lb@")), self.run(1), (".La@:", *after))

    def jump(self, depth: int) -> Piece:
        """Often to the very next address."""
        return Piece(("j .La@",), self.rng.choice(((), self.run(0))), self.aligned(".La@"))

    def call(self, depth: int) -> Piece:
        leaf = f"leaf{self.rng.randrange(LEAVES)}"
        far = (f"lui x1, %hi({leaf})", f"jalr x1, %lo({leaf})(x1)")
        return Piece(self.rng.choice(((f"jal x1, {leaf}",), far)))

    def local_call(self, depth: int) -> Piece:
        """Of what lies so near that the call is compressed; by a register or not."""
        n = self.rng.choice(POPULAR)
        called = self.rng.choice((("jal x1, .La@",), (f"la x{n}, .La@", f"jalr x1, 0(x{n})")))
        return Piece((*called, "j .Lb@", ".La@:"), self.run(0), ("ret", ".Lb@:"))

    def by_register(self, depth: int) -> Piece:
        n = self.rng.choice(POPULAR)
        target = self.rng.choice(((f"la x{n}, .La@", f"jr x{n}"), (f"la x{n}, .La@-8", f"jalr x0, 8(x{n})")))
        return Piece(target, self.run(0), self.aligned(".La@"))

    def frame(self, depth: int) -> Piece:
        size = self.rng.choice((16, 32, 64, 256))
        return Piece((f"addi sp, sp, -{size}",), (Piece(self.register_form()),), (f"addi sp, sp, {size}",))

    def loop(self, depth: int) -> Piece:
        again = self.rng.choice(("bnez x27, .La@", "bgtz x27, .La@", "bgtu x27, x0, .La@"))
        inner = tuple(p for _ in range(self.rng.randint(1, 3)) for p in (*self.run(0), self.jumping(0)))
        begin = self.aligned(".La@")
        return Piece((f"li x27, {self.rng.randint(1, 6)}", *begin), inner, ("addi x27, x27, -1", again))


def assembly(programs: Sequence[RandomProgram], core: Core) -> str:
    """Functions p0, p1, ... called as p(instance, x): registers from the words at x, left behind the data."""
    texts = [".option arch, +zicsr", *(_function(f"p{k}", p, core) for k, p in enumerate(programs))]
    first = programs[0]
    for k, lines in enumerate(first.leaves):
        texts.append(_symbol(f"leaf{k}", "\n".join((*lines, "ret")), align=1 + k % 2))
    words = "\n".join(f".word {n}" for n in first.constants)
    return "\n".join((*texts, f'.section .rodata.constants,"a"\n.balign 4\n.globl constants\nconstants:\n{words}\n'))


def _symbol(name: str, body: str, align: int = 2) -> str:
    return (f'.section .text.{name},"ax"\n.p2align {align}\n.globl {name}\n.type {name},@function\n{name}:\n{body}\n'
            f".size {name}, .-{name}\n")


def _function(name: str, program: RandomProgram, core: Core) -> str:
    loads = [f"lw x{n}, {4 * n}(x11)" for n in REGISTERS if n != 11]
    local = [f"sw x{n}, {4 * k}(sp)" for k, n in enumerate(REGISTERS[: LOCALS // 4])]
    stores = [f"sw x{n}, {SAVED + 4 * n}(x{DATA})" for n in REGISTERS]
    body = (f"addi sp, sp, -{LOCALS + 16}", f"sw x1, {LOCALS}(sp)", f"mv x{DATA}, x10", *loads, "lw x11, 44(x11)",
            *local, *lines_of(program.pieces, name), *stores, f"lw x1, {LOCALS}(sp)", f"addi sp, sp, {LOCALS + 16}",
            "ret")
    return _symbol(name, "\n".join(body))


def lines_of(pieces: Sequence[Piece], name: str) -> list[str]:
    """The pieces' lines, each label with the piece's place in it."""
    found: list[str] = []
    for k, piece in enumerate(pieces):
        own = f"{name}_{k}"
        found += [line.replace("@", own) for line in piece.before]
        found += lines_of(piece.inner, own)
        found += [line.replace("@", own) for line in piece.after]
    return found
