"""Modules of every kind that ncpc reads, small, for the twins of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ncps_cells = pytest.importorskip("ncps.torch")
wirings = pytest.importorskip("ncps.wirings")
cells = pytest.importorskip("ncpc.cells")
from tests import whole_modules  # noqa: E402  (needs torch)
from tests.cell_models import perturb  # noqa: E402

INPUTS = 3


def dense() -> Any:
    nn = torch.nn
    return nn.Sequential(nn.Linear(INPUTS, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))


def lstm() -> Any:
    return cells.Sequential([torch.nn.LSTM(INPUTS, 6, 2, batch_first=True), torch.nn.Linear(6, 2)])


def gru() -> Any:
    return cells.Sequential([torch.nn.GRU(INPUTS, 6, batch_first=True), torch.nn.Linear(6, 2)])


def rnn() -> Any:
    return cells.Sequential([torch.nn.RNN(INPUTS, 6, batch_first=True), torch.nn.Linear(6, 2)])


def cfc(mode: str, **options: Any) -> Any:
    return ncps_cells.CfC(INPUTS, 6, mode=mode, proj_size=2, backbone_units=10, **options)


def wired_cfc() -> Any:
    return ncps_cells.CfC(INPUTS, wirings.AutoNCP(12, 2, seed=3))


def mixed_cfc() -> Any:
    return cfc("default", mixed_memory=True, backbone_layers=1)


def ltc(**options: Any) -> Any:
    return ncps_cells.LTC(INPUTS, wirings.AutoNCP(12, 2, seed=3), **options)


def ct_gru() -> Any:
    return cells.Sequential([cells.CtGru(INPUTS, 5, scales=4), torch.nn.Linear(5, 2)])


def image() -> Any:
    """A convolution, a normalization that goes into it, and a dense layer, over frames."""
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    with torch.no_grad():
        model[1].running_mean.uniform_(-0.2, 0.2)
        model[1].running_var.uniform_(0.5, 2.0)
        model[1].weight.uniform_(0.5, 2.0)
    return model.eval()


FAMILIES: Mapping[str, Callable[[], Any]] = {
    "dense": dense, "lstm": lstm, "gru": gru, "rnn": rnn, "cfc": lambda: cfc("default"),
    "cfc pure": lambda: cfc("pure"), "cfc no_gate": lambda: cfc("no_gate"), "wired cfc": wired_cfc,
    "mixed memory": mixed_cfc, "ltc": ltc, "ltc explicit": lambda: ltc(implicit_param_constraints=False),
    "ct_gru": ct_gru, "conv": image, "functional": whole_modules.Functional, "observed": whole_modules.Observed,
    "actor": whole_modules.Actor, "limbs": whole_modules.Limbs, "loop": whole_modules.Loop,
}
"""Whole modules with a forward of their own come last."""


def model(family: str) -> Any:
    """One of each family, its parameters moved away from their initial values."""
    torch.manual_seed(5)
    made = FAMILIES[family]()
    perturb(made, np.random.default_rng(5))
    for part in made.modules():
        if hasattr(part, "apply_weight_constraints"):
            part.apply_weight_constraints()
    return made


def told(family: str) -> dict[str, Any]:
    """What ``ncpc.save`` must be told of it."""
    shape = {"conv": (1, 8, 8), "limbs": (6,)}.get(family)
    return {"input_range": (-1.0, 1.0), **({"input_shape": shape} if shape else {})}


def inputs(family: str, rows: int = 3, steps: int = 12) -> Any:
    """Random inputs, (B, T, inputs); of frames (B, 1, 8, 8)."""
    width = {"functional": 4, "actor": 5, "limbs": 6}.get(family, INPUTS)
    shape = (rows, 1, 8, 8) if family == "conv" else (rows, steps, width)
    return torch.as_tensor(np.random.default_rng(1).uniform(-1, 1, shape), dtype=torch.float32)


def outputs(module: Any, x: Any) -> Any:
    """All that a module gives but its state, side by side."""
    y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    return torch.cat(list(y.values()), dim=-1) if isinstance(y, dict) else y


def train(module: Any, x: Any, target: Any, updates: int, rate: float = 3e-3) -> list[float]:
    """A plain loop, as anyone would write it."""
    optimizer, losses = torch.optim.Adam(module.parameters(), rate), []
    for _ in range(updates):
        optimizer.zero_grad()
        loss = ((outputs(module, x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        for part in module.modules():
            if hasattr(part, "apply_weight_constraints"):
                part.apply_weight_constraints()
        losses.append(float(loss.detach()))
    return losses
