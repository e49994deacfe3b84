"""Layers that scale, combine, select and normalize in .tflite files: equal to the policy, integers to the model."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.errors import Unsupported
from ncpc.semantics.run import run
from tests.layer_policies import FORMS, sequences
from tests.tflite.conftest import Emit

RUNTIMES = ("litert-reference", "litert-xnnpack", "tflite-micro")
ROOTLESS = [name for name in FORMS if not name.startswith("norm")]


@pytest.mark.parametrize("form", FORMS)
def test_float_layers_equal_the_policy(emit: Emit, form: str) -> None:
    made, data = emit(FORMS[form], "float32"), sequences(FORMS[form].inputs)
    exact = run(made.lowered.real, data).y
    for name in RUNTIMES:
        found = made.artifact.run(made.folder, data, name).trace.y
        assert np.abs(found - exact).max() <= 1e-6 * np.ptp(exact), name


@pytest.mark.parametrize(("scheme", "most"), [("int16", 3e-4), ("int8", 3e-2)])
@pytest.mark.parametrize("form", ROOTLESS)
def test_integer_layers_equal_the_model(emit: Emit, form: str, scheme: str, most: float) -> None:
    made, data = emit(FORMS[form], scheme), sequences(FORMS[form].inputs)
    model, exact = made.artifact.model(data), run(made.lowered.real, data).y
    assert np.abs(model.y - exact).max() <= most * np.ptp(exact)
    for name in ("litert-reference", "tflite-micro"):
        np.testing.assert_array_equal(made.artifact.run(made.folder, data, name).trace.raw_y, model.raw_y)


def test_roots_have_no_integer_kernel_and_are_refused(emit: Emit) -> None:
    with pytest.raises(Unsupported, match=r"made by 'sqrt', for which .* use --quant float32, or target 'c'"):
        emit(FORMS["norm of 1 part, between"], "int16")
