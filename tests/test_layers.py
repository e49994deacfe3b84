"""Layers that scale, combine and select channels: against NumPy over the reals, and the C against the program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.frontend.validate import check_policy
from ncpc.ir.heads import Combine, Scale, Select
from ncpc.ir.policy import F64, Dense, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from tests.c_programs import assert_c_is_program, hostile, program_of, tame

RNG = np.random.default_rng(1)
WEIGHT, BIAS = RNG.normal(size=6), RNG.normal(size=6)
INDEX, PART = np.array([5, 0, 0, 3]), np.array([2, 3, 4])
COMBINATIONS: dict[str, Callable[[F64, F64], F64]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "min": np.minimum, "max": np.maximum,
}
LAYERS: dict[str, tuple[Layer, Callable[[F64], F64]]] = {
    "scale": (Scale(WEIGHT, BIAS), lambda x: WEIGHT * x + BIAS),
    **{name: (Combine(name, 3), lambda x, f=f: f(x[..., :3], x[..., 3:])) for name, f in COMBINATIONS.items()},
    "select": (Select(INDEX, 6), lambda x: x[..., INDEX]),
    "select a part": (Select(PART, 6), lambda x: x[..., PART]),
}


def between(layer: Layer) -> Policy:
    """The layer between two dense ones."""
    rng = np.random.default_rng(2)
    first = Dense(rng.normal(size=(layer.inputs, 4)), rng.normal(size=layer.inputs))
    last = Dense(rng.normal(size=(2, layer.outputs)), rng.normal(size=2))
    return Policy("net", (first, layer, last), np.tile([-1.0, 1.0], (4, 1)))


def alone(layer: Layer) -> Policy:
    return Policy("net", (layer,), np.tile([-1.0, 1.0], (layer.inputs, 1)))


def sequences(inputs: int) -> Sequences:
    return Sequences(np.random.default_rng(3).uniform(-1, 1, (2, 20, inputs)), np.ones((2, 20)))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_what_numpy_computes(name: str) -> None:
    layer, expected = LAYERS[name]
    data = sequences(layer.inputs)
    assert np.array_equal(run(lower(alone(layer)), data).y, expected(data.x))


@pytest.mark.parametrize("name", LAYERS)
def test_layer_comes_back_as_it_was_saved(name: str, tmp_path: Path) -> None:
    policy = between(LAYERS[name][0])
    write_policy(policy, tmp_path / "p.safetensors")
    assert policy_bytes(read_policy(tmp_path / "p.safetensors")) == policy_bytes(policy)


@pytest.mark.parametrize(("layer", "problem"), [
    (Scale(WEIGHT, BIAS[1:]), r"bias has shape \(5,\), expected \(6,\)"),
    (Scale(np.ones((1, 2)), np.ones((1, 2))), r"weight has shape \(1, 2\), expected \(width,\)"),
    (Combine("div", 3), "unknown function 'div'; known are add, sub, mul, min, max"),
    (Combine("add", 0), "width is 0, expected at least 1"),
    (Select(np.array([0, 6]), 6), "index names value 6, but there are 6, counted from 0"),
    (Select(np.array([-1]), 6), "index names value -1"),
    (Select(np.zeros((2, 2), np.int64), 6), r"index has shape \(2, 2\), expected \(outputs,\)"),
])
def test_wrong_layer_is_refused(layer: Layer, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        check_policy(Policy("net", (layer,), np.tile([-1.0, 1.0], (6, 1))), "net")


@pytest.mark.parametrize("scheme", ["float32", "int16", "int8"])
@pytest.mark.parametrize("name", LAYERS)
def test_c_is_program(name: str, scheme: str, tmp_path: Path) -> None:
    squares = name == "mul" and scheme == "float32"  # of hostile inputs, they are infinite
    program = program_of(between(LAYERS[name][0]), scheme, "fixed")
    assert_c_is_program(program, tmp_path, inputs=tame if squares else hostile)


@pytest.mark.parametrize(("scheme", "most"), [("float32", 1e-6), ("int16", 2e-3), ("int8", 0.15)])
@pytest.mark.parametrize("name", LAYERS)
def test_program_is_close_to_the_policy(name: str, scheme: str, most: float) -> None:
    policy, data = between(LAYERS[name][0]), sequences(4)
    exact = run(lower(policy), data).y
    assert np.abs(run(program_of(policy, scheme, "fixed"), data).y - exact).max() <= most * np.abs(exact).max()
