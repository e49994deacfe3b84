"""What is carried, around a repeat or from step to step: where its new value may be written.

All elements of a carried value change at once. Writing in place is right where no element's old value is read after
its new one stands there; otherwise the new value needs storage of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ncpc.ir.program import Carry, Repeat, Value
from ncpc.ir.rewrite import free_names
from ncpc.passes.group import Group, Item, Piece

END = 1 << 30
"""The group of what is read after the last loop of a body."""


class Mode(Enum):
    """How the new value gets where the old one was."""

    IN_PLACE = "the op that makes it writes over the old value"
    CHAIN = "an inner repeat carries it in the same storage"
    DOUBLE = "the op that makes it writes beside the old value"
    COPY = "it is made elsewhere and copied"


@dataclass(frozen=True)
class Carried:
    """``inner`` is read in the body and becomes ``result`` after it."""

    inner: Value
    result: str


@dataclass(frozen=True)
class Read:
    """Item ``order`` of loop ``group`` reads a value, ``aligned``: at its own element."""

    group: int
    order: int
    aligned: bool


Reads = Mapping[str, Sequence[Read]]


def reads_of(groups: Sequence[Group], after: Iterable[str]) -> dict[str, list[Read]]:
    """Every read of every value in a body; ``after`` are the values read when it is done."""
    found: dict[str, list[Read]] = {}
    for g, group in enumerate(groups):
        for order, item in enumerate(group.items):
            for name in item.aligned | item.whole:
                found.setdefault(name, []).append(Read(g, order, name in item.aligned))
    for name in after:
        found.setdefault(name, []).append(Read(END, 0, False))
    return found


def modes_of(carried: Sequence[Carried], groups: Sequence[Group], reads: Reads) -> list[Mode]:
    """The cheapest correct mode of each carried value."""
    results = [c.result for c in carried]
    inners = {c.inner.name for c in carried}
    return [
        Mode.COPY if c.result in inners or c.result in results[:i] else _mode(c, groups, reads)
        for i, c in enumerate(carried)
    ]


def _mode(carried: Carried, groups: Sequence[Group], reads: Reads) -> Mode:
    # v_next = v + f(gather(v, pre)): neuron 1 still reads the old v of neuron 0 when that has its new one: DOUBLE.
    # Where the gather stands in an earlier loop, v_next reads v at its own neuron only, and may take its place:
    # IN_PLACE.
    maker = _maker(carried.result, groups)
    if maker is None:
        return Mode.COPY
    g, order, item = maker
    old = reads.get(carried.inner.name, ())
    if isinstance(item.work, Repeat):
        unread = all(read.group <= g for read in old)
        return Mode.CHAIN if unread and _chains(item.work, carried) else Mode.COPY
    if isinstance(item.work, Piece):
        return Mode.DOUBLE
    early = all(r.group < g or (r.group == g and r.aligned and r.order <= order) for r in old)
    return Mode.IN_PLACE if early else Mode.DOUBLE


def _maker(name: str, groups: Sequence[Group]) -> tuple[int, int, Item] | None:
    for g, group in enumerate(groups):
        for order, item in enumerate(group.items):
            if name in item.makes:
                return g, order, item
    return None


def _chains(repeat: Repeat, carried: Carried) -> bool:
    """The repeat starts from the old value, ends with the new one and reads the old one nowhere else."""
    starts = [c for c in repeat.carried if c.init == carried.inner.name]
    if len(starts) != 1 or starts[0].out.name != carried.result:
        return False
    without = Repeat(repeat.count, tuple(_elsewhere(c) for c in repeat.carried), repeat.body)
    return carried.inner.name not in free_names(without) - {c.inner.name for c in repeat.carried}


def _elsewhere(carry: Carry) -> Carry:
    """The carry as if it started from its own inner value."""
    return Carry(carry.inner.name, carry.inner, carry.result, carry.out)
