"""The activity example: recordings that neither network nor device has seen, on the simulated device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from benchmarks import activity as folds
from examples.activity import data, evaluate
from ncpc.errors import BadInput, MissingTool

EXAMPLE = Path(__file__).parent.parent / "examples/activity"


@pytest.fixture(scope="module")
def recordings() -> data.Recordings:
    """The forty test recordings, or a skip (a failure under NCPC_REQUIRE_ALL=1)."""
    try:
        return data.read("TEST")
    except MissingTool as error:
        pytest.skip(f"aeon is not installed: {error}")


@pytest.fixture(scope="module")
def training(require_tool: Any) -> Any:
    require_tool("ncps.torch")
    from examples.activity import train

    return train


def test_nothing_is_lost_at_w8a16_on_the_simulated_device(
    recordings: data.Recordings, tmp_path: Path, require_tool: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    require_tool("unicorn")
    outcome = ncpc.compile(EXAMPLE / "policy.safetensors", tmp_path / "b", target="cortex-m4", quant="w8a16",
                           verdict="data", steps=600)
    assert outcome.holds
    assert outcome.report["memory"]["flash_bytes"] < 8_000
    capsys.readouterr()
    assert evaluate.main([str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recordings"] == len(recordings)
    assert found["device_accuracy"] >= found["float_accuracy"] > 0.9
    assert found["device_cross_entropy"] < found["float_cross_entropy"] + 0.01
    assert 0 < found["largest_difference"] < 0.01


def test_the_record_of_training_is_of_the_scripts_own_settings(training: Any, recordings: data.Recordings) -> None:
    record = json.loads((EXAMPLE / "training.json").read_text())
    assert training.Settings(**record["settings"]) == training.Settings()
    assert record["test"]["accuracy"] > 0.9


def test_training_runs_and_names_the_activities(training: Any, recordings: data.Recordings, tmp_path: Path) -> None:
    assert training.main(["--epochs", "2", "-o", str(tmp_path / "quick.safetensors")]) == 0
    policy = ncpc.load(tmp_path / "quick.safetensors")
    assert (policy.input_names, policy.output_names) == (data.CHANNELS, data.CLASSES)
    assert policy.meaning == "logits"


def test_restlessness_is_that_of_the_states(training: Any, recordings: data.Recordings) -> None:
    import torch

    torch.manual_seed(0)
    module = training.Activity(training.Settings(cell="cfc", units=8), recordings.x.std((0, 1)))
    x = torch.tensor(recordings.x, dtype=torch.float32)

    def restlessness() -> Any:
        return torch.stack([training.restlessness(module, x) for _ in range(3)]).mean()

    quiet = restlessness().item()
    with torch.no_grad():
        for parameter in module.cell.parameters():
            parameter *= 3.0
    restless = restlessness().item()
    assert quiet < 0.1 < 1.0 < restless
    torch.autograd.backward(restlessness())
    assert all(torch.isfinite(p.grad).all() for p in module.cell.parameters() if p.grad is not None)


def test_evaluate_says_when_the_device_recognizes_less(
    recordings: data.Recordings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Deaf:
        """A device that always answers the same."""

        def reset(self) -> None: ...

        def step(self, x: np.ndarray) -> np.ndarray:
            return np.array([1.0, 0.0, 0.0, 0.0])

        def close(self) -> None: ...

    monkeypatch.setattr(ncpc, "open", lambda folder: Deaf(), raising=False)
    assert evaluate.main([str(EXAMPLE), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["device_accuracy"] == 0.25


def test_what_is_no_recording_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadInput, match="no recordings of BasicMotions"):
        data.read("TRAIN", tmp_path)
    (tmp_path / "BasicMotions_TRAIN.ts").write_text("@data\n1,2:3,4:Standing\n")
    with pytest.raises(BadInput, match="where BasicMotions has"):
        data.read("TRAIN", tmp_path)
    assert evaluate.main([str(tmp_path / "none"), "--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_folds_spread_every_class_evenly(recordings: data.Recordings) -> None:
    splits = data.folds(recordings, 5, seed=0)
    assert [np.bincount(unseen.label).tolist() for _, unseen in splits] == [[2, 2, 2, 2]] * 5
    assert all(len(seen) + len(unseen) == len(recordings) for seen, unseen in splits)


def test_folds_are_measured_in_every_scheme(training: Any, recordings: data.Recordings) -> None:
    settings = training.Settings(cell="cfc", units=4, epochs=2)
    [(seen, unseen), *_] = data.folds(recordings, 5, seed=0)
    found = folds.measured(settings, seen, unseen)
    assert list(found) == list(folds.SCHEMES)
    assert all(one["recordings"] == 8 and one["largest_difference"] > 0 for one in found.values())
    assert found["int16"]["largest_difference"] < found["int8"]["largest_difference"]


def test_the_table_of_folds_is_of_its_record() -> None:
    known = json.loads(folds.RESULT.read_text())
    assert {name for name, _ in folds.summary(known)} == set(folds.NETWORKS)
    page = (Path(__file__).parent.parent / "docs/quantization.md").read_text()
    told = {tuple(cell.strip() for cell in line.strip("│ ").split("│")) for line in page.splitlines() if "│" in line}
    for (name, scheme), one in folds.summary(known).items():
        assert folds.cells(name, scheme, one) in told
