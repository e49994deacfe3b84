"""What becomes of torch modules built like public ones: read as their forward computes, or refused with a reason.

    python -m benchmarks.public_modules        # writes public_modules.json beside this file (two minutes)

Each row names where its structure is from. ``apart`` is the largest difference from the module's own forward, called
here, over a sequence with its state carried, relative to outputs beyond 1; modules that are refused have the line that
says so. Then the time of a save: a convolutional policy of ten million parameters on frames of 3 x 84 x 84, in seconds
and as a multiple of one forward pass of torch in the same run.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ncps.torch import CfC
from ncps.wirings import AutoNCP
from torch import nn

import ncpc
from benchmarks import public_policies as policies
from benchmarks import public_sequences as sequences
from ncpc.errors import NcpcError
from ncpc.frontend.traced.precision import in_double
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

RESULT = Path(__file__).with_suffix(".json")
STEPS, ROWS = 12, 2
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class PublicModule:
    """A module, where its structure is from, the shapes of one step's inputs, and how its forward is called: over
    ``time`` (B, T, ...), with ``time first`` (T, B, ...), or one ``step`` a call.
    """

    kind: type[Any]
    source: str
    shapes: Shapes
    way: str = "time"
    outputs: tuple[str, ...] = ()
    """Those that are asked for; all if empty."""


MODULES = (
    PublicModule(policies.SequenceLearner, "mlech26l/ncps docs/quickstart.rst", {"x": (2,)}),
    PublicModule(policies.AtariClone, "mlech26l/ncps examples/atari_torch.py", {"x": (2, 12, 12)}),
    PublicModule(policies.AtariPpo, "mlech26l/ncps examples/atari_ppo.py", {"frame": (1, 11, 11)}),
    PublicModule(policies.StackedNcp, "mlech26l/ncps examples/stacking_ncp.py", {"x": (4,)}),
    PublicModule(policies.MixedMemory, "mlech26l/ncps ncps/torch/cfc.py", {"x": (5,)}),
    PublicModule(policies.RecurrentPpo, "Stable-Baselines-Team/stable-baselines3-contrib "
                 "sb3_contrib/common/recurrent/policies.py", {"obs": (5,)}, "time first"),
    PublicModule(policies.MaskedLstm, "vwxyzjn/cleanrl cleanrl/ppo_atari_lstm.py", {"x": (4,), "done": (1,)},
                 "time first"),
    PublicModule(policies.UnmaskedLstm, "vwxyzjn/cleanrl cleanrl/ppo_atari_lstm.py, its done left out", {"x": (4,)},
                 "time first"),
    PublicModule(policies.LeggedRecurrent, "leggedrobotics/rsl_rl rsl_rl/modules/actor_critic_recurrent.py",
                 {"observations": (6,)}, "step"),
    PublicModule(policies.AdaptedGait, "Margolis and Agrawal 2022, Walk these ways (adaptation of a history)",
                 {"obs_history": (24,)}, "step"),
    PublicModule(policies.RapidAdaptation, "Kumar et al. 2021, RMA (convolutions over a history)",
                 {"history": (16, 5)}, "step"),
    PublicModule(policies.Dueling, "Kapturowski et al. 2019, R2D2",
                 {"obs": (4,), "last_action": (2,), "last_reward": (1,)}),
    PublicModule(policies.RecurrentQ, "Hausknecht and Stone 2015, DRQN", {"frame": (1, 12, 12)}, "step"),
    PublicModule(policies.MixtureDensity, "ctallec/world-models models/mdrnn.py", {"actions": (2,), "latents": (3,)},
                 "time first"),
    PublicModule(policies.MixtureDensity, "the same, its means and deviations asked for",
                 {"actions": (2,), "latents": (3,)}, "time first", ("mus", "sigmas")),
    PublicModule(policies.DepthDrone, "Zhang et al. 2024, agile flight via differentiable physics",
                 {"depth": (1, 8, 12), "v": (4,)}, "step"),
    PublicModule(policies.PointGoal, "facebookresearch/habitat-lab habitat_baselines/rl/models/rnn_state_encoder.py",
                 {"depth": (1, 9, 9), "pointgoal": (3,)}, "step"),
    PublicModule(policies.Film, "Perez et al. 2018, FiLM", {"image": (2, 6, 6), "task": (3,)}),
    PublicModule(policies.Experts, "Shazeer et al. 2017, mixture of experts (dense)", {"obs": (5,)}),
    PublicModule(policies.GatedResidual, "Lim et al. 2021, temporal fusion transformer (gated residual)", {"x": (4,)}),
    PublicModule(policies.Attitude, "Weber et al. 2021, RIANN (quaternions)", {"imu": (6,)}),
    PublicModule(policies.TanhGaussian, "denisyarats/pytorch_sac agent/actor.py", {"obs": (5,)}, "step"),
    PublicModule(policies.CloneMixture, "Mandlekar et al. 2021, robomimic (recurrent cloning, mixture head)",
                 {"eef": (3,), "object": (4,)}),
    PublicModule(policies.IsaacLstm, "Denys88/rl_games rl_games/algos_torch/network_builder.py", {"obs": (5,)},
                 "time first"),
    PublicModule(policies.LaneKeeping, "Lechner et al. 2020, neural circuit policies", {"image": (3, 21, 31)}),
    PublicModule(policies.GroundEffect, "Shi et al. 2019, Neural Lander (spectral normalization)", {"x": (6,)}, "step"),
    PublicModule(policies.Continuous, "vwxyzjn/cleanrl cleanrl/ppo_continuous_action.py", {"x": (4,)}, "step"),
    PublicModule(sequences.CausalWindow, "locuslab/TCN TCN/adding_problem/model.py", {"x": (3, 8)}, "step"),
    PublicModule(sequences.CausalSequence, "locuslab/TCN TCN/poly_music/model.py", {"x": (3,)}),
    PublicModule(sequences.BrainWaves, "vlawhern/arl-eegmodels EEGModels.py", {"x": (1, 4, 32)}, "step"),
    PublicModule(sequences.Keywords, "Arik et al. 2017, keyword spotting", {"spectrogram": (10, 16)}, "step"),
    PublicModule(sequences.Activities, "Ordonez and Roggen 2016, DeepConvLSTM", {"x": (12, 3)}, "step"),
    PublicModule(sequences.ConvAndLstm, "titu1994/LSTM-FCN", {"x": (3,)}),
    PublicModule(sequences.Tagger, "Huang et al. 2015, bidirectional tagger", {"x": (4,)}),
    PublicModule(sequences.Pooled, "Yang et al. 2016, attention over time", {"x": (4,)}),
    PublicModule(sequences.Frames, "ndrplz/ConvLSTM_pytorch convlstm.py", {"x": (1, 4, 4)}),
    PublicModule(sequences.NormedGru, "NM512/dreamerv3-torch networks.py", {"inputs": (3,)}, "step"),
    PublicModule(sequences.Minimal, "Zhou et al. 2016, minimal gated unit", {"x": (3,)}),
    PublicModule(sequences.Independent, "Sunnydreamrain/IndRNN_pytorch", {"x": (3,)}),
    PublicModule(sequences.Evolved, "Beer 1995, continuous-time networks", {"x": (3,)}, "step"),
    PublicModule(sequences.Decayed, "zhiyongc/GRU-D", {"x": (3,), "mask": (3,), "delta": (3,)}),
    PublicModule(sequences.Flow, "YuliaRubanova/latent_ode (its recurrent encoder)", {"x": (3,)}),
    PublicModule(sequences.Controlled, "patrick-kidger/NeuralCDE", {"x": (3,)}),
    PublicModule(sequences.LiquidSpace, "raminmh/liquid-s4", {"u": (2,)}),
)


@dataclass(frozen=True)
class Outcome:
    """One module's: how far from its forward it was read, or the reason why not."""

    module: str
    source: str
    outcome: str
    apart: float | None = None
    reason: str = ""


def made(public: PublicModule, seed: int = 0) -> Any:
    """The module with weights at which its outputs move, and statistics other than 0 and 1."""
    torch.manual_seed(seed)
    module = public.kind()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.running_mean.uniform_(-0.2, 0.2)
                part.running_var.uniform_(0.5, 2.0)
    return module.eval()


def arrays(public: PublicModule, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1, 1, (ROWS, STEPS, *(shape or (1,)))) for name, shape in public.shapes.items()}


def read(public: PublicModule, module: Any, folder: Path) -> Policy:
    data = arrays(public)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dt is assumed, calibration short
        return ncpc.save(module, folder / "p.safetensors", input_shape=public.shapes,
                         calibration=data if len(data) > 1 else next(iter(data.values())),
                         **({"head": public.outputs} if public.outputs else {}))


def forward_of(public: PublicModule, module: Any) -> np.ndarray:
    """The outputs of the module's own forward, by calls that know how it is called and what it returns."""
    module, given = module.double(), {name: torch.as_tensor(x) for name, x in arrays(public).items()}
    with torch.no_grad(), in_double():
        if public.way == "step":
            return np.stack([y[:, 0] for y in _steps(public, module, given)], axis=1)
        if public.way == "time first":
            given = {name: x.transpose(0, 1) for name, x in given.items()}
            state = {"lstm_state": None} if public.kind is policies.UnmaskedLstm else {}
            return np.swapaxes(_flat(public, module(**given, **state), 2), 0, 1)
        return _flat(public, module(**given), 2)


def _steps(public: PublicModule, module: Any, given: dict[str, Any]) -> list[np.ndarray]:
    kept = {policies.RecurrentQ: "hidden", policies.DepthDrone: "hx", policies.PointGoal: "rnn_hidden_states"}
    state, found = module.init_hidden(ROWS) if public.kind is policies.RecurrentQ else None, []
    for t in range(STEPS):
        step = {name: x[:, t] for name, x in given.items()}
        if public.kind in kept:
            *result, state = module(**step, **{kept[public.kind]: state})
        else:
            result = module(**step)
        found.append(_flat(public, result, 1)[:, None])
    return found


def _flat(public: PublicModule, result: Any, leading: int) -> np.ndarray:
    """All outputs side by side; a state behind them is left out."""
    if isinstance(result, tuple) and isinstance(result[0], dict):
        result = result[0]
    if isinstance(result, dict):
        result = [result[name] for name in public.outputs or result]
    if torch.is_tensor(result):
        result = [result]
    stateful = isinstance(result, tuple) and public.kind not in (policies.Continuous, policies.TanhGaussian)
    tensors = [y for y in (result[:-1] if stateful else result) if y is not None]
    return np.concatenate([y.numpy().reshape(*y.shape[:leading], -1) for y in tensors], axis=-1)


def outcome(public: PublicModule, folder: Path) -> Outcome:
    """What becomes of one module; anything but a reading or a reason of ncpc's own is raised."""
    module, name = made(public), public.kind.__name__
    try:
        policy = read(public, module, folder)
    except NcpcError as error:
        return Outcome(name, public.source, "refused", reason=told(error, folder))
    assert policy.calibration is not None
    x = policy.calibration.x
    y = run(lower(policy), Sequences(x, np.full(x.shape[:2], policy.dt.nominal))).y
    expected = forward_of(public, module)
    apart = float(np.abs(y - expected).max()) / max(1.0, float(np.abs(expected).max()))
    return Outcome(name, public.source, "read" if apart < 1e-6 else "wrong", apart=float(f"{apart:.1e}"))


def told(error: NcpcError, folder: Path) -> str:
    """An error's line without what differs between machines and editions: folders, numbers of lines, last digits."""
    line = str(error).replace(str(folder / "p.safetensors"), "p.safetensors")
    return re.sub(r" \(outputs differ by [^)]*\)", "", re.sub(r"\.py:\d+", ".py", line))


def table(rows: list[dict[str, Any]]) -> str:
    """The outcomes as docs/modules.md shows them."""
    lines = ["| built like | outcome |", "| --- | --- |"]
    for row in rows:
        outcome = f"read, {row['apart']:.0e} apart" if row["outcome"] == "read" else f"refused: {_short(row['reason'])}"
        lines.append(f"| {row['source']}{' (' + row['module'] + ')'} | {outcome} |".replace("e-0", "e-"))
    return "\n".join(lines)


def _short(reason: str) -> str:
    """What stands in the way, without the place."""
    if met := re.search(r"mixes steps of time at \S+ \('(.*)'\), which", reason):
        return f"steps of time meet in `{met[1]}`"
    return re.sub(r"^(p\.safetensors|\S+\.py \('.*'\)( in \S+)?): ", "", reason).split(";")[0]


class ConvHead(nn.Module):
    """Ten million parameters on a frame of 3 x 84 x 84: the convolutions of Mnih et al. 2015, a wide layer, an NCP."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
                                  nn.Conv2d(64, 64, 3, 1), nn.ReLU())
        self.wide, self.rnn = nn.Linear(64 * 7 * 7, 3100), CfC(3100, AutoNCP(32, 4))

    def forward(self, frame: Any, hx: Any = None) -> Any:
        rows, steps = frame.shape[:2]
        z = self.conv(frame.flatten(0, 1) / 255.0).flatten(1)
        return self.rnn(torch.relu(self.wide(z)).view(rows, steps, -1), hx)


def time_of_save(folder: Path) -> dict[str, float]:
    """Seconds of a save and of one forward pass, and their ratio."""
    torch.manual_seed(0)
    module, frames = ConvHead().eval(), np.random.default_rng(0).uniform(0, 255, (1, 20, 3, 84, 84))
    step = torch.as_tensor(frames[:, :1], dtype=torch.float32)
    with torch.no_grad():
        module(step)
        start = time.perf_counter()
        for _ in range(10):
            module(step)
        forward = (time.perf_counter() - start) / 10
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ncpc.save(module, folder / "head.safetensors", calibration=frames, dt=1.0)
    save = time.perf_counter() - start
    return {"parameters": sum(p.numel() for p in module.parameters()), "save_seconds": round(save, 2),
            "forward_milliseconds": round(1000 * forward, 2), "save_per_forward": round(save / forward)}


def main() -> int:
    with tempfile.TemporaryDirectory() as place:
        outcomes = [outcome(public, Path(place)) for public in MODULES]
        timed = time_of_save(Path(place))
    counts = {word: sum(o.outcome == word for o in outcomes) for word in ("read", "refused", "wrong")}
    rows = [{key: value for key, value in asdict(o).items() if value not in (None, "")} for o in outcomes]
    RESULT.write_text(json.dumps({"counts": counts, "save": timed, "modules": rows}, indent=1) + "\n")
    for o in outcomes:
        print(f"{o.module:16} {o.outcome:8} {'' if o.apart is None else o.apart} {o.reason}")
    print(table(rows), counts, timed, sep="\n")
    return counts["wrong"]


if __name__ == "__main__":
    sys.exit(main())
