"""Layers that scale, combine and select channels: against NumPy over the reals, and the C against the program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.frontend.validate import check_policy
from ncpc.ir.heads import Combine, History, Scale, Select
from ncpc.ir.policy import Layer, Policy
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from tests.c_programs import assert_c_is_program, hostile, program_of, tame
from tests.layer_policies import BIAS, LAYERS, WEIGHT, alone, between, sequences

TABLED = {"softplus": 3.3e-8}
"""By how much functions that are computed by a polynomial may err."""


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_what_numpy_computes(name: str) -> None:
    layer, expected = LAYERS[name]
    data = sequences(layer.inputs)
    np.testing.assert_allclose(run(lower(alone(layer)), data).y, expected(data.x), rtol=1e-15, atol=TABLED.get(name, 0))


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
    *((History(np.array(delays, np.int64), 6), "delays must fall from at least 1, none below 0: the oldest first")
      for delays in ([0], [1, 2], [2, 2], [1, -1])),
    (History(np.zeros(0, np.int64), 6), r"delays has shape \(0,\), expected \(k,\), k at least 1"),
    (History(np.arange(200, 0, -2), 6), "delays fall into 99 runs; 60 at most can be joined"),
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
