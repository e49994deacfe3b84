"""The strongly connected components of a network's synapses."""

from __future__ import annotations

from ncpc.ir.policy import Ltc


def components(layer: Ltc) -> list[list[int]]:
    """Sets of neurons that reach each other, each after all it is fed by (Tarjan 1972)."""
    feeding: dict[int, list[int]] = {i: [] for i in range(layer.neurons)}
    for pre, post in zip(layer.recurrent.pre, layer.recurrent.post, strict=True):
        feeding[int(post)].append(int(pre))
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    found: list[list[int]] = []

    def visit(node: int) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for source in feeding[node]:
            if source not in index:
                visit(source)
                low[node] = min(low[node], low[source])
            elif source in stack:
                low[node] = min(low[node], index[source])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(sorted(stack[at:]))
            del stack[at:]

    for node in feeding:
        if node not in index:
            visit(node)
    return found


def feeds_itself(layer: Ltc, group: list[int]) -> bool:
    """Whether a component has a cycle: more than one neuron, or a synapse from a neuron onto itself."""
    own = layer.recurrent.pre == layer.recurrent.post
    return len(group) > 1 or bool((own & (layer.recurrent.post == group[0])).any())
