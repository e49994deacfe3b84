"""docs/targets/nir.md: its snippets run, its figures are the benchmark's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ncpc.ir.sequences import Sequences
from ncpc.targets import registry
from ncpc.targets.nir.consumers import quiet
from tests.conftest import RequireTool
from tests.test_nir_graded import lowered as integer
from tests.test_nir_graded import options
from tests.test_nir_target import OPTIONS, lowered

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/targets/nir.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COLUMNS = ("spikes-autoncp12-a", "spikes-autoncp12-b", "spikes-full8", "spikes-autoncp19")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in registry.load("nir").emit(lowered(), OPTIONS).items():
        (tmp_path / name.replace("net", "policy")).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("consumer", "module"), [
    ("norse", "norse.torch"), ("snntorch", "snntorch.import_nir"),
    ("spikingjelly", "spikingjelly.activation_based.nir_exchange"),
])
def test_snippets_step_the_file(consumer: str, module: str, folder: Path, require_tool: RequireTool) -> None:
    require_tool("norse.torch")
    require_tool(module)
    first = SNIPPETS[0].replace("np.zeros((5, len(frac)))", "np.linspace(-1, 1, 15).reshape(5, 3)")
    if consumer != "norse":
        importing = next(s for s in SNIPPETS if f"from {consumer}" in s)
        first = first.replace("frac = np.array", importing + "frac = np.array")
        first = first.replace("module(torch.tensor(x[None], dtype=torch.float32), state)",
                              "module(torch.tensor(x[None], dtype=torch.float32), *([] if state is None else [state]))")
    scope: dict[str, object] = {}
    with quiet():
        exec(compile(first, "nir.md", "exec"), scope)
    expected = registry.load("nir").model(lowered(), OPTIONS, Sequences(np.linspace(-1, 1, 15).reshape(1, 5, 3)))
    assert np.array_equal(np.asarray(scope["y_of_step"]), expected.y[0])


def test_the_graded_snippet_reads_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str], require_tool: RequireTool) -> None:
    require_tool("nir")
    (tmp_path / "policy.nir").write_bytes(registry.load("nir-graded").emit(integer(), options())["net.nir"])
    monkeypatch.chdir(tmp_path)
    exec(compile(next(s for s in SNIPPETS if "ncpc.nir" in s), "nir.md", "exec"), {})
    assert capsys.readouterr().out.startswith("6 [")


def test_the_table_is_the_benchmarks() -> None:
    measured = json.loads((ROOT / "benchmarks/nir_units.json").read_text())
    rows = TEXT.split("<!-- table: nir_units -->")[1].split("\n\n")[0].strip().splitlines()[2:]
    assert len(rows) == len(measured[COLUMNS[0]]["curve"])
    for k, row in enumerate(rows):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert int(cells[0]) == measured[COLUMNS[0]]["curve"][k]["units"]
        for name, cell in zip(COLUMNS, cells[1:], strict=True):
            point = measured[name]["curve"][k]
            placed, uniform = (float(v) for v in re.findall(r"[\d.]+", cell))
            assert placed == pytest.approx(point["placed"]["rmse_std"], abs=0.0501)
            assert uniform == pytest.approx(point["uniform"]["rmse_std"], abs=0.0501)


def test_the_chips_table_is_the_benchmarks() -> None:
    measured = json.loads((ROOT / "benchmarks/nir_chips.json").read_text())
    rows = TEXT.split("<!-- table: nir_chips -->")[1].split("\n\n")[0].strip().splitlines()[2:]
    for name, row in zip(COLUMNS, rows, strict=True):
        found, cells = measured[name], [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[0] == name.removeprefix("spikes-")
        points = [found["int16"], found["loihi2"], *(found["theta"][theta] for theta in ("4", "16", "64"))]
        for point, cell in zip(points, cells[1:], strict=True):
            error, messages = (float(number) for number in cell.split(","))
            assert error == pytest.approx(point["rmse_std"], abs=0.00501)
            assert messages == pytest.approx(point["messages_per_step"], abs=0.501)
        assert found["loihi2"]["rmse_std"] <= 1.0


def test_the_figures_meet_what_is_asked() -> None:
    """Held out, trained: 5 % of the standard deviation within 6,000 units, 1 % at 4,000, better than even levels."""
    measured = json.loads((ROOT / "benchmarks/nir_units.json").read_text())
    for name in COLUMNS:
        curve = measured[name]["curve"]
        assert any(p["units"] <= 6000 and p["placed"]["rmse_std"] <= 5.0 for p in curve)
        assert all(p["placed"]["rmse_std"] < p["uniform"]["rmse_std"] for p in curve)
    at = {name: {p["units"]: p["placed"] for p in measured[name]["curve"]} for name in COLUMNS}
    assert at["spikes-full8"][4000]["one_step_max_range"] <= 1.0
    assert at["spikes-autoncp12-a"][4000]["rmse_std"] <= 1.0
    assert at["spikes-autoncp12-b"][4000]["rmse_std"] <= 1.0


def test_every_trap_of_the_table_has_a_test() -> None:
    rows = TEXT.split("| who | what happens")[1].split("\n\n")[0].splitlines()[2:]
    traps = (ROOT / "tests/test_nir_traps.py").read_text() + (ROOT / "tests/test_nir_graded.py").read_text()
    for row in rows:
        who = row.strip("| ").split("|")[0].split()[0].lower()
        assert re.search(rf"def test_(?:\w+_)?{who}_", traps), row
