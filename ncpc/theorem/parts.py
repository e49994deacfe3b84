"""What rules look for in a term: which part of it counts, and what it is a part of."""

from __future__ import annotations

from ncpc.theorem.term import LEAST, MOST, BitTerm, trailing_zeros


def shl_keeps(a: BitTerm, k: int) -> bool:
    """Whether a << k is a * 2**k."""
    return -(1 << (31 - k)) <= a.lo and a.hi < 1 << (31 - k)


def keeps_zero(a: BitTerm, mask: int) -> bool:
    """Whether a & mask is 0 for a = 0 alone: a mask of low bits for a number that has no more bits and its sign."""
    return mask > 0 and mask & (mask + 1) == 0 and -mask <= a.lo and a.hi <= mask


def bytes_below(zeros: int) -> int:
    """The size of the load whose bits are all that counts of a word that is shifted left by so many: 1, 2 or 4."""
    return 4 if zeros < 16 else 2 if zeros < 24 else 1


def sign_mask(mask: BitTerm) -> tuple[BitTerm, bool] | None:
    """x >> 31 of a mask that is that or ~(x >> 31), and whether it is the latter; None if it is neither."""
    opposite = mask.op == "lin" and mask.par == (-1, -1)
    sign = mask.args[0] if opposite else mask
    return (sign, opposite) if sign.op == "asr" and sign.par[0] == 31 else None


def zeros_of(a: BitTerm) -> int:
    """How many low bits of a sum are 0 whatever its terms are; 0 of anything else, and of what is not opened."""
    return min(trailing_zeros(q) for q in a.par) if a.op == "lin" and not a.cut else 0


def zeros_of_terms(a: BitTerm) -> int:
    """The same of a sum without its number."""
    return min(trailing_zeros(q) for q in a.par[:-1]) if a.op == "lin" and not a.cut else 0


def unshifted(a: BitTerm) -> tuple[list[tuple[BitTerm, int]], int] | None:
    """Of a sum with b >> k in it 2**k times the rest, and b: terms, coefficients and number of a sum of the same
    sign, which 32 bits hold. None where there is no such thing.
    """
    if a.op != "lin" or a.cut:
        return None
    items = list(zip(a.args, a.par[:-1], strict=True))
    for n, k in ((n, n.par[0]) for n, q in items if n.op == "asr" and q == 1):
        scaled = [(m, q << k) for m, q in items if m is not n]
        lo, hi = ((a.par[-1] << k) + end + sum(f(q * m.lo, q * m.hi) for m, q in scaled)
                  for f, end in ((min, n.args[0].lo), (max, n.args[0].hi)))
        if lo >= LEAST and hi <= MOST:
            return [*scaled, (n.args[0], 1)], a.par[-1] << k
    return None


def above(a: BitTerm, k: int) -> tuple[list[tuple[BitTerm, int]], int] | None:
    """A sum without what lies in its low k bits and never leaves them; None where there is no such thing."""
    if a.op != "lin" or a.cut or zeros_of(a) >= k:
        return None
    items = list(zip(a.args, a.par[:-1], strict=True))
    low = [(n, q) for n, q in items if trailing_zeros(q) < k]
    part = a.par[-1] & ((1 << k) - 1)
    least, most = (part + sum(f(q * n.lo, q * n.hi) for n, q in low) for f in (min, max))
    if least < 0 or most >= 1 << k:
        return None
    return [(n, q) for n, q in items if trailing_zeros(q) >= k], a.par[-1] - part
