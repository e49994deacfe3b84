"""One step as a loop nest: what a scalar language executes, made from a program by ``ncpc.passes.fuse``.

Every statement computes one element. Names are storage: a scalar, a buffer, a constant, or one of the two faces of a
double-buffered value. Ops keep the meaning of ``ncpc.semantics``; four kinds are added: ``copy`` (out = a), ``start``
(a sum's first value), ``accumulate`` (out = out + a) and ``clamp``, whose bounds are arguments here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ncpc.ir.program import Attr, Origin, Program
from ncpc.ir.types import Axis, Type

Place = Literal["x", "dt", "y", "state", "local", "arena"]


@dataclass(frozen=True)
class At:
    """The position of one element: ``var + offset``, or ``via[var]`` through an index map."""

    var: str
    offset: int = 0
    via: str | None = None


@dataclass(frozen=True)
class Ref:
    """One element of a named storage, or (``whole``) all of it: a table."""

    name: str
    at: tuple[At, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class Lit:
    """A number, in the units of the statement's type."""

    value: int | float


Operand = Ref | Lit


@dataclass(frozen=True)
class Assign:
    """``out = kind(args)`` for one element. ``declares`` is True where ``out`` is a scalar that begins here."""

    kind: str
    out: Ref
    type: Type
    args: tuple[Operand, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    origin: Origin | None = None
    declares: bool = False


@dataclass(frozen=True)
class For:
    """All elements of ``axis``; with ``segment`` only those whose index map ``segment`` names the element ``of``.

    The map is sorted, so the elements of successive ``of`` are contiguous. With ``step`` only every ``step``-th
    element; with ``block`` = (variable, size) only the ``size`` elements from that of an outer loop on.
    """

    var: str
    axis: Axis
    body: tuple[Node, ...]
    segment: str | None = None
    of: str | None = None
    step: int = 1
    block: tuple[str, int] | None = None


@dataclass(frozen=True)
class Pair:
    """A value read as ``now`` and written as ``next`` within a pass, exchanged after it.

    ``now`` begins as buffer ``first`` and ``next`` as ``second``; the last pass leaves the value in ``home``, one of
    the two.
    """

    now: str
    next: str
    first: str
    second: str
    home: str


@dataclass(frozen=True)
class Times:
    """``count`` passes of the body, after each of which every pair is exchanged."""

    count: int
    pairs: tuple[Pair, ...]
    body: tuple[Node, ...]


@dataclass(frozen=True)
class Each:
    """What is done to each element as soon as it is known, before it is stored.

    ``body`` reads the scalar ``value`` and leaves the scalar ``result``, which is of ``type``.
    """

    value: str
    body: tuple[Assign, ...]
    result: str
    type: Type


@dataclass(frozen=True)
class Window:
    """A whole op over windows of a frame, ``conv2d`` or ``pool``: reads and writes arrays, never in place.

    A convolution's elements may go through ``each``, and then into ``pool`` (its ``args`` are empty): ``out`` is the
    pooled frame, and the one before it exists nowhere.
    """

    kind: str
    out: str
    type: Type
    args: tuple[str, ...]
    attrs: Mapping[str, Attr]
    origin: Origin | None = None
    each: Each | None = None
    pool: Window | None = None

    @property
    def body(self) -> tuple[Assign, ...]:
        return self.each.body if self.each else ()


@dataclass(frozen=True)
class Stage:
    """One node of a stream, row by row: the frame it makes is ``rows`` x ``cols`` x ``channels`` in ``layout``.

    Its row r is made from ``span`` rows of what it reads, the first of them r*``stride`` - ``top``. ``turns`` is how
    often it is called: more often than it has rows where what it reads has rows that nobody wants, but which may set
    a status bit.
    """

    node: Window | For
    out: str
    rows: int
    cols: int
    channels: int
    layout: str
    span: int
    stride: int
    top: int
    turns: int

    @property
    def body(self) -> tuple[Node, ...]:
        return (self.node,)


@dataclass(frozen=True)
class Stream:
    """Stages, each reading what the one before makes, the last one row by row and the others as far as it wants.

    Between two stages only the rows that the second still needs are kept.
    """

    stages: tuple[Stage, ...]

    @property
    def body(self) -> tuple[Node, ...]:
        return tuple(stage.node for stage in self.stages)


Node = Assign | For | Times | Window | Stream


@dataclass(frozen=True)
class Buffer:
    """An array (or, without axes, a scalar that outlives one loop) and where it lies."""

    name: str
    axes: tuple[Axis, ...]
    type: Type
    place: Place


@dataclass(frozen=True, eq=False)
class Nest:
    """A whole step. Constants are those of ``program``; ``types`` gives every name's type."""

    program: Program
    buffers: tuple[Buffer, ...]
    body: tuple[Node, ...]
    types: Mapping[str, Type]


def assigns(body: tuple[Node, ...]) -> Iterator[Assign]:
    """All statements, those inside loops included, in order."""
    for node in body:
        if isinstance(node, Assign):
            yield node
        else:
            yield from assigns(node.body)


def loops(body: tuple[Node, ...]) -> Iterator[For]:
    """All loops over an axis, outer before inner."""
    for node in body:
        if isinstance(node, For):
            yield node
        if not isinstance(node, Assign):
            yield from loops(node.body)


def windows(body: tuple[Node, ...]) -> Iterator[Window]:
    """All convolutions, and the pools that stand by themselves."""
    for node in body:
        if isinstance(node, Window):
            yield node
        elif not isinstance(node, Assign):
            yield from windows(node.body)


def storages(node: Node) -> set[str]:
    """The names that a statement reads and writes."""
    if isinstance(node, Window):
        return {node.out, *node.args}
    if isinstance(node, Stream):
        return set().union(*(storages(part) for part in node.body))
    inside = [node] if isinstance(node, Assign) else list(assigns(node.body))
    return {ref.name for a in inside for ref in (a.out, *a.args) if isinstance(ref, Ref)}


def to_text(nest: Nest) -> str:
    """The loop nest as readable text, for people and for golden tests."""
    lines = [f"nest {nest.program.name}"]
    lines += [f"  {b.place} {b.name}{_sizes(b.axes)}: {b.type}" for b in nest.buffers]
    lines += _lines(nest.body, "  ")
    return "\n".join([*lines, ""])


def _sizes(axes: tuple[Axis, ...]) -> str:
    return f"[{', '.join(str(a.size) for a in axes)}]" if axes else ""


def _lines(body: tuple[Node, ...], indent: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, Assign):
            yield f"{indent}{_assign(node)}"
            continue
        if isinstance(node, Window):
            yield f"{indent}{_window(node)}"
            continue
        yield f"{indent}{_head(node)} {{"
        yield from _lines(node.body, indent + "  ")
        if isinstance(node, Times):
            yield from (f"{indent}  exchange {p.now}, {p.next}" for p in node.pairs)
        yield f"{indent}}}"


def _window(node: Window) -> str:
    text = f"{node.kind}({', '.join(node.args)})"
    if node.each:
        text = f"{node.each.result} of {text}"
    return f"{node.out} = pool({text})" if node.pool else f"{node.out} = {text}"


def _head(node: For | Times | Stream) -> str:
    if isinstance(node, Stream):
        return "by rows"
    if isinstance(node, Times):
        pairs = "".join(f", {p.now} = {p.first}, {p.next} = {p.second}" for p in node.pairs)
        return f"times {node.count}{pairs}"
    segment = f" where {node.segment}[{node.var}] == {node.of}" if node.segment else ""
    if node.block:
        segment = f" from {node.block[0]} on, {node.block[1]}"
    elif node.step > 1:
        segment = f" by {node.step}"
    return f"for {node.var} in {node.axis.name}={node.axis.size}{segment}"


def _assign(node: Assign) -> str:
    args = ", ".join(_operand(a) for a in node.args)
    attrs = "".join(f", {k}={v}" for k, v in node.attrs.items() if v is not None)
    out = _operand(node.out)
    if node.kind in ("copy", "start"):
        return f"{out} = {args}"
    return f"{out} += {args}" if node.kind == "accumulate" else f"{out} = {node.kind}({args}{attrs})"


def _operand(operand: Operand) -> str:
    if isinstance(operand, Lit):
        return str(operand.value)
    return operand.name + "".join(f"[{_at(at)}]" for at in operand.at)


def _at(at: At) -> str:
    if at.via:
        return f"{at.via}[{at.var}]"
    return f"{at.var} + {at.offset}" if at.offset else at.var
