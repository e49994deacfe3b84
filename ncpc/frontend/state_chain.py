"""In which order the modules of a bare ``state_dict`` run, and the functions between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ncpc.errors import BadInput
from ncpc.frontend.torch_activations import activation_readers
from ncpc.ir.heads import Softmax
from ncpc.ir.policy import Layer
from ncpc.system.torch_library import torch_module

FUNCTIONS = {
    "relu": "ReLU", "tanh": "Tanh", "sigmoid": "Sigmoid", "silu": "SiLU", "gelu": "GELU", "elu": "ELU", "selu": "SELU",
    "leaky_relu": "LeakyReLU", "relu6": "ReLU6", "hardtanh": "Hardtanh", "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish", "softplus": "Softplus",
}
"""What may stand between modules, by its word: the class of torch.nn with its default arguments. ``softmax`` too."""
SOFTMAX = "softmax"
MOST_TRIED = 10_000
"""Steps of the search for orders that fit."""


@dataclass(frozen=True)
class PartWidths:
    """How many values a module takes and gives; None where that is not known yet."""

    inputs: int
    outputs: int | None


def guessed_order(widths: Mapping[str, PartWidths]) -> tuple[tuple[str, ...] | None, bool]:
    """An order in which every module takes what the one before gives, None where there is none, and whether it is the
    only one. The order of the file goes first: modules are mostly made in the order of their use.
    """
    found = list(islice(_orders(widths), 2))
    return (found[0] if found else None), len(found) == 1


def _orders(widths: Mapping[str, PartWidths]) -> Iterator[tuple[str, ...]]:
    """All orders that fit, as far as few enough steps find them; those near the file's order first."""
    begun: list[tuple[str, ...]] = [()]
    for _ in range(MOST_TRIED):
        if not begun:
            return
        order = begun.pop()
        if len(order) == len(widths):
            yield order
        rest = [name for name in widths if name not in order and _fits(widths, order[-1:], name)]
        begun += [(*order, name) for name in reversed(rest)]


def _fits(widths: Mapping[str, PartWidths], before: tuple[str, ...], name: str) -> bool:
    return all(widths[other].outputs in (None, widths[name].inputs) for other in before)


def chained(read: Mapping[str, Sequence[Layer]], words: Sequence[str]) -> list[Layer]:
    """The layers of the modules and functions that ``words`` name, one behind the other.

    Raises ``BadInput`` for a word that is neither, a module left out or named twice, and widths that do not fit.
    """
    _require_each_once(read, words)
    layers: list[Layer] = []
    width: int | None = None
    for word in words:
        found = list(read[word]) if word in read else _function(word, width)
        if word in read and width not in (None, found[0].inputs):
            raise BadInput(f"state_dict: '{word}' takes {found[0].inputs} values, but what --layers puts before it "
                           f"gives {width}; give the order in which they run")
        layers += found
        width = found[-1].outputs if word in read else width
    return layers


def _require_each_once(read: Mapping[str, object], words: Sequence[str]) -> None:
    there = ", ".join(read)
    for word in words:
        if word not in read and word not in FUNCTIONS and word != SOFTMAX:
            raise BadInput(f"state_dict: --layers names '{word}', which is neither a module of the file ({there}) nor "
                           f"one of {', '.join([*FUNCTIONS, SOFTMAX])}")
        if word in read and words.count(word) > 1:
            raise BadInput(f"state_dict: --layers names '{word}' twice; a module runs once in each step")
    if left := [name for name in read if name not in words]:
        raise BadInput(f"state_dict: --layers leaves out {', '.join(left)}; name every module of the file ({there}), "
                       "or give --prefix of those that run")


def _function(word: str, width: int | None) -> list[Layer]:
    if word != SOFTMAX:
        module = getattr(torch_module().nn, FUNCTIONS[word])()
        return activation_readers()[type(module)](module)
    if width is None:
        raise BadInput("state_dict: --layers begins with softmax; it stands behind a module")
    return [Softmax(width)]
