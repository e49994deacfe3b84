"""Which modules a bare ``state_dict`` holds, told by the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ncpc.errors import BadInput

MOST_PARTS = 100
"""Modules that a file is searched for: more of them are no policy."""

REQUIRED = ("gleak", "vleak", "cm", "sigma", "mu", "w", "erev", "sparsity_mask", "sensory_sigma", "sensory_mu",
            "sensory_w", "sensory_erev", "sensory_sparsity_mask")
"""The tensors of every ncps LTC."""
MAPPINGS = ("input_w", "input_b", "output_w", "output_b")
CFC = r"(ff1|ff2|time_a|time_b)\.(weight|bias)|w_tau|A|sparsity_mask"
MEMORY = ("input_map.weight", "input_map.bias", "recurrent_map.weight")
INNER = "rnn_cell."
"""Where the sequence modules of ncps keep their cell, beside ``lstm.`` and ``fc.``."""


@dataclass(frozen=True)
class PartKind:
    """Modules that have a tensor called ``mark``; ``names`` is a pattern of all that they may have."""

    name: str
    mark: str
    names: str


LTC = PartKind("ltc", "gleak", "|".join((*REQUIRED, *MAPPINGS)))
WIRED = PartKind("wired_cfc", "layer_0.ff1.weight", rf"layer_\d{{1,4}}\.({CFC})")
PLAIN = PartKind("cfc", "ff1.weight", rf"backbone\.\d{{1,4}}\.(weight|bias)|{CFC}")
SEQUENCE = PartKind("rnn", "weight_ih_l0", r"(weight|bias)_(ih|hh|hr)_l\d+(_reverse)?")
CELL = PartKind("cell", "weight_ih", r"(weight|bias)_(ih|hh)")
LINEAR = PartKind("linear", "weight", "weight|bias")
KINDS = (LTC, WIRED, PLAIN, SEQUENCE, CELL)
OF_NCPS = (LTC, WIRED, PLAIN)


@dataclass(frozen=True, eq=False)
class Part:
    """One module of the state_dict: its tensors by their names in it, where they stood, and what ncps puts around it.

    ``memory`` holds the tensors of mixed memory's LSTM, ``projection`` those of a CfC's ``proj_size``; empty for none.
    """

    name: str
    prefix: str
    kind: PartKind
    tensors: Mapping[str, Any]
    memory: Mapping[str, Any] = field(default_factory=dict)
    projection: Mapping[str, Any] = field(default_factory=dict)


def parts_of(state: Mapping[str, Any]) -> tuple[Part, ...]:
    """Every module of a state_dict of tensors, in the order of the file, by short names that differ.

    Raises ``BadInput`` naming the first tensor that belongs to no module known here.
    """
    left, found = dict(state), list[Part]()
    for kind in KINDS:
        marks = [key for key in left if key == kind.mark or key.endswith(f".{kind.mark}")]
        _require_few(len(marks))
        found += [_taken(left, key.removesuffix(kind.mark), kind) for key in marks]
    found = [_with_surroundings(left, part) if part.kind in OF_NCPS else part for part in found]
    places = {key: i for i, key in enumerate(state)}
    found = sorted([*found, *_linears(left)], key=lambda part: places[part.prefix + next(iter(part.tensors))])
    _require_few(len(found))
    return tuple(_named(found))


def _require_few(count: int) -> None:
    if count > MOST_PARTS:
        raise BadInput(f"state_dict: holds {count} modules, more than the {MOST_PARTS} that are read from weights "
                       "alone; import the model by its class or factory")


def _taken(left: dict[str, Any], prefix: str, kind: PartKind) -> Part:
    own = re.compile(kind.names)
    names = [key.removeprefix(prefix) for key in left if key.startswith(prefix) and own.fullmatch(key[len(prefix):])]
    return Part(prefix.rstrip("."), prefix, kind, {name: left.pop(prefix + name) for name in names})


def _with_surroundings(left: dict[str, Any], part: Part) -> Part:
    """The part with the mixed memory and the projection that stand beside its cell."""
    if not f".{part.prefix}".endswith(f".{INNER}"):
        return part
    around = part.prefix.removesuffix(INNER)
    memory = {name: left.pop(f"{around}lstm.{name}") for name in MEMORY if f"{around}lstm.{name}" in left}
    projection = {}
    if part.kind is not LTC and _is_projection(left, around, part, bool(memory)):
        names = [name for name in ("weight", "bias") if f"{around}fc.{name}" in left]
        projection = {name: left.pop(f"{around}fc.{name}") for name in names}
    return replace(part, name=around.rstrip(".") or part.name, memory=memory, projection=projection)


def _is_projection(left: Mapping[str, Any], around: str, part: Part, remembers: bool) -> bool:
    """Whether ``fc`` beside a CfC reads it. At the root it may be a layer of the model's own, if it fits before the
    cell and no memory shows that ncps made what is around.
    """
    weight = left.get(f"{around}fc.weight")
    if weight is None or around or remembers:
        return weight is not None
    cell = [tensor for name, tensor in part.tensors.items() if name.endswith("ff1.bias")][:1]
    first = next(tensor for name, tensor in part.tensors.items() if name.endswith("weight"))
    if weight.ndim != 2 or first.ndim != 2 or not cell:
        return True
    return bool(weight.shape[0] + cell[0].numel() != first.shape[1])


def _linears(left: Mapping[str, Any]) -> list[Part]:
    """What is left, which has to be dense layers."""
    groups: dict[str, dict[str, Any]] = {}
    for key, tensor in left.items():
        prefix, dot, name = key.rpartition(".")
        groups.setdefault(prefix + dot, {})[name] = tensor
    for prefix, tensors in groups.items():
        if not set(tensors) <= {"weight", "bias"} or "weight" not in tensors or tensors["weight"].ndim != 2:
            odd = next((name for name in tensors if name not in ("weight", "bias")), next(iter(tensors)))
            raise BadInput(f"state_dict: '{prefix}{odd}' belongs to no LTC, CfC, LSTM, GRU, RNN or Linear; import the "
                           "whole model by its class or factory, or give --prefix of the part to read")
    return [Part(prefix.rstrip("."), prefix, LINEAR, tensors) for prefix, tensors in groups.items()]


def _named(found: list[Part]) -> list[Part]:
    """Names without what all of them begin with; a module at the root is called by its kind."""
    split = [part.name.split(".") for part in found]
    common = 0
    while split and all(len(words) > common + 1 and words[common] == split[0][common] for words in split):
        common += 1
    names = [".".join(words[common:]) or part.kind.name for words, part in zip(split, found, strict=True)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BadInput(f"state_dict: two modules in it are called '{twice}'; give --prefix of the one to read")
    return [replace(part, name=name) for part, name in zip(found, names, strict=True)]
