"""Networks over windows, whole sequences and with cells of their own, after the structure of public ones, in small.

Written anew from what the named repositories and papers compute; no code is theirs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm


class CausalBlock(nn.Module):
    """Two dilated convolutions that look back alone, around them what was put in."""

    def __init__(self, inputs: int, outputs: int, dilation: int) -> None:
        super().__init__()
        self.chomp = dilation
        self.conv1 = weight_norm(nn.Conv1d(inputs, outputs, 2, padding=dilation, dilation=dilation))
        self.conv2 = weight_norm(nn.Conv1d(outputs, outputs, 2, padding=dilation, dilation=dilation))
        self.drop, self.down = nn.Dropout(0.2), nn.Conv1d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Any) -> Any:
        y = x
        for conv in (self.conv1, self.conv2):
            y = self.drop(torch.relu(conv(y)[:, :, : -self.chomp].contiguous()))
        return torch.relu(y + (x if self.down is None else self.down(x)))


class CausalWindow(nn.Module):
    """A window in, the answer for its last sample out."""

    def __init__(self) -> None:
        super().__init__()
        self.tcn = nn.Sequential(CausalBlock(3, 4, 1), CausalBlock(4, 4, 2))
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.linear(self.tcn(x)[:, :, -1])


class CausalSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tcn, self.decoder = nn.Sequential(CausalBlock(3, 4, 1), CausalBlock(4, 4, 2)), nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return self.decoder(self.tcn(x.transpose(1, 2)).transpose(1, 2))


class BrainWaves(nn.Module):
    """Filters over time, over electrodes, and both apart."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 2, (1, 8), padding="same", bias=False), nn.BatchNorm2d(2)
        self.depthwise, self.bn2 = nn.Conv2d(2, 4, (4, 1), groups=2, bias=False), nn.BatchNorm2d(4)
        self.separable = nn.Sequential(nn.Conv2d(4, 4, (1, 4), padding="same", groups=4, bias=False),
                                       nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(16, 3)

    def forward(self, x: Any) -> Any:
        z = functional.elu(self.bn2(self.depthwise(self.bn1(self.conv1(x)))))
        z = self.drop(functional.avg_pool2d(z, (1, 4)))
        z = functional.avg_pool2d(functional.elu(self.separable(z)), (1, 2))
        return self.fc(self.drop(z).flatten(start_dim=1))


class Keywords(nn.Module):
    """Convolutions over a spectrogram, a recurrent layer along it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, (5, 4), stride=(2, 2)), nn.ReLU())
        self.gru, self.fc = nn.GRU(12, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, spectrogram: Any) -> Any:
        z = self.conv(spectrogram.unsqueeze(1))
        z = z.permute(0, 3, 1, 2).flatten(2)
        return self.fc(self.gru(z)[0][:, -1])


class Activities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, (3, 1)), nn.ReLU(), nn.Conv2d(4, 4, (3, 1)), nn.ReLU())
        self.lstm, self.fc = nn.LSTM(12, 6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        z = self.conv(x.unsqueeze(1)).permute(0, 2, 1, 3)
        y, _ = self.lstm(z.reshape(z.shape[0], z.shape[1], -1))
        return self.fc(y[:, -1, :])


class ConvAndLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(3, 5, batch_first=True), nn.Linear(9, 3)
        self.conv = nn.Sequential(nn.Conv1d(3, 4, 3, padding="same"), nn.BatchNorm1d(4), nn.ReLU())

    def forward(self, x: Any) -> Any:
        over = self.conv(x.transpose(1, 2)).mean(dim=-1)
        return self.fc(torch.cat([self.lstm(x)[0][:, -1], over], dim=1))


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.tags = nn.LSTM(4, 5, batch_first=True, bidirectional=True), nn.Linear(10, 3)

    def forward(self, x: Any) -> Any:
        return self.tags(self.lstm(x)[0])


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.score, self.out = nn.GRU(4, 6, batch_first=True), nn.Linear(6, 1), nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        y, _ = self.gru(x)
        weights = torch.softmax(self.score(y), dim=1)
        return self.out((weights * y).sum(dim=1))


class Frames(nn.Module):
    """An LSTM whose products are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.hidden = nn.Conv2d(1 + 2, 4 * 2, 3, padding=1), 2

    def forward(self, x: Any) -> Any:
        h = c = x.new_zeros(x.shape[0], self.hidden, *x.shape[-2:])
        found = []
        for t in range(x.shape[1]):
            i, f, o, g = torch.split(self.conv(torch.cat([x[:, t], h], dim=1)), self.hidden, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            found.append(h)
        return torch.stack(found, dim=1)


class NormedGru(nn.Module):
    """A GRU with one matrix, normalized, and a bias of -1 on its update."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm, self.size = nn.Linear(3 + 4, 12, bias=False), nn.LayerNorm(12, eps=1e-3), 4

    def forward(self, inputs: Any, state: Any) -> Any:
        state = state[0]
        parts = self.norm(self.layer(torch.cat([inputs, state], -1)))
        reset, cand, update = torch.split(parts, [self.size] * 3, -1)
        cand, update = torch.tanh(torch.sigmoid(reset) * cand), torch.sigmoid(update - 1)
        output = update * cand + (1 - update) * state
        return output, [output]


class Minimal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.forget, self.new, self.out = nn.Linear(7, 4), nn.Linear(7, 4), nn.Linear(4, 2)

    def forward(self, x: Any, h: Any = None) -> Any:
        h = torch.zeros(x.shape[0], 4) if h is None else h
        found = []
        for step in x.unbind(dim=1):
            f = torch.sigmoid(self.forget(torch.cat([step, h], dim=-1)))
            h = (1 - f) * h + f * torch.tanh(self.new(torch.cat([step, f * h], dim=-1)))
            found.append(h)
        return self.out(torch.stack(found, dim=1)), h


class Independent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inp, self.recurrent = nn.Linear(3, 4), nn.Parameter(torch.tensor([0.9, -0.5, 0.7, 0.3]))

    def forward(self, x: Any, hx: Any = None) -> Any:
        hx = torch.zeros(x.shape[0], 4) if hx is None else hx
        z, found = self.inp(x), []
        for t in range(x.shape[1]):
            hx = torch.relu(z[:, t] + self.recurrent * hx)
            found.append(hx)
        return torch.stack(found, 1), hx


class Evolved(nn.Module):
    """Neurons with time constants of their own, integrated by Euler."""

    def __init__(self) -> None:
        super().__init__()
        self.tau = nn.Parameter(torch.tensor([0.5, 1.0, 2.0, 1.5]))
        self.w, self.bias, self.inp = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.zeros(4)), nn.Linear(3, 4)
        self.register_buffer("y", torch.zeros(1, 4))

    def forward(self, x: Any) -> Any:
        for _ in range(2):
            drive = torch.sigmoid(self.y + self.bias) @ self.w
            self.y = self.y + 0.1 / self.tau * (-self.y + drive + self.inp(x))
        return torch.sigmoid(self.y + self.bias)[..., :2]


class Decayed(nn.Module):
    """Missing values fade to the mean, hidden ones to zero, with time since they were seen."""

    def __init__(self) -> None:
        super().__init__()
        self.decay_x, self.decay_h = nn.Parameter(torch.rand(3)), nn.Linear(3, 4)
        self.cell, self.out = nn.GRUCell(6, 4), nn.Linear(4, 1)
        self.register_buffer("mean", torch.tensor([0.1, 0.0, -0.1]))

    def forward(self, x: Any, mask: Any, delta: Any) -> Any:
        h, last, found = torch.zeros(x.shape[0], 4), torch.zeros(x.shape[0], 3), []
        for t in range(x.shape[1]):
            last = mask[:, t] * x[:, t] + (1 - mask[:, t]) * last
            g = torch.exp(-functional.relu(self.decay_x * delta[:, t]))
            filled = mask[:, t] * x[:, t] + (1 - mask[:, t]) * (g * last + (1 - g) * self.mean)
            h = torch.exp(-functional.relu(self.decay_h(delta[:, t]))) * h
            h = self.cell(torch.cat([filled, mask[:, t]], dim=-1), h)
            found.append(self.out(h))
        return torch.stack(found, dim=1)


class Flow(nn.Module):
    """A hidden state that flows between observations, which a GRU takes in."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.cell, self.out = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 4)), nn.GRUCell(3, 4), \
            nn.Linear(4, 2)

    def forward(self, x: Any, timespans: Any = None) -> Any:
        h, found = torch.zeros(x.shape[0], 4), []
        for t in range(x.shape[1]):
            dt = 1.0 if timespans is None else timespans[:, t, None]
            for _ in range(4):
                h = h + dt / 4 * self.f(h)
            h = self.cell(x[:, t], h)
            found.append(self.out(h))
        return torch.stack(found, dim=1)


class Controlled(nn.Module):
    """A state driven by the increments of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.initial, self.field, self.out = nn.Linear(3, 4), nn.Linear(4, 12), nn.Linear(4, 1)

    def forward(self, x: Any) -> Any:
        z = self.initial(x[:, 0])
        for dx in torch.diff(x, dim=1).unbind(dim=1):
            z = z + (torch.tanh(self.field(z)).view(-1, 4, 3) @ dx.unsqueeze(-1)).squeeze(-1)
        return self.out(z)


class LiquidSpace(nn.Module):
    """A diagonal state space whose input also multiplies its state."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.linspace(0.2, 0.9, 4)), nn.Linear(2, 4, bias=False)
        self.c, self.d = nn.Linear(4, 2), nn.Linear(2, 2)

    def forward(self, u: Any, state: Any = None) -> Any:
        state = torch.zeros(u.shape[0], 4) if state is None else state
        found = []
        for t in range(u.shape[1]):
            drive = self.b(u[:, t])
            state = self.a * state + drive + drive * state
            found.append(self.c(state) + self.d(u[:, t]))
        return torch.stack(found, dim=1), state
