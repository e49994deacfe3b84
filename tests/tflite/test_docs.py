"""The Python snippets of docs/targets/tflite.md run as they stand, and agree with the target's own runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from tests.tflite.conftest import Emit

PAGE = Path(__file__).parents[2] / "docs" / "targets" / "tflite.md"


@pytest.mark.parametrize(("quant", "dt"), [("float32", "runtime"), ("float32", "fixed"), ("int16", "fixed"),
                                           ("int8", "fixed")])
def test_python_snippets(
    emit: Emit, small: Policy, quant: str, dt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tflite_micro")
    made = emit(small, quant, dt)
    (tmp_path / "policy.tflite").write_bytes(made.content)
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 3
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    data = Sequences(np.repeat(0.1 * np.arange(10.0)[None, :, None], 3, axis=2))
    for runtime, y in (("litert-xnnpack", names["y"]), ("tflite-micro", names["y_micro"])):
        expected = made.artifact.run(made.folder, data, runtime).trace.y[0, -1]
        np.testing.assert_allclose(y[0], expected, atol=1e-7)
    assert names["reset"] == {"state": [0.0] * 8}


def test_the_page_names_what_the_report_says(emit: Emit, small: Policy) -> None:
    made = emit(small, "int16")
    extra = made.artifact.build(made.folder).extra["tflite"]
    assert all(f"`{key}`" in PAGE.read_text() for key in extra)
