"""What the tensors of a step are made of: each element is a channel of the graph times a gain, plus an offset.

Whatever only moves elements about (views, slices, concatenations) is applied to the three parts as it stands, and what
scales or shifts them by constants changes gain and offset; no layer comes of either until something reads the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import Unsupported
from ncpc.ir.heads import History, Scale, Select
from ncpc.ir.policy import INPUT, Layer, Tap, Taps
from ncpc.system.torch_library import torch_module

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Tensor = Any
"""A torch tensor."""

TIMESPAN = -1
"""The channel of the step's timespan; those of cells' states lie below it."""
LATER = -(1 << 40)
"""The first channel of what stands for steps to come; others lie below it."""
MOST_TAPS = 16
"""Pieces that a layer reads as they are; channels more scattered than that are selected first."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A tensor of the step: ``channel``, ``gain`` and ``offset`` are float64 tensors of its shape; ``time`` is the
    dimension of steps, where it is known to have one.
    """

    channel: Tensor
    gain: Tensor
    offset: Tensor
    time: int | None = None

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.channel, self.gain, self.offset

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.channel.shape)

    @property
    def constant(self) -> bool:
        """Whether no channel counts."""
        return not bool((self.gain != 0).any())

    @property
    def plain(self) -> bool:
        """Whether each element is a channel as it is."""
        return bool((self.gain == 1).all() and (self.offset == 0).all())

    def moved(self, move: Callable[[Tensor], Tensor]) -> Traced:
        """The same elements in another order or shape."""
        return Traced(*(move(part) for part in self.parts))


def of_constant(value: Tensor) -> Traced:
    """A tensor that does not depend on the inputs."""
    torch = torch_module()
    offset = torch.as_tensor(value).detach().to(torch.float64)
    return Traced(torch.zeros_like(offset), torch.zeros_like(offset), offset)


def of_channels(first: int, shape: Sequence[int]) -> Traced:
    """Consecutive channels from ``first`` on, in C order."""
    torch = torch_module()
    count = int(np.prod(shape, dtype=np.int64))
    channel = torch.arange(first, first + count, dtype=torch.float64).reshape(tuple(shape))
    return Traced(channel, torch.ones_like(channel), torch.zeros_like(channel))


@dataclass
class TracedGraph:
    """Layers as they are found. Channels are numbered through: those of the input, then each layer's.

    ``alias`` holds, for a channel of a cell's state, the output that equals it; ``histories`` the layers of that kind
    by what they keep and how long; ``behind`` the lines that pad time behind its last step.
    """

    inputs: int
    layers: list[Layer] = field(default_factory=list)
    wires: list[Taps] = field(default_factory=list)
    firsts: list[int] = field(default_factory=list)
    alias: dict[int, int] = field(default_factory=dict)
    histories: dict[tuple[bytes, int], int] = field(default_factory=dict)
    behind: list[str] = field(default_factory=list)
    hidden: int = TIMESPAN - 1
    """The next channel of a state."""

    def __post_init__(self) -> None:
        self.firsts.append(0)

    @property
    def ends(self) -> list[int]:
        """Where each source's channels end."""
        return [*self.firsts[1:], self.end]

    @property
    def end(self) -> int:
        return self.firsts[-1] + (self.layers[-1].outputs if self.layers else self.inputs)

    def add(self, layer: Layer, channels: I64) -> int:
        """Add a layer that reads ``channels``; its first channel."""
        taps = self.taps(channels)
        first = self.end
        self.layers.append(layer)
        self.wires.append(taps)
        self.firsts.append(first)
        return first

    def row(self, layers: Sequence[Layer], channels: I64) -> I64:
        """Add layers, one behind the other; the channels of the last."""
        for layer in layers:
            first = self.add(layer, channels)
            channels = np.arange(first, first + layer.outputs)
        return channels

    def states(self, count: int) -> I64:
        """New channels for a cell's state."""
        self.hidden -= count
        return np.arange(self.hidden + 1, self.hidden + 1 + count)

    def delayed(self, channels: I64, count: int) -> I64:
        """What the channels were ``count`` steps ago, and so on until now: (count + 1, channels)."""
        key = channels.tobytes(), count
        if key not in self.histories:
            self.histories[key] = self.add(History(np.arange(count, -1, -1), len(channels)), channels)
        first = self.histories[key]
        return np.arange(first, first + (count + 1) * len(channels)).reshape(count + 1, -1)

    def later(self, line: str) -> int:
        """A channel of steps to come, for which ``line`` made room."""
        self.behind.append(line)
        return LATER - len(self.behind) + 1

    def plain(self, traced: Traced) -> I64:
        """The channels of the elements, in C order, behind a layer that scales them where they are scaled."""
        channels = self.known(traced)
        if traced.plain:
            return channels
        gain, offset = (np.asarray(part, np.float64).reshape(-1) for part in (traced.gain, traced.offset))
        first = self.add(Scale(gain, offset), channels)
        return np.arange(first, first + len(channels))

    def known(self, traced: Traced) -> I64:
        """The channels of the elements, whatever their gains; those without one are channel 0.

        Raises Unsupported for what no layer gives: timespans, and states that are no outputs.
        """
        channels = np.asarray(traced.channel, np.int64).reshape(-1)
        channels = np.where(np.asarray(traced.gain).reshape(-1) == 0, 0, channels)
        for k in np.flatnonzero(channels < 0):
            channels[k] = self.alias.get(int(channels[k]), channels[k])
        if (channels == TIMESPAN).any():
            raise Unsupported("the timespan is computed with; pass it to the cells as it is")
        if (channels <= LATER).any():
            line = self.behind[LATER - int(channels.min())]
            raise Unsupported(f"{line}: reads steps that come later than the one it gives something for, as time is "
                              "padded behind its last step too; pad (kernel_size - 1) * dilation zeros before the "
                              "first step, and none behind the last or cut as many off")
        if (channels < 0).any():
            raise Unsupported("a cell's state is computed with that is not among its outputs; use its outputs")
        return channels

    def taps(self, channels: I64) -> Taps:
        """Pieces of sources that hold ``channels`` in this order; a layer selects them where they are too many."""
        cuts = np.flatnonzero((np.diff(channels) != 1) | np.isin(channels[1:], self.firsts)) + 1
        pieces = [(int(channels[a]), int(channels[b - 1]) + 1) for a, b in pairwise([0, *cuts, len(channels)])]
        if len(pieces) <= MOST_TAPS:
            return tuple(self._tap(lo, hi) for lo, hi in pieces)
        sources = sorted({self.source(int(c)) for c in channels})
        spans = [np.arange(self.firsts[s], self.ends[s]) for s in sources]
        where = {int(c): k for k, c in enumerate(np.concatenate(spans))}
        layer = Select(np.array([where[int(c)] for c in channels], np.int64), len(where))
        first = self.add(layer, np.concatenate(spans))
        return (self._tap(first, first + layer.outputs),)

    def source(self, channel: int) -> int:
        """Which source a channel is of: 0 for the input, from 1 on the layers."""
        return int(np.searchsorted(self.firsts, channel, side="right")) - 1

    def _tap(self, lo: int, hi: int) -> Tap:
        source = self.source(lo)
        return Tap(source + INPUT, lo - self.firsts[source], hi - self.firsts[source])
