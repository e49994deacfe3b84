"""npz files of unknown origin: nothing is unpacked beyond what their directory says, and that is limited."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ncpc.errors import BadInput
from ncpc.frontend.npz import MOST_ARRAYS, MOST_BYTES, read_npz

ADVICE = "write another one"


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def archive(member: bytes, method: int = zipfile.ZIP_DEFLATED, names: tuple[str, ...] = ("x.npy",)) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as found:
        for name in names:
            found.writestr(name, member)
    return file.getvalue()


def npy(shape: str, data: bytes, dtype: str = "'<f8'", fortran: str = "False") -> bytes:
    text = f"{{'descr': {dtype}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data


def declared(data: bytes, size: int) -> bytes:
    """The archive with another size of each member in its directory."""
    at, found = 0, bytearray(data)
    while (at := data.find(b"PK\1\2", at)) >= 0:
        found[at + 24 : at + 28] = struct.pack("<I", size)
        at += 4
    return bytes(found)


def test_arrays_come_back_as_numpy_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 4, 5)), "dt": np.float32(2), "reset": np.zeros((0, 3), bool),
              "y": np.asfortranarray(rng.integers(0, 9, (4, 6)).astype(">i2")), "name": np.array(["a", "bc"])}
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
        found = read_npz(tmp_path / "a.npz", ADVICE)
        with np.load(tmp_path / "a.npz") as expected:
            assert list(found) == list(expected)
            for name in expected.files:
                np.testing.assert_array_equal(found[name], expected[name])
                assert found[name].dtype == expected[name].dtype
                found[name].reshape(-1)[:1] = 0  # may be written to


def test_more_than_is_allowed_is_refused_before_it_is_unpacked() -> None:
    zeros = packed(x=np.zeros(10**6))
    assert len(zeros) < 10**4
    assert read_npz(zeros, ADVICE, 8 * 10**6 + 1024)["x"].size == 10**6
    with pytest.raises(BadInput, match=r"^archive: would unpack to 1 arrays of 8,000,\d+ bytes; the most are .* fewer"):
        read_npz(zeros, ADVICE, 8 * 10**6)
    bomb = declared(archive(npy("(1,)", bytes(8)), names=("x.npy", "y.npy")), 2**32 - 16)
    with pytest.raises(BadInput, match=f"would unpack to 2 arrays of {2**33 - 32:,} bytes; .* of {MOST_BYTES:,};"):
        read_npz(bomb, ADVICE)
    many = archive(npy("(0,)", b""), names=tuple(f"{k}.npy" for k in range(MOST_ARRAYS + 1)))
    with pytest.raises(BadInput, match="would unpack to 1,001 arrays"):
        read_npz(many, ADVICE)


@pytest.mark.parametrize("data", [
    archive(npy("(1000000000000,)", bytes(80))), archive(npy("(9,)", bytes(80))), archive(npy("(11,)", bytes(80))),
    archive(npy("(-10,)", bytes(80))), archive(npy("(1 << 40, 1 << 40)", bytes(80))),
    archive(npy("(4611686018427387904, 4)", b"")), archive(npy("(10,)", bytes(80), "'|O'")),
    archive(npy("(10,)", bytes(80), "[('a', '|O')]")), archive(npy("(10,)", bytes(80), "'<f8'", "7")),
    archive(npy("(10,)", bytes(80), "os.system('id')")), archive(b"\x93NUMPY\x03\x00"), archive(b""), b"", b"PK\3\4",
    archive(npy("(10,)", bytes(80)), zipfile.ZIP_LZMA), declared(archive(npy("(10,)", bytes(80))), 128 + 72),
    declared(archive(npy("(10,)", bytes(80))), 1 << 20), packed(x=np.zeros(9))[:-30],
], ids=range(18))
def test_what_does_not_say_what_it_holds_is_not_read(data: bytes) -> None:
    with pytest.raises(BadInput, match=rf"^archive: not a readable npz file of numbers; {ADVICE}$"):
        read_npz(data, ADVICE)
