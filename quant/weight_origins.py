"""Which parameters of a module a weight of its program is made of, found by changing them a little and reading again.

Readers fold, cut, turn, join and scale what a module holds, and passes merge products; none of them has to say so. A
weight is followed where each of its elements is a sum ``gain*p + ...`` with one element of each of some parameters. So
are all of which ncpc makes weights, but for products and functions of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.system.torch_library import torch_module

Weights = list[tuple[int, str, F64]]
"""Place, name and data of each weight."""
Read = Callable[[], Weights]
STEP = 2.0**-6
"""Share by which a parameter is changed: little, so that readers take the same forms for what they read."""
CLOSE = 1e-9
"""How near, relatively, sums must come to a weight to explain it."""


@dataclass(frozen=True, eq=False)
class WeightTerm:
    """What one parameter adds to a weight's elements: ``gain`` times its element at the flat ``index``; arrays of the
    weight's shape. Where it adds nothing, ``gain`` is 0.
    """

    parameter: str
    gain: F64
    index: I64


@dataclass(frozen=True, eq=False)
class WeightOrigin:
    """The terms of one weight; ``known`` (its shape): which elements their sum explains. Zeros need no explanation."""

    terms: tuple[WeightTerm, ...]
    known: np.ndarray[Any, np.dtype[np.bool_]]

    def sum(self, values: Mapping[str, F64]) -> F64:
        """The weight's data for these values of the parameters."""
        total = np.zeros(self.known.shape)
        for term in self.terms:
            total = total + _added(term, values)
        return total


def explains(origin: WeightOrigin, data: F64, values: Mapping[str, F64]) -> bool:
    """Whether a weight is still made so of its parameters, wherever that was known; and no element is new."""
    if origin.known.shape != data.shape or np.any((data != 0) & ~origin.known):
        return False
    return bool(_near(origin.sum(values), data).all())


def origins_of(module: Any, read: Read) -> list[WeightOrigin]:
    """The origin of each weight that ``read()`` finds in ``module``, a copy in double precision whose parameters are
    changed and put back.
    """
    base = [data for _, _, data in read()]
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad and p.is_floating_point()}
    values = {name: p.detach().numpy().copy() for name, p in parameters.items()}
    matrices = [name for name, p in parameters.items() if p.dim() > 1]
    found = _at_once(parameters, matrices, base, values, read)
    if all(origin.known.all() for origin in found):
        return found
    terms: list[list[WeightTerm]] = [[] for _ in base]
    for name in sorted(parameters, key=lambda name: -parameters[name].dim()):
        for k, term in _one(name, parameters[name], base, read):
            terms[k].append(term)
    return [origin if origin.known.all() else _put_together(own, data, values)
            for origin, own, data in zip(found, terms, base, strict=True)]


def _at_once(parameters: Mapping[str, Any], names: Sequence[str], base: Sequence[F64], values: Mapping[str, F64],
             read: Read) -> list[WeightOrigin]:
    """Weights whose every element is a multiple of one element of a matrix: all matrices changed in two readings."""
    sizes = [values[name].size for name in names]
    total, ends = sum(sizes), np.cumsum([0, *sizes])
    if not total:
        return [WeightOrigin((), data == 0) for data in base]
    flat = np.concatenate([values[name].reshape(-1) for name in names])
    order = np.random.default_rng(0).permutation(total)
    changes = STEP * (1 + np.arange(total)) / total, STEP * (1 + order) / total
    seen = []
    for change in changes:
        parts = dict(zip(names, np.split(change, ends[1:-1]), strict=True))
        with _changed(parameters, parts):
            seen.append(_same(read(), base))
    found = []
    for k, data in enumerate(base):
        ratios = [_ratio(None if other is None else other[k], data) for other in seen]
        place = np.nan_to_num((ratios[0] - 1) / STEP * total - 1)
        index = np.clip(np.round(place), 0, total - 1).astype(np.int64)
        known = (data == 0) | np.all([np.abs(ratio - 1 - change[index]) < STEP * 1e-3 / total
                                      for ratio, change in zip(ratios, changes, strict=True)], axis=0)
        gain = np.divide(data, flat[index], out=np.zeros_like(data), where=known & (flat[index] != 0))
        whose = np.searchsorted(ends, index, side="right") - 1
        terms = tuple(WeightTerm(names[n], np.where(whose == n, gain, 0.0), np.where(whose == n, index - ends[n], 0))
                      for n in np.unique(whose[gain != 0]))
        found.append(WeightOrigin(terms, known))
    return found


def _one(name: str, parameter: Any, base: Sequence[F64], read: Read) -> Iterator[tuple[int, WeightTerm]]:
    """What one parameter adds to each weight, where each element of that depends on one of its."""
    count, value = parameter.numel(), parameter.detach().numpy().reshape(-1).copy()
    if not count:
        return
    changes = np.full(count, STEP), STEP * (1 + (1 + np.arange(count)) / count)
    seen = []
    for change in changes:
        with _changed({name: parameter}, {name: change}):
            seen.append(_same(read(), base))
    if seen[0] is None or seen[1] is None:
        return
    for k, data in enumerate(base):
        first, second = (other[k] - data for other in seen if other is not None)
        moved = np.abs(first) > 1e-13 * np.abs(data)
        place = (_ratio(second, np.where(moved, first, 0.0)) - 1) * count - 1
        index = np.clip(np.round(np.where(moved, place, 0.0)), 0, count - 1).astype(np.int64)
        linear = moved & (np.abs(place - index) < 1e-2) & (value[index] != 0)
        gain = np.divide(first, value[index] * STEP, out=np.zeros_like(first), where=linear)
        if np.any(gain):
            yield k, WeightTerm(name, gain, index)


def _put_together(terms: Sequence[WeightTerm], data: F64, values: Mapping[str, F64]) -> WeightOrigin:
    """Element by element the first parameter that explains it alone, else all of them together."""
    kept = [np.zeros_like(data) for _ in terms]
    known = data == 0
    for k, term in enumerate(terms):
        alone = ~known & (term.gain != 0) & _near(_added(term, values), data)
        kept[k][alone] = term.gain[alone]
        known = known | alone
    whole = WeightOrigin(tuple(terms), known).sum(values)
    together = ~known & _near(whole, data)
    for k, term in enumerate(terms):
        kept[k][together] = term.gain[together]
    found = tuple(WeightTerm(term.parameter, gain, term.index)
                  for term, gain in zip(terms, kept, strict=True) if gain.any())
    return WeightOrigin(found, known | together)


def _added(term: WeightTerm, values: Mapping[str, F64]) -> F64:
    added: F64 = term.gain * values[term.parameter].reshape(-1)[term.index]
    return added


def _near(found: F64, data: F64) -> np.ndarray[Any, np.dtype[np.bool_]]:
    near: np.ndarray[Any, np.dtype[np.bool_]] = np.abs(found - data) <= CLOSE * np.abs(data)
    return near


def _ratio(other: F64 | None, data: F64) -> F64:
    if other is None:
        return np.full(data.shape, np.nan)
    ratio: F64 = np.divide(other, data, out=np.ones_like(data), where=data != 0)
    return ratio


def _same(found: Weights, base: Sequence[F64]) -> list[F64] | None:
    """The data of a reading, if its weights have the same shapes as those before."""
    data = [data for _, _, data in found]
    return data if [d.shape for d in data] == [d.shape for d in base] else None


@contextmanager
def _changed(parameters: Mapping[str, Any], shares: Mapping[str, F64]) -> Iterator[None]:
    """While inside, parameters that are larger by these shares of themselves."""
    torch = torch_module()
    before = {name: parameters[name].detach().clone() for name in shares}
    with torch.no_grad():
        for name, share in shares.items():
            parameters[name].mul_(1 + torch.as_tensor(share).reshape(before[name].shape))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
