"""Checkpoints as training leaves them: the state_dict wherever it stands, under whatever was put before its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

from ncps.torch import LTC  # noqa: E402  (needs torch)
from ncps.wirings import AutoNCP  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402

import ncpc  # noqa: E402
from ncpc.frontend.checkpoints import CheckpointPart, read_weights  # noqa: E402
from ncpc.frontend.factory import import_from_factory  # noqa: E402
from ncpc.frontend.ncps_torch import flatten  # noqa: E402

State = Mapping[str, Any]


def network() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), LTC(4, AutoNCP(8, 2), batch_first=True))


def other() -> Any:
    """The same network with other weights, to be loaded into."""
    torch.manual_seed(1)
    return network_of(torch.nn.Linear(3, 4))


def network_of(first: Any) -> Any:
    return torch.nn.Sequential(first, torch.nn.Tanh(), LTC(4, AutoNCP(8, 2), batch_first=True))


def under(prefix: str) -> Callable[[State], State]:
    return lambda state: {f"{prefix}{name}": value for name, value in state.items()}


def averaged(_: State) -> State:
    return torch.optim.swa_utils.AveragedModel(network()).state_dict()


def parallel(_: State) -> State:
    return torch.nn.DataParallel(network()).state_dict()


def compiled(_: State) -> State:
    return torch.compile(network()).state_dict()


def part_compiled(_: State) -> State:
    made = network()
    made[2] = torch.compile(made[2])
    return made.state_dict()


def optimized(state: State) -> State:
    made = network()
    optimizer = torch.optim.Adam(made.parameters())
    made(torch.zeros(1, 2, 3))[0].sum().backward()
    optimizer.step()
    return {"net": state, "optimizer": optimizer.state_dict(), "epoch": 3}


LEFT: dict[str, Callable[[State], State]] = {
    "alone": dict,
    "any name": lambda state: {"weights_of_the_best_epoch": state, "epoch": 7},
    "deep": lambda state: {"agent": {"policy": state, "step": 1}, "loss": torch.tensor(0.5)},
    "usual among others": lambda state: {"state_dict": state, "ema": state},
    "with an optimizer": optimized,
    "with NumPy's numbers": lambda state: {
        "model": state, "best": np.float64(0.25), "n": np.int64(3), "ok": np.bool_(1), "lr": np.float32(0.1)},
    "DataParallel": parallel,
    "torch.compile": compiled,
    "a part compiled": part_compiled,
    "AveragedModel": averaged,
    "a trainer's": lambda state: {"state_dict": under("model.")(state), "hyper_parameters": {"units": 8}},
    "several": under("model.module._orig_mod.net."),
    "half": lambda state: {name: value.half() for name, value in state.items()},
    "bfloat16": lambda state: {name: value.bfloat16() for name, value in state.items()},
}


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, whose ``training:make`` gives the network with other weights."""
    monkeypatch.chdir(tmp_path)
    made = "from tests.test_checkpoints import network, other as make\n"
    (tmp_path / "training_of_checkpoints.py").write_text(made)
    return tmp_path


def loaded(path: Path, part: CheckpointPart = CheckpointPart()) -> State:  # noqa: B008  (a frozen value)
    return import_from_factory("training_of_checkpoints:make", weights=path, part=part).model.state_dict()


@pytest.mark.parametrize("left", LEFT)
def test_weights_are_found_as_training_left_them(left: str, factory: Path) -> None:
    state = network().state_dict()
    torch.save(LEFT[left](state), factory / "w.pt")
    found = loaded(factory / "w.pt")
    close = 0.01 if left in ("half", "bfloat16") else 0.0
    assert list(found) == list(state)
    for name in state:
        torch.testing.assert_close(found[name], state[name], rtol=close, atol=close)


def test_weights_of_a_pruned_module_are_what_it_computes(factory: Path) -> None:
    made = network()
    prune.l1_unstructured(made[0], "weight", 0.5)
    torch.save(made.state_dict(), factory / "w.pt")
    found = loaded(factory / "w.pt")["0.weight"]
    assert torch.equal(found, made[0].weight)
    assert (found == 0).sum() == 6


def test_several_are_told_apart_by_key(factory: Path) -> None:
    state, zeros = network().state_dict(), {name: torch.zeros_like(v) for name, v in network().state_dict().items()}
    torch.save({"nets": {"actor": state, "critic": zeros}}, factory / "w.pt")
    with pytest.raises(BadInput, match=r"w\.pt: holds 2 state_dicts: 'nets\.actor', 'nets\.critic'; say .*--key"):
        loaded(factory / "w.pt")
    with pytest.raises(BadInput, match=r"holds no state_dict 'actor'; there is 'nets\.actor', 'nets\.critic'"):
        loaded(factory / "w.pt", CheckpointPart(key="actor"))
    assert torch.equal(loaded(factory / "w.pt", CheckpointPart(key="nets.actor"))["0.bias"], state["0.bias"])


def test_weights_beside_others_are_told_apart_by_prefix(factory: Path) -> None:
    state = network().state_dict()
    torch.save({**under("model.")(state), "loss.weight": torch.ones(3)}, factory / "w.pt")
    with pytest.raises(BadInput, match=r"stand under 'model\.', beside others \(loss\.weight\); give prefix='model\.'"):
        loaded(factory / "w.pt")
    assert torch.equal(loaded(factory / "w.pt", CheckpointPart(prefix="model."))["0.bias"], state["0.bias"])
    with pytest.raises(BadInput, match=r"no name begins with 'net\.'; the first is 'model\.0\.weight'"):
        loaded(factory / "w.pt", CheckpointPart(prefix="net."))


def test_what_fits_in_no_way_is_refused(factory: Path) -> None:
    state = network().state_dict()
    torch.save({**state, "more": torch.ones(1)}, factory / "more.pt")
    torch.save({name: value for name, value in state.items() if name != "0.bias"}, factory / "less.pt")
    torch.save({**state, "0.bias": torch.ones(5)}, factory / "other.pt")
    for name, word in (("more", "more"), ("less", "0.bias"), ("other", "size mismatch")):
        with pytest.raises(BadInput, match=f"{name}.pt: does not fit the factory's model .*{word}"):
            loaded(factory / f"{name}.pt")


class Hostile:
    ran = False

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("from tests.test_checkpoints import Hostile; Hostile.ran = True",)


def test_numbers_of_numpy_open_no_door(tmp_path: Path) -> None:
    for name, thing in (("code", Hostile()), ("array", np.zeros(3)), ("objects", np.array([Hostile()]))):
        torch.save({"w": torch.ones(2), "x": thing}, tmp_path / f"{name}.pt")
        with pytest.raises(BadInput, match="holds pickled Python objects"):
            read_weights(tmp_path / f"{name}.pt")
    assert not Hostile.ran


WRAPPED: dict[str, Callable[[], Any]] = {
    "torch.compile": lambda: torch.compile(network()),
    "DataParallel": lambda: torch.nn.DataParallel(network()),
    "AveragedModel": lambda: torch.optim.swa_utils.AveragedModel(network()),
    "both": lambda: torch.nn.DataParallel(torch.compile(network())),
    "a part": lambda: network_of(torch.compile(torch.nn.Linear(3, 4))),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_what_training_wraps_around_a_module_is_opened(wrapper: str, tmp_path: Path) -> None:
    made = WRAPPED[wrapper]()
    policy = ncpc.save(made, tmp_path / "p.safetensors", input_range=(-1, 1), dt=1.0)
    assert [layer.kind for layer in policy.layers] == ["dense", "activation", "ltc"]
    assert [type(module).__name__ for module in flatten(made)] == ["Linear", "Tanh", "LTC"]


def pruned() -> Any:
    made = network()
    prune.l1_unstructured(made[0], "weight", 0.5)
    return made


def normed() -> Any:
    made = network()
    parametrizations.weight_norm(made[0])
    return made


@pytest.mark.parametrize("made", [pruned, normed])
def test_computed_weights_are_those_that_are_read(made: Callable[[], Any], tmp_path: Path) -> None:
    module = made()
    policy = ncpc.save(module, tmp_path / "p.safetensors", input_range=(-1, 1), dt=1.0)
    np.testing.assert_allclose(policy.layers[0].weight, module[0].weight.detach().numpy(), rtol=1e-6)  # type: ignore[attr-defined]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_constraints_of_coarse_weights_are_applied_in_double(dtype: Any, tmp_path: Path) -> None:
    """The module in double precision is the reference; in its own it strays, and a warning says by how much and why."""
    made = network().to(dtype)
    with pytest.warns(UserWarning, match=rf"strays .* so coarse is {dtype}; what is deployed computes more exactly"):
        policy = ncpc.save(made, tmp_path / "p.safetensors", input_range=(-1, 1), dt=1.0)
    cm = torch.nn.functional.softplus(made[2].rnn_cell.cm.double()).detach().numpy()
    np.testing.assert_array_equal(policy.layers[2].cm, cm)  # type: ignore[attr-defined]
