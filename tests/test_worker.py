"""Machine code runs in a process of its own: whatever happens to that is a reason on a link, or a line, never ours."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncpc.cores.toolchain import build_host_library
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, MissingTool, ProofFailed
from ncpc.frontend.container import Container
from ncpc.phases import Phases
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.c import host
from ncpc.verification.data import DataSet
from ncpc.verification.links import Link, Setting, check
from ncpc.worker import channel
from ncpc.worker.channel import Garbled
from ncpc.worker.process import PATIENCE, Service, Worker, borrowed, kept, opened
from tests.c_programs import small_policy, tame

ROOT = Path(__file__).parent.parent
Tool = Callable[..., object]

ECHO = """
import os, signal, sys, time
import numpy as np

def commands(alive):
    def slow(head, arrays):
        end = time.monotonic() + head["seconds"]
        while time.monotonic() < end:
            time.sleep(0.05)
            if head["alive"]:
                alive()
        return {}, {}

    def die(head, arrays):
        print("a last word", file=sys.stderr, flush=True)
        os.kill(os.getpid(), head["signal"]) if head["signal"] else os._exit(3)

    def garble(head, arrays):
        for number in range(3, 20):  # One of them is where answers go.
            try:
                os.write(number, bytes(head["bytes"]))
            except OSError:
                pass
        return {}, {}

    def fail(head, arrays):
        error = {"value": ValueError, "module": ModuleNotFoundError, "bad": type("BadInput", (Exception,), {})}
        raise error[head["kind"]]("first line\\nlast\\x1b[31m line")

    def chatter(head, arrays):
        print("printed by a library")
        os.system("echo printed by native code")
        return {"stdin": sys.stdin.read()}, {}

    return {"echo": lambda head, arrays: (head, arrays), "slow": slow, "die": die, "garble": garble, "fail": fail,
            "chatter": chatter, "pid": lambda head, arrays: ({"pid": os.getpid()}, {})}
"""


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Service:
    script = tmp_path_factory.mktemp("service") / "echo.py"
    script.write_text(ECHO)
    return Service(str(script), patience=20.0)


@pytest.fixture
def worker(echo: Service) -> Worker:
    return Worker(echo, "the echo")


def test_numbers_of_every_kind_come_back_as_they_went(worker: Worker) -> None:
    rng = np.random.default_rng(0)
    kinds = ("?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<f4", "<f8", ">i4")
    arrays = {kind: rng.integers(0, 2, (3, 5)).astype(kind) for kind in kinds}
    arrays |= {"none": np.zeros((0, 4)), "one": np.float32(3).reshape(()), "odd": arrays["<i4"][:, ::2],
               "large": rng.normal(size=1 << 20)}
    with worker:
        answer = worker.ask("echo", {"text": "ü", "numbers": [1, 2.5, None]}, arrays)
        assert answer.head == {"command": "echo", "text": "ü", "numbers": [1, 2.5, None]}
        assert answer.arrays.keys() == arrays.keys()
        for name, array in arrays.items():
            found = answer.array(name, array.dtype, array.shape)
            np.testing.assert_array_equal(found, array)
            assert found.size == 0 or found.ctypes.data % channel.ALIGN == 0
        for wrong in (("?", np.int8, (3, 5)), ("?", np.bool_, (5, 3)), ("nothing", np.bool_, (3, 5))):
            with pytest.raises(ProofFailed, match=f"answered with no '{wrong[0].replace('?', '.')}' of the form"):
                answer.array(*wrong)


@pytest.mark.parametrize(("number", "said"), [
    (signal.SIGSEGV, "was brought down: SIGSEGV"), (signal.SIGABRT, "was brought down: SIGABRT"),
    (signal.SIGKILL, "was brought down: SIGKILL"), (0, "ended with exit code 3"),
])
def test_the_end_of_a_worker_is_a_reason(worker: Worker, number: int, said: str) -> None:
    for _ in range(2):
        with pytest.raises(ProofFailed, match=rf"^the echo {said} \(a last word\)$"):
            worker.ask("die", {"signal": int(number)})
    assert not worker.alive
    worker.close()


def test_a_worker_that_hangs_is_ended_and_one_that_works_is_not(worker: Worker) -> None:
    worker.ask("pid")
    worker.service = dataclasses.replace(worker.service, patience=1.0)
    worker.ask("slow", {"seconds": 1.5, "alive": True})
    with pytest.raises(ProofFailed, match=r"^the echo gave no sign of life for 1 s$"):
        worker.ask("slow", {"seconds": 60, "alive": False})
    assert worker.process.poll() is not None


@pytest.mark.parametrize("data", [
    b"x" * 100, (1 << 62).to_bytes(8, "little") * 3, bytes(24), (1 << 40).to_bytes(8, "little") + bytes(16),
    b"".join(channel.packed({}, {}))[:24] + b"[]" + b"[]",
])
def test_an_answer_that_is_none_is_a_reason(worker: Worker, data: bytes) -> None:
    with pytest.raises(ProofFailed, match=r"^the echo gave an answer that is none"):
        worker.ask("garble", {"bytes": list(data)})
    assert worker.process.poll() is not None


@pytest.mark.parametrize("layout", [
    [["x", "|O", [1]]], [["x", "<M8[s]", [1]]], [["x", "<f8", [-1]]], [["x", "<f8", [3]]], [["x", "<f8", [1 << 62, 4]]],
    [["x", "<f8", [1.0]]], [["x", "<f8"]], [[1, "<f8", [1]]], [["x", "<f8,<f8", [1]]], [["x", None, [1]]], 7, [],
    [["x", "<f8", True]],
])
def test_only_numbers_that_fit_the_message_are_taken(layout: object) -> None:
    with pytest.raises(Garbled):
        channel.unpacked(b"{}", json.dumps(layout).encode(), bytearray(16))


def test_what_a_command_raises_is_an_answer(worker: Worker) -> None:
    with worker:
        with pytest.raises(ProofFailed, match=r"^the echo failed: last\?\[31m line$"):
            worker.ask("fail", {"kind": "value"})
        with pytest.raises(MissingTool, match=r"^the echo: last\?\[31m line$"):
            worker.ask("fail", {"kind": "module"})
        with pytest.raises(BadInput, match=r"^last\?\[31m line$"):
            worker.ask("fail", {"kind": "bad"})
        with pytest.raises(ProofFailed, match=r"^the echo failed: 'nonsense'$"):
            worker.ask("nonsense")
        assert worker.alive


def test_what_is_printed_is_no_answer(worker: Worker) -> None:
    with worker:
        assert worker.ask("chatter").head == {"stdin": ""}


def test_a_python_that_is_not_there_is_a_missing_tool() -> None:
    with pytest.raises(MissingTool, match=r"^/no/python: cannot be run \(No such file or directory\)$"):
        Worker(Service("none.py", "/no/python"), "nothing")


def test_a_service_that_does_not_load_leaves_no_process() -> None:
    with pytest.raises(ProofFailed, match=r"^nothing ended with exit code 1 \(FileNotFoundError"):
        opened(Service("none.py"), "nothing", {})


def test_kept_workers_start_once_and_again_when_they_have_ended(echo: Service) -> None:
    def pid() -> int:
        with borrowed(echo, "the echo") as one:
            return int(one.ask("pid").head["pid"])

    with kept():
        first = pid()
        assert pid() == first
        with pytest.raises(ProofFailed), borrowed(echo, "the echo") as one:
            one.ask("die", {"signal": 9})
        second = pid()
        assert pid() == second != first


@pytest.fixture(scope="module")
def built(require_tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lowered, Path]:
    require_tool("ziglang")
    options, folder = CompileOptions(), tmp_path_factory.mktemp("build")
    lowered = lower_for(Container(small_policy(0)), options).lowered
    artifact = registry.load("host").prepare(lowered, options)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    artifact.build(folder)
    return lowered, folder


def link_of(built: tuple[Lowered, Path], edit: Callable[[str], str]) -> Link:
    """The link of the library that is built from C with a fault planted, on a few steps."""
    lowered, folder = built
    sources = {name: (folder / name).read_bytes() for name in ("net.c", "net.h")}
    text = edit(sources["net.c"].decode())
    assert text != sources["net.c"].decode()
    (folder / "net.so").write_bytes(build_host_library({**sources, "net.c": text.encode()}, None))
    data = DataSet("few", "a few steps", "generated", tame(lowered.program, 0, steps=5))
    host = registry.load("host")
    artifact = host.prepare(lowered, CompileOptions())
    setting = Setting(host, artifact, folder, lowered, CompileOptions(), (data,))
    (chain,) = check(setting, artifact.links, Phases())
    (link,) = chain.links
    return link


def at_load(body: str) -> Callable[[str], str]:
    first = f"__attribute__((constructor)) static void first(void) {{ {body} }}"
    return lambda text: f"{text}\n#include <stdlib.h>\n{first}\n"


def in_step(body: str) -> Callable[[str], str]:
    return lambda text: text.replace("uint32_t status = 0", f"{body}\n    uint32_t status = 0", 1)


@pytest.mark.parametrize(("edit", "said"), [
    (at_load("abort();"), "net.so was brought down: SIGABRT"), (at_load("exit(7);"), "net.so ended with exit code 7"),
    (in_step("*(volatile int *)8 = 1;"), "net.so was brought down: SIGSEGV"),
    (in_step("for (volatile int on = 1; on;) { }"), "net.so gave no sign of life for 4 s"),
    (lambda text: text.replace("net_self_test", "net_another"), "net.so failed: "),
], ids=["constructor aborts", "constructor exits", "step writes anywhere", "step hangs", "no such function"])
def test_a_library_that_brings_itself_down_is_a_reason_on_its_link(
    built: tuple[Lowered, Path], edit: Callable[[str], str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "SERVICE", dataclasses.replace(host.SERVICE, patience=4.0))
    assert link_of(built, edit).fault.startswith(said)


def test_a_session_whose_library_ends_says_so_again_and_again(built: tuple[Lowered, Path]) -> None:
    lowered, folder = built
    assert link_of(built, lambda text: text + "\n").holds
    session = registry.load("host").prepare(lowered, CompileOptions()).open(folder, "host")
    session.step(np.zeros(3), 1.0)
    os.kill(session._worker.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(ProofFailed, match=r"^net.so was brought down: SIGKILL$"):
            session.step(np.zeros(3), 1.0)
    session.close()


HANGS = """
import sys
from ncpc.worker.process import Service, borrowed, kept
with kept(), borrowed(Service(sys.argv[1]), "the echo") as worker:
    print(worker.ask("pid").head["pid"], flush=True)
    worker.ask("slow", {"seconds": 600, "alive": bool(int(sys.argv[2]))})
"""


@pytest.mark.parametrize(("number", "alive"), [(signal.SIGINT, 0), (signal.SIGINT, 1), (signal.SIGKILL, 0)])
def test_whoever_asks_may_be_interrupted_or_killed_and_leaves_no_process(
    echo: Service, number: signal.Signals, alive: int
) -> None:
    """A terminal's Ctrl-C reaches the whole group."""
    command = [sys.executable, "-c", HANGS, echo.script, str(alive)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
                          env=environment, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)
                          ) as asking:
        assert asking.stdout is not None
        child = int(asking.stdout.readline())
        time.sleep(0.2)
        if number == signal.SIGINT:
            os.killpg(asking.pid, number)
        else:
            asking.kill()
        asking.wait(20)
    end = time.monotonic() + 20
    while running(child):
        assert time.monotonic() < end, "the worker outlives whoever asked it"
        time.sleep(0.05)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_the_patience_of_services_is_of_use() -> None:
    """Longer than any single step; no service waits for ever."""
    from ncpc.sim import run
    from ncpc.targets.onnx import runtime

    assert [s.patience for s in (host.SERVICE, runtime.SERVICE, run.SERVICE)] == [120, PATIENCE, 3600]
