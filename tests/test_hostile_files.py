"""Mutated files are read or refused in one line; a sample of what ``benchmarks.hostile_files`` counts."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ncpc.errors import BadInput
from tests.conftest import RequireTool

NEEDED = ("torch", "h5py", "minisign", "ziglang")


@pytest.fixture
def hostile(require_tool: RequireTool) -> object:
    for name in NEEDED:
        require_tool(name)
    from benchmarks import hostile_files

    return hostile_files


def test_the_committed_run_found_no_fault(hostile: object) -> None:
    from benchmarks.hostile_files import RESULT, asked, kinds

    record = json.loads(RESULT.read_text())
    assert set(record) == {f"{name}, {way}" for name, kind in kinds().items() for way in ("files", "commands")
                           if asked(kind, way)}
    assert all(row["faults"] == 0 and row["files"] > 0 for row in record.values())


@pytest.mark.parametrize(("way", "count"), [("files", 40), ("commands", 1)])
def test_a_sample_of_other_files_gives_none(way: str, count: int, hostile: object) -> None:
    """Beyond those of the committed run."""
    from benchmarks.hostile_files import go_on, kinds

    record = {f"{name}, {way}": {"files": 10_000_000, "faults": 0, "examples": []} for name in kinds()}
    go_on(record, way, count)
    assert [row["examples"] for row in record.values()] == [[]] * len(record)


def test_what_counts_as_a_fault_is_counted(hostile: object, tmp_path: Path) -> None:
    """A traceback, several lines, a process brought down, code that was run; and no refusal."""
    import dataclasses
    import os

    from benchmarks.hostile_files import chunk, kinds
    from benchmarks.mutations import MARK

    def refuse(message: str) -> Callable[[Path], object]:
        def read(path: Path) -> None:
            raise BadInput(message)
        return read

    readers: dict[str, Callable[[Path], object]] = {
        "ZeroDivisionError": lambda path: 1 // 0, "more than one line": refuse("a\nb"), "": refuse("a"),
        "brought down its process, status -6": lambda path: os.abort(),
        "code in it was run": lambda path: Path(MARK).touch()}
    for text, read in readers.items():
        found = chunk(dataclasses.replace(kinds()["data"], read=read), "data", range(3), tmp_path / "f")
        assert [number for number, _ in found] == ([0, 1, 2] if text else [])
        assert all(text in said for _, said in found)


def test_files_follow_from_their_number(hostile: object) -> None:
    from benchmarks.hostile_files import content, kinds

    for name, kind in kinds().items():
        once, again, other = (content(kind, name, number) for number in (3, 3, 4))
        assert once == again != other


def test_values_that_lie_in_other_files_or_nowhere_are_refused(require_tool: RequireTool, tmp_path: Path) -> None:
    """A file of some kB could claim gigabytes, or lead to a pipe that no one writes."""
    from ncpc.frontend.keras.hdf5 import read_hdf5

    h5py = require_tool("h5py")
    for name, make, word in (
        ("other", lambda file: file.__setitem__("a", h5py.ExternalLink("/dev/zero", "/")), "lies in another file"),
        ("outside", lambda file: file.create_dataset("a", (9,), "f8", external=[("/dev/zero", 0, 72)]), "another file"),
        ("claims", lambda file: file.create_dataset("a", (1 << 31,), "f8", chunks=(4,)), "hold 2,147,483,648 values"),
    ):
        path = tmp_path / f"{name}.h5"
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(BadInput, match=word):
            read_hdf5(path)
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["a/b"], file["a/t"], file["a"].attrs["n"] = np.arange(3), "text", [b"x", b"y"]
    found = read_hdf5(path)
    assert found.array("a/b").tolist() == [0.0, 1.0, 2.0]
    assert (found["a"].attrs["n"], found["a/t"].size) == (["x", "y"], 0)


def test_a_reader_of_hdf5_that_falls_or_hangs_is_a_refusal(
    require_tool: RequireTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ncpc.frontend.keras import hdf5
    from ncpc.worker.process import Service

    require_tool("h5py")
    for work, word in (("os.abort()", "brought down: SIGABRT"), ("time.sleep(60)", "no sign of life for 0.5 s")):
        script = tmp_path / "worker.py"
        script.write_text(f"import os, time\ndef commands(alive): return {{'read': lambda head, arrays: {work}}}\n")
        monkeypatch.setattr(hdf5, "SERVICE", Service(str(script), patience=0.5 if "sleep" in work else 20.0))
        with pytest.raises(BadInput, match=f"net.h5: not a readable HDF5 file .*{word}"):
            hdf5.read_hdf5(tmp_path / "net.h5")


def test_pickles_with_code_are_never_run(require_tool: RequireTool, tmp_path: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.mutations import MARK, PICKLES
    from ncpc.frontend.factory import read_weights

    torch = require_tool("torch")
    monkeypatch.chdir(tmp_path)
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, whole, _use_new_zipfile_serialization=False)
    for code in PICKLES:
        for data in (code, whole.getvalue() + code, whole.getvalue()[: random.Random(3).randrange(900)] + code):
            (tmp_path / "net.pt").write_bytes(data)
            with suppress(BadInput):  # a good file with something behind it is read
                read_weights(tmp_path / "net.pt")
            assert not (tmp_path / MARK).exists()
