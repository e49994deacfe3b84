"""The container: round trips, equal bytes, and one clear line for every file that is not a valid one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as to_bytes

from ncpc.errors import BadInput
from ncpc.frontend.container import (
    LAYERS,
    policy_bytes,
    read_container,
    read_policy,
    write_policy,
)
from ncpc.frontend.records import Array, decode, encode, narrow, scalar_of
from ncpc.frontend.validate import check_policy
from ncpc.ir.policy import Activation, Dense, DtRange, Ltc, Policy, Synapses
from ncpc.ir.sequences import Sequences


def synapses(rng: np.random.Generator, sources: int, neurons: int, count: int) -> Synapses:
    chosen = np.sort(rng.choice(sources * neurons, size=min(count, sources * neurons), replace=False)).astype(np.int64)
    w, sigma, mu, erev = rng.uniform(0.01, 2, (4, len(chosen)))
    return Synapses(chosen % sources, chosen // sources, w, sigma, mu, erev)


def ltc(rng: np.random.Generator, inputs: int, neurons: int, outputs: int) -> Ltc:
    roles = ("motor",) * outputs + ("inter",) * (neurons - outputs)
    return Ltc(
        sensory=synapses(rng, inputs, neurons, 2 * neurons), recurrent=synapses(rng, neurons, neurons, neurons),
        cm=rng.uniform(0.1, 1, neurons), gleak=rng.uniform(0.1, 1, neurons), vleak=rng.normal(size=neurons),
        input_w=rng.normal(size=inputs), input_b=rng.normal(size=inputs), output_w=rng.normal(size=outputs),
        output_b=rng.normal(size=outputs), roles=roles, names=tuple(f"n_{i}" for i in range(neurons)),
        unfolds=int(rng.integers(1, 9)), epsilon=float(rng.uniform(0, 1e-3)),
    )


def random_policy(seed: int, inputs: int = 3, neurons: int = 5, outputs: int = 2, lists: bool = True) -> Policy:
    rng = np.random.default_rng(seed)
    cell = ltc(rng, inputs, neurons, outputs)
    layers = (Dense(rng.normal(size=(inputs, 4)), rng.normal(size=inputs)), Activation("tanh", inputs), cell)
    width = 4 if lists else inputs
    calibration = Sequences(rng.normal(size=(2, 6, width)), rng.uniform(0.5, 2, (2, 6)), rng.random((2, 6)) < 0.3)
    return Policy(
        name="net", layers=layers if lists else (cell,), input_range=np.stack([np.full(width, -2.5), rng.uniform(
            0, 3, width)], axis=1), dt=DtRange(0.5, 2.0), input_names=tuple(f"in_{i}" for i in range(width)),
        output_names=tuple(f"out_{i}" for i in range(outputs)), calibration=calibration, sample_hz=50.0,
        provenance={"source": "test", "versions": {"a": "1.0"}, "n": [1, 2.5, None, True]},
    )


def assert_same(a: Any, b: Any, path: str = "policy") -> None:
    assert type(a) is type(b), path
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, path
        assert np.array_equal(a, b), path
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            assert_same(getattr(a, name), getattr(b, name), f"{path}.{name}")
    elif isinstance(a, tuple):
        assert len(a) == len(b), path
        for i, (left, right) in enumerate(zip(a, b, strict=True)):
            assert_same(left, right, f"{path}.{i}")
    else:
        assert a == b, path


# --- round trips ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.data())
def test_what_is_written_is_read_back_exactly(seed: int, inputs: int, neurons: int, lists: bool, data: Any) -> None:
    policy = random_policy(seed, inputs, neurons, data.draw(st.integers(1, neurons)), lists)
    blob = policy_bytes(policy)
    back = read_bytes(blob)
    assert_same(policy, back)
    assert policy_bytes(back) == blob


def read_bytes(blob: bytes) -> Policy:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.safetensors"
        path.write_bytes(blob)
        return read_policy(path)


def test_a_policy_of_defaults_round_trips(tmp_path: Path) -> None:
    policy = Policy("p", (ltc(np.random.default_rng(0), 1, 1, 1),), np.array([[0.0, 1.0]]))
    write_policy(policy, tmp_path / "p")
    assert_same(policy, read_policy(tmp_path / "p"))


def test_writing_twice_gives_the_same_bytes_in_any_order_of_provenance(tmp_path: Path) -> None:
    policy = random_policy(1)
    turned = replace(policy, provenance=dict(reversed(list(policy.provenance.items()))))
    write_policy(policy, tmp_path / "a")
    write_policy(turned, tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_the_header_is_one_key_of_canonical_json() -> None:
    meta = metadata(policy_bytes(random_policy(2)))
    assert list(meta) == ["ncpc"]
    header = json.loads(meta["ncpc"])
    assert json.dumps(header, sort_keys=True, separators=(",", ":")) == meta["ncpc"]
    policy = header["policy"]
    assert header["schema"] == 1
    assert [layer["kind"] for layer in policy["layers"]] == ["dense", "activation", "ltc"]
    assert set(policy["layers"][2]) >= {"unfolds", "epsilon", "roles", "names", "solver"}
    assert np.shape(policy["input_range"]) == (4, 2)
    assert {"dt", "input_names", "output_names", "sample_hz", "provenance"} <= set(policy)


def test_tensors_are_named_by_their_path_and_narrow_where_exact() -> None:
    policy = random_policy(3)
    cell = policy.layers[2]
    assert isinstance(cell, Ltc)
    single = replace(cell, vleak=cell.vleak.astype(np.float32).astype(np.float64))
    tensors = tensors_of(policy_bytes(replace(policy, layers=(*policy.layers[:2], single))))
    assert {"layers.0.weight", "layers.2.recurrent.w", "layers.2.sensory.pre", "calibration.x"} <= set(tensors)
    assert tensors["layers.2.vleak"].dtype == np.float32
    assert tensors["layers.2.recurrent.w"].dtype == np.float64
    assert tensors["layers.2.recurrent.pre"].dtype == np.int32
    assert tensors["calibration.reset"].dtype == np.bool_


@given(st.lists(st.floats(), max_size=5))
def test_narrowing_never_changes_a_value(values: list[float]) -> None:
    array = np.array(values, np.float64)
    assert np.array_equal(narrow(array).astype(np.float64), array, equal_nan=True)


def test_formats_pass_through(tmp_path: Path) -> None:
    formats = {"scheme": "int16", "layers": [{"w": [16, 11]}], "box": {"hi": 0.1}}
    write_policy(random_policy(4), tmp_path / "p", formats)
    assert read_container(tmp_path / "p").formats == formats
    write_policy(random_policy(4), tmp_path / "p")
    assert read_container(tmp_path / "p").formats is None


@dataclass(frozen=True, eq=False)
class Stack:
    """A layer as a later version might add it: optional arrays, nested records, tuples of them."""

    kind: ClassVar[str] = "stack"

    backbone: tuple[Dense, ...]
    gain: NDArray[np.float64] | None
    offset: NDArray[np.float64] | None
    first: Activation | None
    last: Activation | None
    sizes: tuple[int, ...]
    gated: bool
    tau: float | None


def test_a_new_kind_of_layer_needs_only_its_fields() -> None:
    dense = Dense(np.eye(2), np.arange(2.0))
    stack = Stack((dense, dense), np.ones(2), None, Activation("relu", 2), None, (3, 4), True, None)
    tensors: dict[str, Array] = {}
    record = json.loads(json.dumps(encode(stack, "layers.0", tensors)))
    assert set(tensors) == {f"layers.0.backbone.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")} | {
        "layers.0.gain"}
    back = decode(Stack, "layers.0", record, tensors, LAYERS | {"stack": Stack})
    assert_same(stack, back)
    assert not tensors


def test_the_format_is_what_it_was(golden: Callable[[str, str], None]) -> None:
    """Header and tensor list of a small policy: a change here is a change of the schema."""
    one, index = np.array([0.5]), np.zeros(1, np.int64)
    cell = Ltc(Synapses(index, index, one, one, one, one), Synapses(index, index, one, one, one, -one), one, one, one,
               np.ones(2), np.zeros(2), one, one, ("motor",), ("motor_0",))
    head = (Dense(np.full((2, 3), 0.25), np.zeros(2)), Activation("tanh", 2))
    x = Sequences(np.full((1, 2, 3), 0.1), np.ones((1, 2)))
    policy = Policy("small", (*head, cell), np.tile([-1.0, 1.0], (3, 1)), calibration=x)
    blob = policy_bytes(policy, {"scheme": "int16"})
    tensors = [f"{name} {array.dtype} {list(array.shape)}" for name, array in sorted(tensors_of(blob).items())]
    header = json.dumps(json.loads(metadata(blob)["ncpc"]), indent=1, sort_keys=True)
    golden("container.txt", "\n".join([header, *tensors, ""]))


# --- files that are no container --------------------------------------------------------------------------------------


def metadata(blob: bytes) -> dict[str, str]:
    size = int.from_bytes(blob[:8], "little")
    found: dict[str, str] = json.loads(blob[8:8 + size])["__metadata__"]
    return found


def edited(policy: Policy, edit: Callable[[dict[str, Any], dict[str, Array]], None]) -> bytes:
    """The policy's container with its header and tensors changed by ``edit``."""
    blob = policy_bytes(policy)
    header, tensors = json.loads(metadata(blob)["ncpc"]), tensors_of(blob)
    edit(header, tensors)
    return to_bytes(tensors, metadata={"ncpc": json.dumps(header)})


def refused(tmp_path: Path, blob: bytes) -> str:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(blob)
    with pytest.raises(BadInput) as caught:
        read_policy(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none", "no such file; give a container"), (tmp_path, "a folder; give a file")):
        with pytest.raises(BadInput, match=message):
            read_policy(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    blob = policy_bytes(random_policy(5))
    for size in {0, 1, 7, 8, 9, 100, len(blob) // 2, len(blob) - 1}:
        assert "not a readable safetensors file" in refused(tmp_path, blob[:size])
    assert "not a readable safetensors file" in refused(tmp_path, blob + b"x")


FOREIGN = [b"PK\x03\x04 a zip", b"\x89HDF\r\n", b"{}", np.random.default_rng(0).bytes(4000), b"\xff" * 64]


@pytest.mark.parametrize("blob", FOREIGN, ids=range(len(FOREIGN)))
def test_foreign_files_are_refused(tmp_path: Path, blob: bytes) -> None:
    assert "not a readable safetensors file" in refused(tmp_path, blob)


def test_other_safetensors_files_are_refused_with_the_way_in(tmp_path: Path) -> None:
    message = refused(tmp_path, to_bytes({"w": np.ones(3)}))
    assert "not an ncpc container" in message
    assert "ncpc import" in message
    assert "not an ncpc container" in refused(tmp_path, to_bytes({"w": np.ones(3)}, metadata={"format": "pt"}))


@pytest.mark.parametrize(("text", "words"), [
    ("{", "not valid JSON"), ("[]", "no schema"), ("[" * 100_000, "not valid JSON"),
    ('{"schema": NaN}', "not valid JSON"),
    ('{"schema": 2}', "schema 2, this ncpc reads 1"), ('{"schema": 1}', "'policy' is missing, expected an object"),
])
def test_bad_headers_are_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(tmp_path, to_bytes({}, metadata={"ncpc": text}))


def layer(header: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = header["policy"]["layers"][2]
    return found


FILE_EDITS: list[tuple[Callable[[dict[str, Any], dict[str, Array]], Any], str]] = [
    (lambda h, t: t.pop("layers.2.recurrent.w"), "tensor 'layers.2.recurrent.w' is missing"),
    (lambda h, t: t.update(extra=np.ones(1)), "tensor 'extra' belongs to nothing"),
    (lambda h, t: t.update({"layers.2.cm": np.ones(5, np.int64)}), "tensor 'layers.2.cm' is int64, expected float64"),
    (lambda h, t: t.update({"layers.2.sensory.pre": np.ones(9)}), "'layers.2.sensory.pre' is float64, expected int64"),
    (lambda h, t: t.update({"layers.2.cm": np.ones(4)}), "gleak has shape (5,), expected (4,)"),
    (lambda h, t: t.update({"layers.2.cm": np.array(1.0)}), "cm has shape ()"),
    (lambda h, t: t.update({"layers.2.sensory.pre": np.array(1)}), "sensory.pre has shape (), expected (synapses,)"),
    (lambda h, t: t.update({"layers.0.weight": np.ones(4)}), "weight has shape (4,), expected (outputs, inputs)"),
    (lambda h, t: layer(h).update(epsilon=10**400), "'layers.2.epsilon' is int, expected float"),
    (lambda h, t: h["policy"].update(input_range=[[-10**400, 1]] * 4), "'input_range' is not a matrix of numbers"),
    (lambda h, t: h["policy"].update(input_range=None), "input range has shape ()"),
    (lambda h, t: layer(h).update(unfolds="6"), "'layers.2.unfolds' is str, expected int"),
    (lambda h, t: layer(h).update(unfolds=True), "'layers.2.unfolds' is bool, expected int"),
    (lambda h, t: layer(h).update(roles="motor"), "'layers.2.roles' is str, expected a list"),
    (lambda h, t: layer(h).update(names=[1, 2]), "'layers.2.names.0' is int, expected str"),
    (lambda h, t: layer(h).pop("epsilon"), "'layers.2.epsilon' is missing"),
    (lambda h, t: layer(h).update(gain=1), "'layers.2.gain' is not known"),
    (lambda h, t: layer(h).update(kind="gru2"), "'layers.2' is of unknown kind 'gru2'"),
    (lambda h, t: layer(h).update(kind=["ltc"]), "'layers.2' is of unknown kind ['ltc']"),
    (lambda h, t: h["policy"]["layers"].clear(), "tensor 'layers.0.bias' belongs to nothing"),
    (lambda h, t: h["policy"].update(input_range="wide"), "'input_range' is not a matrix of numbers"),
    (lambda h, t: h["policy"].update(input_range=[[0, 1], [2]]), "'input_range' is not a matrix of numbers"),
    (lambda h, t: h["policy"].update(provenance=3), "'provenance' is int, expected an object"),
    (lambda h, t: h.update(formats=[1]), "'formats' is not an object"),
]


@pytest.mark.parametrize(("edit", "words"), FILE_EDITS, ids=[words for _, words in FILE_EDITS])
def test_edited_files_are_refused(tmp_path: Path, edit: Any, words: str) -> None:
    assert words in refused(tmp_path, edited(random_policy(6), edit))


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 255))
def test_no_flipped_byte_gives_anything_but_a_policy_or_one_line(position: int, value: int) -> None:
    blob = bytearray(policy_bytes(random_policy(7)))
    blob[position % len(blob)] = value
    message = ""
    try:
        read_bytes(bytes(blob))
    except BadInput as error:
        message = str(error)
    assert "\n" not in message


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in items for found in paths_of(item, (*path, key)))]


HEADER = json.loads(metadata(policy_bytes(random_policy(7)))["ncpc"])
ODD = [None, True, -1, 0, 10**400, 1e308, "x", "1", [], {}, [None], [[]], -0.5]


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(paths_of(HEADER)[1:]), st.sampled_from(ODD))
def test_no_odd_value_in_the_header_gives_anything_but_a_policy_or_one_line(path: tuple[Any, ...], odd: Any) -> None:
    def replace_one(header: dict[str, Any], _: Any) -> None:
        place: Any = header
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = odd

    message = ""
    try:
        read_bytes(edited(random_policy(7), replace_one))
    except BadInput as error:
        message = str(error)
    assert "\n" not in message


# --- policies that are not valid --------------------------------------------------------------------------------------


def with_ltc(**changes: Any) -> Policy:
    policy = random_policy(8)
    return replace(policy, layers=(*policy.layers[:2], replace(policy.layers[2], **changes)))  # type: ignore[type-var]


def with_synapses(name: str, **changes: Any) -> Policy:
    cell = random_policy(8).layers[2]
    return with_ltc(**{name: replace(getattr(cell, name), **changes)})


def changed(array: Array, index: int, value: float) -> Array:
    array = array.copy()
    array[index] = value
    return array


CELL: Any = random_policy(8).layers[2]
NO_SYNAPSES = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)
EMPTY = {name: np.zeros(0) for name in ("cm", "gleak", "vleak")}
CALIBRATION: Any = random_policy(8).calibration

INVALID: list[tuple[Policy, str]] = [
    (replace(random_policy(8), layers=()), "has no layers"),
    (with_ltc(vleak=changed(CELL.vleak, 1, np.nan)), "layer 2 (ltc): vleak holds NaN or infinity"),
    (with_ltc(output_w=changed(CELL.output_w, 1, np.inf)), "layer 2 (ltc): output_w holds NaN or infinity"),
    (with_ltc(epsilon=float("nan")), "layer 2 (ltc): epsilon holds NaN"),
    (with_synapses("recurrent", mu=changed(CELL.recurrent.mu, 0, np.nan)), "recurrent synapses: mu holds NaN"),
    (with_synapses("sensory", w=changed(CELL.sensory.w, 0, -0.25)), "w of sensory synapse input 1 -> n_0 is -0.25"),
    (with_ltc(cm=changed(CELL.cm, 2, -1)), "cm of n_2 is -1"),
    (with_ltc(gleak=changed(CELL.gleak, 3, -1)), "gleak of n_3 is -1"),
    (with_ltc(cm=changed(CELL.cm, 1, 0), gleak=changed(CELL.gleak, 1, 0), sensory=NO_SYNAPSES, recurrent=replace(
        CELL.recurrent, w=CELL.recurrent.w * (CELL.recurrent.post != 1))), "zero denominator: n_1 has cm = gleak = 0"),
    (with_synapses("recurrent", post=changed(CELL.recurrent.post, -1, 5)),
     "recurrent.post holds 5, out of range 0 to 4"),
    (with_synapses("recurrent", pre=changed(CELL.recurrent.pre, 0, -1)), "recurrent.pre holds -1, out of range 0 to 4"),
    (with_synapses("sensory", pre=changed(CELL.sensory.pre, 0, 3)), "sensory.pre holds 3, out of range 0 to 2"),
    (with_synapses("sensory", post=CELL.sensory.post[::-1]), "sensory synapses are not sorted"),
    (with_synapses("sensory", w=CELL.sensory.w[1:]), "sensory.w has shape"),
    (with_ltc(sensory=NO_SYNAPSES, recurrent=NO_SYNAPSES), "empty wiring: it has no synapse at all"),
    (with_ltc(**EMPTY, names=(), roles=()), "empty wiring: cm has shape (0,)"),
    (with_ltc(output_w=np.ones(6), output_b=np.ones(6)), "it has 6 outputs but only 5 neurons"),
    (with_ltc(input_b=np.ones(2)), "input_b has shape (2,), expected (3,)"),
    (with_ltc(unfolds=0), "unfolds is 0, expected at least 1"),
    (with_ltc(epsilon=-1e-9), "epsilon is -1e-09, expected 0 or more"),
    (with_ltc(solver="rk5"), "unknown solver 'rk5'; known are fused, exponential, euler, heun, rk38, rk4"),
    (with_ltc(roles=("motor",)), "roles: 1 given for 5 neurons"),
    (with_ltc(roles=("sensory",) * 5), "unknown role 'sensory'"),
    (with_ltc(names=("a", "b", "c", "d", "a")), "neuron names: 'a' is given twice"),
    (with_ltc(names=("a", "b", "c", "d", "*/")), "neuron names: '*/' is not an identifier"),
    (replace(random_policy(8), layers=(Activation("mish", 4), *random_policy(8).layers)), "unknown function 'mish'"),
    (replace(random_policy(8), layers=(Activation("tanh", 3), *random_policy(8).layers)),
     "layer 0 (activation) gives 3 values, but layer 1 (dense) takes 4"),
    (replace(random_policy(8), layers=(Dense(np.ones((3, 4)), np.ones(2)),)), "bias has shape (2,), expected (3,)"),
    (replace(random_policy(8), input_range=np.ones((3, 2))), "input range has shape (3, 2), expected (4, 2)"),
    (replace(random_policy(8), input_range=np.tile([1.0, 1.0], (4, 1))), "input range of input 0 is [1, 1]"),
    (replace(random_policy(8), input_range=np.tile([0.0, np.inf], (4, 1))), "input range holds NaN or infinity"),
    (replace(random_policy(8), dt=DtRange(0.0, 1.0, 1.0)), "dt must be positive and finite"),
    (replace(random_policy(8), dt=DtRange(float("nan"), 1.0, 1.0)), "dt must be positive and finite"),
    (replace(random_policy(8), dt=DtRange(2.0, 1.0, 1.0)), "expected lo <= nominal <= hi"),
    (replace(random_policy(8), dt=DtRange(1.0, 1.5, 1.0)), "outside the declared [1, 1.5]; declare dt=("),
    (replace(random_policy(8), name="my net"), "policy name: 'my net' is not an identifier"),
    (replace(random_policy(8), input_names=("a",)), "input names: 1 given, expected 4"),
    (replace(random_policy(8), output_names=("y\n", "z")), "output names: 'y\\n' is not an identifier"),
    (replace(random_policy(8), sample_hz=0.0), "sample_hz is 0.0"),
    (replace(random_policy(8), calibration=Sequences(np.ones((1, 4, 7)))),
     "calibration: x has 7 values per step, but the policy takes 4"),
    (replace(random_policy(8), calibration=Sequences(np.ones((0, 4, 4)))), "calibration: x has shape (0, 4, 4)"),
    (replace(random_policy(8), calibration=Sequences(np.full((1, 4, 4), np.nan))), "calibration: x holds NaN"),
    (replace(random_policy(8), calibration=Sequences(np.ones((1, 4, 4)), np.zeros((1, 4)))),
     "calibration: dt holds values that are not positive"),
    (replace(random_policy(8), calibration=Sequences(np.ones((1, 4, 4)), np.ones((1, 3)))), "dt has shape (1, 3)"),
    (replace(random_policy(8), calibration=replace(CALIBRATION, reset=np.zeros((2, 5), np.bool_))),
     "reset has shape (2, 5), expected (2, 6)"),
]


def test_the_policy_that_the_cases_start_from_is_valid() -> None:
    check_policy(random_policy(8), "policy")


@pytest.mark.parametrize(("policy", "words"), INVALID, ids=[words for _, words in INVALID])
def test_invalid_policies_are_refused_on_writing(tmp_path: Path, policy: Policy, words: str) -> None:
    path = tmp_path / "p.safetensors"
    with pytest.raises(BadInput) as caught:
        write_policy(policy, path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not os.listdir(tmp_path)


def header_is_finite(policy: Policy) -> bool:
    epsilon = [layer.epsilon for layer in policy.layers if isinstance(layer, Ltc)]
    return bool(np.isfinite([*epsilon, policy.dt.lo, *policy.input_range.flatten()]).all())


STORABLE = [case for case in INVALID if header_is_finite(case[0])]


@pytest.mark.parametrize(("policy", "words"), STORABLE, ids=[words for _, words in STORABLE])
def test_invalid_policies_are_refused_on_reading(tmp_path: Path, policy: Policy, words: str) -> None:
    assert words in refused(tmp_path, policy_bytes(policy))


def test_nan_in_the_header_is_refused_before_and_after_writing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written as JSON"):
        policy_bytes(with_ltc(epsilon=float("nan")))
    blob = edited(random_policy(8), lambda header, _: layer(header).update(epsilon=float("nan")))
    assert "NaN is not a number" in refused(tmp_path, blob)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_provenance_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="provenance and formats must be JSON"):
        write_policy(replace(random_policy(9), provenance={"model": object()}), tmp_path / "p")
    assert not os.listdir(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        write_policy(random_policy(9), tmp_path / "none" / "p.safetensors")


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.safetensors"
    write_policy(random_policy(9), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadInput, match="No space left on device"):
        write_policy(random_policy(10), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_array_fields_are_known_by_their_hints_in_every_numpy() -> None:
    """From NumPy 2.5 on ``NDArray`` is an alias of the language; before, it is ``ndarray[shape, dtype[T]]``."""
    synapses = {name: scalar_of(hint) for name, hint in get_type_hints(Synapses).items()}
    assert synapses == {"pre": np.int64, "post": np.int64, **dict.fromkeys(("w", "sigma", "mu", "erev"), np.float64)}
    assert scalar_of(get_type_hints(Policy)["input_range"]) is np.float64
    assert scalar_of(NDArray[np.int64]) is np.int64
    assert [scalar_of(hint) for hint in (float, tuple[str, ...], Dense, float | None, NDArray[np.float64] | None)] \
        == [None] * 5
