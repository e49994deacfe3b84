"""A list of layers is compared with the module that it was taken from, run by that module's own forward."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import LTC, CfC  # noqa: E402  (needs torch)
from ncps.wirings import AutoNCP  # noqa: E402
from torch import nn  # noqa: E402

import ncpc  # noqa: E402


class Robot(nn.Module):
    """An encoder, a cell and a head; what forward does between them differs from test to test."""

    def __init__(self, cell: Any = None, batch_first: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder, self.head = nn.Linear(3, 4), nn.Linear(2, 2)
        self.cell = LTC(4, AutoNCP(8, 2), batch_first=batch_first) if cell is None else cell

    @property
    def layers(self) -> list[Any]:
        return [self.encoder, self.cell, self.head]

    def forward(self, x: Any) -> Any:
        y, _ = self.cell(self.encoder(x))
        return self.head(y)


class Between(Robot):
    def forward(self, x: Any) -> Any:
        y, _ = self.cell(torch.relu(self.encoder(x)))
        return torch.tanh(self.head(y))


class Stateful(Robot):
    def forward(self, x: Any, hx: Any = None) -> Any:
        hx = torch.zeros(x.shape[0], 8) if hx is None else hx
        y, hx = self.cell(self.encoder(x), hx)
        return self.head(y), hx


class LastStep(Robot):
    def forward(self, x: Any) -> Any:
        y, _ = self.cell(self.encoder(x))
        return self.head(y[:, -1])


class Timed(Robot):
    def forward(self, x: Any, timespans: Any = None) -> Any:
        y, _ = self.cell(self.encoder(x), timespans=timespans)
        return self.head(y)


def save(model: Any, folder: Path, like: Any, **options: Any) -> Any:
    return ncpc.save(model, folder / "p.safetensors", like=like, **{"input_range": (-1, 1), "dt": 1.0, **options})


@pytest.mark.parametrize("kind", [Robot, Stateful, LastStep, Timed])
def test_a_forward_that_runs_the_layers_agrees(kind: Callable[[], Robot], tmp_path: Path) -> None:
    module = kind()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert len(save(module.layers, tmp_path, module).layers) == 3
    assert torch.get_default_dtype() == torch.float32
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert next(module.parameters()).dtype == torch.float32


def test_what_forward_does_between_layers_is_noticed(tmp_path: Path) -> None:
    module = Between()
    with pytest.raises(BadInput, match=r"p\.safetensors: the layers compute otherwise than Between\.forward: .* where "
                                       r"that gives .*; what forward does between them .* is missing from the list"):
        save(module.layers, tmp_path, module)
    assert not (tmp_path / "p.safetensors").exists()
    encoder, cell, head = module.layers
    whole = [encoder, nn.ReLU(), cell, head, nn.Tanh()]
    assert len(save(whole, tmp_path, module).layers) == 5
    for missing in (1, 4):
        with pytest.raises(BadInput, match=r"compute otherwise than Between\.forward"):
            save(whole[:missing] + whole[missing + 1 :], tmp_path, module)


def test_it_is_noticed_on_the_calibration_alone(tmp_path: Path) -> None:
    """A limit that random inputs of the declared range never reach."""

    class Limited(Robot):
        def forward(self, x: Any) -> Any:
            return super().forward(x.where(x.abs() < 0.99999, torch.zeros_like(x)))

    module, edge = Limited(), np.ones((1, 5, 3))
    save(module.layers, tmp_path, module)
    with pytest.raises(BadInput, match=r"compute otherwise than Limited\.forward"):
        save(module.layers, tmp_path, module, calibration=edge)


def test_timespans_reach_a_forward_that_takes_them(tmp_path: Path) -> None:
    class Deaf(Robot):
        def forward(self, x: Any, timespans: Any = None) -> Any:
            return super().forward(x)

    timed, deaf = Timed(), Deaf()
    save(timed.layers, tmp_path, timed, dt=(0.1, 2.0))
    with pytest.raises(BadInput, match=r"compute otherwise than Deaf\.forward"):
        save(deaf.layers, tmp_path, deaf, dt=(0.1, 2.0))
    with pytest.raises(BadInput, match=r"compute otherwise than Robot\.forward"):  # which computes with 1.0
        save(Robot().layers, tmp_path, Robot(), dt=0.1)


def test_rows_with_timespans_of_their_own_are_computed_in_one_call(tmp_path: Path) -> None:
    """A forward that writes into a tensor of its own cannot be computed for all rows at once: row after row then."""
    calls: list[int] = []

    class Counted(Timed):
        def forward(self, x: Any, timespans: Any = None) -> Any:
            calls.append(len(x))
            return super().forward(x, timespans)

    class Written(Counted):
        def forward(self, x: Any, timespans: Any = None) -> Any:
            found = torch.zeros(*x.shape[:2], 2, dtype=x.dtype)
            found[:] = super().forward(x, timespans)
            return found

    rng = np.random.default_rng(0)
    log = {"x": rng.uniform(-1, 1, (7, 5, 3)), "dt": rng.uniform(0.5, 1.5, (7, 5))}
    for kind, most in ((Counted, 2), (Written, 2 + 4 + 7)):
        calls.clear()
        save(kind().layers, tmp_path, kind(), dt=(0.5, 1.5), calibration=log)
        assert calls == [1] * most
        calls.clear()
        save(kind(), tmp_path, None, dt=(0.5, 1.5), calibration=log)
        whole = len(calls)
        calls.clear()
        save(kind(), tmp_path, None, dt=(0.5, 1.5), calibration={name: part[:1] for name, part in log.items()})
        assert (len(calls) == whole) is (kind is Counted)


def test_rows_computed_at_once_are_compared_each(tmp_path: Path) -> None:
    class Odd(Timed):
        """Otherwise in the one sequence that begins with 0.875, at its last step."""

        def forward(self, x: Any, timespans: Any = None) -> Any:
            y, told = super().forward(x, timespans), (x[:, :1, :1] == 0.875).to(x)
            return y + 1e-3 * told * (torch.arange(x.shape[1]) == x.shape[1] - 1).to(x)[None, :, None]

    x = np.random.default_rng(0).uniform(-1, 1, (7, 5, 3))
    log = {"x": x, "dt": np.random.default_rng(1).uniform(0.5, 1.5, (7, 5))}
    save(Odd().layers, tmp_path, Odd(), dt=(0.5, 1.5), calibration=log)
    x[4, 0, 0] = 0.875
    with pytest.raises(BadInput, match=r"compute otherwise than Odd\.forward"):
        save(Odd().layers, tmp_path, Odd(), dt=(0.5, 1.5), calibration=log)


def test_time_before_the_batch(tmp_path: Path) -> None:
    module = Robot(batch_first=False)
    save(module.layers, tmp_path, module)

    class Reversed(Robot):
        def forward(self, x: Any) -> Any:
            return super().forward(x.flip(0))

    turned = Reversed(batch_first=False)
    with pytest.raises(BadInput, match=r"compute otherwise than Reversed\.forward"):
        save(turned.layers, tmp_path, turned)


def test_frames_reach_a_forward_in_their_shape(tmp_path: Path) -> None:
    class Seeing(nn.Module):
        def __init__(self, gain: float) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv, self.cell, self.gain = nn.Conv2d(1, 2, 3), CfC(2 * 4 * 4, 3, batch_first=True), gain

        def forward(self, x: Any) -> Any:
            seen = self.conv(x.flatten(0, 1)).flatten(1).unflatten(0, x.shape[:2])
            return self.cell(seen * self.gain)[0]

    for gain in (1.0, 1.5):
        module = Seeing(gain)
        layers = [module.conv, nn.Flatten(), module.cell]
        if gain == 1.0:
            save(layers, tmp_path, module, input_shape=(1, 6, 6))
        else:
            with pytest.raises(BadInput, match=r"compute otherwise than Seeing\.forward"):
                save(layers, tmp_path, module, input_shape=(1, 6, 6))


def test_a_module_that_cannot_be_compared_with_is_refused(tmp_path: Path) -> None:
    class Failing(Robot):
        def forward(self, x: Any) -> Any:
            raise ValueError("two\nlines")

    class Named(Robot):
        def forward(self, x: Any) -> Any:
            return {"action": super().forward(x)}

    class Narrow(Robot):
        def forward(self, x: Any) -> Any:
            return super().forward(x)[..., :1]

    for module, words in ((Failing(), r"Failing\.forward failed on inputs \(4, 50, 3\) \(ValueError: two lines\)"),
                          (Named(), r"Named\.forward returned a dict; like= takes"),
                          (Narrow(), r"the layers give outputs \(4, 50, 2\), Narrow\.forward \(4, 50, 1\)")):
        with pytest.raises(BadInput, match=words):
            save(module.layers, tmp_path, module)
    with pytest.raises(BadInput, match="like= is a function; give the torch module"):
        save(Robot().layers, tmp_path, lambda x: x)


def test_a_module_without_a_forward_says_nothing(tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Robot().layers)

    save(list(Holder().layers), tmp_path, Holder())


def test_negative_weights_are_clipped_in_what_is_compared_with(tmp_path: Path) -> None:
    module = Robot(LTC(4, AutoNCP(8, 2), batch_first=True, implicit_param_constraints=False))
    module.cell.rnn_cell.gleak.data[0] = -0.1
    save(module.layers, tmp_path, module, clip_negative=True)
    assert float(module.cell.rnn_cell.gleak[0]) == pytest.approx(-0.1)


def test_a_factorys_pair_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from ncpc.cli.commands import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.py").write_text(
        "from tests.test_forward import Between, Robot\n"
        "def right():\n    module = Robot()\n    return module, module.layers\n"
        "def wrong():\n    module = Between()\n    return module, module.layers\n")
    for name, code in (("right", 0), ("wrong", 2)):
        done = CliRunner().invoke(cli, ["import", f"pairs:{name}", "--input-range", "-1", "1", "--dt", "1", "1"])
        assert (done.exit_code == 0) == (code == 0), done.output
        assert (tmp_path / "policy.safetensors").exists()
        if name == "wrong":
            assert "compute otherwise than Between.forward" in str(done.exception)
