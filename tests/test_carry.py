"""What the caller hands from one call to the next by names of its own, and timespans that cells are given by shares."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.errors import BadInput, Unsupported
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import LTC, CfC  # noqa: E402  (needs torch)
from ncps.wirings import AutoNCP  # noqa: E402
from torch import nn  # noqa: E402

from ncpc.cells import LRC, CtGru, CtRnn, LeakyIntegrator  # noqa: E402

TOLD: dict[str, Any] = {"input_range": (-1, 1), "input_shape": (3,)}


class Exported(nn.Module):
    """The parts of a state as arguments and results of their own, as exporters like them."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTMCell(3, 4), nn.Linear(4, 2)

    def forward(self, x: Any, before: Any, cell_before: Any) -> Any:
        h, c = self.rnn(x, (before, cell_before))
        return {"y": self.head(h), "after": h, "cell_after": c}


class Masked(nn.Module):
    """An argument that may be None and is no state; the state stays in the module."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.kept = nn.GRU(3, 2, batch_first=True), None

    def forward(self, x: Any, mask: Any = None) -> Any:
        y, self.kept = self.rnn(x if mask is None else x * mask, self.kept)
        return y


def stepped(policy: Policy, x: np.ndarray, dt: float = 1.0) -> np.ndarray:
    return run(lower(policy), Sequences(x, np.full(x.shape[:2], dt))).y


def test_parts_of_a_state_are_carried_by_the_names_that_were_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Exported().eval(), np.random.default_rng(0).uniform(-1, 1, (1, 6, 3))
    carry = {"before": "after", "cell_before": "cell_after"}
    policy = ncpc.save(module, tmp_path / "p.safetensors", carry=carry, **TOLD)
    assert policy.output_names == ("y0", "y1")
    state, found = (torch.zeros(1, 4), torch.zeros(1, 4)), []
    with torch.no_grad():
        for t in range(6):
            given = module(torch.as_tensor(x[:, t], dtype=torch.float32), *state)
            state = given["after"], given["cell_after"]
            found.append(given["y"])
    assert np.abs(stepped(policy, x) - torch.stack(found, 1).numpy()).max() < 1e-6


@pytest.mark.parametrize(("carry", "words"), [
    ({"prior": "after"}, "carry= names 'prior'; forward of Exported takes x, before, cell_before"),
    ({"before": "after", "cell_before": "memory"}, "becomes 'memory' of what forward returns, .*'after', 'cell_after'"),
    ({"before": "cell_after", "cell_before": "after"}, "otherwise than"),
    ("attributes", "carry='attributes' says that the module keeps its state, but the same call again gives the same"),
    ("hidden", "carry= is 'hidden'; give 'attributes', or a mapping"),
])
def test_what_was_told_wrongly_is_refused(carry: Any, words: str, tmp_path: Path) -> None:
    kind: Any = nn.Sequential if carry == "attributes" else Exported
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh()) if kind is nn.Sequential else kind()
    module = Whole(module) if carry == "attributes" else module
    with pytest.raises(BadInput, match=words):
        ncpc.save(module.eval(), tmp_path / "p.safetensors", carry=carry, **TOLD)


class Whole(nn.Module):
    """A module with a forward of its own around another."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any) -> Any:
        return self.inner(x)


def test_a_state_in_attributes_needs_no_argument(tmp_path: Path) -> None:
    torch.manual_seed(0)
    policy = ncpc.save(Masked().eval(), tmp_path / "p.safetensors", carry="attributes", **TOLD)
    assert policy.outputs == 2


class Shares(nn.Module):
    """A cell that is given a share of the timespan, or a constant, beside another."""

    def __init__(self, cell: Any, other: Any = None, **how: Any) -> None:
        super().__init__()
        self.cell, self.other, self.how = cell, other, {"share": 0.5, "of": 1.0, **how}

    def forward(self, x: Any, hx: Any = None, timespans: Any = None) -> Any:
        a, b = hx or (None, None)
        spans = timespans if self.how["of"] is None else torch.full(x.shape[:2], self.how["of"]).to(x)
        y, a = self.cell(x, a, spans * self.how["share"])
        if self.other is None:
            return y, (a, b)
        z, b = self.other(x, b, spans)
        return torch.cat([y, z], dim=-1), (a, b)


CELLS: dict[str, Any] = {
    "ltc": lambda: LTC(3, AutoNCP(8, 2)), "cfc": lambda: CfC(3, 5), "wired": lambda: CfC(3, AutoNCP(8, 2)),
    "mixed": lambda: CfC(3, 5, mixed_memory=True), "no gate": lambda: CfC(3, 5, mode="no_gate"),
    "ct-rnn": lambda: CtRnn(3, 4), "ct-gru": lambda: CtGru(3, 4), "leaky": lambda: LeakyIntegrator(3, 4),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_share_of_the_timespan_becomes_part_of_the_cell(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module, x = Shares(CELLS[name](), of=None).eval(), np.random.default_rng(0).uniform(-1, 1, (1, 8, 3))
    policy = ncpc.save(module, tmp_path / "p.safetensors", dt=(0.5, 2.0), **TOLD)
    for dt in (0.6, 1.7):
        with torch.no_grad():
            y = module(torch.as_tensor(x, dtype=torch.float32), None, torch.full((1, 8), dt))[0].numpy()
        assert np.abs(stepped(policy, x, dt) - y).max() < 1e-5


def test_constant_timespans_may_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Shares(CELLS["ltc"](), CELLS["cfc"](), of=0.3).eval()
    x = np.random.default_rng(0).uniform(-1, 1, (1, 8, 3))
    policy = ncpc.save(module, tmp_path / "p.safetensors", **TOLD)
    with torch.no_grad():
        y = module(torch.as_tensor(x, dtype=torch.float32))[0].numpy()
    assert policy.dt.fixed
    assert np.abs(stepped(policy, x, policy.dt.nominal) - y).max() < 1e-5


@pytest.mark.parametrize(("cell", "how", "words"), [
    (partial(CfC, 3, 5, mode="pure"), {"of": None}, "0.5 times the timespan .*which no weights of a CfC in pure mode"),
    (partial(LRC, 3, 4), {"of": None}, "0.5 times the timespan of the policy, which no weights of a lrc make up for"),
    (CELLS["ltc"], {"of": None, "share": -1.0}, "-1 times the timespan; the factor must be positive"),
])
def test_what_no_weights_make_up_for_is_refused_with_its_line(cell: Any, how: Any, words: str, tmp_path: Path) -> None:
    line = r"test_carry.py:\d+ \('y, a = self.cell\(x, a, spans \* self.how\[\"share\"\]\)'\).*"
    with pytest.raises(Unsupported, match=line + words):
        ncpc.save(Shares(cell(), **how).eval(), tmp_path / "p.safetensors", dt=(0.5, 2.0), **TOLD)
