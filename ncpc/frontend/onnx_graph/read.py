"""An ONNX file -> the layers of a policy: as a module, read as any whole module is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, NcpcError
from ncpc.frontend.imported import Imported
from ncpc.frontend.onnx_graph.batch import unbatched
from ncpc.frontend.onnx_graph.file import OnnxFile, OnnxPort, read_onnx
from ncpc.frontend.onnx_graph.layout import CallForm, layouts
from ncpc.frontend.onnx_graph.states import StatesUntold, advised, forgotten, ports, said
from ncpc.frontend.traced.cells import Reader
from ncpc.frontend.traced.read import StepsMixed, read_module
from ncpc.frontend.traced.written_out import CellUnknown
from ncpc.system.onnx_library import require_runtime

Shapes = Sequence[Mapping[str, Sequence[int]]]
"""Guesses of what one step's inputs look like, by name."""


@dataclass(frozen=True, eq=False)
class OnnxReading:
    """What was read: the layers, and how the file is called for the outputs that are wanted."""

    imported: Imported
    file: OnnxFile
    layout: CallForm
    outputs: tuple[OnnxPort, ...]


def read_file(path: str | Path, carry: Mapping[str, str], shapes: Shapes, known: Reader, where: str,
              heads: Sequence[str] = (), data: Shapes = ()) -> OnnxReading:
    """The layers that compute what the ONNX file at ``path`` computes step by step.

    ``carry``: the outputs that are states, by the inputs that take them in the next step. ``shapes``: guesses of one
    step's inputs by name, which may be empty. ``heads``: the outputs that are wanted, all that are no state if empty.
    ``data``: what a step of the data at hand may look like, by name, or under '' of all inputs at once.
    Raises BadInput or Unsupported, naming the node that cannot be read; MissingTool without onnx or ONNX Runtime. Says
    what looks like a state and is not carried: a warning, or an error where the data hold no values of it.
    """
    require_runtime()
    file = read_onnx(Path(path))

    def read(pairs: Mapping[str, str]) -> OnnxReading:
        return _first_read(file, pairs, shapes, known, where, heads, data)

    def reads(pairs: Mapping[str, str]) -> bool:
        with suppress(NcpcError):
            return _held(read(pairs).layout, data) is not False
        return False

    try:
        found = read(carry)
        held = _held(found.layout, data)
    except StatesUntold as error:
        raise StatesUntold(f"{error}{advised(file, carry, reads)}") from None
    pairs = forgotten(file, carry)
    if held is False and (advice := advised(file, carry, reads, sure=True)):
        needed = ports(found.layout.inputs)
        raise StatesUntold(f"{file.where}: the data do not hold all of its inputs ({needed}){advice}")
    if pairs:
        warnings.warn(f"{file.where}: {', '.join(f'{a} and {b}' for a, b in pairs.items())} look like states, and "
                      "nothing carries them from step to step: they are observed and given like any other; name them "
                      f"by {said(pairs)}", stacklevel=5)
    return found


def _held(layout: CallForm, data: Shapes) -> bool | None:
    """Whether the data hold every input that is no state; None where there are no data, or of something else too."""
    names = {port.name: layout.names[port.name] for port in layout.inputs}
    if not data or data[0].keys() - {"", *names, *names.values()}:
        return None
    if "" in data[0]:
        return sum(map(math.prod, layout.shapes.values())) in {math.prod(shapes[""]) for shapes in data}
    return all(data[0].keys() & pair for pair in names.items())


def _first_read(file: OnnxFile, carry: Mapping[str, str], shapes: Shapes, known: Reader, where: str,
                heads: Sequence[str], data: Shapes) -> OnnxReading:
    """By the first of the ways to call the file that can be read, and whose inputs the data hold if there are such."""
    failures: list[NcpcError] = []
    lacking: list[OnnxReading] = []
    forms = [file, *unbatched(file)]
    for form in forms:
        try:
            found = _any_layout(form, carry, shapes, known, where, heads)
        except NcpcError as error:
            failures.append(error)
            continue
        if _held(found.layout, data) is not False:
            return found
        lacking.append(found)
    if lacking:
        return lacking[0]
    failed = next((error for error in failures if isinstance(error, StatesUntold)), failures[0])
    if len(forms) > 1 and failed is failures[0]:
        rows = " or ".join(str(form.batch.rows) for form in forms if form.batch)
        raise type(failed)(f"{failed}; if it takes a fixed batch of {rows}, export it with an open (dynamic) one")
    raise failed


def _any_layout(file: OnnxFile, carry: Mapping[str, str], shapes: Shapes, known: Reader, where: str,
                heads: Sequence[str]) -> OnnxReading:
    failed = None
    for guess in [*shapes, {}]:
        for layout in layouts(file, carry, guess):
            try:
                return _read(file, layout, known, where, heads)
            except NcpcError as error:
                failed = failed or error
    assert failed is not None
    raise failed


def _read(file: OnnxFile, layout: CallForm, known: Reader, where: str, heads: Sequence[str]) -> OnnxReading:
    from ncpc.frontend.onnx_graph.module import as_module  # needs torch

    states = set(layout.carry.values())
    outputs = tuple(port for port in file.outputs if port.name not in states) or file.outputs
    if unknown := [name for name in heads if name not in {layout.names[port.name] for port in outputs}]:
        raise BadInput(f"{where}: no output '{unknown[0]}'; {file.where} gives "
                       f"{', '.join(layout.names[port.name] for port in outputs)}")
    wanted = tuple(port for name in heads for port in outputs if layout.names[port.name] == name) or outputs
    module = as_module(file, layout, wanted)
    by_name = {layout.names[port.name]: layout.shapes[port.name] or (1,) for port in layout.inputs}
    written_out = [tuple(n or 1 for n in port.dims) for port in layout.states] if not len(module.cells) else []
    try:
        reading = read_module(module, by_name, known, where, states=written_out)
    except StepsMixed as error:
        how = f"with {said(layout.carry)}" if layout.carry else "with no state carried"
        raise StatesUntold(f"{file.where}: {how} it computes otherwise over {error.steps} steps than its cells do "
                           f"(outputs differ by {error.apart:.3g})") from None
    except CellUnknown as error:
        raise StatesUntold(f"{file.where}: {error}") from None
    except NcpcError as error:
        placed = str(error).startswith((file.where, where))
        raise error if placed else type(error)(f"{file.where}: {error}") from None
    if len(reading.forward.gives.outputs) != len(wanted):
        raise StatesUntold(f"{file.where}: what --carry hands on ({', '.join(layout.carry.values())}) is no state of "
                           "an LSTM, GRU or RNN; a policy holds the cells that it knows")
    imported = replace(reading.imported, provenance=_told(file, reading.imported, layout))
    return OnnxReading(imported, file, layout, wanted)


def _told(file: OnnxFile, imported: Imported, layout: CallForm) -> dict[str, Any]:
    read: Any = imported.provenance
    return {**file.provenance, "file": Path(file.where).name, "carry": dict(layout.carry), "cells": read["cells"],
            "versions": {**read["versions"], **file.provenance["versions"]}}
