"""``ncpc compile`` takes the user's own code as well as a policy file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncpc.cli.commands import run as cli

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

CODE = """
import torch
from torch import nn

class Tiny(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.fc, self.rnn = nn.Linear(2, width), nn.GRU(width, 2, batch_first=True)

    def forward(self, x, hx=None):
        y, hx = self.rnn(torch.tanh(self.fc(x)), hx)
        return y.SORT, hx
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("log.npz", x=np.random.default_rng(0).uniform(-1, 1, (4, 100, 2)))
    (tmp_path / "owncode_good.py").write_text(CODE.replace(".SORT", ""))
    (tmp_path / "owncode_bad.py").write_text(CODE.replace(".SORT", ".sort()[0]"))
    weights = {"fc.weight": torch.rand(3, 2), "fc.bias": torch.rand(3), **{
        f"rnn.{n}_l0": t for n, t in torch.nn.GRU(3, 2).named_parameters() for n in [n.removesuffix("_l0")]}}
    torch.save({"state_dict": weights, "hyper_parameters": {"width": 3}}, "last.ckpt")
    return tmp_path


def test_code_and_checkpoint_become_c_by_one_command(folder: Path) -> None:
    assert cli(["compile", "owncode_good:Tiny", "--checkpoint", "last.ckpt", "--calibrate", "log.npz", "-o", "build",
                "--steps", "200"]) == 0
    assert {"Tiny.c", "Tiny.h", "policy.safetensors"} <= {path.name for path in (folder / "build").iterdir()}
    assert cli(["verify", "build"]) == 0


def test_what_is_wrong_is_said_of_the_code(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(["compile", "owncode_bad:Tiny", "--checkpoint", "last.ckpt", "--calibrate", "log.npz"]) == 2
    assert "owncode_bad.py:12 ('return y.sort()[0], hx'): torch's 'sort' is not among" in capsys.readouterr().err
    assert cli(["compile", "owncode_good:Tiny", "--checkpoint", "last.ckpt"]) == 2
    assert "owncode_good:Tiny: neither calibration nor input_range given" in capsys.readouterr().err
    assert cli(["compile", "policy.safetensors", "--checkpoint", "last.ckpt"]) == 2
    assert "--checkpoint: policy.safetensors is no code of yours" in capsys.readouterr().err
    assert not (folder / "build").exists()
