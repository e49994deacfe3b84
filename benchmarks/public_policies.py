"""Policies after the structure of public ones, in small: forwards as people write them around known cells, or without.

Written anew from what the named repositories and papers compute; no code is theirs.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from ncps.torch import LTC, CfC
from ncps.wirings import NCP, AutoNCP
from torch import nn
from torch.nn import functional

Module = Any


def mlp(*widths: int, activation: type[Module] = nn.ELU) -> nn.Sequential:
    """Linear layers with an activation after each but the last."""
    layers: list[Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1])


class SequenceLearner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = CfC(2, AutoNCP(14, 1))

    def forward(self, x: Any) -> Any:
        y, _ = self.model(x)
        return y


class AtariClone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(2, 4, 4, stride=2), nn.BatchNorm2d(4), nn.ReLU(),
                                  nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
        self.rnn, self.fc = CfC(6, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Any, hx: Any = None) -> Any:
        batch, steps = x.size(0), x.size(1)
        z = self.conv(x.view(batch * steps, *x.shape[2:])).mean((-1, -2))
        z, hx = self.rnn(z.view(batch, steps, z.shape[-1]), hx)
        return self.fc(z), hx


class AtariPpo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.Flatten())
        self.cfc = CfC(16, AutoNCP(16, 4))
        self.actor, self.critic = nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, frame: Any, state: Any = None) -> Any:
        batch, steps = frame.shape[:2]
        z = self.conv(frame.float().reshape(-1, *frame.shape[2:]) / 255)
        y, state = self.cfc(z.unflatten(0, (batch, steps)), state)
        return {"logits": self.actor(y), "value": self.critic(y).squeeze(-1)}, state


class StackedNcp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        wiring = NCP(inter_neurons=5, command_neurons=4, motor_neurons=3, sensory_fanout=3, inter_fanout=2,
                     recurrent_command_synapses=3, motor_fanin=3, seed=1)
        self.first, self.second = LTC(4, wiring), LTC(3, AutoNCP(8, 1, seed=2))

    def forward(self, x: Any, states: Any = (None, None)) -> Any:
        y, a = self.first(x, states[0])
        y, b = self.second(y, states[1])
        return y, (a, b)


class MixedMemory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = CfC(5, 8, mixed_memory=True, return_sequences=True), nn.Linear(8, 2)

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(x, hx)
        return self.out(y), hx


class RecurrentPpo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm_actor, self.lstm_critic = nn.LSTM(5, 8), nn.LSTM(5, 6)
        self.policy_net, self.value_net = mlp(8, 8, 8, activation=nn.Tanh), mlp(6, 6, 1, activation=nn.Tanh)
        self.action_net, self.log_std = nn.Linear(8, 2), nn.Parameter(torch.full((2,), -0.5))

    def forward(self, obs: Any, lstm_states: Any = None) -> Any:
        pi, vf = lstm_states if lstm_states is not None else (None, None)
        latent_pi, pi = self.lstm_actor(obs, pi)
        latent_vf, vf = self.lstm_critic(obs, vf)
        mean = self.action_net(torch.tanh(self.policy_net(latent_pi)))
        return mean, torch.ones_like(mean) * self.log_std.exp(), self.value_net(latent_vf), (pi, vf)


class MaskedLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.network, self.lstm, self.actor = mlp(4, 8), nn.LSTM(8, 6), nn.Linear(6, 2)

    def forward(self, x: Any, done: Any, lstm_state: Any) -> Any:
        outputs = []
        for z, d in zip(self.network(x), done, strict=True):
            keep = (1.0 - d).view(1, -1, 1)
            h, lstm_state = self.lstm(z.unsqueeze(0), (keep * lstm_state[0], keep * lstm_state[1]))
            outputs.append(h)
        return self.actor(torch.cat(outputs)), lstm_state


class UnmaskedLstm(nn.Module):
    """The same as it is run on the robot: the caller resets the state."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.lstm, self.actor = mlp(4, 8), nn.LSTM(8, 6), nn.Linear(6, 2)
        for name, weight in self.lstm.named_parameters():
            nn.init.zeros_(weight) if "bias" in name else nn.init.orthogonal_(weight, 1.0)

    def forward(self, x: Any, lstm_state: Any, done: Any = None) -> Any:
        h, lstm_state = self.lstm(self.network(x), lstm_state)
        return self.actor(h), lstm_state


class Normalizer(nn.Module):
    """Running mean and deviation of what is observed; fixed once trained."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("_mean", torch.linspace(-0.3, 0.3, width)[None])
        self.register_buffer("_std", torch.linspace(0.5, 1.5, width)[None])
        self.register_buffer("count", torch.tensor(7))

    def forward(self, x: Any) -> Any:
        if self.training:
            self.count += x.shape[0]
        return (x - self._mean) / (self._std + 1e-2)


class Memory(nn.Module):
    """A GRU that keeps its own state between calls."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.rnn, self.hidden_states = nn.GRU(inputs, hidden, num_layers=1), None

    def forward(self, x: Any) -> Any:
        y, self.hidden_states = self.rnn(x.unsqueeze(0), self.hidden_states)
        return y.squeeze(0)


class LeggedRecurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.normalizer, self.memory_a = Normalizer(6), Memory(6, 8)
        self.actor, self.std = mlp(8, 8, 3), nn.Parameter(torch.ones(3))

    def forward(self, observations: Any) -> Any:
        return self.actor(self.memory_a(self.normalizer(observations)))


class AdaptedGait(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.adaptation, self.body = mlp(24, 12, 3), mlp(27, 12, 4)

    def forward(self, obs_history: Any) -> Any:
        latent = self.adaptation(obs_history)
        return self.body(torch.cat((obs_history, latent), dim=-1)).clip(-2.0, 2.0) * 0.25


class RapidAdaptation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(5, 4), nn.LeakyReLU())
        self.conv = nn.Sequential(nn.Conv1d(4, 4, 4, 2), nn.LeakyReLU(), nn.Conv1d(4, 4, 3, 1), nn.LeakyReLU())
        self.out = nn.Sequential(nn.Flatten(), nn.Linear(20, 3))

    def forward(self, history: Any) -> Any:
        rows = history.shape[0]
        z = self.encoder(history.reshape(-1, 5)).reshape(rows, -1, 4)
        return self.out(self.conv(z.permute(0, 2, 1)))


class Dueling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.lstm = mlp(7, 8, 8, activation=nn.ReLU), nn.LSTM(8, 8, batch_first=True)
        self.advantage, self.value = mlp(8, 6, 4, activation=nn.ReLU), mlp(8, 6, 1, activation=nn.ReLU)

    def forward(self, obs: Any, last_action: Any, last_reward: Any, hidden: Any = None) -> Any:
        z, hidden = self.lstm(self.body(torch.cat([obs, last_action, last_reward], dim=-1)), hidden)
        a, v = self.advantage(z), self.value(z)
        return v + (a - a.mean(dim=-1, keepdim=True)), hidden


class RecurrentQ(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 4, 2), nn.Conv2d(4, 4, 3, 1)
        self.lstm, self.q = nn.LSTMCell(36, 6), nn.Linear(6, 3)

    def init_hidden(self, batch: int) -> Any:
        return torch.zeros(batch, 6), torch.zeros(batch, 6)

    def forward(self, frame: Any, hidden: Any) -> Any:
        z = functional.relu(self.conv2(functional.relu(self.conv1(frame))))
        h, c = self.lstm(torch.flatten(z, 1), hidden)
        return self.q(h), (h, c)


class MixtureDensity(nn.Module):
    """The next latent as a mixture of normal distributions, after Bishop 1994."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.linear = nn.LSTM(5, 8), nn.Linear(8, 3 * 2 * 2 + 3)

    def forward(self, actions: Any, latents: Any) -> Any:
        steps, rows = actions.shape[0], actions.shape[1]
        y, _ = self.rnn(torch.cat([actions, latents], dim=-1))
        found = self.linear(y)
        mus = found[..., :6].view(steps, rows, 3, 2)
        sigmas = torch.exp(found[..., 6:12].view(steps, rows, 3, 2).clamp(-3, 1))
        return {"mus": mus, "sigmas": sigmas, "logpi": functional.log_softmax(found[..., 12:], dim=-1)}


class DepthDrone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 2, 2, bias=False), nn.LeakyReLU(0.05), nn.Conv2d(4, 6, 3, bias=False),
                                  nn.LeakyReLU(0.05), nn.Flatten(), nn.Linear(6 * 2 * 4, 8, bias=False))
        self.v_proj, self.gru, self.fc = nn.Linear(4, 8), nn.GRUCell(8, 8), nn.Linear(8, 3, bias=False)
        self.act = nn.LeakyReLU(0.05)

    def forward(self, depth: Any, v: Any, hx: Any = None) -> Any:
        z = self.act(self.stem(3 / 10 * depth - 0.6) + self.v_proj(v))
        hx = self.gru(z, hx)
        return self.fc(self.act(hx)), None, hx


class PointGoal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.GroupNorm(2, 4), nn.ReLU(True), nn.AvgPool2d(2),
                                 nn.Flatten(), nn.Linear(16, 6), nn.ReLU(True))
        self.goal, self.rnn, self.linear = nn.Linear(3, 4), nn.GRU(10, 8), nn.Linear(8, 4)

    def forward(self, depth: Any, pointgoal: Any, rnn_hidden_states: Any, masks: Any = None) -> Any:
        z = torch.cat([self.cnn(depth), self.goal(pointgoal)], dim=1)
        y, hidden = self.rnn(z.unsqueeze(0), rnn_hidden_states)
        return self.linear(y.squeeze(0)), hidden


class Film(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.film = nn.Linear(3, 16)
        self.conv, self.norm = nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8, affine=False)
        self.rnn = LTC(8, AutoNCP(8, 2))

    def forward(self, image: Any, task: Any, hx: Any = None) -> Any:
        rows, steps = image.shape[:2]
        gamma, beta = self.film(task.flatten(0, 1)).chunk(2, dim=-1)
        z = self.norm(self.conv(image.flatten(0, 1)))
        z = functional.relu((1 + gamma)[:, :, None, None] * z + beta[:, :, None, None])
        return self.rnn(z.amax(dim=(2, 3)).reshape(rows, steps, -1), hx)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.rnn = mlp(5, 8, 3), nn.GRU(5, 6, batch_first=True)
        self.weight, self.bias = nn.Parameter(torch.randn(3, 6, 2) * 0.5), nn.Parameter(torch.randn(3, 2) * 0.1)

    def forward(self, obs: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(obs, hx)
        each = torch.einsum("bti,eio->bteo", y, self.weight) + self.bias
        share = functional.softmax(self.gate(obs), dim=-1)
        return torch.einsum("bte,bteo->bto", share, each), hx


class GatedResidual(nn.Module):
    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.inp, self.a, self.b = nn.Linear(4, width), nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm, self.lstm, self.out = nn.LayerNorm(width), nn.LSTM(width, width, batch_first=True), nn.Linear(6, 2)

    def block(self, x: Any) -> Any:
        return self.norm(x + functional.glu(self.b(functional.elu(self.a(x))), dim=-1))

    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = self.lstm(self.block(self.inp(x)), state)
        return self.out(self.block(y)), state


class Attitude(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.GRU(6, 8, 2, batch_first=True), nn.Linear(8, 4)

    def forward(self, imu: Any, hx: Any = None) -> Any:
        y, hx = self.rnn(imu, hx)
        return functional.normalize(self.out(y), dim=-1), hx


class TanhGaussian(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.lo, self.hi = mlp(5, 8, 8, 4, activation=nn.ReLU), -5.0, 2.0

    def forward(self, obs: Any) -> Any:
        mu, log_std = self.trunk(obs).chunk(2, dim=-1)
        log_std = self.lo + 0.5 * (self.hi - self.lo) * (torch.tanh(log_std) + 1)
        return torch.tanh(mu), log_std.exp()


class CloneMixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"eef": nn.Identity(), "object": mlp(4, 6, 3, activation=nn.ReLU)})
        self.rnn, self.mean, self.scale = nn.LSTM(6, 8, 2, batch_first=True), nn.Linear(8, 6), nn.Linear(8, 6)
        self.logits = nn.Linear(8, 3)

    def forward(self, eef: Any, object: Any, rnn_state: Any = None) -> Any:
        parts = [self.encoder["eef"](eef), self.encoder["object"](object)]
        y, rnn_state = self.rnn(torch.cat(parts, dim=-1), rnn_state)
        means = torch.tanh(self.mean(y)).reshape(*y.shape[:2], 3, 2)
        scales = functional.softplus(self.scale(y)).reshape(*y.shape[:2], 3, 2) + 1e-4
        return dict(means=means, scales=scales, logits=self.logits(y)), rnn_state


class IsaacLstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.running_mean_std, self.rnn, self.layer_norm = Normalizer(5), nn.LSTM(8, 6), nn.LayerNorm(6)
        self.actor_mlp, self.mu, self.value = mlp(5, 8, activation=nn.ELU), nn.Linear(14, 2), nn.Linear(14, 1)
        self.sigma = nn.Parameter(torch.tensor([-1.0, -0.5]))

    def forward(self, obs: Any, states: Any = None) -> Any:
        z = self.actor_mlp(self.running_mean_std(obs).clamp(-5.0, 5.0))
        y, states = self.rnn(z, states)
        out = torch.cat([self.layer_norm(y), z], dim=-1)
        mu = self.mu(out)
        return mu, mu * 0.0 + self.sigma, self.value(out), states


class LaneKeeping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 5, 2), nn.Conv2d(4, 6, 3, 2), nn.Conv2d(6, 4, 3)])
        self.heads = nn.ModuleList([nn.Linear(8, 3) for _ in range(4)])
        self.ncp = LTC(12, AutoNCP(12, 1, seed=5))

    def forward(self, image: Any, hx: Any = None, timespans: Any = None) -> Any:
        rows, steps = image.shape[:2]
        mean = image.mean(dim=(2, 3, 4), keepdim=True)
        z = (image - mean).flatten(0, 1)
        for conv in self.convs:
            z = functional.relu(conv(z))
        parts = [head(z[:, k].flatten(1)) for k, head in enumerate(self.heads)]
        return self.ncp(torch.cat(parts, -1).view(rows, steps, -1), hx, timespans)


class GroundEffect(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)]
        self.layers = nn.ModuleList([nn.utils.parametrizations.spectral_norm(layer) for layer in layers])

    def forward(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)


class Continuous(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.actor_mean, self.critic = mlp(4, 8, 8, 2, activation=nn.Tanh), mlp(4, 8, 1, activation=nn.Tanh)
        self.actor_logstd = nn.Parameter(torch.tensor([[-0.3, 0.2]]))

    def forward(self, x: Any) -> Any:
        mean = self.actor_mean(x)
        return mean, self.actor_logstd.expand_as(mean).exp(), self.critic(x)
