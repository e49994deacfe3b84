"""Names and shapes of a layer's weights: what is what, and whether each has the sizes that its kind says."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from ncpc.errors import BadInput
from ncpc.frontend.keras.held import HeldLayer, last_name
from ncpc.frontend.keras.model import F64, WIRED, Wiring
from ncpc.frontend.keras.names import by_path
from ncpc.frontend.keras.told import KINDS

Bound = dict[str, int]
_TERM = re.compile(r"(\d*)([a-z]\d*)|(\d+)")
_BY_ORDER = {
    "CfcCell": ("ff1", "ff2", "time_a", "time_b"), "MixedCfcCell": ("ff1", "ff2", "time_a", "time_b"),
    "GRUODE": ("reset", "detect", "update"),
}
"""Kinds whose dense layers Keras numbered as it made them: a CfC's backbone first, then these."""
_HEADS = ("ff1_weight", "ff1_bias", "ff2_weight", "ff2_bias", "time_a/kernel", "time_a/bias", "time_b/kernel",
          "time_b/bias")


def named_weights(kind: str, held: HeldLayer, where: str) -> dict[str, F64]:
    """The weights under the names that readers know. Raises ``BadInput`` where they are not those of ``kind``."""
    found = _by_order(kind, held, where) if kind in _BY_ORDER else by_path(held.weights, KINDS[kind].read_as, False)
    if kind == "WiredCfcCell":
        return found
    known = shapes_of(kind, found)
    for name in known:
        if not name.endswith("?") and name not in found:
            raise BadInput(f"{where} lacks the weight '{name}'; it holds {', '.join(found)}")
    for name in found:
        if name not in known and f"{name}?" not in known:
            raise BadInput(f"{where} holds the weight '{name}' {found[name].shape} too, which no {kind} has")
    return found


def _by_order(kind: str, held: HeldLayer, where: str) -> dict[str, F64]:
    """Pairs of kernel and bias in their order, behind those of a memory."""
    memory, last = KINDS[kind].memory, _BY_ORDER[kind]
    own = {f"memory/{last_name(path)}": array for path, array in held.weights[:3]} if memory else {}
    rest = held.weights[3:] if memory else held.weights
    ends, depth = [last_name(path) for path, _ in rest], len(rest) // 2 - len(last)
    if ends != ["kernel", "bias"] * (len(rest) // 2) or depth < 0 or (depth and kind == "GRUODE"):
        before = "" if kind == "GRUODE" else "each layer of the backbone, then for "
        raise BadInput(f"{where} holds {', '.join(ends)}; expected a kernel and a bias for {before}{', '.join(last)}")
    names = [*(f"backbone{i}" for i in range(depth)), *last]
    parts = [f"{name}_{part.replace('kernel', 'weight')}" if name.startswith("ff") else f"{name}/{part}"
             for name in names for part in ("kernel", "bias")]
    return {**own, **dict(zip(parts, (array for _, array in rest), strict=True))}


def shapes_of(kind: str, weights: Mapping[str, F64]) -> dict[str, str]:
    """Sizes by name, those of a backbone included."""
    told = KINDS[kind]
    if "ff1_weight" not in told.shapes:
        return dict(told.shapes)
    depth = sum(name.startswith("backbone") and name.endswith("kernel") for name in weights)
    given = "2u" if told.memory else "i+u"
    widths = [given, *(f"b{i}" for i in range(depth))]
    found = {name: sizes.replace("z", widths[-1]) for name, sizes in told.shapes.items()}
    for i, (before, after) in enumerate(pairwise(widths)):
        found |= {f"backbone{i}/kernel": f"{before} {after}", f"backbone{i}/bias": after}
    return found


def require_shapes(kind: str, weights: Mapping[str, F64], inputs: int | None, where: str) -> None:
    """Raises ``BadInput`` naming the first weight whose sizes contradict the kind, the others' or the input's width."""
    bound: Bound = {} if inputs is None else {"i": inputs}
    for name, sizes in shapes_of(kind, weights).items():
        array = weights.get(name.rstrip("?"))
        if array is not None:
            require_sizes(name.rstrip("?"), array, sizes.split(), bound, where)


def require_sizes(name: str, array: F64, sizes: Sequence[str], bound: Bound, where: str) -> None:
    """Raises ``BadInput`` where the shape is none of these sizes; else ``bound`` holds those that were open."""
    fits = array.ndim == len(sizes) and all(_fits(s, n, bound) for s, n in zip(sizes, array.shape, strict=True))
    if not fits:
        open_ones = array.shape if array.ndim == len(sizes) else sizes
        expected = ", ".join(str(_total(size, bound) or n) for size, n in zip(sizes, open_ones, strict=True))
        read = bound.get("i")
        raise BadInput(f"{where}: weight '{name}' has shape {array.shape}, expected ({expected})"
                       f"{'' if read is None else f' behind an input of {read}'}; correct the architecture")


def _fits(size: str, n: int, bound: Bound) -> bool:
    """Whether ``n`` is the size, by which its one open letter becomes known."""
    known, factor, letter = 0, 0, ""
    for times, name, number in _TERM.findall(size):
        if number or name in bound:
            known += int(number) if number else int(times or 1) * bound[name]
        else:
            factor, letter = int(times or 1), name
    if not letter:
        return n == known
    if n <= known or (n - known) % factor:
        return False
    bound[letter] = (n - known) // factor
    return True


def _total(size: str, bound: Bound) -> int | None:
    """The size as a number, None where a letter in it is open."""
    terms = _TERM.findall(size)
    if any(name and name not in bound for _, name, _ in terms):
        return None
    return sum(int(number) if number else int(times or 1) * bound[name] for times, name, number in terms)


def require_stages(weights: Mapping[str, F64], wiring: Wiring, where: str) -> None:
    """Raises ``BadInput`` where the weights are not those of a wired CfC with this wiring."""
    stages = sum(name.endswith("/ff1_weight") for name in weights)
    if stages != len(wiring.stages):
        raise BadInput(f"{where} holds {stages} cells, but its wiring has {len(wiring.stages)} layers of neurons; give "
                       "the wiring it was trained with")
    for i, (neurons, mask) in enumerate(wiring.stages):
        for name in _HEADS:
            sizes = (len(neurons),) if name.endswith("bias") else mask.shape
            found = weights.get(f"stage{i}/{name}")
            if found is None or found.shape != sizes:
                what = "is not there" if found is None else f"has shape {found.shape}"
                raise BadInput(f"{where}: weight '{name}' of the wiring's layer {i} {what}, expected {sizes}; give the "
                               "wiring it was trained with")


def kind_fits(kind: str, held: HeldLayer) -> bool:
    """Whether the names and shapes of a layer's weights are those of a kind, whatever its input."""
    try:
        weights = named_weights(kind, held, "")
        if KINDS[kind].read_as == WIRED:
            return "stage0/ff1_weight" in weights
        require_shapes(kind, weights, None, "")
    except BadInput:
        return False
    return True


def guessed_kind(layer: HeldLayer) -> str | None:
    """The first kind whose weights have these names and shapes."""
    return next((kind for kind, told in KINDS.items() if told.holds and kind_fits(kind, layer)), None)


def width_of(shape: tuple[int, ...] | None, over_frames: bool, where: str) -> int | None:
    """Of what a layer reads; None where it is not known. Raises ``BadInput`` for a frame before a layer of vectors."""
    if shape is not None and len(shape) > 1 and not over_frames:
        raise BadInput(f"{where} reads a vector, but what comes before it is a frame of {shape}; put a Flatten between")
    return None if shape is None else shape[-1]

