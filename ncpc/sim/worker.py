"""The emulator process: ``python -m ncpc.sim.worker``, started by ``ncpc.sim.run``.

Requests come in on standard input and answers go out on standard output (``ncpc.sim.wire``). The first request is
``open``, with the ELF; then ``run``, ``reset`` and ``step`` in any order, until the input ends.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from typing import IO, Any

from ncpc.errors import NcpcError
from ncpc.sim.emulator import Device, open_device
from ncpc.sim.profile import begin, empty_trace, run_sequences, step_into
from ncpc.sim.wire import Message, read_message, unpack_core, unpack_interface, write_message


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer requests until there are no more."""
    device: Device | None = None
    while (request := read_message(requests)) is not None:
        try:
            if device is None:
                device = _open(request)
                reply = Message({"ready": True})
            else:
                reply = COMMANDS[request.head["command"]](device, request)
        except NcpcError as error:
            reply = Message({"error": type(error).__name__, "message": str(error)})
        except Exception as error:
            reply = Message({"error": "NcpcError", "message": f"the simulator failed: {type(error).__name__}: {error}"})
        write_message(answers, reply)


def _open(request: Message) -> Device:
    head = request.head
    core, interface = unpack_core(head["core"]), unpack_interface(head["interface"])
    return open_device(request.arrays["elf"].tobytes(), core, interface, head["hook"])


def _run(device: Device, request: Message) -> Message:
    return run_sequences(device, dict(request.arrays))


def _reset(device: Device, request: Message) -> Message:
    fault = begin(device, first=bool(request.head["first"]))
    return Message({"faults": [] if fault is None else [{"sequence": 0, "step": -1, **fault}]})


def _step(device: Device, request: Message) -> Message:
    trace = empty_trace(device, 1, 1)
    fault = step_into(device, request.arrays["x"], int(request.head["dt"]), trace, (0, 0))
    arrays = {"y": trace.y[0, 0], "state": trace.state[0, 0]}
    counts = {name: int(getattr(trace, name)[0, 0]) for name in ("status", "instructions", "lower", "upper")}
    faults = [] if fault is None else [{"sequence": 0, "step": int(request.head["at"]), **fault}]
    return Message({**counts, "faults": faults}, arrays)


COMMANDS: Mapping[str, Callable[[Device, Message], Message]] = {"run": _run, "reset": _reset, "step": _step}


def main() -> None:
    """Serve the standard streams; anything printed by mistake goes to standard error, an interrupt to the client."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers: Any = sys.stdout.buffer
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
