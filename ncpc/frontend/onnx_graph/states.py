"""Which inputs and outputs of an ONNX file look like states, and what of them nobody carries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice, permutations

from ncpc.errors import Unsupported
from ncpc.frontend.onnx_graph.cells import is_cell
from ncpc.frontend.onnx_graph.file import OnnxFile, OnnxPort

SHAPES = ("Shape", "Size")
"""What these give says nothing of a tensor's numbers."""
ALIKE = 0.6
"""Likeness of names (``difflib``) from which on they are taken for one state's."""
MOST_STATES, MOST_TRIED = 4, 6
"""States of a file whose pairings are all listed; pairings that are tried."""
Pairs = dict[str, str]
"""By inputs that take states: the outputs that give them for the next step."""


class StatesUntold(Unsupported):
    """Nothing says, or something says wrongly, which outputs are states."""


def fits(taken: OnnxPort, given: OnnxPort) -> bool:
    """Whether an output may be what an input takes in the next step; open dimensions fit any."""
    return len(taken.dims) == len(given.dims) and not any(
        a and b and a != b for a, b in zip(taken.dims, given.dims, strict=True))


def said(pairs: Mapping[str, str]) -> str:
    """The pairs as options of the command line."""
    return " ".join(f"--carry {taken}={given}" for taken, given in pairs.items())


def ports(some: Iterable[OnnxPort]) -> str:
    """Names and dimensions."""
    return ", ".join(map(str, some))


def forgotten(file: OnnxFile, carry: Mapping[str, str]) -> Pairs:
    """Inputs and outputs that look like states though ``carry`` does not name them: of one shape, and alike in name."""
    taken = [port for port in file.inputs if port.name not in carry]
    given = [port for port in file.outputs if port.name not in carry.values()]
    return _paired(taken, given, lambda a, b: a.dims == b.dims and likeness(a.name, b.name) >= ALIKE)


def require_carried(file: OnnxFile, carry: Mapping[str, str]) -> None:
    """Raises StatesUntold where cells begin from inputs that no output is carried to, naming all of them."""
    makers = {name: node for node in file.nodes if node.op not in SHAPES for name in node.outputs}
    inputs = {port.name: port for port in file.inputs if port.name not in carry}
    begun: Pairs = {}
    for node in filter(is_cell, file.nodes):
        todo = list(node.inputs[6:4:-1])
        while todo:
            name = todo.pop()
            if name in inputs:
                begun.setdefault(name, node.place)
            todo += makers[name].inputs if name in makers else ()
    if begun:
        several = len(begun) > 1
        raise StatesUntold(f"{next(iter(begun.values()))}: its state begins with the input{'s' * several} "
                           f"{' and '.join(map(repr, begun))}, to which no output is carried")


def advised(file: OnnxFile, carry: Mapping[str, str], reads: Callable[[Pairs], bool], sure: bool = False) -> str:
    """What to type instead of ``carry``, as the end of a message; ``reads`` tries whether a file is read so. Nothing
    where that is a guess, and ``sure``.
    """
    found = list(islice(_pairings(file, carry), MOST_TRIED))
    right = next((pairs for pairs in found if pairs != carry and reads(pairs)), None)
    if right is not None:
        alike = ", ".join(f"{taken} and {given}" for taken, given in right.items())
        return f"; {alike} are states: it can be read with {said(right)}"
    ends = f"inputs {ports(file.inputs)}; outputs {ports(file.outputs)}"
    likely = next((pairs for pairs in found if pairs != carry), {})
    if sure:
        return ""
    if not likely or carry in found[:1]:
        return f"; is every state named by --carry INPUT=OUTPUT? ({ends})"
    return f"; what looks most like its states: {said(likely)} ({ends})"


def likeness(a: str, b: str) -> float:
    """Of two names, from 0 to 1."""
    return SequenceMatcher(None, a, b).ratio()


def _pairings(file: OnnxFile, carry: Mapping[str, str]) -> Iterator[Pairs]:
    """What could be carried: those that pair most, by names that are most alike, first."""
    named = {port.name for port in file.inputs}
    taken = [port for port in file.inputs if any(fits(port, out) for out in file.outputs)]
    if len(taken) > MOST_STATES or len(file.outputs) > 2 * MOST_STATES:
        yield _paired(taken, file.outputs, fits)
        return
    choices = [*file.outputs, *[None] * len(taken)]
    found = {tuple(zip(taken, chosen, strict=True)) for chosen in permutations(choices, len(taken))}
    kept: list[Pairs] = [{a.name: b.name for a, b in pairs if b is not None} for pairs in found
                         if all(b is None or fits(a, b) for a, b in pairs)]
    kept = [pairs for pairs in kept if pairs and carry.keys() & named <= pairs.keys() and len(pairs) < len(named)]
    yield from sorted(kept, key=lambda pairs: (-sum(likeness(*pair) for pair in pairs.items()), sorted(pairs)))


def _paired(taken: Sequence[OnnxPort], given: Sequence[OnnxPort], fit: Callable[[OnnxPort, OnnxPort], bool]) -> Pairs:
    """An output of its own for each input that has one, those most alike in name first; in the order of inputs."""
    both = sorted(((a, b) for a in taken for b in given if fit(a, b)), key=lambda pair: -likeness(
        pair[0].name, pair[1].name))
    found: Pairs = {}
    for a, b in both:
        if a.name not in found and b.name not in found.values():
            found[a.name] = b.name
    return {port.name: found[port.name] for port in taken if port.name in found}
