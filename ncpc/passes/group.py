"""Which ops share a loop: the first half of loop fusion.

Ops over one axis between a gather and a segment_sum sink into the loop of the summed elements, where they run over one
segment at a time. The rest is placed op by op into the earliest loop over its axis that comes late enough: a loop may
hold an op and its argument when both are at the same element, not when the op reads other elements (gather, matmul,
slice, concat) or the whole result of a sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ncpc.ir.program import Op, Repeat, Stmt, Value
from ncpc.ir.rewrite import free_names, reads
from ncpc.ir.types import Axis

SUMS = ("segment_sum",)
PRODUCTS = ("matmul", "matmulshr")
WHOLE = ("conv2d", "pool")
"""Ops that are loop nests of their own."""


@dataclass(frozen=True)
class Reduction:
    """Sums over the same segments, and the ops that are computed only to be summed."""

    sums: tuple[Op, ...]
    sunk: tuple[Op, ...]

    @property
    def post(self) -> str:
        return self.sums[0].args[1]


@dataclass(frozen=True)
class Piece:
    """One argument of a concat, put at its place: ``out[offset + i] = part[i]``."""

    op: Op
    part: str
    axis: Axis
    offset: int


Work = Op | Repeat | Reduction | Piece


@dataclass(frozen=True)
class Item:
    """What is placed as a whole. ``aligned`` are the values read at the loop's own element, ``whole`` the others."""

    work: Work
    axis: Axis | None
    makes: tuple[str, ...]
    aligned: frozenset[str]
    whole: frozenset[str]


@dataclass
class Group:
    """Items that share a loop over ``axis``, in order (no axis: statements, or a single repeat)."""

    axis: Axis | None
    items: list[Item] = field(default_factory=list)

    @property
    def is_repeat(self) -> bool:
        return isinstance(self.items[0].work, Repeat)


def groups_of(body: Sequence[Stmt], table: Mapping[str, Value], escapes: frozenset[str]) -> list[Group]:
    """The statements of one body as loops in order. ``escapes`` are the values that are needed after it."""
    # seen = gather(v, pre); s = sigmoid(seen); g = segment_sum(s, post); n = g * v; next = gather(n, pre) seen and s
    # serve g alone and sink into its loop over neurons, each running over one neuron's synapses. n reads g and v at its
    # own neuron: the same loop. next reads other neurons' n, which must all be there: a loop of its own.
    made: dict[str, int] = {}
    groups: list[Group] = []
    for item in _items(body, table, escapes):
        after = max((made[name] + 1 for name in item.whole if name in made), default=0)
        first = max([after, *(made[name] for name in item.aligned if name in made)])
        index = _place(item, first, groups)
        made.update({name: max(index, made.get(name, 0)) for name in item.makes})
    return groups


def _place(item: Item, first: int, groups: list[Group]) -> int:
    if not isinstance(item.work, Repeat):
        for index in range(first, len(groups)):
            if groups[index].axis == item.axis and not groups[index].is_repeat:
                groups[index].items.append(item)
                return index
    groups.append(Group(item.axis, [item]))
    return len(groups) - 1


def _items(body: Sequence[Stmt], table: Mapping[str, Value], escapes: frozenset[str]) -> list[Item]:
    sunk = _sunk(body, table, escapes)
    reductions = _reductions(body, sunk)
    while keep := _circular(body, reductions):
        sunk -= keep
        reductions = _reductions(body, sunk)
    last = {id(r.sums[-1]): r for r in reductions}
    items: list[Item] = []
    for stmt in body:
        if isinstance(stmt, Op) and stmt.kind in SUMS:
            items += [_reduction_item(last[id(stmt)], table)] if id(stmt) in last else []
        elif isinstance(stmt, Repeat) or stmt.out.name not in sunk:
            items += _plain_items(stmt, table)
    return _in_order(items)


def _sunk(body: Sequence[Stmt], table: Mapping[str, Value], escapes: frozenset[str]) -> set[str]:
    """Values used for nothing but segment sums with one index map, directly or through each other."""
    goal: dict[str, set[str | None]] = {name: {None} for name in escapes}
    sunk: set[str] = set()
    for stmt in reversed(body):
        if isinstance(stmt, Repeat):
            for name in free_names(stmt):
                goal.setdefault(name, set()).add(None)
            continue
        goals = goal.get(stmt.out.name, set())
        key = next(iter(goals)) if len(goals) == 1 else None
        sinks = key is not None and stmt.kind not in (*SUMS, *WHOLE, *PRODUCTS, "concat", "slice")
        sunk |= {stmt.out.name} if sinks else set()
        for position, arg in enumerate(stmt.args):
            goal.setdefault(arg, set()).add(_goal(stmt, position, arg, key if sinks else None, table))
    return sunk


def _goal(stmt: Op, position: int, arg: str, key: str | None, table: Mapping[str, Value]) -> str | None:
    if stmt.kind in SUMS:
        return stmt.args[1] if position == 0 else None
    same_element = table[arg].axes == stmt.out.axes and stmt.kind not in ("gather", "lut")
    return key if same_element or (stmt.kind == "lut" and position == 0) else None


def _reductions(body: Sequence[Stmt], sunk: set[str]) -> list[Reduction]:
    """Sums that share a sunk value go together."""
    # N = segment_sum(e * s, post) and G = segment_sum(w * s, post) both need s: one loop over a neuron's synapses forms
    # s once and adds to both. Were G to need N's result, that could not be (``_circular``): then s becomes an array.
    ops = {stmt.out.name: stmt for stmt in body if isinstance(stmt, Op)}
    clusters: list[tuple[set[str], list[str]]] = []
    for stmt in ops.values():
        if stmt.kind not in SUMS:
            continue
        needs = _chain(stmt.args[0], ops, sunk)
        names = [stmt.out.name]
        for cluster in [c for c in clusters if c[0] & needs]:
            clusters.remove(cluster)
            needs, names = needs | cluster[0], cluster[1] + names
        clusters.append((needs, names))
    return [
        Reduction(tuple(ops[n] for n in names), tuple(op for name, op in ops.items() if name in needs))
        for needs, names in clusters
    ]


def _chain(name: str, ops: Mapping[str, Op], sunk: set[str]) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        current = todo.pop()
        if current in sunk and current not in found:
            found.add(current)
            todo += ops[current].args
    return found


def _circular(body: Sequence[Stmt], reductions: Sequence[Reduction]) -> set[str]:
    """Sunk values shared by sums one of which needs another's result: they must be arrays."""
    ops = {stmt.out.name: stmt for stmt in body if isinstance(stmt, Op)}
    for reduction in reductions:
        results = {op.out.name for op in reduction.sums}
        if any(_needs(op, results, ops) for op in (*reduction.sums, *reduction.sunk)):
            return {op.out.name for op in reduction.sunk}
    return set()


def _needs(op: Op, results: set[str], ops: Mapping[str, Op]) -> bool:
    seen: set[str] = set()
    todo = list(op.args)
    while todo:
        name = todo.pop()
        if name in results:
            return True
        if name in ops and name not in seen:
            seen.add(name)
            todo += ops[name].args
    return False


def _in_order(items: list[Item]) -> list[Item]:
    """A sum waits for its last sibling: move what reads an earlier sibling behind it."""
    ready, waiting = [], list(items)
    made_here = {name for item in items for name in item.makes}
    done: Counter[str] = Counter()
    total = Counter(name for item in items for name in item.makes)
    while waiting:
        item = next(i for i in waiting if all(done[n] == total[n] for n in (i.aligned | i.whole) & made_here))
        waiting.remove(item)
        ready.append(item)
        done.update(item.makes)
    return ready


def _plain_items(stmt: Stmt, table: Mapping[str, Value]) -> Iterator[Item]:
    if isinstance(stmt, Repeat):
        makes = tuple(c.out.name for c in stmt.carried)
        yield Item(stmt, None, makes, frozenset(), free_names(stmt))
    elif stmt.kind == "concat":
        yield from _pieces(stmt, table)
    elif stmt.kind in WHOLE:
        yield Item(stmt, None, (stmt.out.name,), frozenset(), frozenset(reads(stmt)))
    else:
        axis = stmt.out.axes[0] if stmt.out.axes else None
        aligned = {a for a in reads(stmt) if _is_aligned(stmt, a, table)}
        yield Item(stmt, axis, (stmt.out.name,), frozenset(aligned), frozenset(reads(stmt)) - aligned)


def _is_aligned(stmt: Op, arg: str, table: Mapping[str, Value]) -> bool:
    if stmt.kind in ("gather", "slice") or (stmt.kind == "lut" and arg == stmt.args[1]):
        return False
    if stmt.kind in PRODUCTS:
        return arg not in stmt.args[:2]
    return table[arg].axes == stmt.out.axes


def _pieces(stmt: Op, table: Mapping[str, Value]) -> Iterator[Item]:
    offset = 0
    for part in stmt.args:
        axis = table[part].axes[0]
        yield Item(Piece(stmt, part, axis, offset), axis, (stmt.out.name,), frozenset([part]), frozenset())
        offset += axis.size


def _reduction_item(reduction: Reduction, table: Mapping[str, Value]) -> Item:
    inner = {op.out.name for op in reduction.sunk}
    makes = tuple(op.out.name for op in reduction.sums)
    aligned = {op.args[2] for op in reduction.sums if len(op.args) > 2 and table[op.args[2]].axes}
    whole = {arg for op in (*reduction.sums, *reduction.sunk) for arg in reads(op)} - inner - aligned
    # A start value that the inner loop also reads elsewhere must be complete before.
    both = {arg for op in reduction.sunk for arg in op.args} & aligned
    axis = reduction.sums[0].out.axes[0]
    return Item(reduction, axis, makes, frozenset(aligned - both), frozenset(whole | both))
