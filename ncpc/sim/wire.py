"""Messages between the simulator's client and its worker: a JSON header and arrays, as bytes behind their lengths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ncpc.sim.core import Core, Region
from ncpc.sim.plan import Interface

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Message:
    """``head`` holds JSON values, ``arrays`` named arrays."""

    head: Mapping[str, Any]
    arrays: Mapping[str, Array] = field(default_factory=dict)


def write_message(stream: IO[bytes], message: Message) -> None:
    """Send a message: two lengths of four bytes (head, arrays), the head as JSON, the arrays back to back."""
    arrays = {name: np.ascontiguousarray(a) for name, a in message.arrays.items()}
    layout = [[name, a.dtype.str, list(a.shape)] for name, a in arrays.items()]
    head = json.dumps({"head": dict(message.head), "arrays": layout}).encode()
    body = b"".join(a.tobytes() for a in arrays.values())
    stream.write(len(head).to_bytes(4, "little") + len(body).to_bytes(8, "little") + head + body)
    stream.flush()


def read_message(stream: IO[bytes]) -> Message | None:
    """Receive a message; None at the end of the stream."""
    lengths = stream.read(12)
    if len(lengths) < 12:
        return None
    head = json.loads(stream.read(int.from_bytes(lengths[:4], "little")))
    body = stream.read(int.from_bytes(lengths[4:], "little"))
    arrays: dict[str, Array] = {}
    at = 0
    for name, dtype, shape in head["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += arrays[name].nbytes
    return Message(head["head"], arrays)


def pack(value: Core | Interface) -> dict[str, Any]:
    """A record as JSON values."""
    return asdict(value)


def unpack_core(values: Mapping[str, Any]) -> Core:
    """The Core of ``pack``."""
    regions = {key: Region(**values[key]) for key in ("flash", "ram")}
    flags = {key: tuple(values[key]) for key in ("zig_flags", "gcc_flags")}
    return Core(**{**values, **regions, **flags})


def unpack_interface(values: Mapping[str, Any]) -> Interface:
    """The Interface of ``pack``."""
    return Interface(**{**values, "state": tuple((int(o), int(n)) for o, n in values["state"])})
