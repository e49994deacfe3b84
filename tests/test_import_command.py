"""``ncpc import``: what a checkpoint alone does not say is asked for, and what has no effect is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ncpc.cli.commands import cli
from ncpc.errors import NcpcError
from ncpc.frontend.container import read_policy
from ncpc.ir.policy import Ltc

torch = pytest.importorskip("torch")
ncps = pytest.importorskip("ncps.torch")
wirings = pytest.importorskip("ncps.wirings")

SAID = ("--constraints", "implicit", "--unfolds", "4", "--epsilon", "1e-8")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = ncps.LTC(3, wirings.AutoNCP(8, 2), ode_unfolds=4)
    torch.save(model.state_dict(), tmp_path / "ltc.pt")
    return tmp_path / "ltc.pt"


def imported(source: Path | str, out: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["import", str(source), "--input-range", "-1", "1", "-o", str(out), *words])


def test_a_checkpoint_with_what_it_does_not_say_is_the_module(checkpoint: Path, tmp_path: Path) -> None:
    result = imported(checkpoint, tmp_path / "p.safetensors", *SAID)
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith("3 inputs, 2 outputs, layers ltc\n")
    assert result.stderr.splitlines()[:2] == ["read ...", "compare ..."]  # standard error is no terminal here
    (layer,) = read_policy(tmp_path / "p.safetensors").layers
    assert isinstance(layer, Ltc)
    state = torch.load(checkpoint)
    assert layer.unfolds == 4
    np.testing.assert_allclose(layer.cm, np.log1p(np.exp(state["rnn_cell.cm"].numpy())), rtol=1e-6)


@pytest.mark.parametrize("left_out", ["--constraints", "--unfolds", "--epsilon"])
def test_what_a_checkpoint_does_not_say_is_asked_for(left_out: str, checkpoint: Path, tmp_path: Path) -> None:
    words = [w for pair in zip(SAID[::2], SAID[1::2], strict=True) if pair[0] != left_out for w in pair]
    result = imported(checkpoint, tmp_path / "p.safetensors", *words)
    assert isinstance(result.exception, NcpcError)
    assert "does not say" in str(result.exception)
    assert left_out.strip("-") in str(result.exception)
    assert not (tmp_path / "p.safetensors").exists()


def test_options_without_effect_are_refused(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_here.py").write_text("def make():\n    raise AssertionError\n")
    monkeypatch.chdir(tmp_path)
    result = imported("made_here:make", tmp_path / "p.safetensors", "--unfolds", "4")
    assert "leave out unfolds" in str(result.exception)
    result = imported(checkpoint, tmp_path / "p.safetensors", *SAID, "--weights", str(checkpoint))
    assert "takes no further weights" in str(result.exception)
    (tmp_path / "old.h5").write_bytes(b"")
    result = imported(tmp_path / "old.h5", tmp_path / "p.safetensors", "--constraints", "implicit")
    assert "--constraints is for a checkpoint" in str(result.exception)


def test_missing_data_are_told_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_made.py").write_text("raise AssertionError\n")
    monkeypatch.chdir(tmp_path)
    for command in ("import", "compile"):
        for words, said in (([], "never_made:make: neither calibration nor input_range given"),
                            (["--calibrate", "log.npz"], "log.npz: no such file; write it with numpy.savez")):
            result = CliRunner().invoke(cli, [command, "never_made:make", *words])
            assert isinstance(result.exception, NcpcError)
            assert said in str(result.exception)


@pytest.mark.parametrize("words", ["--mode default", "--activation tanh", "--nonlinearity relu", "--layers fc,rnn"])
def test_options_of_torchs_weights_are_refused_elsewhere(
    words: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, value = words.split()
    (tmp_path / "made_there.py").write_text("def make():\n    raise AssertionError\n")
    (tmp_path / "old.h5").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for source, said in (("made_there:make", f"leave out {option.strip('-')}"), ("old.h5", f"{option} is for a ")):
        result = imported(source, tmp_path / "p.safetensors", option, value)
        assert isinstance(result.exception, NcpcError)
        assert said in str(result.exception)
    if option != "--layers":
        result = imported(checkpoint, tmp_path / "p.safetensors", *SAID, option, value)
        assert f"of which {option.strip('-')} says nothing; leave that out" in str(result.exception)
