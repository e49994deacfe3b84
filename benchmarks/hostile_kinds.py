"""The kinds of files that ncpc reads: a good one of each, how it is changed, its reader, and a command to read it."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np

from benchmarks import mutations
from benchmarks.mutations import Mutation
from ncpc.driver import builds
from ncpc.driver.again import SIGNATURE, SUMS
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import compile_policy
from ncpc.driver.request_file import read_request
from ncpc.driver.signing import require_signed, sign_build
from ncpc.frontend.api import save
from ncpc.frontend.container import policy_bytes, read_container
from ncpc.frontend.data import read_sequences
from ncpc.frontend.source import Unsaid, read_source
from ncpc.inspect.linearization import write_linearization
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.program import Program
from ncpc.proofs import certify
from ncpc.proofs.certificate import CERTIFICATE
from ncpc.proofs.errors.certificate import ERROR_CERTIFICATE
from ncpc.proofs.errors.certify import read as read_error_certificate
from ncpc.targets.base import PROGRAM
from ncpc.targets.nir_graded.layers import layer_fields, layer_from_fields
from ncpc.verification.verdict import SEARCH
from tests.nets import random_policy
from tests.onnx_files import CARRIED, frames, recurrent

ROLES = ("motor", "motor", "inter", "inter")
RANGE = ("--input-range", "-1", "1", "-o", "policy.safetensors")
WHOLE, NONE = Unsaid(), MappingProxyType({})
LTC = Unsaid(6, "implicit", 1e-8, None)
KEY = (
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAlyQj7WaCAvntqPYs/PUo3XTbiMpY"
    "lJdSOUTeu8Bn0qcUIFXsDlSjwDtacCFqw+CeFIr8Pt2c0wNS/fhJ6dwFbgRAjhWxJClxVtpKMhMfbHhmKvayS2ab9jnN+F2yZH7q"
    "Z4HKzh/w5cI="
)
"""A secret key of minisign that signs nothing else: the same in every run."""
WORDS = ("--constraints", "implicit", "--unfolds", "6", "--epsilon", "1e-8")


@dataclass(frozen=True)
class Kind:
    """A kind of file. ``name`` is what the file is called, in a copy of the folder ``beside`` where there is one;
    ``command`` is what reads it, FILE being its path and FOLDER that of its folder; empty where no command does.
    ``share`` of the files that are asked for are read: the checker of certificates takes half a second for each.
    """

    seed: bytes
    name: str
    mutate: Mutation
    read: Callable[[Path], object]
    command: tuple[str, ...]
    beside: Mapping[str, bytes] | None = None
    share: float = 1.0


@cache
def kinds() -> dict[str, Kind]:
    """All of them, by name."""
    return {**_own_files(), **_models(), **_builds()}


@cache
def policy() -> Policy:
    return random_policy(4, neurons=4)


def layers() -> object:
    """A factory for the command line."""
    return list(policy().layers)


def _npz(**arrays: Any) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)
    return data.getvalue()


def _own_files() -> dict[str, Kind]:
    data = _npz(x=np.zeros((2, 5, 3)), dt=np.ones((2, 5)), reset=np.zeros((2, 5), bool))
    point = _npz(v=np.zeros(4), x=np.zeros(3))
    beside = {"net.safetensors": policy_bytes(policy())}
    factory = "benchmarks.hostile_kinds:layers"
    return {
        "container": Kind(policy_bytes(policy()), "net.safetensors", mutations.safetensors, read_container,
                          ("inspect", "FILE")),
        "data": Kind(data, "data.npz", mutations.zipped(npy=mutations.npy), lambda path: read_sequences(
            path, 3, DtRange()), ("import", factory, "-o", "policy.safetensors", "--calibrate", "FILE")),
        "point": Kind(point, "point.npz", mutations.zipped(npy=mutations.npy), lambda path: write_linearization(
            path.with_name("net.safetensors"), path.with_name("out.npz"), path),
            ("inspect", "FOLDER/net.safetensors", "--linearize", "FOLDER/out.npz", "--around", "FILE"), beside),
    }


def ltc_weights() -> dict[str, np.ndarray]:
    """The variables of an LTC of ncps with four neurons and three inputs."""
    rng = np.random.default_rng(3)
    found = {name: rng.uniform(0.1, 1.0, 4) for name in ("gleak", "vleak", "cm")}
    for prefix, rows in (("", 4), ("sensory_", 3)):
        found |= {f"{prefix}{name}": rng.uniform(0.1, 1.0, (rows, 4)) for name in ("sigma", "mu", "w", "erev")}
    sides = (("input", 3), ("output", 2))
    return found | {f"{side}_{part}": rng.uniform(0.5, 1.0, size) for side, size in sides for part in "wb"}


def _layers() -> list[dict[str, Any]]:
    wiring = {"units": 4, "adjacency_matrix": np.ones((4, 4)).tolist(), "input_dim": 3, "output_dim": 2}
    cell = {**wiring, "input_mapping": "affine", "output_mapping": "affine", "ode_unfolds": 6, "epsilon": 1e-8}
    rnn = {"name": "rnn", "return_sequences": True, "cell": {"class_name": "ncps>LTCCell", "config": cell}}
    return [{"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, None, 3]}},
            {"class_name": "RNN", "config": rnn},
            {"class_name": "GRU", "config": {"name": "gru", "units": 3, "activation": "tanh", "return_sequences": True,
                                             "recurrent_activation": "sigmoid", "reset_after": True}},
            {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "relu"}}]


def _model() -> bytes:
    return json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": _layers()}}).encode()


def _weights() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(4)
    gru = {"kernel": rng.normal(size=(2, 9)), "recurrent_kernel": rng.normal(size=(3, 9)), "bias": np.zeros((2, 9))}
    return {"rnn": ltc_weights(), "gru": gru, "dense": {"kernel": rng.normal(size=(3, 2)), "bias": np.zeros(2)}}


def _hdf5(groups: Mapping[str, Mapping[str, np.ndarray]], attributes: Mapping[str, object] = NONE) -> bytes:
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.attrs.update(attributes)
        for group, arrays in groups.items():
            for name, array in arrays.items():
                file[f"{group}/{name}"] = array
            if attributes:
                file[group].attrs["weight_names"] = list(arrays)
    return content.getvalue()


def _archive() -> bytes:
    numbered = {f"layers/{name}{'/cell' if name != 'dense' else ''}/vars": {
        str(i): array for i, array in enumerate(arrays.values())} for name, arrays in _weights().items()}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in (("metadata.json", b'{"keras_version": "3.9.0"}'), ("config.json", _model()),
                           ("model.weights.h5", _hdf5(numbered))):
            archive.writestr(zipfile.ZipInfo(name), data)
    return content.getvalue()


def _checkpoints() -> tuple[bytes, bytes, bytes]:
    """A state_dict as torch writes it today, as it did before, and as safetensors."""
    import torch
    from safetensors.torch import save as to_bytes

    arrays = ltc_weights()
    masks = {"sparsity_mask": np.ones((4, 4)), "sensory_sparsity_mask": np.ones((3, 4))}
    state = {name: torch.tensor(array, dtype=torch.float32) for name, array in {**arrays, **masks}.items()}
    new, old = io.BytesIO(), io.BytesIO()
    torch.save(state, new)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return new.getvalue(), old.getvalue(), to_bytes(state)


def _graph(write: Callable[[Path], Path]) -> bytes:
    """An ONNX file."""
    with tempfile.TemporaryDirectory() as name:
        return write(Path(name, "net.onnx")).read_bytes()


def _imported(path: Path, unsaid: Unsaid = WHOLE, carry: Mapping[str, str] | None = None) -> object:
    """What ``ncpc import`` does."""
    found = read_source(str(path), weights=None, trust_pickle=False, unsaid=unsaid)
    out = path.with_name("policy.safetensors")
    return save(found.model, out, like=found.like, input_range=(-1.0, 1.0), carry=carry)


def _models() -> dict[str, Kind]:
    whole = _hdf5({f"model_weights/{name}": arrays for name, arrays in _weights().items()},
                  {"model_config": _model().decode(), "keras_version": "2.15.0"})
    new, old, bare = _checkpoints()
    archived = mutations.zipped(json=mutations.any_json, h5=mutations.hdf5)
    weights, asked = partial(_imported, unsaid=Unsaid(6)), ("--unfolds", "6", *RANGE)
    checkpoint, words = partial(_imported, unsaid=LTC), (*WORDS, *RANGE)
    carried = [word for pair in CARRIED["LSTM"].items() for word in ("--carry", "=".join(pair))]
    return {
        "onnx": Kind(_graph(recurrent), "net.onnx", mutations.onnx_graph, partial(_imported, carry=CARRIED["LSTM"]),
                     ("import", "FILE", *carried, *RANGE)),
        "onnx of frames": Kind(_graph(frames), "net.onnx", mutations.onnx_graph, _imported, ("import", "FILE", *RANGE)),
        "keras": Kind(_archive(), "net.keras", archived, _imported, ("import", "FILE", *RANGE)),
        "hdf5 model": Kind(whole, "net.h5", mutations.hdf5, _imported, ("import", "FILE", *RANGE)),
        "hdf5 weights": Kind(_hdf5({"ltc": ltc_weights()}), "net.h5", mutations.hdf5, weights,
                             ("import", "FILE", *asked)),
        "checkpoint": Kind(new, "net.pt", mutations.zipped(pkl=mutations.pickled), checkpoint,
                           ("import", "FILE", *words)),
        "old checkpoint": Kind(old, "net.pth", mutations.pickled, checkpoint, ("import", "FILE", *words)),
        "weights": Kind(bare, "net.safetensors", mutations.safetensors, checkpoint, ("import", "FILE", *words)),
    }


@cache
def _built() -> tuple[dict[str, bytes], bytes]:
    """The files of a signed build in integers, and the public key. The same in every run."""
    import minisign

    secret = minisign.SecretKey.from_base64(KEY)
    with tempfile.TemporaryDirectory() as name:
        key, folder = Path(name, "key"), Path(name, "build")
        key.write_bytes(bytes(secret))
        with patch.dict(SEARCH, {PROGRAM: {"screens": 1, "generations": 1, "length": 12}}):
            compile_policy(policy(), folder, Request("host", "int16", tolerance=0.5, steps=10, certify="error"))
        (folder / builds.TIMING).unlink()
        sign_build(folder, key, str)
        return {path.name: path.read_bytes() for path in folder.iterdir()}, bytes(secret.get_public_key())


@cache
def _program() -> Program:
    """The policy in integers, as in the build."""
    job = job_for(policy(), Request("host", "int16"))
    return lower_for(job.container, job.options).lowered.program


def _with_error(path: Path) -> None:
    """``ncpc certify --error --check``, of a build that is made already."""
    read_error_certificate(policy(), _program(), path.read_text("utf-8", "replace"), str(path))


def _node(path: Path) -> None:
    """What ``nir.read`` does with the fields of a graded node: text and arrays in its file, JSON here."""
    with suppress(ValueError, RecursionError):  # no JSON any more
        fields = json.loads(path.read_bytes())
        if isinstance(fields, dict):
            layer_from_fields({**fields, "step": json.dumps(fields.get("step"))})


def _graded() -> bytes:
    """The fields of a small policy's node."""
    from ncpc.targets.nir_graded.split import layers_of

    fields = layer_fields(layers_of(_program())[0])
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
    return json.dumps({**plain, "step": json.loads(plain["step"])}).encode()


def _certified(path: Path) -> None:
    """``certify.py`` of the file's folder: an exit code of its own, and one that is no traceback's."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        assert certify.main([str(path.parent)]) in (0, 1, 2)


def _with_sum(path: Path) -> None:
    """The C changed, and the certificate's hash of it put right: what has to be read is the C."""
    certificate = json.loads((path.parent / CERTIFICATE).read_text())
    certificate["sha256"][path.name] = builds.sha256(path.read_bytes())
    (path.parent / CERTIFICATE).write_text(json.dumps(certificate))
    _certified(path)


def _builds() -> dict[str, Kind]:
    files, key = _built()
    bare = {name: data for name, data in files.items() if name != builds.POLICY}  # what is read next is missing
    verify, text = ("verify", "FOLDER"), key.decode().split()[-1]
    keyed = {**files, "own.pub": key}
    code = {name: files[name] for name in ("net.c", "net.h", CERTIFICATE, "certify.py")}
    found = {
        "request": Kind(files[builds.REQUEST], builds.REQUEST, mutations.any_json,
                        lambda path: read_request(path.parent), verify, bare),
        "report": Kind(files[builds.REPORT], builds.REPORT, mutations.any_json,
                       lambda path: builds.read_report(path.parent), verify, bare),
        "certificate": Kind(files[CERTIFICATE], CERTIFICATE, mutations.any_json, _certified, ("certify", "FOLDER"),
                            code, 0.02),
        "certified C": Kind(files["net.c"], "net.c", mutations.any_bytes, _with_sum, ("certify", "FOLDER"), code, 0.1),
    }
    checked = ("certify", "FOLDER/build", "--error", "--check", "FILE")
    found["error certificate"] = Kind(files[ERROR_CERTIFICATE], "error.json", mutations.any_json, _with_error, checked,
                                      {f"build/{name}": data for name, data in files.items()})
    found["graded node"] = Kind(_graded(), "node.json", mutations.any_json, _node, ())
    for name in (SUMS, SIGNATURE):
        found[name] = Kind(files[name], name, mutations.any_bytes, lambda path: require_signed(path.parent, text),
                           (*verify, "--key", text), files)
    found["public key"] = Kind(key, "own.pub", mutations.any_bytes, lambda path: require_signed(path.parent, path),
                               (*verify, "--key", "FILE"), keyed)
    return found


def lay(kind: Kind, folder: Path, data: bytes) -> Path:
    """The file with ``data``, and what stands beside it, in ``folder``, which is emptied before."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in (kind.beside or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / kind.name).write_bytes(data)
    return folder / kind.name
