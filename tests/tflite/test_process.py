"""A runtime runs in a process of its own: a file that brings it down is a reason, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import NcpcError, ProofFailed
from ncpc.frontend.container import Container
from ncpc.targets.base import CompileOptions
from ncpc.targets.tflite import runtimes, sequences, target
from ncpc.targets.tflite.reading import File, read
from ncpc.verification.sequences import suite
from tests.conftest import RequireTool
from tests.nets import random_policy


@pytest.fixture(scope="module")
def built(require_tool: RequireTool) -> tuple[bytes, File, runtimes.Arrays]:
    """A file, what it says of itself, and raw sequences for it."""
    for tool in ("ai_edge_litert", "flatbuffers", "tflite_micro"):
        require_tool(tool)
    options, policy = CompileOptions(), random_policy(4)
    lowered = lower_for(Container(policy), options).lowered
    content = target("tflite").prepare(lowered, options).files["net.tflite"]
    file = read(content, "net.tflite")
    return content, file, sequences.encode(file, suite(policy, 20, False), policy.dt.nominal)


@pytest.mark.parametrize("runtime", [runtimes.REFERENCE, runtimes.XNNPACK, runtimes.MICRO])
def test_damaged_files_end_in_one_line(runtime: str, built: tuple[bytes, File, runtimes.Arrays]) -> None:
    content, file, data = built
    assert runtimes.run(content, file, runtime, data)["y"].shape[0] == data["x"].shape[0]
    for at in np.random.default_rng(0).integers(100, len(content) - 100, 4):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        assert "\n" not in said_of(damaged, file, runtime, data)
    with pytest.raises(ProofFailed, match=runtime):
        runtimes.run(b"no file", file, runtime, data)


def test_a_file_that_brings_its_runtime_down_is_a_reason(built: tuple[bytes, File, runtimes.Arrays]) -> None:
    """One wrong bit, somewhere in the graph's tables, is enough; the next file runs as ever."""
    content, file, data = built
    for at in np.random.default_rng(1).integers(len(content) // 2, len(content) - 10, 60):
        damaged = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        said = said_of(damaged, file, runtimes.MICRO, data)
        if "brought down" in said:
            break
    assert said.startswith("tflite-micro was brought down: SIGABRT")
    assert not said_of(content, file, runtimes.MICRO, data)


def said_of(content: bytes, file: File, runtime: str, data: runtimes.Arrays) -> str:
    """The error of a run, empty where there is none."""
    try:
        runtimes.run(content, file, runtime, data)
    except NcpcError as error:
        return str(error)
    return ""
