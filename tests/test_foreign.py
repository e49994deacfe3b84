"""Files of other kinds are told by what they are, with what to do, wherever a policy or a checkpoint is asked for."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ncpc.errors import BadInput
from ncpc.frontend.checkpoints import read_checkpoint
from ncpc.frontend.container import read_policy
from ncpc.frontend.foreign import BUILD, FOLDER, HDF5, ONNX, STARTS, TABLE_END, TORCH, kind_of
from tests.conftest import RequireTool

torch = pytest.importorskip("torch")


def torchscript(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(3, 2)), str(path))


def exported(path: Path) -> None:
    torch.export.save(torch.export.export(torch.nn.Linear(3, 2), (torch.zeros(1, 3),)), path)


def onnx_bytes() -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    return helper.make_model(graph).SerializeToString()


def archive(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(name, b"{}")
    return file.getvalue()


def npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, x=np.zeros((1, 3)))
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def saved(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path)


def old(path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)


FILES: dict[str, tuple[str, bytes | Callable[[Path], None], str, str]] = {
    "TorchScript": ("a.pt", torchscript, "a TorchScript archive", "ncpc.save"),
    "torch.export": ("a.pt2", exported, "an exported program of torch", "ncpc.save"),
    "ONNX": ("a.onnx", onnx_bytes(), "an ONNX model", "ncpc import"),
    "TFLite": ("a.tflite", b"\x1c\0\0\0TFL3" + bytes(40), "a TFLite model", "ncpc.save"),
    "Keras": ("a", archive("metadata.json", "config.json", "model.weights.h5"), "a Keras file", "ncpc import"),
    "HDF5": ("weights", HDF5 + bytes(40), "a Keras file", "ncpc import"),
    "index": ("ckpt.index", bytes(40) + TABLE_END, "a part of a TensorFlow checkpoint", "load_weights"),
    "list": ("checkpoint", b'model_checkpoint_path: "ckpt"\n', "a part of a TensorFlow checkpoint", "load_weights"),
    "pickle": ("a.pkl", pickle.dumps({"a": 1}), "a pickle", "state_dict"),
    "arrays": ("a.npz", npz(), "an npz file of arrays", "--calibrate"),
    "array": ("a.npy", npy(), "an array of NumPy", "np.savez"),
    "source": ("train.py", b"def make():\n    return None\n", "Python source", "package.module:function"),
    "pointer": ("a.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS",
                "git lfs pull"),
    "page": ("a.pt", b"\n<!DOCTYPE html><html></html>", "a web page", "fetch"),
    "gzip": ("a.pt.gz", b"\x1f\x8b\x08" + bytes(20), "a gzip file", "unpack"),
}


def made(tmp_path: Path, name: str) -> Path:
    file, content, *_ = FILES[name]
    path = tmp_path / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    return path


@pytest.mark.parametrize("read", [read_policy, read_checkpoint])
@pytest.mark.parametrize("name", FILES)
def test_a_foreign_file_is_named_with_what_to_do(name: str, read: Callable[[Path], object], tmp_path: Path) -> None:
    path = made(tmp_path, name)
    with pytest.raises(BadInput) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: {FILES[name][2]}; ")
    assert FILES[name][3] in said
    assert "\n" not in said
    assert "{" not in said


@pytest.mark.parametrize("write", [saved, old])
def test_a_checkpoint_is_read_where_one_is_wanted(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / "a.pt")
    assert list(read_checkpoint(tmp_path / "a.pt")) == ["a"]
    with pytest.raises(BadInput, match=r"a\.pt: a torch checkpoint; .* ncpc import .*a\.pt --calibrate"):
        read_policy(tmp_path / "a.pt")


def test_an_old_checkpoint_of_any_protocol_is_known(tmp_path: Path) -> None:
    for protocol in (2, 3, 4, 5):
        torch.save({}, tmp_path / "a", _use_new_zipfile_serialization=False, pickle_protocol=protocol)
        assert kind_of(tmp_path / "a") is TORCH


def test_a_policy_is_no_checkpoint(good: Path) -> None:
    with pytest.raises(BadInput, match=r": a policy of ncpc; compile it: ncpc compile .*safetensors"):
        read_checkpoint(good)


def test_folders(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is FOLDER
    (tmp_path / "report.json").touch()
    assert kind_of(tmp_path) is BUILD
    with pytest.raises(BadInput, match=f"{tmp_path}: a build of ncpc; .*ncpc verify {tmp_path}"):
        read_policy(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(BadInput, match=r"a SavedModel of TensorFlow; .*model\.keras"):
        read_checkpoint(tmp_path)


def test_the_data_of_a_checkpoint_is_told_by_the_index_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "ckpt.data-00000-of-00001"
    data.write_bytes(bytes(40))
    assert kind_of(data) is None
    (tmp_path / "ckpt.index").touch()
    with pytest.raises(BadInput, match="a part of a TensorFlow checkpoint"):
        read_policy(data)


def test_what_is_not_known_is_not_named(tmp_path: Path) -> None:
    for content in (b"", b"\x08", b"\x80", b"\x08\x02:", b"PK\x03\x04junk", b"hello", b"\x80\x09..", bytes(20)):
        (tmp_path / "a").write_bytes(content)
        assert kind_of(tmp_path / "a") is None, content
    assert kind_of(tmp_path / "none") is None
    assert kind_of(Path("a" * 5000)) is None


def test_heads_are_told_apart(tmp_path: Path) -> None:
    """No beginning is that of two kinds, and every graph that ncpc writes as ONNX is known as such."""
    starts = [start for start, _ in STARTS]
    assert not [(a, b) for a in starts for b in starts if a is not b and a.startswith(b)]
    (tmp_path / "a").write_bytes(onnx.ModelProto(ir_version=10, producer_name="ncpc").SerializeToString())
    assert kind_of(tmp_path / "a") is ONNX


def test_a_model_that_ncpc_emitted_is_known(good: Path, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("ai_edge_litert")
    from ncpc.driver.job import Request
    from ncpc.driver.pipeline import compile_policy

    for target, ending, name in (("tflite", "tflite", "a TFLite model"), ("onnx", "onnx", "an ONNX model")):
        compile_policy(good, tmp_path / target, Request(target, "float32", steps=20))
        (file, *_) = sorted((tmp_path / target).glob(f"*.{ending}"))
        with pytest.raises(BadInput, match=f": {name}; "):
            read_policy(file)
