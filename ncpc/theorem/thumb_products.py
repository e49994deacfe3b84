"""Extensions, bit counts, saturating sums and products (Armv7-M Architecture Reference Manual, DDI 0403E, A5.3.12 to
A5.3.17, A7.7), the parallel sums excepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ncpc.theorem.thumb_encoding import SP, Encoding, Fields, Operands, either, none_of, registers, row

EXTENSIONS = {"xth": 0, "xtb16": 2, "xtb": 4}
"""A5.3.12, by opcode: signed; one more is unsigned."""
ADDED = {"xth": "xtah", "xtb16": "xtab16", "xtb": "xtab"}
"""The name of the extension that is added to a register."""
SUMS = {"add": "00", "dadd": "01", "sub": "10", "dsub": "11"}
HALVES = (("b", 0), ("t", 1))


def _turned(f: Fields) -> Operands:
    return {**registers(f), "shift": ("ror", 8 * f["i"])}


def _extensions() -> Iterator[Encoding]:
    for name, code in EXTENSIONS.items():
        for sign, unsigned in (("s", 0), ("u", 1)):
            head = f"11111010 0 {code + unsigned:03b}"
            yield row(sign + name, f"{head} 1111 1111 dddd 10 ii mmmm", _turned, none_of("dm"))
            yield row(sign + ADDED[name], f"{head} nnnn 1111 dddd 10 ii mmmm", _turned,
                      either(none_of("dm"), none_of("n", SP)))


def _twice(f: Fields) -> bool:
    """The operand stands in the word twice."""
    return f["n"] != f["m"]


def _lone(f: Fields) -> Operands:
    return {"d": f["d"], "m": f["m"]}


REGISTERS: tuple[Encoding, ...] = (
    *(row(name, f"11111010 0{code:02b} s nnnn 1111 dddd 0000 mmmm",
          lambda f: {**registers(f), "sets": "always" if f["s"] else "never"}, none_of("dnm"))
      for code, name in enumerate(("lsl", "lsr", "asr", "ror"))),
    *_extensions(),
    *(row(f"q{name}", f"11111010 1000 nnnn 1111 dddd 10 {code} mmmm", registers, none_of("dnm"))
      for name, code in SUMS.items()),
    *(row(name, f"11111010 {code} nnnn 1111 dddd 10 {low} mmmm", _lone, either(none_of("dm"), _twice))
      for name, code, low in (("rev", "1001", "00"), ("rev16", "1001", "01"), ("rbit", "1001", "10"),
                              ("revsh", "1001", "11"), ("clz", "1011", "00"))),
)
"""A5.3.12 and A5.3.15."""


def _product(name: str, alone: str | None, code: str) -> Iterator[Encoding]:
    """A product with an addend, and the one without, whose addend is PC. ``code``: bits 22 to 20 and 7 to 4."""
    top, low = code.split()
    if alone is not None:
        yield row(alone, f"111110110 {top} nnnn 1111 dddd {low} mmmm", registers, none_of("dnm"))
    addend: Callable[[Fields], bool] = none_of("a", SP) if alone is not None else none_of("a")
    yield row(name, f"111110110 {top} nnnn aaaa dddd {low} mmmm", registers, either(none_of("dnm"), addend))


PAIRS = tuple((x + y, f"{i}{j}") for x, i in HALVES for y, j in HALVES)
"""Of two registers either half: names and bits."""
CROSSED = (("", 0), ("x", 1))
ROUNDED = (("", 0), ("r", 1))

PRODUCTS: tuple[Encoding, ...] = (
    *_product("mla", "mul", "000 0000"),
    *_product("mls", None, "000 0001"),
    *(e for half, bits in PAIRS for e in _product(f"smla{half}", f"smul{half}", f"001 00{bits}")),
    *(e for x, bit in CROSSED for e in _product(f"smlad{x}", f"smuad{x}", f"010 000{bit}")),
    *(e for half, bit in HALVES for e in _product(f"smlaw{half}", f"smulw{half}", f"011 000{bit}")),
    *(e for x, bit in CROSSED for e in _product(f"smlsd{x}", f"smusd{x}", f"100 000{bit}")),
    *(e for r, bit in ROUNDED for e in _product(f"smmla{r}", f"smmul{r}", f"101 000{bit}")),
    *(e for r, bit in ROUNDED for e in _product(f"smmls{r}", None, f"110 000{bit}")),
)
"""A5.3.16."""


def _apart(f: Fields) -> bool:
    """Both words of the result in one register."""
    return f["a"] == f["d"]


LONG_CODES = (("smull", "000 0000"), ("umull", "010 0000"), ("smlal", "100 0000"), ("umlal", "110 0000"),
              ("umaal", "110 0110"),
              *((f"smlal{half}", f"100 10{bits}") for half, bits in PAIRS),
              *((f"smlald{x}", f"100 110{bit}") for x, bit in CROSSED),
              *((f"smlsld{x}", f"101 110{bit}") for x, bit in CROSSED))
"""A5.3.17: bits 22 to 20 and 7 to 4."""

LONG: tuple[Encoding, ...] = (
    *(row(name, "111110111 {} nnnn aaaa dddd {} mmmm".format(*code.split()), registers, either(none_of("dnma"), _apart))
      for name, code in LONG_CODES),
    row("sdiv", "111110111 001 nnnn 1111 dddd 1111 mmmm", registers, none_of("dnm")),
    row("udiv", "111110111 011 nnnn 1111 dddd 1111 mmmm", registers, none_of("dnm")),
)
"""Products of 64 bits, and quotients."""
