"""Program -> loop nest: ops over one axis share a loop, and only what must outlive an iteration is an array.

1. ``ncpc.passes.group`` decides which ops share a loop.
2. A value used only in the iteration that makes it is a scalar; the others are buffers.
3. ``ncpc.passes.carry`` decides where carried values (of a repeat, or states) are written: in place, or into a second
   buffer that is exchanged with the first after each pass, so that all elements change at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ncpc.ir.loops import Assign, At, Buffer, For, Nest, Node, Pair, Place, Ref, Times
from ncpc.ir.program import Carry, Op, Program, Repeat, Value, values
from ncpc.ir.types import Axis, Type
from ncpc.passes.carry import Carried, Mode, Reads, modes_of, reads_of
from ncpc.passes.elements import Scope, item_nodes, loop_var
from ncpc.passes.empty import without_empty_axes
from ncpc.passes.fold import prune
from ncpc.passes.group import Group, Piece, groups_of


@dataclass
class _Storage:
    """Buffers and names as they are handed out while the nest is built."""

    scope: Scope
    buffers: dict[str, Buffer] = field(default_factory=dict)
    homes: dict[str, str] = field(default_factory=dict)
    """Where the result of a repeat that carries on an outer value must end up."""

    def buffer(self, name: str, like: Value, place: Place) -> str:
        self.buffers[name] = Buffer(name, like.axes, like.type, place)
        self.scope.types[name] = like.type
        return name


def fuse(program: Program) -> Nest:
    """The loop nest of one step of ``program``."""
    program = prune(without_empty_axes(program))
    table = values(program)
    storage = _Storage(Scope(table, {}, set(), {name: v.type for name, v in table.items()}))
    storage.buffer(program.x.value.name, program.x.value, "x")
    if program.dt is not None:
        storage.buffer(program.dt.value.name, program.dt.value, "dt")
    states = [Carried(s.inp, s.out) for s in program.states]
    groups = groups_of(program.body, table, _results(states) | {program.y.value.name})
    reads = reads_of(groups, [program.y.value.name, *(s.result for s in states)])
    modes = modes_of(states, groups, reads)
    for state, mode in zip(states, modes, strict=True):
        _place_state(state, mode, storage)
    _place_y(program, states, storage)
    _place_values(groups, reads, storage)
    body = [node for group in groups for node in _group_nodes(group, storage)]
    body += _state_copies(states, modes, storage) + _y_copy(program, storage)
    return Nest(program, tuple(storage.buffers.values()), tuple(body), storage.scope.types)


def _results(carried: Iterable[Carried]) -> frozenset[str]:
    return frozenset(c.result for c in carried)


def _place_state(state: Carried, mode: Mode, storage: _Storage) -> None:
    name = storage.buffer(state.inner.name, state.inner, "state")
    storage.scope.names[name] = name
    if mode is Mode.IN_PLACE:
        storage.scope.names[state.result] = name
    elif mode is Mode.CHAIN:
        storage.homes[state.result] = name


def _place_y(program: Program, states: Sequence[Carried], storage: _Storage) -> None:
    """The op that makes the output writes it where the caller wants it, unless it is also carried."""
    y = program.y.value
    made = {s.out.name for s in program.body if isinstance(s, Op)}
    if y.name in made and y.name not in _results(states):
        storage.scope.names[y.name] = storage.buffer(y.name, y, "y")


def _y_copy(program: Program, storage: _Storage) -> list[Node]:
    y = program.y.value
    if storage.buffers.get(y.name, None) is not None and storage.buffers[y.name].place == "y":
        return []
    name = storage.buffer(f"{y.name}_out", y, "y")
    return [_copy(name, storage.scope.name(y.name), y, storage)]


def _state_copies(states: Sequence[Carried], modes: Sequence[Mode], storage: _Storage) -> list[Node]:
    """Copies to the states' homes; a state that becomes another's old value is first taken aside."""
    aside: list[Node] = []
    copies: list[Node] = []
    homes = {s.inner.name for s in states}
    for state, mode in zip(states, modes, strict=True):
        if mode in (Mode.IN_PLACE, Mode.CHAIN):
            continue
        source = storage.scope.name(state.result)
        if source in homes and source != state.inner.name:
            kept = storage.buffer(f"{state.inner.name}_kept", state.inner, "local")
            aside.append(_copy(kept, source, state.inner, storage))
            source = kept
        copies.append(_copy(state.inner.name, source, state.inner, storage))
    return aside + copies


def _place_values(groups: Sequence[Group], reads: Reads, storage: _Storage) -> None:
    """Buffers for the values of a body that have no storage yet and outlive their iteration."""
    for g, group in enumerate(groups):
        for item in group.items:
            if isinstance(item.work, Repeat):
                continue
            for name in item.makes:
                value = storage.scope.table[name]
                here = all(r.group == g and r.aligned for r in reads.get(name, ()))
                if name in storage.scope.names:
                    continue
                if not value.axes or (here and not isinstance(item.work, Piece)):
                    storage.scope.scalars.add(name)
                else:
                    storage.scope.names[name] = storage.buffer(name, value, "local")


def _group_nodes(group: Group, storage: _Storage) -> list[Node]:
    if isinstance(group.items[0].work, Repeat):
        return _repeat_nodes(group.items[0].work, storage)
    var = loop_var(group.axis, storage.scope.table) if group.axis else None
    body = tuple(node for item in group.items for node in item_nodes(item, var, storage.scope))
    return [For(var, group.axis, body)] if var and group.axis else list(body)


def _repeat_nodes(repeat: Repeat, storage: _Storage) -> list[Node]:
    carried = [Carried(c.inner, c.result) for c in repeat.carried]
    groups = groups_of(repeat.body, storage.scope.table, _results(carried))
    reads = reads_of(groups, _results(carried))
    modes = modes_of(carried, groups, reads)
    before: list[Node] = []
    pairs: list[Pair] = []
    for carry, mode in zip(repeat.carried, modes, strict=True):
        before += _enter(carry, mode, repeat.count, pairs, storage)
    _place_values(groups, reads, storage)
    body = [node for group in groups for node in _group_nodes(group, storage)]
    body += _pass_copies(repeat, modes, storage)
    return [*before, Times(repeat.count, tuple(pairs), tuple(body))]


def _enter(carry: Carry, mode: Mode, count: int, pairs: list[Pair], storage: _Storage) -> list[Node]:
    """Storage of one carried value, and the copy that brings its first value there."""
    scope, name = storage.scope, carry.inner.name
    init = scope.name(carry.init)
    home = storage.homes.get(carry.out.name) or storage.buffer(carry.out.name, carry.out, "local")
    scope.names[carry.out.name] = home
    if mode in (Mode.IN_PLACE, Mode.CHAIN) or not carry.inner.axes:
        first = scope.names[name] = home
        if mode is Mode.IN_PLACE:
            scope.names[carry.result] = home
        elif mode is Mode.CHAIN:
            storage.homes[carry.result] = home
    else:
        pair = _pair(carry, home, count, storage)
        pairs.append(pair)
        first = pair.first
        if mode is Mode.DOUBLE:
            scope.names[carry.result] = pair.next
    return [] if first == init else [_copy(first, init, carry.inner, storage)]


def _pair(carry: Carry, home: str, count: int, storage: _Storage) -> Pair:
    """Two faces of a carried array, so that the last of ``count`` passes writes ``home``."""
    # count = 2: the first value stands in home, pass 1 writes other, pass 2 home. count = 3: it stands in other, pass 1
    # writes home, pass 2 other, pass 3 home.
    name = carry.inner.name
    other = storage.buffer(f"{name}_other", carry.inner, "local")
    first, second = (home, other) if count % 2 == 0 else (other, home)
    pair = Pair(f"{name}", f"{name}_next", first, second, home)
    storage.scope.names[name] = pair.now
    storage.scope.types[pair.next] = carry.inner.type
    return pair


def _pass_copies(repeat: Repeat, modes: Sequence[Mode], storage: _Storage) -> list[Node]:
    """New values that were made elsewhere: arrays into the second face, numbers first aside, then all at once."""
    scope = storage.scope
    arrays: list[Node] = []
    aside: list[Node] = []
    numbers: list[Node] = []
    for carry, mode in zip(repeat.carried, modes, strict=True):
        name, source = carry.inner.name, scope.name(carry.result)
        if mode in (Mode.IN_PLACE, Mode.CHAIN):
            continue
        if carry.inner.axes:
            arrays += [_copy(f"{name}_next", source, carry.inner, storage)] if mode is Mode.COPY else []
            continue
        kept = f"{name}_next"
        scope.types[kept] = carry.inner.type
        aside.append(Assign("copy", Ref(kept), carry.inner.type, (Ref(source),), declares=True))
        numbers.append(Assign("copy", Ref(scope.names[name]), carry.inner.type, (Ref(kept),)))
    return arrays + aside + numbers


def _copy(to: str, source: str, like: Value, storage: _Storage) -> Node:
    return copy_node(to, source, like.axes, like.type, storage.scope)


def copy_node(to: str, source: str, axes: tuple[Axis, ...], type_: Type, scope: Scope) -> Node:
    """``to = source``, element by element."""
    if not axes:
        return Assign("copy", Ref(to), type_, (Ref(source),))
    var = loop_var(axes[0], scope.table)
    at = (At(var),)
    return For(var, axes[0], (Assign("copy", Ref(to, at), type_, (Ref(source, at),)),))
