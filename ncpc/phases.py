"""The phases of a long command: named, timed, shown by whoever watches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from ncpc.system import interruption

Mark = Literal["✓", "✗", "-"]
"""What came of a phase: done, found a fault, left out."""


class View(Protocol):
    """Someone who watches phases: the terminal, or nobody."""

    def begin(self, name: str) -> None: ...

    def advance(self, fraction: float) -> None: ...

    def end(self, name: str, seconds: float, note: str, mark: Mark) -> None: ...


class Silent:
    """Watches nothing."""

    def begin(self, name: str) -> None: ...

    def advance(self, fraction: float) -> None: ...

    def end(self, name: str, seconds: float, note: str, mark: Mark) -> None: ...


@dataclass
class Phase:
    """A running phase: ``advance(0.4)`` when that share is done; ``note`` is shown beside its time at the end, behind
    its ``mark``.
    """

    view: View
    note: str = ""
    mark: Mark = "✓"

    def advance(self, fraction: float) -> None:
        interruption.check()
        self.view.advance(fraction)


@dataclass
class Phases:
    """Runs phases one after the other and remembers how long each took, in seconds."""

    view: View = field(default_factory=Silent)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """A phase for the length of a ``with`` block; one that is left by an exception is not reported as done."""
        interruption.check()
        begin = time.perf_counter()
        self.view.begin(name)
        running = Phase(self.view)
        yield running
        interruption.check()
        self.seconds[name] = time.perf_counter() - begin
        self.view.end(name, self.seconds[name], running.note, running.mark)
