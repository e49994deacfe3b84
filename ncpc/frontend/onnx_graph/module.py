"""An ONNX graph as a torch module: its forward computes node after node. Needs torch.

The module takes sequences (B, T, ...) by the names of the graph's inputs and a state, and gives its outputs by name and
the state for the next call. Each row is a call of its own, as with one robot; each step too, where the graph has no
axis of time or its state is carried by the caller.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from ncpc.errors import NcpcError, Unsupported
from ncpc.frontend.onnx_graph.cells import cell_of, is_cell, run_cell
from ncpc.frontend.onnx_graph.file import MOST_VALUES, OnnxFile, OnnxNode, OnnxPort
from ncpc.frontend.onnx_graph.layout import CallForm
from ncpc.frontend.onnx_graph.operators import OPERATORS
from ncpc.frontend.onnx_graph.patterns import INNER, simplified
from ncpc.frontend.onnx_graph.told import MOST_MADE, tensor_of
from ncpc.system.torch_library import torch_module
from ncpc.system.user_code import one_line

torch: Any = torch_module()
nn: Any = torch.nn
Values = dict[str, Any]
RESHAPING = ("Reshape", "Expand")
STATE = "carried_state"
"""The argument of forward that takes the state."""
INSTEAD = {
    "Scan": "export one step of its body, with its states as inputs and outputs",
    "Loop": "export one step of its body, with its states as inputs and outputs",
    "If": "export the branch that is taken", "ConvTranspose": "use Conv", "Attention": "use a recurrent cell",
}
"""What could be done without an operator that is not read."""


@dataclass(frozen=True, eq=False)
class GraphStep:
    """A node as it is computed; ``cell`` is the name of its module, where it is a recurrent one. ``batch``: the rows of
    a file that takes no other number, computed as one.
    """

    node: OnnxNode
    cell: str | None
    over_time: bool
    batch: int = 0

    @property
    def place(self) -> str:
        """Where messages say something happened (``recorder.user_line``)."""
        return self.node.place

    def run(self, values: Values, cells: Mapping[str, Any], most: int = MOST_MADE) -> None:
        """Put the node's outputs among the values. Raises Unsupported, naming the node."""
        node, given = self.node, [values[name] if name else None for name in self.node.inputs]
        if self.batch and node.op in RESHAPING:
            given = [given[0], _of_one_row(given[1], self.batch), *given[2:]]
        try:
            made = (OPERATORS[node.op](node, given) if self.cell is None
                    else run_cell(node, given, cells[self.cell], self.over_time))
        except NcpcError as error:
            raise error if str(error).startswith(self.place) else type(error)(f"{self.place}: {error}") from None
        except Exception as error:
            raise Unsupported(f"{self.place}: cannot be computed for one step of one row ({one_line(error)}); where "
                              "the file fixes other numbers of them, export it with open (dynamic) axes") from error
        for name, value in zip(node.outputs, made if isinstance(made, (list, tuple)) else [made], strict=False):
            if value.numel() > most:
                raise Unsupported(f"{self.place}: makes {value.numel():,} values at once; {most:,} at most can be read")
            values[name] = value


def _of_one_row(shape: Any, rows: int) -> Any:
    """A shape told as a constant, with one row instead of so many, where only one of its sides can be them."""
    return torch.where(shape == rows, 1, shape) if int((shape == rows).sum()) == 1 else shape


class OnnxModule(nn.Module):  # type: ignore[misc]  # torch is loaded when it is needed
    """See the module's text. ``names`` gives each input that is no state the name of its argument, and each output."""

    def __init__(self, file: OnnxFile, layout: CallForm, outputs: Sequence[OnnxPort]) -> None:
        super().__init__()
        self.layout, self.outputs, self.batch = layout, tuple(outputs), file.batch.rows if file.batch else 0
        self.precision = nn.Parameter(torch.zeros((), dtype=torch.float64), requires_grad=False)
        self.constants: Values = {name: tensor_of(array) for name, array in file.constants.items()}
        self.cells = nn.ModuleDict()
        self.steps: list[GraphStep] = []
        wanted = {port.name for port in outputs} | set(layout.carry.values())
        for node in _needed(file.nodes, wanted):
            self._add(node)
        if any(step.node.op in INNER for step in self.steps):
            self._simplify(wanted)

    def _simplify(self, wanted: set[str]) -> None:
        """Functions that are written out in several nodes, as one each."""
        generator = torch.Generator().manual_seed(0)
        shapes = {port.name: self.layout.given_shape(port, 1) for port in self.layout.inputs} | {
            port.name: tuple(n or 1 for n in port.dims) for port in self.layout.states}
        values = dict(self.constants) | {name: torch.rand(shape, generator=generator, dtype=torch.float64)
                                         for name, shape in shapes.items()}
        for step in self.steps:
            step.run(values, self.cells)
        kept = {step.node.outputs: step for step in self.steps}
        nodes = _needed(simplified([step.node for step in self.steps], values), wanted)
        self.steps = [replace(kept[node.outputs], node=node) for node in nodes]

    def _add(self, node: OnnxNode) -> None:
        """Compute a node of constants at once; keep any other."""
        if not is_cell(node) and node.op not in OPERATORS:
            why = f"; {INSTEAD[node.op]}" if node.op in INSTEAD else ""
            why += "; or choose outputs that do without (--head NAME)" if len(self.outputs) > 1 else ""
            raise Unsupported(f"{node.place}: is not among the operators that can be read{why}")
        step = GraphStep(node, f"{node.op}_{len(self.cells)}" if is_cell(node) else None, self.layout.time is not None,
                         self.batch)
        if step.cell is not None:
            try:
                self.cells[step.cell] = cell_of(node, self.constants)
            except NcpcError as error:
                raise type(error)(f"{node.place}: {error}") from None
            except Exception as error:
                raise Unsupported(f"{node.place}: its weights do not fit each other ({one_line(error)})") from None
        elif all(name in self.constants for name in node.inputs if name):
            step.run(self.constants, {}, MOST_VALUES)
            return
        self.steps.append(step)

    def compute(self, given: Mapping[str, Any], states: Sequence[Any] | None) -> tuple[Values, tuple[Any, ...]]:
        """Outputs by name, (T, ...), and the state after a sequence (T, ...) of each input."""
        layout = self.layout
        if states is None:
            states = [self._first(port) for port in layout.states]
        steps, found = len(next(iter(given.values()))), []
        ends = [0, steps] if layout.time is not None else range(steps + 1)
        for lo, hi in pairwise(ends):
            values = dict(self.constants)
            for port in layout.inputs:
                values[port.name] = given[port.name][lo:hi].reshape(layout.given_shape(port, hi - lo))
            values |= dict(zip(layout.carry, states, strict=True))
            for step in self.steps:
                step.run(values, self.cells)
            states = [values[name] for name in layout.carry.values()]
            found.append({port.name: values[port.name].reshape(layout.rows(port, values[port.name].shape, hi - lo), -1)
                          for port in self.outputs})
        return {port.name: torch.cat([part[port.name] for part in found]) for port in self.outputs}, tuple(states)

    def _first(self, port: OnnxPort) -> Any:
        """Zeros."""
        return torch.zeros([n or 1 for n in port.dims], dtype=self.precision.dtype)


def as_module(file: OnnxFile, layout: CallForm, outputs: Sequence[OnnxPort]) -> Any:
    """The graph's module with a forward of its inputs' names. Raises Unsupported, naming the node that is not read."""
    module = OnnxModule(file, layout, outputs)
    keyword = inspect.Parameter.KEYWORD_ONLY
    arguments = [inspect.Parameter(layout.names[port.name], keyword) for port in layout.inputs]
    state = [inspect.Parameter(STATE, keyword, default=None)] if layout.carry else []

    def forward(self: Any, **given: Any) -> Any:
        states = given.pop(STATE, None)
        return _forward(self, {port.name: given[layout.names[port.name]] for port in layout.inputs}, states)

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    told: Any = forward  # a function's signature is no attribute that it is declared with
    told.__signature__ = inspect.Signature([own, *arguments, *state])
    module.__class__ = type("OnnxModule", (OnnxModule,), {"forward": told})
    return module


def _forward(module: Any, given: Mapping[str, Any], states: Any) -> Any:
    """Outputs by name, (B, T, width), and each state with the rows in front."""
    layout = module.layout
    if any(x.ndim != 2 + len(layout.shapes[name]) for name, x in given.items()):
        raise Unsupported(f"{layout.where}: is read over (rows, steps, ...)")
    rows = range(len(next(iter(given.values()))))
    found = [module.compute({name: x[k] for name, x in given.items()},
                            None if states is None else [state[k] for state in states]) for k in rows]
    outputs = {layout.names[port.name]: torch.stack([values[port.name] for values, _ in found])
               for port in module.outputs}
    if not layout.carry:
        return outputs
    return outputs, tuple(torch.stack(list(parts)) for parts in zip(*(state for _, state in found), strict=True))


def _needed(nodes: Sequence[OnnxNode], wanted: set[str]) -> list[OnnxNode]:
    """The nodes that what is wanted depends on, in the order of the file."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            wanted |= set(node.inputs)
            kept.append(node)
    return kept[::-1]
