"""Whole torch modules are read as they are, and always compared with their own forward."""

from __future__ import annotations

import warnings
from functools import partial, wraps
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ncpc
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import read_policy
from ncpc.frontend.traced import functions
from ncpc.frontend.traced.arithmetic import negate
from ncpc.ir.policy import Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

pytest.importorskip("torch")
pytest.importorskip("ncps")

from torch import nn

from tests import whole_modules as whole
from tests.whole_modules import REFUSED, SHAPES, made, torch

STEPS = 25


def arrays(kind: type[Any], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.uniform(-1, 1, (2, STEPS, *shape)) for name, shape in SHAPES[kind].items()}


def saved(kind: type[Any], tmp_path: Path, **options: Any) -> tuple[Any, Policy]:
    module, data = made(kind), arrays(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dt is assumed, calibration short
        policy = ncpc.save(module, tmp_path / "p.safetensors", **{
            "calibration": data if len(data) > 1 else next(iter(data.values())), **options})
    return module, policy


def computed(policy: Policy) -> np.ndarray:
    assert policy.calibration is not None
    x = policy.calibration.x
    return run(lower(policy), Sequences(x, np.full(x.shape[:2], policy.dt.nominal))).y


def forward_of(kind: type[Any], module: Any) -> np.ndarray:
    """The module's outputs by plain calls that know how each is called."""
    given = {name: torch.as_tensor(x) for name, x in arrays(kind).items()}
    module = module.double()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            if kind in (whole.Steps, whole.TwoClocks):
                state, found = (), []
                for t in range(STEPS):
                    y, *state = module(given["x"][:, t], *state)
                    found.append(y)
                return torch.stack(found, 1).numpy()
            if kind is whole.Learned:
                y = module(given["x"].transpose(0, 1))
                return torch.cat([y.mean, y.spread], -1).transpose(0, 1).numpy()
            y = module(**given)
    finally:
        torch.set_default_dtype(torch.float32)
    y = y[0] if isinstance(y, tuple) else y
    return (torch.cat(list(y.values()), -1) if isinstance(y, dict) else y).numpy()


@pytest.mark.parametrize("kind", SHAPES, ids=lambda kind: kind.__name__)
def test_a_module_is_read_as_its_forward_computes(kind: type[Any], tmp_path: Path) -> None:
    module, policy = saved(kind, tmp_path)
    y = computed(policy)
    assert np.ptp(y, axis=(0, 1)).min() > 1e-3, "outputs that do not move say nothing"
    assert np.abs(y - forward_of(kind, module)).max() < 1e-6 * max(1.0, np.abs(y).max())
    assert policy.compared == "forward"
    assert read_policy(tmp_path / "p.safetensors").wires == policy.wires


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_cannot_be_read_is_refused_where_it_stands(kind: type[Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=REFUSED[kind]):
        ncpc.save(made(kind), tmp_path / "p.safetensors", input_range=(-1, 1), input_shape=(4,))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_compiled_modules_are_refused_and_graphs_are_read(tmp_path: Path) -> None:
    module = made(whole.Plain)
    told, path = {"input_range": (-1, 1), "input_shape": (4,)}, tmp_path / "p.safetensors"
    with pytest.raises(BadInput, match="compiled TorchScript, whose steps cannot be watched; give the module that it"):
        ncpc.save(torch.jit.trace(module, torch.zeros(1, 4)), path, **told)
    policies = [ncpc.save(kind, path, **told)
                for kind in (module, torch.fx.symbolic_trace(module), torch.compile(module))]
    kinds = [[layer.kind for layer in policy.layers] for policy in policies]
    assert kinds[0] == kinds[1] == kinds[2]


def test_a_wrong_reading_of_a_function_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tanh", "elu", "linear"):
        with monkeypatch.context() as patch:
            patch.setattr(functions, "HANDLERS", functions.HANDLERS | {
                name: functions.HANDLERS["sigmoid"] if name != "linear" else negate})
            patch.setattr("ncpc.frontend.traced.read.HANDLERS", functions.HANDLERS)
            with pytest.raises(BadInput):
                saved(whole.Functional, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_a_hook_changes_is_caught(tmp_path: Path) -> None:
    module = made(whole.Functional)
    module.rnn.register_forward_hook(lambda _m, _x, out: (out[0] * 1.01, out[1]))
    with pytest.raises(BadInput):
        ncpc.save(module, tmp_path / "p.safetensors", input_range=(-1, 1))


class Drifting(nn.Module):
    """Right in its first call; a call that goes on from a state is another network."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 3, batch_first=True)

    def forward(self, x: Any, hx: Any = None) -> Any:
        y, h = self.rnn(x, hx)
        return (y if hx is None else 1.1 * y), h


def test_a_run_that_goes_on_from_a_state_is_compared_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(BadInput, match=r"the layers compute otherwise than Drifting\.forward"):
        ncpc.save(Drifting().eval(), tmp_path / "p.safetensors", input_range=(-1, 1))


def test_outputs_have_the_names_of_forward_and_are_chosen_by_them(tmp_path: Path) -> None:
    _, policy = saved(whole.Actor, tmp_path)
    assert policy.output_names == ("action_0", "action_1", "value")
    assert [(g.name, g.shape) for g in policy.output_groups] == [("action", (2,)), ("value", (1,))]
    _, action = saved(whole.Actor, tmp_path, head="action")
    assert action.outputs == 2
    assert len(action.layers) == len(policy.layers) - 1, "the value's layer is left out"
    assert np.array_equal(computed(action), computed(policy)[..., :2])
    with pytest.raises(BadInput, match="no output 'speed'; forward gives action, value"):
        saved(whole.Actor, tmp_path, head=["action", "speed"])
    _, learned = saved(whole.Learned, tmp_path)
    assert learned.output_names == ("mean_0", "mean_1", "spread_0", "spread_1")


def test_timespans_are_forwards_or_the_policys(tmp_path: Path) -> None:
    assert saved(whole.Loop, tmp_path)[1].dt.words == "dt 0.1"
    assert saved(whole.Functional, tmp_path)[1].dt.words == "dt 1.0", "forward says so: nothing is assumed"
    assert saved(whole.Actor, tmp_path)[1].dt.assumed
    ranged = saved(whole.Actor, tmp_path, dt=(0.5, 2.0))[1]
    assert (ranged.dt.lo, ranged.dt.hi) == (0.5, 2.0)
    with pytest.raises(BadInput, match=r"forward gives its cells the timespan 0\.1, whatever dt is; leave dt out"):
        saved(whole.Loop, tmp_path, dt=0.5)


@pytest.mark.slow
def test_inputs_by_name_from_the_calibration_to_a_step_of_the_build(tmp_path: Path) -> None:
    _, policy = saved(whole.Camera, tmp_path)
    assert policy.inputs == 121
    assert [(g.name, g.shape) for g in policy.input_groups] == [("frame", (1, 12, 10)), ("speed", (1,))]
    assert (policy.input_range[:120] == policy.input_range[0]).all(), "the numbers of a frame share one range"
    assert (policy.input_range[120] != policy.input_range[0]).any()
    outcome = ncpc.compile(policy, tmp_path / "build", "host", quant="float32", steps=60)
    assert outcome.holds
    data = arrays(whole.Camera)
    np.savez(tmp_path / "log.npz", frame=data["frame"][0], speed=data["speed"][0])
    assert ncpc.verify(tmp_path / "build", inputs=tmp_path / "log.npz").holds
    build = ncpc.open(tmp_path / "build")
    y = build.step({"frame": data["frame"][0, 0], "speed": data["speed"][0, 0]})
    assert np.abs(y - computed(policy)[0, 0]).max() < 1e-5
    build.reset()
    flat = np.concatenate([data["frame"][0, 0].ravel(), data["speed"][0, 0]])
    assert np.array_equal(build.step(flat), y)
    with pytest.raises(BadInput, match=r"takes frame \(1, 12, 10\), speed \(1,\)"):
        build.step({"frame": data["frame"][0, 0]})
    build.close()
    with pytest.raises(BadInput, match="no array speed; give every input: frame, speed"):
        ncpc.save(made(whole.Camera), tmp_path / "q.safetensors", calibration={"frame": data["frame"]},
                  input_shape=SHAPES[whole.Camera])


def test_a_misspelt_input_is_named_before_the_module_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*given: Any, **named: Any) -> Any:
        raise AssertionError("the module is run")

    monkeypatch.setattr(whole.Camera, "forward", wraps(whole.Camera.forward)(run))
    frame, speed = np.zeros((2, 30, 1, 12, 10)), np.zeros((2, 30, 1))
    for data, options in (({"frame": frame, "sped": speed}, {}), ({"frame": frame, "speed": speed, "sped": speed}, {}),
                          (frame, {"input_shape": {"frame": (1, 12, 10), "sped": (1,)}})):
        with pytest.raises(BadInput, match=r"no input is called 'sped'; did you mean 'speed'\? the inputs"):
            ncpc.save(made(whole.Camera), tmp_path / "p.safetensors", calibration=data, **options)


def test_what_is_missing_is_said_before_anything_is_read(tmp_path: Path) -> None:
    class Never(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            raise AssertionError("the module is run")

    for options, said in (({}, "neither calibration nor input_range given"),
                          ({"calibration": tmp_path / "log.npz"}, r"log\.npz: no such file; write it with numpy"),
                          ({"input_range": (-1, 1), "outputs": "action"}, "values, logits; .* head='action'")):
        with pytest.raises(BadInput, match=said):
            ncpc.save(Never(), tmp_path / "p.safetensors", **options)


def test_a_training_that_diverged_is_named_by_its_parameter(tmp_path: Path) -> None:
    class Diverged(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 1)
            with torch.no_grad():
                self.second.weight.fill_(float("nan"))

        def forward(self, x: Any) -> Any:
            return self.second(torch.tanh(self.first(x)))

    with pytest.raises(BadInput, match=r"parameter second\.weight holds NaN or infinity; train again"):
        ncpc.save(Diverged(), tmp_path / "p.safetensors", calibration=np.zeros((1, 5, 2)))


def test_a_shape_that_nobody_told_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"the shape of one step's 'frame' is not known; give input_shape=\{'frame'"):
        ncpc.save(made(whole.Camera), tmp_path / "p.safetensors", input_range=(-1, 1))
    told = ncpc.save(made(whole.Camera), tmp_path / "p.safetensors", input_range=(-1, 1),
                     input_shape=SHAPES[whole.Camera])
    assert told.inputs == 121


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = whole.Remembered()
    module.train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    ncpc.save(module, tmp_path / "p.safetensors", input_range=(-1, 1))
    assert module.training
    assert module.state is None
    assert next(module.parameters()).dtype == torch.float32
    assert not module.rnn._forward_hooks
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("kind", "target"), [
    (whole.Limbs, "onnx"), *(pytest.param(kind, target, marks=pytest.mark.slow) for kind, target in zip(
        SHAPES, cycle(("host", "cortex-m4", "tflite", "onnx")), strict=False)),
    *(pytest.param(whole.Camera, target, marks=pytest.mark.slow) for target in ("host", "onnx")),
], ids=lambda value: value if isinstance(value, str) else value.__name__)
def test_a_module_compiles_within_the_tolerance(kind: type[Any], target: str, tmp_path: Path) -> None:
    _, policy = saved(kind, tmp_path)
    outcome = ncpc.compile(policy, tmp_path / "build", target, steps=200)
    assert outcome.holds, outcome.report["verdict"]


TURN = torch.eye(4).flip(0)[None]
OPS: dict[str, Any] = {
    "abs": torch.abs, "exp": lambda x: torch.exp(x.clamp(-1, 1)), "softplus": nn.functional.softplus,
    "tanh": torch.tanh, "relu": torch.relu, "sigmoid": lambda x: x.sigmoid(), "scale": lambda x: 0.7 * x + 0.1,
    "turn": lambda x: 1 - x, "halves": lambda x: torch.cat([x[..., 2:], x[..., :2]], dim=-1),
    "gate": lambda x: x * torch.sigmoid(x.flip(-1)), "residual": lambda x: x + torch.tanh(x),
    "square": lambda x: 0.5 * x**2, "least": lambda x: torch.minimum(x, x.roll(1, -1)), "swish": nn.functional.silu,
    "limit": lambda x: x.clamp(max=0.4), "spread": lambda x: x - x.mean(dim=-1, keepdim=True),
    "view": lambda x: x.unflatten(-1, (2, 2)).transpose(-1, -2).flatten(-2), "soft": lambda x: x.softmax(dim=-1),
    "norm": lambda x: nn.functional.layer_norm(x, (4,)), "stack": lambda x: torch.stack([x, -x], dim=-1).sum(-1) + x,
    "affine": lambda x: x / torch.tensor([1.0, 2.0, 4.0, 0.5]).to(x) - 0.25,
    "mask": lambda x: torch.where(torch.tensor([True, False, True, True]), x, 0.3 * x),
    "einsum": lambda x: torch.einsum("bti,io->bto", x, torch.linspace(-1, 1, 16).view(4, 4).to(x)),
    "products": lambda x: torch.einsum("bti,btj->btij", x[..., :2], x[..., 2:]).flatten(-2),
    "weighted": lambda x: torch.bmm(x.softmax(-1).flatten(0, 1)[:, None], x.flatten(0, 1)[:, :, None]).view(
        *x.shape[:2], 1) + x,
    "each": lambda x: torch.bmm(x.flatten(0, 1)[:, None], TURN.to(x).repeat(x[..., 0].numel(), 1, 1)).view(x.shape),
    "glu": lambda x: nn.functional.glu(torch.cat([x, x.flip(-1)], -1)), "mish": nn.functional.mish,
    "rms": lambda x: nn.functional.rms_norm(x, (4,), torch.linspace(0.5, 2, 4).to(x), 1e-3),
    "rms of two": lambda x: nn.functional.rms_norm(0.5 * x.unflatten(-1, (2, 2)) + 0.1, (2,), None, 1e-2).flatten(-2),
    "most": lambda x: x.amax(dim=-1, keepdim=True) + x[..., :3].amin(-1, True) - x, "celu": nn.functional.celu,
    "log": nn.functional.logsigmoid, "shrink": lambda x: nn.functional.softshrink(x, 0.1) + nn.functional.tanhshrink(x),
    "lerp": lambda x: torch.lerp(x, x.flip(-1), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x.roll(1, -1), value=0.4),
    "constant": lambda x: torch.linspace(-1, 1, 4).to(x).expand_as(x) + 0.5 * x, "narrow": lambda x: x.float() * 0.9,
    "dtype": lambda x: torch.cat([x[..., :2], x[..., 2:].to(torch.float32) + torch.ones(2, dtype=torch.float32)], -1),
    "pieces": lambda x: torch.cat([part * k for k, part in enumerate(x.split(1, -1), 1)], -1),
}


class Chain(nn.Module):
    """Functions drawn at random, before and after a cell."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names, self.rnn = names, nn.GRU(4, 4, batch_first=True)

    def forward(self, x: Any, hx: Any = None) -> Any:
        half = len(self.names) // 2
        for name in self.names[:half]:
            x = OPS[name](x)
        x, hx = self.rnn(x, hx)
        for name in self.names[half:]:
            x = OPS[name](x)
        return x, hx


@settings(max_examples=12, deadline=None)
@given(names=st.lists(st.sampled_from(sorted(OPS)), min_size=1, max_size=7), seed=st.integers(0, 9))
def test_any_chain_of_functions_is_read(names: list[str], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(seed)
    module = Chain(names).eval()
    policy = ncpc.save(module, tmp_path_factory.getbasetemp() / "chain.safetensors", input_range=(-1, 1), name="chain")
    x = np.random.default_rng(seed).uniform(-1, 1, (1, 5, 4))
    with torch.no_grad():
        expected = module(torch.as_tensor(x, dtype=torch.float32))[0].numpy()
    assert np.abs(run(lower(policy), Sequences(x, np.ones((1, 5)))).y - expected).max() < 2e-5


def test_every_function_of_the_chain_is_drawn_at_least_alone(tmp_path: Path) -> None:
    for name in OPS:
        policy = ncpc.save(Chain([name, "scale"]).eval(), tmp_path / "p.safetensors", input_range=(-1, 1))
        assert policy.compared == "forward"


class Told(nn.Module):
    """A state that must be given; an input by the name of one; an output that is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.spread = nn.GRU(5, 3), nn.LSTMCell(3, 4), nn.Parameter(torch.tensor([0.3, -0.2]))

    def forward(self, obs: Any, robot_state: Any, rnn_state: Any, masks: Any = None) -> Any:
        h, (y, c) = rnn_state
        z, h = self.a(torch.cat([obs, robot_state], -1)[None], h)
        y, c = self.b(z[0], (y, c))
        return {"mean": y[:, :2], "std": self.spread.exp().expand(len(obs), 2), "state": (h, (y, c))}


def test_a_state_that_must_be_given_begins_with_zeros(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Told().eval()
    policy = ncpc.save(module, tmp_path / "p.safetensors", input_range=(-1, 1),
                       input_shape={"obs": (3,), "robot_state": (2,)})
    assert policy.output_names == ("mean_0", "mean_1", "std_0", "std_1")
    x, found = np.random.default_rng(0).uniform(-1, 1, (1, 6, 5)), []
    state = torch.zeros(1, 1, 3), (torch.zeros(1, 4), torch.zeros(1, 4))
    with torch.no_grad():
        for t in range(6):
            step = torch.as_tensor(x[:, t], dtype=torch.float32)
            y = module(step[:, :3], step[:, 3:], state)
            state = y["state"]
            found.append(torch.cat([y["mean"], y["std"]], -1))
    assert np.abs(run(lower(policy), Sequences(x, np.ones((1, 6)))).y - torch.stack(found, 1).numpy()).max() < 1e-6


class Scored(nn.Module):
    """One output that can be read, one that cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.late = nn.GRU(4, 3, batch_first=True), nn.GRU(3, 2, batch_first=True)

    def forward(self, x: Any, hx: Any = None, inner: bool = False) -> Any:
        y, hx = self.rnn(x, hx)
        scores = torch.log_softmax(y, dim=-1)
        first, rest = (2 * scores).split([1, 2], dim=-1)
        return {"y": y, "scores": scores, "first": first, "late": self.late(scores)[0] if inner else rest}, hx


def test_what_no_output_asks_for_needs_no_reading(tmp_path: Path) -> None:
    module = Scored().eval()
    assert ncpc.save(module, tmp_path / "p.safetensors", input_range=(-1, 1), head="y").outputs == 3
    line = r"test_whole_modules.py:\d+ \('scores = torch.log_softmax\(y, dim=-1\)'\): torch's 'log_softmax' .*logits"
    for wanted in ((), "scores", "first", "late"):
        with pytest.raises(Unsupported, match=line):
            ncpc.save(module, tmp_path / "q.safetensors", input_range=(-1, 1), head=wanted)
    module.forward = partial(module.forward, inner=True)
    with pytest.raises(Unsupported, match=line):
        ncpc.save(module, tmp_path / "q.safetensors", input_range=(-1, 1), head="y")
