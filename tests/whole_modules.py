"""Torch modules as people write them, each with a forward of its own, in small."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import LTC, CfC, LTCCell  # noqa: E402  (needs torch)
from ncps.wirings import AutoNCP, FullyConnected  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

Module = Any


class Functional(nn.Module):
    """Functions between the layers, which a list of the layers does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.rnn, self.head = nn.Linear(4, 10), CfC(10, 12), nn.Linear(12, 2)

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(functional.elu(self.fc(x), 0.5), hx)
        return torch.tanh(self.head(y)), hx


class Observed(nn.Module):
    """Observations scaled by buffers, a normalization, a residual, outputs in physical units."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.2, -0.3, 0.0]))
        self.register_buffer("std", torch.tensor([1.5, 0.5, 2.0]))
        self.inp, self.norm = nn.Linear(3, 6), nn.LayerNorm(6)
        self.rnn, self.out = LTC(6, FullyConnected(6, 6)), nn.Linear(6, 2)

    def forward(self, x: Any, hx: Any = None) -> Any:
        z = self.norm(self.inp((x - self.mean) / self.std))
        y, hx = self.rnn(z, hx)
        return 30.0 * self.out(y + z) - 5.0, hx


class Actor(nn.Module):
    """An action and a value; timespans are handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(5, 12), nn.SiLU())
        self.rnn = CfC(12, AutoNCP(14, 4))
        self.action, self.value = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, obs: Any, hx: Any = None, timespans: Any = None) -> Any:
        y, hx = self.rnn(self.body(obs), hx, timespans)
        return {"action": torch.tanh(self.action(y)), "value": 10.0 * self.value(y)}, hx


class Channels(nn.Module):
    """A function for each output, written into place."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = CfC(4, AutoNCP(12, 3))

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(x[..., [3, 1, 0, 2]], hx)
        out = torch.zeros_like(y)
        out[..., 0], out[..., 1:] = torch.tanh(y[..., 0]), torch.sigmoid(y[..., 1:])
        return out.flip(-1), hx


class Limbs(nn.Module):
    """One cell's weights for two limbs, and a cell of its own for the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.limb, self.trunk = LTC(2, AutoNCP(8, 2, seed=3)), LTC(2, AutoNCP(8, 2, seed=4))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Any, hx: Any = None) -> Any:
        left, right, trunk = hx or (None, None, None)
        a, left = self.limb(x[..., :2], left)
        b, right = self.limb(x[..., 2:4], right)
        c, trunk = self.trunk(x[..., 4:], trunk)
        return self.head(torch.cat([a, b, c], dim=-1)), (left, right, trunk)


class Camera(nn.Module):
    """A frame and a speed."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 3, 3, 2, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3),
                                  nn.Hardswish())
        self.rnn = CfC(5, AutoNCP(12, 2))
        with torch.no_grad():
            self.conv[1].running_mean.uniform_(-0.2, 0.2)
            self.conv[1].running_var.uniform_(0.5, 2.0)

    def forward(self, frame: Any, speed: Any, hx: Any = None) -> Any:
        batch, steps = frame.shape[:2]
        seen = self.conv((frame / 255.0).flatten(0, 1)).mean(dim=(-2, -1)).view(batch, steps, -1)
        return self.rnn(torch.cat([seen, speed], dim=-1), hx)


class Loop(nn.Module):
    """A loop over a cell with a timespan of its own, from a state that was learned."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.first = LTCCell(AutoNCP(10, 2), 3), nn.Parameter(torch.linspace(-0.4, 0.4, 10)[None])

    def forward(self, x: Any, hx: Any = None) -> Any:
        h, outputs = self.first.expand(x.shape[0], -1) if hx is None else hx, []
        for t in range(x.shape[1]):
            y, h = self.cell(x[:, t], h, 0.1)
            outputs.append(y)
        return torch.stack(outputs, dim=1), h


class Gate(nn.Module):
    """Two cells in series, a gate between them."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.gate, self.rnn = nn.GRU(4, 6, batch_first=True), nn.Linear(4, 6), LTC(6, AutoNCP(10, 2))

    def forward(self, x: Any, hx: Any = None) -> Any:
        g, r = hx or (None, None)
        z, g = self.gru(x, g)
        y, r = self.rnn(z * torch.sigmoid(self.gate(x)), r)
        return y, (g, r)


class Steps(nn.Module):
    """One step a call: (B, inputs) and a state in, outputs and a state out."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.cell, self.head = nn.Linear(4, 6), nn.LSTMCell(6, 5), nn.Linear(5, 2)

    def forward(self, x: Any, state: Any = None) -> Any:
        h, c = self.cell(torch.relu(self.fc(x)), state)
        return self.head(h).clamp(-0.3, 0.3), (h, c)


class Learned(nn.Module):
    """Two layers of an LSTM, time first, from learned states; outputs as a named tuple."""

    class Found(NamedTuple):
        mean: Any
        spread: Any
        hidden: Any

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, 2)
        self.h, self.c = (nn.Parameter(torch.rand(2, 1, 5) - 0.5) for _ in range(2))
        self.mean, self.spread = nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, x: Any, hidden: Any = None) -> Any:
        if hidden is None:
            hidden = tuple(part.expand(-1, x.shape[1], -1).contiguous() for part in (self.h, self.c))
        y, hidden = self.rnn(x, hidden)
        return self.Found(self.mean(y), torch.clamp(self.spread(y), min=-0.1), hidden)


class Remembered(nn.Module):
    """Its state lives in an attribute, and is neither taken nor given."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.state = LTC(4, AutoNCP(9, 2)), None

    def forward(self, x: Any) -> Any:
        y, self.state = self.rnn(x, self.state)
        return torch.maximum(y, -0.5 * y)


class Plain(nn.Module):
    """No cell at all: the usual baseline."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, obs: Any) -> Any:
        return torch.tanh(self.net(obs)) * torch.tensor([2.0, 0.5]) + torch.tensor([0.0, 0.5])


class TwoClocks(nn.Module):
    """Cells that are given timespans of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = LTCCell(AutoNCP(8, 2), 4), LTCCell(AutoNCP(8, 2), 2)
        self.direct = nn.Linear(4, 2)

    def forward(self, x: Any, state: Any = (None, None)) -> Any:
        a, b = (x.new_zeros(x.shape[0], 8) if part is None else part for part in state)
        y, a = self.a(x, a, 0.1)
        y, b = self.b(y, b, 0.2)
        return y + self.direct(x), (a, b)


SHAPES: dict[type[Module], dict[str, tuple[int, ...]]] = {
    Functional: {"x": (4,)}, Observed: {"x": (3,)}, Actor: {"obs": (5,)}, Channels: {"x": (4,)}, Limbs: {"x": (6,)},
    Camera: {"frame": (1, 12, 10), "speed": (1,)}, Loop: {"x": (3,)}, Gate: {"x": (4,)}, Steps: {"x": (4,)},
    Learned: {"x": (4,)}, Remembered: {"x": (4,)}, Plain: {"obs": (4,)}, TwoClocks: {"x": (4,)},
}
"""Every module that can be read, and the shapes of one step's inputs."""


def made(kind: type[Module], seed: int = 0) -> Module:
    """A module with weights at which its outputs move."""
    torch.manual_seed(seed)
    module = kind()
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() == 2 and "rnn" not in name and "cell" not in name:
                weight.mul_(2.0)
    return module.eval()


# What cannot be read, each for a reason of its own.


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = LTC(4, AutoNCP(8, 2))

    def forward(self, x: Any, hx: Any = None) -> Any:
        if x[0, 0, 0] > 1:
            x = x / 10
        return self.rnn(x, hx)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.rnn = nn.Linear(4, 4), nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Any) -> Any:
        q = self.q(x)
        return self.rnn(torch.softmax(q @ q.transpose(1, 2), dim=-1) @ q)[0]


class Centred(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x - x.mean(dim=1, keepdim=True))[0]


class BothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True, bidirectional=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0]


class Sorted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = CfC(4, 5)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.rnn(torch.sort(x, dim=-1)[0], hx)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = LTC(4, FullyConnected(6, 4))

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(x, hx)
        return self.rnn(y, hx)


class OwnTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = CfC(3, 5)

    def forward(self, x: Any, hx: Any = None) -> Any:
        return self.rnn(x[..., :3], hx, timespans=1 + x[..., 3:])


class HalfFixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = CfC(4, 3), CfC(3, 2)

    def forward(self, x: Any, hx: Any = None, timespans: Any = None) -> Any:
        return self.b(self.a(x, timespans=timespans)[0], timespans=torch.full(x.shape[:2], 0.2).to(x))[0]


class Divided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.rnn(x)[0] / (2 + x)


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.score = nn.GRU(4, 3, batch_first=True), nn.Linear(3, 1)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        weights = torch.softmax(self.score(y), dim=1)
        return (weights * y).sum(dim=1)


class Minimal(nn.Module):
    """A cell of its own, in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.forget, self.new = nn.Linear(7, 3), nn.Linear(7, 3)

    def forward(self, x: Any, h: Any = None) -> Any:
        h, found = x.new_zeros(x.shape[0], 3) if h is None else h, []
        for step in x.unbind(dim=1):
            f = torch.sigmoid(self.forget(torch.cat([step, h], dim=-1)))
            h = (1 - f) * h + f * torch.tanh(self.new(torch.cat([step, f * h], dim=-1)))
            found.append(h)
        return torch.stack(found, dim=1), h


class MinimalStep(nn.Module):
    """A cell of its own, one step a call."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Any, mem: Any = None) -> Any:
        h = torch.zeros(x.shape[0], 3) if mem is None else mem
        h = h + 0.1 * torch.tanh(self.fc(x) - h)
        return h.clone(), h


class Kept(nn.Module):
    """A state of its own in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("y", torch.zeros(1, 3))

    def forward(self, x: Any) -> Any:
        self.y = 0.9 * self.y + self.fc(x)
        return torch.tanh(self.y)


class Required(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Any, state: Any) -> Any:
        y = torch.tanh(self.fc(torch.cat([x, state[0]], dim=-1)))
        return y, [y]


class Masked(nn.Module):
    """Its first input says when to forget."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRUCell(4, 3)

    def forward(self, x: Any, hx: Any = None) -> Any:
        h = torch.zeros(x.shape[0], 3) if hx is None else hx
        h = self.rnn(x, h * (1 - x[:, :1]))
        return h, h


class Windowed(nn.Module):
    """A cell that runs along a window."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 3)

    def forward(self, x: Any) -> Any:
        return self.rnn(x.reshape(4, 1))[0][-1]


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Any) -> Any:
        lengths = torch.full((x.shape[0],), x.shape[1])
        y, _ = self.rnn(nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True))
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0]


REFUSED: dict[type[Module], str] = {
    Branch: r"whole_modules.py:\d+ \('if x\[0, 0, 0\] > 1:'\): what happens next depends on the numbers of a step",
    Attention: r"multiplies matrices of which neither is a constant",
    Centred: r"whole_modules.py:\d+ \('return self.rnn\(x - x.mean.*takes the mean over all steps of time",
    Pooled: r"whole_modules.py:\d+ \('weights = torch.softmax\(self.score.*takes the softmax over all steps of time",
    Minimal: r"mixes steps of time at whole_modules.py:\d+ \('f = torch.sigmoid\(self.forget\(torch.cat",
    MinimalStep: r"mixes steps of time at whole_modules.py:\d+ \('h = h \+ 0.1 \* torch.tanh.*'mem' is taken for its",
    Kept: r"mixes steps of time at whole_modules.py:\d+ \('self.y = 0.9 \* self.y \+ self.fc\(x\)'\)",
    Packed: "in rnn: rnn is given a PackedSequence; packed sequences are for training, in eval",
    Required: r"must be given 'state', of which no cell tells the shape .*let it be None by default",
    Masked: r"starts from a state that depends on the inputs, or runs twice in one step",
    Windowed: r"in rnn: rnn gives \(4, 3\) in one step of the policy, its layers 3 values; a cell runs once a step",
    BothWays: "in rnn: .*reads the future",
    Sorted: r"\('return self.rnn\(torch.sort\(x, dim=-1\)\[0\], hx\)'\): torch's 'sort' is not among",
    Twice: "in rnn: rnn starts from a state that depends on the inputs, or runs twice in one step",
    OwnTime: "in rnn: rnn is given timespans that are computed",
    Divided: "divides by what depends on the inputs",
    HalfFixed: r"different timespans \(a that of forward, b 0.2\), of which only some follow that of forward",
}
