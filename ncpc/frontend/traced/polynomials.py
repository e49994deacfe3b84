"""Elements of a traced step as polynomials of channels: what layers of sums, products and matrices make of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ncpc.frontend.traced.channels import I64, Traced, TracedGraph
from ncpc.ir.heads import Combine, Scale, Select
from ncpc.ir.policy import INPUT, Activation, Dense

Polynomial = dict[tuple[int, ...], float]
"""Coefficients by the channels that are multiplied, in ascending order; that of () is the constant."""


class Polynomials:
    """Of the elements of a graph whose inputs from ``first`` on are states: layers that depend on states are looked
    through where they are affine or products, all other channels stand for themselves.
    """

    def __init__(self, graph: TracedGraph, first: int) -> None:
        self.graph, self.first, self.found = graph, first, dict[int, Polynomial]()
        self.varying = {-1: True}
        for k, taps in enumerate(graph.wires):
            self.varying[k] = any(tap.stop > first if tap.source == INPUT else self.varying[tap.source] for tap in taps)

    def of(self, traced: Traced) -> list[Polynomial]:
        """Each element, in C order."""
        parts = (np.asarray(part, np.float64).reshape(-1) for part in traced.parts)
        return [scaled(self.element(int(c)), float(g), float(o)) for c, g, o in zip(*parts, strict=True)]

    def element(self, channel: int) -> Polynomial:
        """One channel."""
        if channel not in self.found:
            self.found[channel] = self._element(channel)
        return self.found[channel]

    def argument(self, channel: int, function: str) -> Polynomial | None:
        """What an element is this function of; None where it is not."""
        layer, place = self._at(channel)
        if not isinstance(layer, Activation) or layer.function != function:
            return None
        return self.element(int(self._read(channel)[place]))

    def opened(self, of: Polynomial) -> Polynomial:
        """An affine one, with channels of matrices in terms of what these read."""
        return total([(c, self._row(term[0]) if term else {(): 1.0}) for term, c in of.items()])

    def _row(self, channel: int) -> Polynomial:
        layer, place = self._at(channel)
        if not isinstance(layer, Dense):
            return {(channel,): 1.0}
        parts = zip(layer.weight[place], self._read(channel), strict=True)
        return total([(float(w), {(int(k),): 1.0}) for w, k in parts], layer.bias[place])

    def function(self, channel: int) -> str:
        """The elementwise function that gives a channel, if one does."""
        layer, _ = self._at(channel)
        return layer.function if isinstance(layer, Activation) else ""

    def _element(self, channel: int) -> Polynomial:
        layer, place = self._at(channel)
        if layer is None or not self.varying[self.graph.source(channel) - 1]:
            return {(channel,): 1.0}
        read = self._read(channel)
        if isinstance(layer, Dense):
            row = np.flatnonzero(layer.weight[place])
            return total([(float(layer.weight[place, k]), self.element(int(read[k]))) for k in row], layer.bias[place])
        if isinstance(layer, Scale):
            return scaled(self.element(int(read[place])), float(layer.weight[place]), float(layer.bias[place]))
        if isinstance(layer, Select):
            return self.element(int(read[layer.index[place]]))
        if isinstance(layer, Combine) and layer.function in ("add", "sub", "mul"):
            a, b = (self.element(int(read[k])) for k in (place, layer.width + place))
            sign = 1.0 if layer.function == "add" else -1.0
            return times(a, b) if layer.function == "mul" else total([(1.0, a), (sign, b)])
        return {(channel,): 1.0}

    def _at(self, channel: int) -> tuple[Any, int]:
        """The layer that gives a channel, and its place in it; None for an input."""
        source = self.graph.source(channel)
        return (None if source == 0 else self.graph.layers[source - 1]), channel - self.graph.firsts[source]

    def _read(self, channel: int) -> I64:
        """The channels that this channel's layer reads."""
        taps = self.graph.wires[self.graph.source(channel) - 1]
        starts = [self.graph.firsts[tap.source - INPUT] for tap in taps]
        return np.concatenate([np.arange(s + tap.start, s + tap.stop) for s, tap in zip(starts, taps, strict=True)])


def scaled(of: Polynomial, gain: float, offset: float) -> Polynomial:
    """``gain*p + offset``."""
    return total([(gain, of)], offset)


def total(parts: Iterable[tuple[float, Mapping[tuple[int, ...], float]]], constant: float = 0.0) -> Polynomial:
    """A weighted sum."""
    found: Polynomial = {(): float(constant)}
    for weight, part in parts:
        for term, coefficient in part.items():
            found[term] = found.get(term, 0.0) + weight * coefficient
    return {term: c for term, c in found.items() if c}


def times(a: Polynomial, b: Polynomial) -> Polynomial:
    """The product."""
    return total((c, {tuple(sorted(s + t)): d}) for s, c in a.items() for t, d in b.items())
