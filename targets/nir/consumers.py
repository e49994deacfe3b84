"""Norse, snnTorch and SpikingJelly: the simulators that run the written file, each through its own importer.

The one place that imports them, each only when asked for. They come with the extra ``consumers``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool, NcpcError, ProofFailed
from ncpc.system.torch_library import torch_module
from ncpc.targets.nir.graph import TICK_S, UNITS, library
from ncpc.targets.nir.spikes import Bools

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Consumer:
    """A simulator: its distribution, the module whose import decides whether it is there, and how it loads a graph.

    ``nodes`` are the kinds of nodes that it reads as they are written, ``otherwise`` what it does to others,
    ``unequal`` what it does to a LIF whose time constants differ ("" where it reads it right).
    """

    name: str
    module: str
    load: Callable[[Any], Torch]
    nodes: frozenset[str]
    otherwise: str
    unequal: str

    def version(self) -> str | None:
        """The installed version, None where it cannot be imported."""
        try:
            self.imported()
            return metadata.version(self.name)
        except (MissingTool, metadata.PackageNotFoundError):
            return None

    def imported(self) -> Any:
        """The module; raises MissingTool, saying which package was missing."""
        try:
            with quiet():
                return importlib.import_module(self.module)
        except ImportError as error:
            absent = error.name if error.name and not self.module.startswith(error.name) else self.name
            raise MissingTool(f"{self.name}: {absent} is not installed; pip install 'ncpc[consumers]'") from None


@dataclass
class Torch:
    """A loaded torch module that is called as ``y, state = module(x, state)``, at rest while ``state`` is None.

    ``spikes`` picks the spikes of the unit node out of that state; ``holds_state``: the module keeps some itself.
    """

    module: Any
    spikes: Callable[[Any], Any]
    holds_state: bool = False
    state: Any = None

    def tick(self, x: F32) -> tuple[F32, Bools | None]:
        """One tick; see ``runs.Machine``."""
        torch = torch_module()
        with torch.no_grad(), quiet():
            given = (torch.from_numpy(x),) if self.state is None else (torch.from_numpy(x), self.state)
            y, self.state = self.module(*given)
            spikes = self.spikes(self.state)
        return y.numpy().astype(np.float32), None if spikes is None else np.asarray(spikes.numpy() > 0)

    def fork(self) -> Torch:
        """A copy in the same state."""
        module = deepcopy(self.module) if self.holds_state else self.module
        return Torch(module, self.spikes, self.holds_state, deepcopy(self.state))


def load(name: str, path: Path) -> Torch:
    """The file at ``path`` in the consumer ``name``, at rest. Raises MissingTool when that is not installed."""
    consumer = CONSUMERS[name]
    consumer.imported()
    with quiet():
        return consumer.load(library().read(path))


@contextlib.contextmanager
def faults(runtime: str) -> Iterator[None]:
    """Whatever a runtime raises over a file is the file's fault: ProofFailed, in one line."""
    try:
        yield
    except NcpcError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise ProofFailed(f"{runtime}: cannot run the file ({type(error).__name__}: {said})") from error


def _norse(graph: Any) -> Torch:
    module = CONSUMERS["norse"].imported().from_nir(graph, dt=TICK_S)
    return Torch(module, lambda state: state.cache.get(UNITS))


def _snntorch(graph: Any) -> Torch:
    return Torch(CONSUMERS["snntorch"].imported().import_from_nir(graph), _of_nirtorch, holds_state=True)


def _spikingjelly(graph: Any) -> Torch:
    return Torch(CONSUMERS["spikingjelly"].imported().import_from_nir(graph, dt=TICK_S), _of_nirtorch)


def _of_nirtorch(state: Any) -> Any:
    """nirtorch keeps the output of every node on a cycle for the next tick, under this name."""
    return state.get(f"{UNITS}_prev_output")


COMMON = frozenset({"Input", "Output", "Affine", "Linear", "Conv2d", "Flatten", "LIF"})
CONSUMERS: dict[str, Consumer] = {c.name: c for c in (
    Consumer("norse", "norse.torch", _norse, COMMON, "leaves out without a word", ""),
    Consumer("snntorch", "snntorch.import_nir", _snntorch, COMMON | {"Conv1d", "AvgPool2d"}, "refuses",
             "scales the inputs of all by the largest of them"),
    Consumer("spikingjelly", "spikingjelly.activation_based.nir_exchange", _spikingjelly,
             COMMON | {"Conv1d", "AvgPool2d"}, "refuses", "refuses them"),
)}


def obstacle(consumer: Consumer, graph: Any) -> str:
    """Why ``consumer`` does not read ``graph`` as it is written, in words; "" where it does."""
    strange = sorted({type(node).__name__ for node in graph.nodes.values()} - consumer.nodes)
    if strange:
        return f"its importer {consumer.otherwise} {', '.join(strange)}"
    unequal = any(type(n).__name__ == "LIF" and np.unique(n.tau).size > 1 for n in graph.nodes.values())
    if unequal and consumer.unequal:
        return f"its importer wants equal time constants within a LIF: it {consumer.unequal}"
    return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the importers' prints, warnings and log lines off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            _hush_loguru()
            yield
    finally:
        logging.disable(before)


def _hush_loguru() -> None:
    """SpikingJelly logs through loguru, which has its own switch."""
    if "loguru" in sys.modules:
        sys.modules["loguru"].logger.disable("spikingjelly")
