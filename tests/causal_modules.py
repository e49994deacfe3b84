"""Torch modules that look back along time by convolutions, as people write them, in small; and some that look ahead."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import CfC  # noqa: E402  (needs torch)
from ncps.wirings import AutoNCP  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations, weight_norm  # noqa: E402

Module = Any


class Chomped(nn.Module):
    """Padded on both sides, and what that adds at the end cut off (Bai et al. 2018, section 3)."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.cut = 2 * dilation
        self.conv = weight_norm(nn.Conv1d(inputs, outputs, 3, padding=self.cut, dilation=dilation))

    def forward(self, x: Any) -> Any:
        return torch.relu(self.conv(x)[:, :, : -self.cut].contiguous())


class Block(nn.Module):
    """Two dilated convolutions beside a residual, which a convolution of one tap widens."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.net = nn.Sequential(Chomped(inputs, outputs, dilation), nn.Dropout(0.2),
                                 Chomped(outputs, outputs, dilation), nn.Dropout(0.2))
        self.side = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Any) -> Any:
        return torch.relu(self.net(x) + self.side(x))


class Tcn(nn.Module):
    """Two residual blocks, a head on every step."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks, self.head = nn.Sequential(Block(3, 5, 1), Block(5, 5, 2)), nn.Linear(5, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.blocks(x.transpose(1, 2)).transpose(1, 2))


class Last(nn.Module):
    """A head on the last step; zeros put before the first one by F.pad and by a module; batch norm between."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.pad, self.norm = nn.Conv1d(3, 4, 2), nn.ConstantPad1d((4, 0), 0.0), nn.BatchNorm1d(4)
        self.b, self.head = parametrizations.weight_norm(nn.Conv1d(4, 4, 3, dilation=2)), nn.Linear(4, 2)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.2, 0.2)
            self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Any) -> Any:
        z = torch.tanh(self.norm(self.a(functional.pad(2.0 * x.permute(0, 2, 1), (1, 0)))))
        return self.head(self.b(self.pad(z))[:, :, -1])


class Separable(nn.Module):
    """Depthwise, then of one tap; a gate of two convolutions over one past; its state is of the cell behind alone."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.point = nn.Conv1d(4, 4, 3, groups=4), nn.Conv1d(4, 6, 1)
        self.filter, self.gate = nn.Conv1d(6, 4, 2, dilation=3), nn.Conv1d(6, 4, 2, dilation=3, groups=2)
        self.rnn = CfC(4, AutoNCP(10, 2))

    def forward(self, x: Any, hx: Any = None) -> Any:
        z = functional.silu(self.point(self.depth(functional.pad(x.mT, (2, 0)))))
        z = functional.pad(z, (3, 0))
        z = torch.tanh(self.filter(z)) * torch.sigmoid(self.gate(z))
        return self.rnn(z.mT, hx)


class Delayed(nn.Module):
    """More zeros than the kernel needs: what it gives comes two steps late; time before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.rnn = nn.Conv1d(3, 3, 2), nn.GRU(3, 4)

    def forward(self, x: Any) -> Any:
        z = self.conv(functional.pad(x.permute(1, 2, 0), (3, 0)))[..., :-2].permute(2, 0, 1)
        return self.rnn(z)[0] + torch.cat([z, x[..., :1]], dim=-1)


class Planes(nn.Module):
    """Two-dimensional convolutions over time and sensors, and the largest of the last steps."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 3, (3, 2), padding=(2, 0)), nn.Linear(9, 2)

    def forward(self, x: Any) -> Any:
        z = torch.relu(self.conv(x[:, None])[:, :, :-2])
        z = z.transpose(2, 3).flatten(1, 2)
        return self.head(functional.max_pool1d(functional.pad(z, (1, 0)), 2, 1).mT)


SHAPES: dict[type[Any], tuple[int, ...]] = {Tcn: (3,), Last: (3,), Separable: (4,), Delayed: (3,), Planes: (4,)}


class Ahead(nn.Module):
    """One step too far: nothing is cut off."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(4, 3, 3, **{"padding": 1, **how}), nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        z = self.conv(x.transpose(1, 2))
        return self.head(torch.relu(z).transpose(1, 2))


class Padded(nn.Module):
    """Something else than zeros before the first step."""

    def __init__(self, how: str = "replicate", value: float = 0.0) -> None:
        super().__init__()
        self.how, self.value, self.conv = how, value, nn.Conv1d(4, 3, 3)

    def forward(self, x: Any) -> Any:
        z = functional.pad(x.transpose(1, 2), (2, 0), self.how, self.value)
        return torch.relu(self.conv(z)).transpose(1, 2)


class Pooled(nn.Module):
    """A mean over the whole sequence."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv1d(4, 3, 3), pool, nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        z = self.conv(functional.pad(x.transpose(1, 2), (2, 0)))
        return self.head(self.pool(z).flatten(1))


def made(kind: Any, seed: int = 0) -> Module:
    """A module with weights of its own, larger than at first, so that its outputs move."""
    torch.manual_seed(seed)
    module = kind().eval()
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(1.5)
    return module
