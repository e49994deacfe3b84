"""No input gives a traceback: what no one foresaw is one line with an exit code of its own, and a file of details."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.cli.commands import run
from ncpc.errors import EXIT_BROKEN_PIPE, BadInput
from ncpc.frontend.container import write_policy
from ncpc.frontend.data import read_sequences
from ncpc.ir.policy import DtRange
from ncpc.system.crash import NAME
from tests.nets import random_policy

ROOT = Path(__file__).parent.parent


def spoil(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """``ncpc targets`` raises ``error``."""
    def fail() -> None:
        raise error
    monkeypatch.setattr("ncpc.inspect.targets.target_records", fail)


def test_an_error_of_our_own_is_one_line_and_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, KeyError("a table without its key"))
    assert run(["targets", "--json"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("ncpc: internal error, KeyError: 'a table without its key'; please report it with ")
    details = (tmp_path / NAME).read_text()
    assert str(tmp_path / NAME) in said
    for part in ("ncpc ", "Python ", "arguments: ['targets', '--json']", "Traceback", "a table without its key"):
        assert part in details


def test_where_the_folder_is_closed_the_details_are_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spoil(monkeypatch, RecursionError("too deep"))
    assert run(["targets"]) == 70
    assert str(tmp_path / NAME) in capsys.readouterr().err
    monkeypatch.chdir(ROOT)


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    spoil(monkeypatch, MemoryError("Unable to allocate 21.8 TiB"))
    assert run(["targets"]) == 2
    assert capsys.readouterr().err == ("ncpc: not enough memory (Unable to allocate 21.8 TiB); give less data, or a "
                                       "smaller network\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [["targets", "--json"], ["--help"], ["inspect", "POLICY"]])
def test_a_pipe_that_no_one_reads_ends_it_quietly(arguments: list[str], tmp_path: Path) -> None:
    write_policy(random_policy(4), tmp_path / "net.safetensors")
    command = [str(tmp_path / "net.safetensors") if a == "POLICY" else a for a in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "ncpc", *command], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE,
                              text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (EXIT_BROKEN_PIPE, "")


class Code:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pickled",)


def packed(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def claiming(shape: str, descr: str, data: bytes = b"") -> bytes:
    """An archive whose x claims to be of ``shape``, whatever ``data`` is there."""
    head = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (63 - (len(head) + 10) % 64) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data)
    return file.getvalue()


X = np.zeros((2, 5, 3))
HOSTILE: dict[str, bytes] = {
    "objects that run code": packed(x=np.array([Code()], object)),
    "objects": packed(x=X.astype(object)),
    "complex numbers": packed(x=X.astype(complex)),
    "text": packed(x=X.astype("U5")),
    "dates": packed(x=X.astype("M8[s]")),
    "records": packed(x=np.zeros(3, [("a", "f8"), ("b", "i4")])),
    "no x": packed(y=X),
    "a number": packed(x=np.array(5.0)),
    "no steps": packed(x=X[:, :0]),
    "no sequences": packed(x=X[:0]),
    "two inputs": packed(x=X[..., :2]),
    "dt of the wrong shape": packed(x=X, dt=X),
    "dt 0": packed(x=X, dt=np.zeros((2, 5))),
    "dt NaN": packed(x=X, dt=np.full((2, 5), np.nan)),
    "reset in words": packed(x=X, reset=np.zeros((2, 5), "U3")),
    "NaN": packed(x=X * np.nan),
    "infinite": packed(x=X + np.inf),
    "more than there is": claiming("(1000000000000, 3)", "<f8"),
    "more than can be counted": claiming("(99999999, 99999999, 99999999)", "<f8"),
    "less than nothing": claiming("(-1, 3)", "<f8"),
    "a pickle in an array": claiming("(2, 5, 3)", "|O", pickle.dumps(Code())),
    "a shape that is code": claiming("__import__('os')", "<f8"),
    "a shape that is a number": claiming("2", "<f8"),
    "empty": b"",
    "the head of an archive": b"PK\x03\x04",
    "the head of an array": b"\x93NUMPY\x01\x00",
    "half": packed(x=X)[:200],
    "a path as a name": packed(x=X, **{"../../a": X}),
    "a pickle": pickle.dumps(Code()),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_data_is_refused_in_one_line(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.npz").write_bytes(HOSTILE[case])
    with pytest.raises(BadInput) as error:
        read_sequences("log.npz", 3, DtRange())
    assert "\n" not in str(error.value)
    assert not (tmp_path / "pickled").exists()


def test_damaged_archives_are_read_or_refused(tmp_path: Path) -> None:
    """Bytes of an archive changed at random: whatever zipfile, zlib and NumPy make of it."""
    draw, whole, path = random.Random(3), packed(x=X, dt=np.ones((2, 5)), reset=np.zeros((2, 5), bool)), tmp_path / "f"
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(draw.choice([1, 2, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data)
        try:
            read_sequences(path, 3, DtRange())
        except BadInput:
            refused += 1
    assert 100 < refused < 300
