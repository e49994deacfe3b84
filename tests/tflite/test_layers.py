"""Layers that scale, combine, select and normalize in .tflite files: equal to the policy, integers to the model."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.errors import Unsupported
from ncpc.ir.heads import History
from ncpc.ir.policy import Policy
from ncpc.semantics.run import run
from tests.layer_policies import FORMS, STILL, alone, sequences
from tests.tflite.conftest import Emit

RUNTIMES = ("litert-reference", "litert-xnnpack", "tflite-micro")
INT8 = {True: 0.2, False: 3e-2}
"""By how much 8 bits may err, where a norm makes more of their rounding and elsewhere."""


@pytest.mark.parametrize("form", FORMS)
def test_float_layers_equal_the_policy(emit: Emit, form: str) -> None:
    made, data = emit(FORMS[form], "float32"), sequences(FORMS[form].inputs)
    exact = run(made.lowered.real, data).y
    for name in RUNTIMES:
        found = made.artifact.run(made.folder, data, name).trace.y
        assert np.abs(found - exact).max() <= 1e-6 * np.ptp(exact), name


@pytest.mark.parametrize("scheme", ["int16", "int8"])
@pytest.mark.parametrize("form", FORMS)
def test_integer_layers_equal_the_model(emit: Emit, form: str, scheme: str) -> None:
    most = 3e-4 if scheme == "int16" else INT8[form.startswith("norm")]
    made, data = emit(FORMS[form], scheme), sequences(FORMS[form].inputs)
    model, exact = made.artifact.model(data), run(made.lowered.real, data).y
    assert np.abs(model.y - exact).max() <= most * np.ptp(exact)
    for name in ("litert-reference", "tflite-micro"):
        np.testing.assert_array_equal(made.artifact.run(made.folder, data, name).trace.raw_y, model.raw_y)


def test_an_output_that_nothing_decides_is_refused(emit: Emit) -> None:
    with pytest.raises(Unsupported, match="the output of 'net' depends on neither input nor state"):
        emit(Policy("net", STILL, np.tile([-1.0, 1.0], (6, 1))), "int16")


@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_a_history_is_copied_and_not_multiplied(emit: Emit, scheme: str) -> None:
    """One convolution brings new values to the scale of the state; no matrix is as large as the state."""
    graph = emit(alone(History(np.arange(40, -1, -2), 2)), scheme).artifact.graph
    kinds = [node.kind for node in graph.nodes if node.kind != "RESHAPE"]
    assert kinds.count("CONV_2D") == 1
    assert set(kinds) == {"CONV_2D", "SLICE", "CONCATENATION"}
    assert max(len(node.inputs) for node in graph.nodes) <= 10
    assert max(tensor.data.size for tensor in graph.tensors.values() if tensor.data is not None) < 20
