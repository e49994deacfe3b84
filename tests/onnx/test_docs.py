"""The Python snippets of docs/targets/onnx.md run as they stand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "targets" / "onnx.md"


@pytest.mark.parametrize(("quant", "dt"), [("float32", "runtime"), ("float32", "fixed"), ("int8", "runtime")])
def test_python_snippets(make: Any, quant: str, dt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("full8", quant=quant, dt=dt)
    (tmp_path / "policy.onnx").write_bytes(case.step)
    (tmp_path / "policy_sequence.onnx").write_bytes(case.sequence)
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(snippets) == 2
    names: dict[str, Any] = {}
    for snippet in snippets:
        exec(compile(snippet, str(PAGE), "exec"), names)
    assert names["y"].shape == (1, 1)
    assert names["y_all"].shape == (4, 100, 1)
    assert names["last_state"].shape == (4, 8)
    assert np.isfinite(names["y_all"]).all()
    assert np.ptp(names["y_all"]) > 0
    if dt == "fixed":  # ten steps of the first snippet are the first ten of the second
        np.testing.assert_allclose(names["y"][0], names["y_all"][0, 9], atol=1e-6)


def test_the_page_names_every_key_of_the_metadata(make: Any) -> None:
    import onnx

    text = PAGE.read_text()
    keys = [p.key for p in onnx.load_from_string(make("full8").step).metadata_props]
    assert keys
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_table_is_the_benchmark() -> None:
    record = json.loads((PAGE.parents[2] / "benchmarks" / "onnx_export.json").read_text())
    text, keys = PAGE.read_text(), ("nodes", "file_bytes", "export_s", "us_batch_1", "us_batch_256")
    rows = [row for net in record["nets"] for row in net["rows"].items()]
    assert len(rows) == 4 * len(record["nets"]) > 0
    for who, row in rows:
        assert f"| {who} | " + " | ".join(f"{row[k]:,}" if k in row else "" for k in keys) + " |" in text


def test_ncpc_is_smaller_and_faster_on_every_line_of_the_benchmark() -> None:
    record = json.loads((PAGE.parents[2] / "benchmarks" / "onnx_export.json").read_text())
    for net in record["nets"]:
        ours = net["rows"]["ncpc"]
        for who, row in net["rows"].items():
            assert who == "ncpc" or all(value > ours[key] for key, value in row.items()), (net["net"], who)


def test_committed_prices_are_near_those_fitted() -> None:
    root = PAGE.parents[2]
    fitted = json.loads((root / "benchmarks" / "onnx_forms.json").read_text())["fitted"]
    committed = json.loads((root / "targets" / "onnx" / "cost.json").read_text())
    for key in ("node_ns", "mac_ns", "element_ns", "gather_ns"):
        assert fitted[key] / 1.5 <= committed[key] <= fitted[key] * 1.5
