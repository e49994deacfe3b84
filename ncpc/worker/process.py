"""The side that asks: a worker process, started once, asked many times. However it ends, that is a ProofFailed here."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ncpc
from ncpc.errors import BadInput, MissingTool, NcpcError, ProofFailed, reason
from ncpc.worker import channel
from ncpc.worker.channel import Arrays, Garbled, Head

PATIENCE = 600.0
"""Seconds without a sign of life after which a worker hangs. One step, or one sequence where a runtime takes sequences
whole, may take no longer.
"""
CHUNK = 1 << 16
"""Bytes that a pipe holds."""
KINDS = {kind.__name__: kind for kind in (BadInput, MissingTool, NcpcError, ProofFailed)}


@dataclass(frozen=True)
class Service:
    """What a worker does: the file that defines its commands, the Python that runs it, and its patience in seconds.

    ``bare``: ``python`` is another environment's, and gets nothing of this one's path.
    """

    script: str
    python: str = sys.executable
    bare: bool = False
    patience: float = PATIENCE

    def command(self) -> list[str]:
        # Without the folder of a script: its modules have names of libraries.
        alone = [] if self.bare else ["-P"]
        return [self.python, *alone, channel.__file__, self.script, str(os.getpid())]

    def environment(self) -> dict[str, str]:
        """This process's, in which ncpc is found; or without anything of Python's."""
        if self.bare:
            return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        root = str(Path(ncpc.__file__).parent.parent)
        return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])}


@dataclass(frozen=True)
class Answer:
    """What a worker said: JSON values, and numbers."""

    head: Mapping[str, Any]
    arrays: Arrays

    def array(self, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
        """An array that is as it has to be. Raises ProofFailed."""
        found = self.arrays.get(name)
        if found is None or found.dtype != dtype or found.shape != shape:
            raise ProofFailed(f"a worker answered with no '{name}' of the form {dtype}{shape}")
        return found


class Worker:
    """A running service. Use it as a context manager; ``what`` is what its reasons speak of: "litert-reference"."""

    def __init__(self, service: Service, what: str) -> None:
        """Raises MissingTool where its Python cannot be run."""
        self.service, self.what = service, what
        self.asking, self._ended, self._printed = False, "", 0
        with tempfile.TemporaryFile() as file:
            self._errors = os.fdopen(os.dup(file.fileno()), "rb")
        try:
            self.process = subprocess.Popen(service.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=self._errors, env=service.environment(), bufsize=0)
        except OSError as error:
            self._errors.close()
            raise MissingTool(f"{service.python}: cannot be run ({reason(error)})") from error
        self._close = weakref.finalize(self, _end, self.process, self._errors)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._requests, False)
        self._came = bytearray()

    def ask(self, command: str, head: Head | None = None, arrays: Arrays | None = None) -> Answer:
        """Send a request and wait for the answer.

        Raises what the command raised, where that is an error of ncpc's; ProofFailed where it raised anything else,
        and where the process ends, gives no sign of life for as long as its service's patience, or is not understood.
        """
        if self._ended:
            raise ProofFailed(self._ended)
        self.asking, self._printed = True, self._errors.seek(0, os.SEEK_END)
        try:
            self._send({**(head or {}), "command": command}, arrays or {})
            answer = self._receive()
            while channel.ALIVE in answer.head:
                answer = self._receive()
        except BrokenPipeError:
            raise self._end(None) from None
        except TimeoutError:
            raise self._end(f"gave no sign of life for {self.service.patience:g} s") from None
        except Garbled:
            raise self._end("gave an answer that is none") from None
        self.asking = False
        if "error" in answer.head:
            raise self._error(answer.head)
        return answer

    @property
    def alive(self) -> bool:
        """It can be asked."""
        return not self.asking and not self._ended and self.process.poll() is None

    def close(self) -> None:
        """End the process; at once where it is in the middle of something."""
        if self.asking:
            self.process.kill()
        self._close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, head: Head, arrays: Arrays) -> None:
        for piece in channel.packed(head, arrays):
            view = memoryview(piece)
            while view:
                _wait(self._requests, select.POLLOUT, self.service.patience)
                view = view[os.write(self._requests, view[:CHUNK]) :]

    def _receive(self) -> Answer:
        sizes = channel.lengths(bytes(self._take(channel.PREFIX)))
        head, layout, body = (self._take(size) for size in sizes)
        return Answer(*channel.unpacked(bytes(head), bytes(layout), body))

    def _take(self, size: int) -> bytearray:
        """The next bytes of the answers; what came behind them waits for the next call."""
        while len(self._came) < size:
            _wait(self._answers, select.POLLIN, self.service.patience)
            came = os.read(self._answers, max(CHUNK, min(size - len(self._came), 1 << 20)))
            if not came:
                raise BrokenPipeError
            self._came += came
        found, self._came = self._came[:size], self._came[size:]
        return found

    def _end(self, why: str | None) -> ProofFailed:
        """The reason why the worker is no more: ``why`` it was ended, or how it ended itself."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(0 if why else 5)
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait()
        self._ended = f"{self.what} {why or _ending(code)}{self._last_line()}"
        self._close()
        return ProofFailed(self._ended)

    def _last_line(self) -> str:
        """What the process printed last since it was asked, in parentheses; nothing where it printed nothing of use."""
        self._errors.seek(max(self._printed, self._errors.seek(0, os.SEEK_END) - 4096))
        text = self._errors.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("INFO")]
        return f" ({_line(lines[-1])})" if lines else ""

    def _error(self, head: Head) -> NcpcError:
        kind, message = str(head["error"]), _line(str(head.get("message", "")))
        if kind in ("ImportError", "ModuleNotFoundError"):
            return MissingTool(f"{self.what}: {message}")
        known = KINDS.get(kind)
        return known(message) if known else ProofFailed(f"{self.what} failed: {message or kind}")


def opened(service: Service, what: str, head: Head, arrays: Arrays | None = None) -> Worker:
    """A worker that has answered to ``open``. Raises what ``ask`` raises, and leaves no process behind then."""
    worker = Worker(service, what)
    try:
        worker.ask("open", head, arrays)
    except BaseException:
        worker.close()
        raise
    return worker


_kept: ContextVar[dict[Service, Worker] | None] = ContextVar("kept workers", default=None)


@contextmanager
def kept() -> Iterator[None]:
    """Workers that are borrowed in the block run to its end: each service starts once. Blocks within it do nothing."""
    if _kept.get() is not None:
        yield
        return
    workers: dict[Service, Worker] = {}
    token = _kept.set(workers)
    try:
        yield
    finally:
        _kept.reset(token)
        for worker in workers.values():
            worker.close()


@contextmanager
def borrowed(service: Service, what: str) -> Iterator[Worker]:
    """A worker for one run, which begins by opening what it runs: one that is kept, or one that ends with the block."""
    pool = _kept.get()
    if pool is None:
        with Worker(service, what) as worker:
            yield worker
        return
    found = pool.get(service)
    if found is None or not found.alive:
        if found is not None:
            found.close()
        found = pool[service] = Worker(service, what)
    found.what = what
    yield found


def _wait(number: int, event: int, patience: float) -> None:
    """Until a pipe can be read or written, or has no other end. Raises TimeoutError."""
    poll, end = select.poll(), time.monotonic() + patience
    poll.register(number, event)
    while not poll.poll(1000 * min(max(end - time.monotonic(), 0), 3600)):
        if time.monotonic() >= end:
            raise TimeoutError


def _end(process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    errors.close()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was brought down: {name}"


def _line(text: str) -> str:
    """The last line of a message, without what moves a terminal's cursor, and not endless."""
    last = (text.strip().splitlines() or [""])[-1]
    return re.sub(r"[^\x20-\x7e\u00a0-\uffff]", "?", last)[:1000]
