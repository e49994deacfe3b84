"""What an item of a loop does to one element: ops become assignments between scalars and elements of storage."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ncpc.errors import Unsupported
from ncpc.ir.formed import block_sum
from ncpc.ir.loops import Assign, At, For, Lit, Node, Operand, Ref, Window
from ncpc.ir.program import Attr, Op, Value
from ncpc.ir.types import Axis, Fixed, Type
from ncpc.passes.group import WHOLE, Item, Piece, Reduction


@dataclass
class Scope:
    """Where values live: ``scalars`` in one iteration, others in ``names`` (value -> storage; constants as they are).

    ``types`` is the type of every name, of those added here too.
    """

    table: Mapping[str, Value]
    names: dict[str, str]
    scalars: set[str]
    types: dict[str, Type]
    cursors: set[str] = field(default_factory=set)

    def cursor(self, wanted: str) -> str:
        """A loop variable that no other reduction has: each walks its axis from the start."""
        name, n = wanted, 1
        while name in self.cursors:
            n += 1
            name = f"{wanted}_{n}"
        self.cursors.add(name)
        return name

    def name(self, value: str) -> str:
        return self.names.get(value, value)

    def ref(self, value: str, var: str | None) -> Ref:
        """The element of ``value`` at ``var``."""
        if value in self.scalars or not self.table[value].axes:
            return Ref(self.name(value))
        if len(self.table[value].axes) > 1 or var is None:
            raise Unsupported(f"value '{value}' has {len(self.table[value].axes)} axes: loops take one")
        return Ref(self.name(value), (At(var),))


def singular(axis: str) -> str:
    """What one element of an axis is called: ``neurons_2`` -> ``neuron_2``."""
    return re.sub(r"s(?=_\d+$|$)", "", axis)


def loop_var(axis: Axis, table: Mapping[str, Value], inside: str | None = None) -> str:
    """A name for the element of an axis that no value has; another one inside a loop of that name."""
    name = singular(axis.name)
    name = f"{name}_index" if name == axis.name else name
    while name in table or name == inside:
        name = f"other_{name}" if name == inside else f"{name}_index"
    return name


def item_nodes(item: Item, var: str | None, scope: Scope) -> Iterator[Node]:
    """The statements of one item in a loop over ``var``."""
    work = item.work
    if isinstance(work, Reduction):
        yield from _reduction(work, str(var), scope)
    elif isinstance(work, Piece):
        out = Ref(scope.name(work.op.out.name), (At(str(var), work.offset),))
        yield Assign("copy", out, work.op.out.type, (scope.ref(work.part, var),), {}, work.op.origin)
    elif isinstance(work, Op) and work.kind == "matmul":
        yield from _matmul(work, str(var), scope)
    elif isinstance(work, Op) and work.kind == "matmulshr":
        yield from _blocks(work, str(var), scope)
    elif isinstance(work, Op) and work.kind in WHOLE:
        names = tuple(scope.name(arg) for arg in work.args)
        yield Window(work.kind, scope.name(work.out.name), work.out.type, names, work.attrs, work.origin)
    elif isinstance(work, Op):
        yield _elementwise(work, var, scope)


def _elementwise(op: Op, var: str | None, scope: Scope) -> Assign:
    args, attrs = _arguments(op, var, scope)
    kind = "copy" if op.kind in ("gather", "slice") else op.kind
    return Assign(kind, scope.ref(op.out.name, var), op.out.type, args, attrs, op.origin, _declares(op, scope))


def _declares(op: Op, scope: Scope) -> bool:
    return op.out.name in scope.scalars


def _arguments(op: Op, var: str | None, scope: Scope) -> tuple[tuple[Operand, ...], Mapping[str, Attr]]:
    if op.kind == "gather":
        return (Ref(scope.name(op.args[0]), (At(str(var), via=op.args[1]),)),), {}
    if op.kind == "slice":
        return (Ref(scope.name(op.args[0]), (At(str(var), int(op.attrs["start"] or 0)),)),), {}
    if op.kind == "lut":
        return (scope.ref(op.args[0], var), Ref(scope.name(op.args[1]), whole=True)), op.attrs
    if op.kind == "clamp":
        bounds = tuple(_bound(op.attrs[key], var, scope) for key in ("lo", "hi"))
        return (scope.ref(op.args[0], var), *bounds), {"flag": op.attrs["flag"]}
    return tuple(scope.ref(arg, var) for arg in op.args), op.attrs


def _bound(bound: Attr, var: str | None, scope: Scope) -> Operand:
    if isinstance(bound, str):
        return scope.ref(bound, var)
    assert bound is not None
    return Lit(bound)


def _reduction(work: Reduction, var: str, scope: Scope) -> Iterator[Node]:
    axis = scope.table[work.post].axes[0]
    inner = scope.cursor(loop_var(axis, scope.table, var))
    scope.scalars.update(op.out.name for op in work.sunk)
    yield from (_start(op, 2, var, scope) for op in work.sums)
    body: list[Node] = [_elementwise(op, inner, scope) for op in work.sunk]
    body += [_accumulate(op, scope.ref(op.args[0], inner), scope) for op in work.sums]
    yield For(inner, axis, tuple(body), segment=work.post, of=var)
    for op in work.sums:
        yield from _finish(op, var, scope)


def _matmul(op: Op, var: str, scope: Scope) -> Iterator[Node]:
    axis = scope.table[op.args[1]].axes[0]
    inner = loop_var(axis, scope.table, var)
    yield _start(op, 2, var, scope)
    yield For(inner, axis, (*_product(op, var, inner, op.out.type, scope), _accumulate(op, _term(op), scope)))
    yield from _finish(op, var, scope)


def _blocks(op: Op, var: str, scope: Scope) -> Iterator[Node]:
    """Each block's sum starts from half a unit of the shift, so that shifting it rounds."""
    axis, k, block = scope.table[op.args[1]].axes[0], int(op.attrs["k"] or 0), int(op.attrs["block"] or 1)
    inner = loop_var(axis, scope.table, var)
    first, part, shifted = (f"{op.out.name}_{what}" for what in ("block", "part", "rounded"))
    kind = Fixed(32, _frac(op.out.type) + k)
    scope.types.update({part: kind, shifted: op.out.type})
    yield _start(op, 2, var, scope)
    yield For(first, axis, (
        Assign("start", Ref(part), kind, (Lit(block_sum(k).start or 0),), {}, op.origin, declares=True),
        For(inner, axis, (*_product(op, var, inner, kind, scope),
                          Assign("accumulate", Ref(part), kind, (_term(op),), {}, op.origin)), block=(first, block)),
        Assign("asr", Ref(shifted), op.out.type, (Ref(part),), {"k": k}, op.origin, declares=True),
        _accumulate(op, Ref(shifted), scope),
    ), step=block)
    yield from _finish(op, var, scope)


def _product(op: Op, var: str, inner: str, kind: Type, scope: Scope) -> Iterator[Node]:
    """The product of one weight and one input."""
    scope.types[_term(op).name] = kind
    element = Ref(scope.name(op.args[0]), (At(var), At(inner)))
    factors = (element, scope.ref(op.args[1], inner))
    yield Assign("mul", _term(op), kind, factors, {}, op.origin, declares=True)


def _term(op: Op) -> Ref:
    return Ref(f"{op.out.name}_product")


def _frac(kind: Type) -> int:
    assert isinstance(kind, Fixed)
    return kind.frac


def _accumulator(op: Op, scope: Scope) -> str:
    name = op.out.name if op.out.name in scope.scalars else f"{op.out.name}_sum"
    scope.types[name] = op.out.type
    return name


def _start(op: Op, position: int, var: str, scope: Scope) -> Assign:
    first: Operand = scope.ref(op.args[position], var) if len(op.args) > position else Lit(0)
    return Assign("start", Ref(_accumulator(op, scope)), op.out.type, (first,), {}, op.origin, declares=True)


def _accumulate(op: Op, term: Operand, scope: Scope) -> Assign:
    return Assign("accumulate", Ref(_accumulator(op, scope)), op.out.type, (term,), {}, op.origin)


def _finish(op: Op, var: str, scope: Scope) -> Iterator[Node]:
    if op.out.name not in scope.scalars:
        yield Assign("copy", scope.ref(op.out.name, var), op.out.type, (Ref(_accumulator(op, scope)),), {}, op.origin)
