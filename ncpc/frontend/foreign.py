"""Files of other kinds, told by how they begin, and what to do with each. Nothing of them is unpickled or run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ncpc.errors import BadInput, NcpcError
from ncpc.frontend.pickles import BROKEN, ZIP
from ncpc.system.files import is_file
from ncpc.system.user_code import one_line

HEAD = 4096
"""Bytes that are looked at."""
HDF5 = b"\x89HDF\r\n\x1a\n"
OLD_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number in the first bytes of a checkpoint of torch before 1.6 (torch.serialization.MAGIC_NUMBER)."""
TABLE_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""The magic number that a table of LevelDB ends with: the index of a TensorFlow checkpoint is one (LevelDB,
doc/table_format.md, "Footer")."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file: its name in a sentence, and what to do with ``{file}``."""

    name: str
    advice: str


FROM_MODULE = ("it no longer says which neurons and synapses it had; give what it was exported from: ncpc.save(module, "
               "...), or ncpc import package.module:function --weights checkpoint.pt")
BY_KERAS = ('load it with the TensorFlow it was trained in, model.save("model.keras"), and ncpc import model.keras '
            "--calibrate data.npz")
DATA = "it is data: give it as --calibrate or --inputs"

POLICY = FileKind("a policy of ncpc", "compile it: ncpc compile {file} --target host")
TORCH = FileKind("a torch checkpoint", "make a policy of it first: ncpc import {file} --calibrate data.npz, or, where "
                 "a class of your own makes the module, ncpc import package.module:Class --weights {file}")
KERAS = FileKind("a Keras file", "make a policy of it first: ncpc import {file} --calibrate data.npz (its name must "
                 "end in .keras or .h5)")
TORCHSCRIPT = FileKind("a TorchScript archive", FROM_MODULE)
EXPORTED = FileKind("an exported program of torch", FROM_MODULE)
ONNX = FileKind("an ONNX model", "make a policy of it first: ncpc import {file} --carry STATE_IN=STATE_OUT --calibrate "
                "data.npz")
TFLITE = FileKind("a TFLite model", FROM_MODULE)
SAVED_MODEL = FileKind("a SavedModel of TensorFlow", BY_KERAS)
TF_CHECKPOINT = FileKind("a part of a TensorFlow checkpoint", "load it into its model with the TensorFlow it was "
                         'trained in, model.load_weights(prefix), model.save("model.keras"), and ncpc import '
                         "model.keras")
PICKLE = FileKind("a pickle", "loading one runs code; save tensors instead: torch.save(model.state_dict(), path), or "
                  "ncpc.save(module, path) where it was trained")
ARRAYS = FileKind("an npz file of arrays", DATA)
ARRAY = FileKind("an array of NumPy", "it is data: np.savez(path, x=array), and give that as --calibrate or --inputs")
SOURCE = FileKind("Python source", "name the function in it that returns the trained module: ncpc import "
                  "package.module:function")
BUILD = FileKind("a build of ncpc", "the policy in it is its policy.safetensors; to run or check the build: ncpc "
                 "verify {file}, ncpc simulate {file}")
FOLDER = FileKind("a folder", "give a file")
POINTER = FileKind("a pointer of Git LFS", "the file itself was not fetched: git lfs pull")
PAGE = FileKind("a web page", "the download gave a page in place of the file; fetch the file itself")
PACKED = FileKind("a gzip file", "unpack it first")

STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (HDF5, KERAS), (b"\x93NUMPY", ARRAY), (b"\x1f\x8b", PACKED),
    (b"version https://git-lfs", POINTER), (b"model_checkpoint_path:", TF_CHECKPOINT),
)
"""How files begin; what is told by more than that stands in ``_by_head``."""


def kind_of(path: Path) -> FileKind | None:
    """What a file or folder is, where that is known."""
    try:
        if path.is_dir():
            return _of_folder(path)
        if not is_file(path):
            return None
        with path.open("rb") as file:
            head = file.read(HEAD)
        return _by_head(head) or _by_archive(path, head) or _by_name(path)
    except (OSError, ValueError):
        return None


def refusal(path: Path, wanted: FileKind, otherwise: str = "") -> str:
    """One line about a file that is of another kind than is ``wanted``; ``otherwise`` where no other is known."""
    kind = kind_of(path)
    return otherwise if kind in (None, wanted) else f"{path}: {kind.name}; {kind.advice.format(file=path)}"


def _of_folder(path: Path) -> FileKind:
    if (path / "saved_model.pb").exists():
        return SAVED_MODEL
    return BUILD if (path / "report.json").exists() else FOLDER


def _by_head(head: bytes) -> FileKind | None:
    found = next((kind for start, kind in STARTS if head.startswith(start)), None)
    if found is not None:
        return found
    if head[4:8] == b"TFL3":  # FlatBuffers: the file's identifier stands behind the root's offset
        return TFLITE
    if head[8:9] == b"{" and b'"ncpc"' in head:
        return POLICY
    if _is_onnx(head):
        return ONNX
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return PAGE
    if head[:1] == b"\x80" and head[1:2] and 2 <= head[1] <= 5:
        return TORCH if OLD_TORCH in head[:64] else PICKLE
    return None


def _is_onnx(head: bytes) -> bool:
    """A ModelProto: field 1 (ir_version, at least 3), then one of the fields 2 to 8; 5 is a number (onnx.proto)."""
    return len(head) > 2 and head[0] == 0x08 and 3 <= head[1] < 32 and head[2] in (
        0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42)


def _by_archive(path: Path, head: bytes) -> FileKind | None:
    if not head.startswith(ZIP):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except BROKEN:
        return None
    ends = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in ends and any("/code/" in name for name in names):
        return TORCHSCRIPT
    if "serialized_exported_program.json" in ends or any(name.endswith("/models/model.json") for name in names):
        return EXPORTED
    if "data.pkl" in ends:
        return TORCH
    if {"config.json", "model.weights.h5"} <= ends:
        return KERAS
    return ARRAYS if names and all(name.endswith(".npy") for name in names) else None


def _by_name(path: Path) -> FileKind | None:
    """What only the end of a file, or its name, tells."""
    if path.suffix == ".py":
        return SOURCE
    if ".data-0" in path.name and (path.parent / f"{path.name.partition('.data-')[0]}.index").exists():
        return TF_CHECKPOINT
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - len(TABLE_END), 0))
        return TF_CHECKPOINT if file.read() == TABLE_END else None


@contextmanager
def read_or_refused(path: Path, library: str) -> Iterator[None]:
    """Whatever a file of unknown origin brings about in the block becomes a ``BadInput`` of one line."""
    try:
        yield
    except NcpcError:
        raise
    except MemoryError:
        raise BadInput(f"{path}: needs more memory than there is; save the model again") from None
    except Exception as error:  # a damaged file makes zipfile, h5py, protobuf and what reads them raise a dozen kinds
        raise BadInput(f"{path}: damaged, or of another version of {library} ({one_line(error)}); save the model "
                       "again") from None
