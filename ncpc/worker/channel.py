"""Messages to and from a worker, and the worker itself: ``python channel.py SERVICE.py``.

Needs NumPy and the standard library alone, so that it also runs in another environment's Python. Either side believes
nothing of what it reads: JSON, and numbers whose count is checked against the bytes that came.

A message is three lengths of eight bytes (head, layout, body) and these three: the head as JSON, the arrays' layout
(name, dtype, shape) as JSON, the arrays themselves, each beginning at a multiple of 16 bytes. A service is a file that
defines ``commands(alive)``: name -> function of (head, arrays) that returns (head, arrays). It calls ``alive`` in
between where it has much to do; who asked takes silence for a hang.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

Head = Mapping[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]
Command = Callable[[Head, Arrays], "tuple[Head, Arrays]"]

PREFIX, ALIGN, SMALL = 24, 16, 1 << 14
MOST_TEXT, MOST_BODY = 1 << 28, 1 << 36
"""Most bytes of a head or a layout, and of all arrays together."""
NUMBERS = re.compile(r"[<>|](?:b1|[iuf][1248])")
"""Types of elements that a message may hold: no objects."""
BEAT = 0.25
"""Seconds between two signs of life."""
ALIVE = "alive"


class Garbled(ValueError):
    """Bytes that are no message."""


def packed(head: Head, arrays: Arrays) -> Iterator[Any]:
    """The pieces of a message, in order; objects that hold bytes."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    layout = json.dumps([[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]).encode()
    text = json.dumps(dict(head)).encode()
    body = sum(_room(array.nbytes) for array in whole.values())
    begin = b"".join(n.to_bytes(8, "little") for n in (len(text), len(layout), body)) + text + layout
    if body < SMALL:
        yield begin + b"".join(array.tobytes() + bytes(-array.nbytes % ALIGN) for array in whole.values())
        return
    yield begin
    for array in whole.values():
        if array.nbytes:
            yield array.reshape(-1).view(np.uint8).data
            yield bytes(-array.nbytes % ALIGN)


def lengths(prefix: bytes) -> tuple[int, int, int]:
    """How many bytes of head, layout and body follow. Raises Garbled."""
    found = tuple(int.from_bytes(prefix[at : at + 8], "little") for at in (0, 8, 16))
    if max(found[:2]) > MOST_TEXT or found[2] > MOST_BODY:
        raise Garbled(f"a message of {sum(found)} bytes")
    return found[0], found[1], found[2]


def unpacked(head: bytes, layout: bytes, body: bytearray) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Head and arrays of a message; the arrays share the memory of ``body``. Raises Garbled."""
    try:
        said, arrays = json.loads(head), dict(_arrays(json.loads(layout), body))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Garbled(str(error)) from None
    if not isinstance(said, dict):
        raise Garbled("a head that is no object")
    return said, arrays


def _arrays(layout: Any, body: bytearray) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    at = 0
    for name, dtype, shape in layout:
        if not isinstance(name, str) or NUMBERS.fullmatch(dtype) is None or any(
                not isinstance(n, int) or n < 0 for n in shape):
            raise Garbled("an array of an unknown kind")
        kind, count = np.dtype(dtype), math.prod(shape)
        if at + count * kind.itemsize > len(body):
            raise Garbled("an array beyond the message")
        yield name, np.frombuffer(body, kind, count, at).reshape(shape)
        at += _room(count * kind.itemsize)
    if at != len(body):
        raise Garbled("bytes that belong to no array")


def _room(size: int) -> int:
    return size + -size % ALIGN


def serve(requests: IO[bytes], answers: IO[bytes], service: Callable[[Callable[[], None]], Mapping[str, Command]]
          ) -> None:
    """Answer requests until there are no more. What a command raises is an answer too."""
    commands = service(_beat(answers))
    while (request := _read(requests)) is not None:
        head, arrays = request
        try:
            said, found = commands[head["command"]](head, arrays)
        except Exception as error:
            said, found = {"error": type(error).__name__, "message": str(error)}, {}
        _write(answers, said, found)


def _beat(answers: IO[bytes]) -> Callable[[], None]:
    last = [time.monotonic()]

    def alive() -> None:
        now = time.monotonic()
        if now - last[0] > BEAT:
            last[0] = now
            _write(answers, {ALIVE: True}, {})

    return alive


def _read(requests: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]] | None:
    prefix = requests.read(PREFIX)
    if len(prefix) < PREFIX:
        return None
    sizes = lengths(prefix)
    head, layout, body = requests.read(sizes[0]), requests.read(sizes[1]), bytearray(sizes[2])
    requests.readinto(body)  # type: ignore[attr-defined]  # IO does not promise it; a buffered stream has it
    return unpacked(head, layout, body)


def _write(answers: IO[bytes], head: Head, arrays: Arrays) -> None:
    for piece in packed(head, arrays):
        answers.write(piece)
    answers.flush()


def _end_with(parent: int) -> None:
    """Ends this process with the one that started it, even in the middle of something that never returns."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _private(stream: IO[bytes], mode: str, instead: int) -> IO[bytes]:
    """A copy of a standard stream that nobody else knows; what reads or writes the stream itself meets ``instead``."""
    number = stream.fileno()
    mine = os.dup(number)
    os.dup2(instead, number)
    return os.fdopen(mine, mode)


def _quiet() -> None:
    """No core files, and an interrupt of the terminal is left to the process that asks."""
    import resource
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))


def main(script: str, parent: str) -> None:
    """The worker process: serve the standard streams with what ``script`` defines, as long as ``parent`` lives."""
    _quiet()
    threading.Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    requests = _private(sys.stdin.buffer, "rb", os.open(os.devnull, os.O_RDONLY))
    answers = _private(sys.stdout.buffer, "wb", sys.stderr.fileno())
    spec = importlib.util.spec_from_file_location("ncpc_service", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["ncpc_service"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    serve(requests, answers, module.commands)


if __name__ == "__main__":
    main(*sys.argv[1:])
