"""What the axes of an ONNX file's inputs and outputs are: rows, steps of time, and what a step holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.onnx_graph.cells import is_cell
from ncpc.frontend.onnx_graph.file import OnnxFile, OnnxPort
from ncpc.frontend.onnx_graph.states import fits, ports, require_carried
from ncpc.frontend.traced.forward import word


@dataclass(frozen=True, eq=False)
class CallForm:
    """How a file is called. ``inputs`` are those that are no state, ``shapes`` those of one step of each, ``states``
    the inputs that ``carry`` names with the output that each goes on from. ``time`` is the axis of steps, None where a
    call is one step; ``window``: the only number of steps that the file takes, None for any.
    """

    where: str
    inputs: tuple[OnnxPort, ...]
    shapes: Mapping[str, tuple[int, ...]]
    states: tuple[OnnxPort, ...]
    carry: Mapping[str, str]
    names: Mapping[str, str]
    time: int | None = None
    window: int | None = None

    def given_shape(self, port: OnnxPort, steps: int) -> tuple[int, ...]:
        """That of an input of one call with so many steps of one row."""
        leads = len(port.dims) - len(self.shapes[port.name])
        shape = self.shapes[port.name] if leads >= 0 else ()
        return (*(steps if axis == self.time else 1 for axis in range(leads)), *shape)

    def rows(self, port: OnnxPort, shape: Sequence[int], steps: int) -> int:
        """How many steps an output of a call tells of: all, or one, the last."""
        free = (n for n, dim in zip(shape[:2], port.dims, strict=False) if dim is None or self.window)
        return steps if self.time is not None and steps in free else 1


def layouts(file: OnnxFile, carry: Mapping[str, str], told: Mapping[str, Sequence[int]]) -> Iterator[CallForm]:
    """Ways to call the file, the likeliest first; ``told`` are shapes of one step, by the name of an input or '' of the
    only one. Raises BadInput for names that the file does not have, Unsupported for open shapes.
    """
    states = _states(file, carry)
    inputs = tuple(port for port in file.inputs if port.name not in carry)
    if not inputs:
        raise BadInput(f"{file.where}: --carry names all of its inputs ({ports(file.inputs)}); leave out what is "
                       "observed")
    require_carried(file, carry)
    names = _words([*inputs, *file.outputs])
    only = told.get("") if len(inputs) == 1 else None
    by_name = {port.name: told.get(port.name, told.get(names[port.name], only)) for port in inputs}
    alone = not carry and any(map(is_cell, file.nodes))
    axes: Sequence[int | None] = _time_axes(inputs[0], by_name[inputs[0].name]) if alone else [None]
    if not axes:
        raise BadInput(f"{file.where}: its cells begin anew in each call, and nothing says what is carried from one to "
                       f"the next; give --carry INPUT=OUTPUT for each state (inputs {ports(file.inputs)}, outputs "
                       f"{ports(file.outputs)}), or export it with its states, or with sequences of any length")
    for time in axes:
        shapes = {port.name: _step_shape(file.where, port, by_name[port.name], time) for port in inputs}
        if several := [port for port in inputs if _rows(port, len(port.dims) - len(shapes[port.name]), time) > 1]:
            if time == axes[-1]:
                raise Unsupported(f"{file.where}: takes {several[0]}, several rows in one call")
            continue
        yield CallForm(file.where, inputs, shapes, states, carry, names, time,
                     None if time is None else inputs[0].dims[time])


def _rows(port: OnnxPort, leads: int, time: int | None) -> int:
    """How many rows an input has at least, by the axes in front of a step's values."""
    return max((port.dims[axis] or 1 for axis in range(leads) if axis != time), default=1)


def _states(file: OnnxFile, carry: Mapping[str, str]) -> tuple[OnnxPort, ...]:
    inputs, outputs = ({port.name: port for port in part} for part in (file.inputs, file.outputs))
    for taken, given in carry.items():
        for name, known, kind in ((taken, inputs, "input"), (given, outputs, "output")):
            if name not in known:
                close = get_close_matches(name, known, 1)
                raise BadInput(f"{file.where}: --carry {taken}={given}: no {kind} '{name}'; "
                               + (f"did you mean '{close[0]}'? " if close else "") + f"it has {ports(known.values())}")
        if not fits(inputs[taken], outputs[given]):
            raise BadInput(f"{file.where}: --carry {taken}={given}: {outputs[given]} does not fit {inputs[taken]}")
        if list(carry.values()).count(given) > 1:
            takers = " and ".join(name for name, out in carry.items() if out == given)
            raise BadInput(f"{file.where}: --carry names '{given}' for {takers}; each state goes on from an output of "
                           "its own")
    return tuple(inputs[name] for name in carry)


def _words(ports: Sequence[OnnxPort]) -> dict[str, str]:
    """A name for each that is one word, and no other's."""
    found: dict[str, str] = {}
    for port in ports:
        name, count = word(port.name), 2
        while name in found.values():
            name, count = f"{word(port.name)}_{count}", count + 1
        found[port.name] = name
    return found


def _time_axes(port: OnnxPort, told: Sequence[int] | None) -> list[int]:
    """Axes that may be time: those in front of a step's values whose length is not 1."""
    leads = len(port.dims) - len(told) if told is not None else min(2, len(port.dims) - 1)
    found = [axis for axis in range(leads) if port.dims[axis] != 1]
    return sorted(found, key=lambda axis: (port.dims[axis] is not None, -axis))


def _step_shape(where: str, port: OnnxPort, told: Sequence[int] | None, time: int | None) -> tuple[int, ...]:
    """The shape of one step's values: what is told, or what follows open dimensions in front."""
    if told is not None and len(told) <= len(port.dims) and all(
            n in (None, m) for n, m in zip(port.dims[len(port.dims) - len(told) :], told, strict=True)):
        return tuple(int(n) for n in told)
    rank, dims = len(port.dims), port.dims
    leads = next((k for k, n in enumerate(dims) if n is not None), rank) if time is None else min(2, rank - 1)
    if time is None and not leads and rank > 1 and dims[0] == 1:
        leads = 1
    if rank == 3 and dims[0] in (None, 1) and dims[1] == 1:
        leads = 2
    shape = dims[leads:]
    if any(n is None for n in shape) or leads > 2:
        raise Unsupported(f"{where}: what a step of {port} holds is not known; export it with fixed dimensions, or "
                          f"give input_shape={{'{port.name}': (...)}}")
    return tuple(n for n in shape if n is not None)
