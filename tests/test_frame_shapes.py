"""Shapes of frames, as given, as the modules read them and as data has them: what does not fit is refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.cli.commands import run as cli
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.data import frames_of, read_sequences
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import DtRange, Policy
from tests.head_models import ncps_cells, nn, torch

FRAME = (2, 6, 5)
CONV = (3, 4, 3)
"""After a 3 x 3 convolution of three filters."""


def network(*between: torch.nn.Module, width: int = int(np.prod(CONV))) -> list[torch.nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(2, 3, 3), *between, nn.Flatten(), nn.Linear(width, 4), ncps_cells.CfC(4, 2)]


def frames(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, (2, 8, *shape))


@pytest.mark.parametrize("given", ["2, 6, 5", 60, (2, -6, 5), (1, 2, 6, 5), (), (2.5, 6, 5)])
def test_what_is_no_shape_is_refused(given: Any, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give the shape of one step's input"):
        ncpc.save(network(), tmp_path / "p.safetensors", input_range=(0, 1), input_shape=given)


@pytest.mark.parametrize(("modules", "shape", "words"), [
    (network(), (6, 5, 2), r"reads 2 channels, but its input of shape \(6, 5, 2\) has 6"),
    (network(nn.BatchNorm2d(4)), FRAME, r"reads 4 channels, but its input of shape \(3, 4, 3\) has 3"),
    ([nn.Linear(60, 4), nn.BatchNorm1d(3), ncps_cells.CfC(4, 2)], (60,), "reads 3 channels"),
    ([nn.Linear(60, 4), nn.Conv1d(1, 1, 1), ncps_cells.CfC(4, 2)], (60,), r"its input has shape \(4,\)"),
])
def test_shapes_that_do_not_fit_are_named(modules: list[torch.nn.Module], shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        import_model(modules, shape)


@pytest.mark.parametrize("modules", [[ncps_cells.CfC(60, 2)], [nn.Conv2d(2, 3, 3), ncps_cells.CfC(36, 2)]])
def test_a_cell_over_a_frame_wants_it_flat(modules: list[torch.nn.Module]) -> None:
    with pytest.raises(Unsupported, match=r"CfC over a frame of shape .* put a Flatten before it"):
        import_model(modules, FRAME)


def test_data_must_have_the_frame_s_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Channels last has as many numbers: flattened it would be another picture."""
    path, last = tmp_path / "p.safetensors", frames(6, 5, 2)
    with pytest.raises(BadInput, match=r"x has shape \(2, 8, 6, 5, 2\).*60 numbers or a frame of \(2, 6, 5\)"):
        ncpc.save(network(), path, calibration=last, input_shape=FRAME)
    assert not path.exists()
    policy = ncpc.save(network(), path, calibration=np.moveaxis(last, -1, 2), input_shape=FRAME)
    assert policy.calibration is not None
    np.testing.assert_array_equal(policy.calibration.x, np.moveaxis(last, -1, 2).reshape(2, 8, 60))
    assert cli(["compile", str(path), "-t", "c", "--quant", "float32", "-o", str(tmp_path / "b"), "--steps", "8"]) == 0
    for x, code in ((last, 2), (np.moveaxis(last, -1, 2), 0), (np.moveaxis(last, -1, 2).reshape(16, 60), 0)):
        np.savez(tmp_path / "log.npz", x=x)
        assert cli(["verify", str(tmp_path / "b"), "--inputs", str(tmp_path / "log.npz")]) == code
    assert "or a frame of (2, 6, 5)" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["c", "onnx", "tflite"])
def test_a_closed_loop_takes_frames_and_refuses_others(target: str, tmp_path: Path) -> None:
    """Every runtime alike, whatever it would say itself."""
    path, x = tmp_path / "p.safetensors", frames(*FRAME)
    ncpc.save(network(), path, calibration=x, input_shape=FRAME)
    arguments = ["-t", target, "--quant", "float32", "-o", str(tmp_path / "b"), "--steps", "8"]
    assert cli(["compile", str(path), *arguments]) == 0
    build = ncpc.open(tmp_path / "b")
    found = []
    for shape in (FRAME, (60,)):
        build.reset()
        found.append(np.stack([build.step(frame.reshape(shape)) for frame in x[0]]))
    assert np.ptp(found[0]) > 0
    np.testing.assert_array_equal(*found)
    for wrong in (np.zeros((6, 5, 2)), np.zeros(59), np.zeros((1, 60)), "frame", None):
        with pytest.raises(BadInput, match=r"a step of p takes \(60,\) or \(2, 6, 5\)"):
            build.step(wrong)  # type: ignore[arg-type]
    build.close()


def test_a_row_may_do_without_its_height() -> None:
    layers = import_model([nn.Conv1d(2, 3, 3), nn.Flatten(), ncps_cells.CfC(15, 2)], (2, 7)).layers
    known = frames_of(Policy("rows", layers, np.tile([-1.0, 1.0], (14, 1))))
    assert known == ((2, 7), (2, 1, 7))
    for shape in known:
        assert read_sequences(frames(*shape), 14, DtRange(), frames=known).x.shape == (2, 8, 14)
    with pytest.raises(BadInput, match="inputs 14 numbers or a frame of"):
        read_sequences(frames(7, 2), 14, DtRange(), frames=known)


def test_a_mean_beyond_the_frame_counts_no_padding_where_there_is_none(tmp_path: Path) -> None:
    """save compares with the modules: torch divides by what lies in the frame."""
    policy = ncpc.save(network(nn.AvgPool2d(2, ceil_mode=True), width=12), tmp_path / "p.safetensors",
                       calibration=frames(*FRAME), input_shape=FRAME)
    assert [getattr(layer, "function", "") for layer in policy.layers][1] == "avg_inside"
