"""Files that keep their state in resource variables: the same numbers as files that take it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.policy import Policy
from ncpc.targets.tflite.reading import read
from tests.nets import random_policy
from tests.tflite.conftest import Emit, sequences


@pytest.mark.parametrize("quant", ["float32", "int16", "int8"])
@pytest.mark.parametrize("runtime", ["litert-reference", "tflite-micro"])
def test_the_same_numbers_with_resets(emit: Emit, small: Policy, quant: str, runtime: str) -> None:
    data = sequences(small, 6, steps=40)
    assert data.reset is not None
    assert data.reset.any()
    plain, inside = emit(small, quant), emit(small, quant, state="variable")
    expected, found = (m.artifact.run(m.folder, data, runtime).trace for m in (plain, inside))
    np.testing.assert_array_equal(found.raw_y, expected.raw_y)
    np.testing.assert_array_equal(found.raw_state, expected.raw_state)


def test_state_is_no_input(emit: Emit, small: Policy) -> None:
    file = read(emit(small, "float32", "runtime", state="variable").content, "net.tflite")
    assert [edge.name for edge in file.inputs] == ["x", "dt"]
    assert [edge.name for edge in file.outputs] == ["y", "state_out"]
    assert {"CALL_ONCE": 1, "VAR_HANDLE": 1, "READ_VARIABLE": 1, "ASSIGN_VARIABLE": 1}.items() <= file.operators.items()


def test_sessions_reset(emit: Emit, small: Policy) -> None:
    made = emit(small, "int16", state="variable")
    session = made.artifact.open(made.folder, "tflite-micro")
    x = np.array([0.3, -0.2, 0.9])
    first, second = session.step(x, 1.0), session.step(x, 1.0)
    session.reset()
    np.testing.assert_array_equal(session.step(x, 1.0), first)
    assert np.any(first != second)


def test_start_states_are_refused(emit: Emit, small: Policy) -> None:
    made = emit(small, "float32", state="variable")
    begun = dataclasses.replace(sequences(small, 1, steps=2), restored=np.zeros((2, 8), np.int64))
    with pytest.raises(BadInput, match=r"the file keeps its state.*--state input"):
        made.artifact.run(made.folder, begun, "litert-reference")


def test_report_leaves_out_what_cannot_be(emit: Emit, small: Policy) -> None:
    made = emit(small, "int16", state="variable")
    extra = made.artifact.build(made.folder).extra["tflite"]
    assert "corners" not in extra
    assert extra["unequal_operators"] == {"litert-reference": {}, "tflite-micro": {}}


def test_npus_have_no_variables(emit: Emit) -> None:
    with pytest.raises(Unsupported, match="an Ethos-U has no resource variables; use --state input"):
        emit(random_policy(0), "int16", npu="ethos-u55-128", state="variable")
