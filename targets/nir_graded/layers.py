"""The graded layer node: any layer's integer step as data; docs/targets/nir-graded-nodes.md is the whole format.

A policy is a chain of these, one per layer. A node receives a *message*, a vector of integers, updates its states and
sends a message on. ``step`` says how, as JSON; the arrays it names are fields of the node, ``constant_NAME``:

    reads, writes   what the message in and the message out hold, in order: name, shape
    states          name of the value, ``out``: the value it becomes, ``init``: the value it starts with, ``order``:
                    its place among all states of the policy, ``frac``: a state is ``raw * 2**-frac``, ``names`` of
                    its neurons where they have some
    ops             in order: op, out, shape, bits (negative: unsigned), args, attributes; or ``repeat``: count,
                    carried (init, inner, result, out: ``inner`` starts as ``init`` and becomes ``result``), ops

An op means what ``ncpc.ir.ops`` says of it, rounding is floor(x + 1/2), and every result fits its bits. Ops marked
``send`` are where values go to synapses: a value is sent when it has moved by more than ``theta`` (send: theta) or at
all (send: change) since it was last sent; synapses go on with what they received.

The first node's message in is the raw input, ``floor(x * 2**x_frac + 1/2)`` limited to ``x_bits``, and ``dt`` behind it
where the policy takes one; the last one's message out is the raw output, ``raw * 2**-y_frac``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput

I64 = NDArray[np.int64]

PREFIX = "constant_"


@dataclass(frozen=True, eq=False)
class Face:
    """How the chain meets the world; the same in all its nodes. ``dt_frac`` -1: no dt."""

    x_frac: I64
    x_bits: int
    y_frac: I64
    dt_frac: int
    dt_nominal: float


@dataclass(frozen=True, eq=False)
class GradedLayer:
    """One node; see the module. ``step`` is parsed JSON."""

    name: str
    theta: int
    step: Mapping[str, Any]
    constants: Mapping[str, I64]
    face: Face

    @property
    def width_in(self) -> int:
        """Numbers in the message it receives."""
        return sum(size(port) for port in self.step["reads"])

    @property
    def width_out(self) -> int:
        """Numbers in the message it sends."""
        return sum(size(port) for port in self.step["writes"])


def size(port: Mapping[str, Any]) -> int:
    """How many numbers a port has."""
    return int(np.prod(port["shape"], dtype=np.int64))


def layer_fields(layer: GradedLayer) -> dict[str, Any]:
    """Flat fields for a NIR file."""
    text = json.dumps(layer.step, separators=(",", ":"), sort_keys=True)
    constants = {f"{PREFIX}{name}": data for name, data in layer.constants.items()}
    return {"name": layer.name, "theta": layer.theta, "step": text, **vars(layer.face), **constants}


def layer_from_fields(fields: Mapping[str, Any]) -> GradedLayer:
    """The inverse of ``layer_fields``; raises BadInput for fields that are missing or hold something else."""
    try:
        layer = _read(fields)
        if min(layer.width_in, layer.width_out) < 0:
            raise ValueError("a shape below zero")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        why = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise BadInput(f"{fields.get('name')!r}: no GradedLayer ({why}); write the file again with "
                       "'ncpc compile --target nir-graded'") from None
    return layer


def _read(fields: Mapping[str, Any]) -> GradedLayer:
    face = Face(np.asarray(fields["x_frac"], np.int64), int(fields["x_bits"]), np.asarray(fields["y_frac"], np.int64),
                int(fields["dt_frac"]), float(fields["dt_nominal"]))
    constants = {name.removeprefix(PREFIX): np.asarray(data, np.int64)
                 for name, data in fields.items() if name.startswith(PREFIX)}
    return GradedLayer(_text(fields["name"]), int(fields["theta"]), json.loads(_text(fields["step"])), constants, face)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
