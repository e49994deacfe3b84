"""Frames that need not exist: what layers over frames hand to each other is kept for as long as it is needed only.

1. A loop over the elements of a convolution's result moves into the convolution (``Each``).
2. Pooling in windows that lie side by side moves into the convolution before it: the frame it reads is never stored.
3. Layers in a row run row by row (``Stream``): of a frame between two only the rows stay that the next row reads.

No value changes, nor does any status bit: what is computed for its status bit alone is still computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from ncpc.ir.loops import Assign, At, Each, For, Nest, Node, Operand, Ref, Stage, Stream, Window, storages
from ncpc.ir.types import Axis
from ncpc.ir.windows import windows_of

Frame = tuple[int, int, int, str]
"""Rows, columns, channels, layout."""


def streamed(nest: Nest) -> Nest:
    """The nest with as little of each frame stored as the order of its layers allows."""
    for change in (_with_each, _with_pool, _with_stream):
        nest = _everywhere(nest, change)
    return nest


def _everywhere(nest: Nest, change: Callable[[Nest, int], Nest | None]) -> Nest:
    at = 0
    while at < len(nest.body):
        changed = change(nest, at)
        nest, at = (nest, at + 1) if changed is None else (changed, at)
    return nest


def _reader(nest: Nest, name: str, at: int) -> int | None:
    """The one node that reads what the node ``at`` leaves in a local array; None if it is not one, or the next."""
    local = any(b.name == name and b.place == "local" and len(b.axes) == 1 for b in nest.buffers)
    users = [i for i, node in enumerate(nest.body) if name in storages(node)]
    return users[1] if local and len(users) == 2 and users[0] == at else None


def _joined(nest: Nest, at: int, other: int, node: Node, *gone: str) -> Nest:
    """The nest with two nodes in one, in the first one's place, and without the arrays between them."""
    body = [node if i == at else old for i, old in enumerate(nest.body) if i != other]
    return replace(nest, body=tuple(body), buffers=tuple(b for b in nest.buffers if b.name not in gone))


def _with_each(nest: Nest, at: int) -> Nest | None:
    conv = nest.body[at]
    if not isinstance(conv, Window) or conv.kind != "conv2d" or conv.each or conv.pool:
        return None
    other = _reader(nest, conv.out, at)
    loop = None if other is None else nest.body[other]
    if other is None or not isinstance(loop, For) or not _elementwise(nest, loop, {conv.out}):
        return None
    target = _made(loop)
    assert target is not None
    scalar = f"{target}_element"
    renamed = {conv.out: conv.out, target: scalar}
    body = tuple(_on_scalars(a, renamed) for a in _assigns(loop))
    type_ = next(b.type for b in nest.buffers if b.name == target)
    joined = replace(conv, out=target, each=Each(conv.out, body, scalar, type_))
    nest = replace(nest, types={**nest.types, scalar: type_})
    return _joined(nest, at, other, joined, conv.out)


def _assigns(loop: For) -> list[Assign]:
    return [node for node in loop.body if isinstance(node, Assign)]


def _made(loop: For) -> str | None:
    """The one array that an elementwise loop writes."""
    found = [a.out.name for a in _assigns(loop) if a.out.at]
    return found[0] if len(found) == 1 else None


def _elementwise(nest: Nest, loop: For, inputs: set[str] | None = None) -> bool:
    """Whether each pass reads and writes arrays at the loop's own element only, and of arrays only ``inputs``."""
    here, own = (At(loop.var),), {a.out.name for a in _assigns(loop) if not a.out.at}
    if loop.segment or len(_assigns(loop)) < len(loop.body) or _made(loop) is None:
        return False
    known = own | set(nest.program.constants)
    refs = [ref for a in _assigns(loop) for ref in (a.out, *a.args) if isinstance(ref, Ref) and not ref.whole]
    placed = all(ref.at == here or (not ref.at and ref.name in known) for ref in refs)
    arrays = {ref.name for ref in refs if ref.at} - {_made(loop)}
    return placed and (inputs is None or arrays == inputs)


def _on_scalars(a: Assign, renamed: dict[str, str]) -> Assign:
    """The statement with elements of arrays as scalars."""
    def scalar(operand: Operand) -> Operand:
        return Ref(renamed[operand.name]) if isinstance(operand, Ref) and operand.name in renamed else operand

    out = Ref(renamed.get(a.out.name, a.out.name))
    return replace(a, out=out, args=tuple(map(scalar, a.args)))


def _with_pool(nest: Nest, at: int) -> Nest | None:
    conv = nest.body[at]
    if not isinstance(conv, Window) or conv.kind != "conv2d" or conv.pool:
        return None
    other = _reader(nest, conv.out, at)
    pool = None if other is None else nest.body[other]
    if other is None or not isinstance(pool, Window) or pool.kind != "pool" or not _side_by_side(pool):
        return None
    return _joined(nest, at, other, replace(conv, out=pool.out, pool=replace(pool, args=())), conv.out)


def _side_by_side(pool: Window) -> bool:
    """Whether each element of the frame is in one window at most, and every mean is of as many."""
    w, function = windows_of(pool.attrs), pool.attrs["function"]
    places = (w.stride_h, w.stride_w, w.top, w.left) == (w.kernel_h, w.kernel_w, 0, 0)
    return places and (w.dilation_h, w.dilation_w) == (1, 1) and (function == "max" or w.inside)


def pooled(conv: Window) -> tuple[int, int]:
    """Rows and columns of the windows that a convolution with pooling goes through.

    They are those of the pooled frame, and those that stay incomplete if an element there may set a status bit.
    """
    assert conv.pool is not None
    w, p = windows_of(conv.attrs), windows_of(conv.pool.attrs)
    if not _flagged(conv):
        return p.rows, p.cols
    return max(p.rows, -(-w.rows // p.stride_h)), max(p.cols, -(-w.cols // p.stride_w))


def _flagged(node: Window | For) -> bool:
    """Whether it may set a status bit."""
    own = isinstance(node, Window) and node.attrs.get("flag") is not None
    return own or any(isinstance(part, Assign) and part.attrs.get("flag") is not None for part in node.body)


def _with_stream(nest: Nest, at: int) -> Nest | None:
    chain = _chain(nest, at)
    nodes = [node for node in map(nest.body.__getitem__, chain) if isinstance(node, Window | For)]
    while nodes and isinstance(nodes[-1], For):  # nothing is gained by an elementwise end
        nodes.pop()
    if len(nodes) < 2:
        return None
    stages = _stages(nest, nodes)
    kept = {a.out: _ring(a, b) for a, b in pairwise(stages)}
    buffers = tuple(replace(b, axes=(Axis(f"{b.axes[0].name}_kept", kept[b.name]),)) if b.name in kept else b
                    for b in nest.buffers)
    body = [Stream(tuple(stages)) if i == at else node for i, node in enumerate(nest.body)
            if i == at or i not in chain[: len(nodes)]]
    return replace(nest, body=tuple(body), buffers=buffers)


def _ring(stage: Stage, reader: Stage) -> int:
    """Numbers of a frame that are kept: as many rows as its reader wants at once."""
    return reader.span * stage.cols * stage.channels


def _chain(nest: Nest, at: int) -> list[int]:
    """Nodes that can run row by row, each the only reader of the one before."""
    node = nest.body[at]
    if not isinstance(node, Window) and not (isinstance(node, For) and _elementwise(nest, node)):
        return []
    chain = [at]
    while (reader := _reader(nest, _out(node), chain[-1])) is not None and _follows(nest, node, nest.body[reader]):
        node = nest.body[reader]
        chain.append(reader)
    return chain


def _out(node: Node) -> str:
    if isinstance(node, Window):
        return node.out
    assert isinstance(node, For)
    return _made(node) or ""


def _follows(nest: Nest, node: Node, reader: Node) -> bool:
    """Whether fewer rows than all need to be kept between the two."""
    if isinstance(reader, Window):
        span, stride, _ = _wants(reader)
        return stride <= span < windows_of(reader.attrs).height
    if not isinstance(reader, For) or not isinstance(node, Window):
        return False
    return _elementwise(nest, reader, {node.out}) and _frame(nest, node)[0] > 1


def _wants(node: Window | For) -> tuple[int, int, int]:
    """Span, stride and top: the rows of the frame before from which a row is made."""
    if isinstance(node, For):
        return 1, 1, 0
    w = windows_of(node.attrs)
    if node.pool is None:
        return w.span_h, w.stride_h, w.top
    p = windows_of(node.pool.attrs)
    return (p.kernel_h - 1) * w.stride_h + w.span_h, p.stride_h * w.stride_h, w.top


def _frame(nest: Nest, node: Window) -> Frame:
    """The frame that a node makes."""
    w = windows_of((node.pool or node).attrs)
    size = next(b.axes[0].size for b in nest.buffers if b.name == node.out)
    return w.rows, w.cols, size // w.places, w.layout


def _stages(nest: Nest, nodes: Sequence[Window | For]) -> list[Stage]:
    stages: list[Stage] = []
    demand = 0
    """Rows up to which the stage before has to be run for its status bits."""
    for node, reader in zip(nodes, [*nodes[1:], None], strict=True):
        rows, cols, channels, layout = _shape(nest, node, reader, stages)
        span, stride, top = _wants(node)
        work = pooled(node)[0] if isinstance(node, Window) and node.pool else rows
        turns = max(work, -(-(demand - span + top) // stride) + 1 if demand else 0)
        demand = turns if demand or _flagged(node) else 0
        stages.append(Stage(node, _out(node), work, cols, channels, layout, span, stride, top, turns))
    return stages


def _shape(nest: Nest, node: Window | For, reader: Window | For | None, before: Sequence[Stage]) -> Frame:
    if isinstance(node, Window):
        return _frame(nest, node)
    if isinstance(reader, Window):
        w = windows_of(reader.attrs)
        return w.height, w.width, w.channels, w.layout
    stage = before[-1]
    return stage.rows, stage.cols, stage.channels, stage.layout
