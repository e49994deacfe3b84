"""A class is made of the arguments that a trainer's checkpoint holds beside the weights; nothing of the file is run."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path, PosixPath
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from ncpc.cli.commands import cli
from ncpc.errors import BadInput
from ncpc.frontend.api import save
from ncpc.frontend.container import read_policy
from ncpc.frontend.factory import import_from_factory
from ncpc.frontend.hyper_parameters import SAVED_AS

torch = pytest.importorskip("torch")
pytest.importorskip("ncps")

TRAINING = '''
from ncps.torch import LTC
from ncps.wirings import AutoNCP
from torch import nn

MADE = []


class RobotPolicy(nn.Sequential):
    def __init__(self, inputs, units, motors=2, *, wide=4):
        MADE.append((inputs, units, motors, wide))
        super().__init__(nn.Linear(inputs, wide), nn.Tanh(), LTC(wide, AutoNCP(units, motors, seed=5)))


class AnyArguments(RobotPolicy):
    def __init__(self, inputs, **others):
        super().__init__(inputs, others["units"])
        MADE.append(others)


class OneArgument(RobotPolicy):
    def __init__(self, hparams):
        super().__init__(hparams.inputs, hparams["units"], motors=getattr(hparams, "motors", 2))


class Nested(RobotPolicy):
    def __init__(self, conf, lr=0.1):
        super().__init__(conf.sizes.inputs, conf["sizes"].units)


class Failing(nn.Module):
    def __init__(self, units):
        raise ValueError("two\\nlines")


class Usual(RobotPolicy):
    def __init__(self, inputs=3, units=8):
        super().__init__(inputs, units)


def make():
    return RobotPolicy(3, 8)
'''
ARGUMENTS = {"inputs": 3, "units": 9, "lr": 1e-3}


@pytest.fixture
def training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The user's module ``training_of_robots`` in the folder that is stood in."""
    (tmp_path / "training_of_robots.py").write_text(TRAINING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "training_of_robots", raising=False)
    import training_of_robots  # type: ignore[import-not-found]

    return training_of_robots  # type: ignore[no-any-return]


def checkpoint(module: Any, hyper_parameters: Any = None, prefix: str = "", **others: Any) -> dict[str, Any]:
    """What Lightning's ``dump_checkpoint`` writes, with a callback's score and an optimizer's state."""
    state = {f"{prefix}{name}": value for name, value in module.state_dict().items()}
    best = {"best_model_score": torch.tensor(0.25), "best_k_models": {"a.ckpt": torch.tensor(1.0)}}
    optimizer = torch.optim.Adam(module.parameters())
    told = {} if hyper_parameters is None else {"hparams_name": "kwargs", "hyper_parameters": hyper_parameters}
    return {
        "epoch": 3, "global_step": 400, "pytorch-lightning_version": "2.5.1", "state_dict": state,
        "loops": {"fit_loop": {}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val_loss'}": best}, "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [], **told, **others,
    }


def trained(kind: Any, *arguments: Any, **named: Any) -> Any:
    module = kind(*arguments, **named)
    torch.manual_seed(7)
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.rand(parameter.shape) * parameter.requires_grad
    return module


def imported(spec: str, path: str = "last.ckpt") -> Any:
    return import_from_factory(f"training_of_robots:{spec}", weights=path).model


def require_equal(found: Any, expected: Any) -> None:
    assert list(found.state_dict()) == list(expected.state_dict())
    for name, value in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_class_is_made_of_its_hyper_parameters(training: ModuleType, prefix: str) -> None:
    module = trained(training.RobotPolicy, 3, 9, wide=5)
    torch.save(checkpoint(module, {**ARGUMENTS, "wide": 5}, prefix), "last.ckpt")
    with pytest.warns(UserWarning, match=r"^last\.ckpt: hyper-parameters that RobotPolicy does not take .*out: lr$"):
        found = imported("RobotPolicy")
    require_equal(found, module)
    assert training.MADE[-1] == (3, 9, 2, 5)


def test_a_class_that_takes_any_arguments_gets_them_all(
    training: ModuleType, recwarn: pytest.WarningsRecorder
) -> None:
    module = trained(training.AnyArguments, 3, units=9)
    torch.save(checkpoint(module, ARGUMENTS), "last.ckpt")
    require_equal(imported("AnyArguments"), module)
    assert training.MADE[-1] == {"units": 9, "lr": 1e-3}
    assert not [one for one in recwarn if "hyper-parameters" in str(one.message)]


def dictionary_of_lightning(place: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lightning's class under its own name, while the checkpoint is written."""
    path, _, name = place.rpartition(".")
    home = ModuleType(path)
    kind = type(name, (dict,), {"__module__": path})
    setattr(home, name, kind)
    monkeypatch.setitem(sys.modules, path, home)
    for end in [at for at, letter in enumerate(path) if letter == "."]:
        monkeypatch.setitem(sys.modules, path[:end], ModuleType(path[:end]))
    return kind


@pytest.mark.parametrize("place", ["argparse.Namespace", *SAVED_AS])
def test_mappings_of_trainers_are_read_without_their_libraries(
    training: ModuleType, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = trained(training.RobotPolicy, 3, 9)
    given = {"inputs": 3, "units": 9, "folder": PosixPath("/data"), "inner": argparse.Namespace(a=1)}
    with monkeypatch.context() as meanwhile:
        kind = argparse.Namespace if "argparse" in place else dictionary_of_lightning(place, meanwhile)
        torch.save(checkpoint(module, kind(**given)), "last.ckpt")
    with pytest.warns(UserWarning, match="left out: folder, inner"):
        require_equal(imported("RobotPolicy"), module)


@pytest.mark.parametrize("place", ["argparse.Namespace", *SAVED_AS])
def test_mappings_within_arguments_keep_their_attributes(
    training: ModuleType, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = trained(training.RobotPolicy, 3, 9)
    with monkeypatch.context() as meanwhile:
        kind = argparse.Namespace if "argparse" in place else dictionary_of_lightning(place, meanwhile)
        outer = dictionary_of_lightning(SAVED_AS[0], meanwhile) if "argparse" in place else kind
        torch.save(checkpoint(module, {"conf": outer(sizes=kind(inputs=3, units=9)), "lr": 0.2}), "last.ckpt")
    require_equal(imported("Nested"), module)


@pytest.mark.parametrize("key", ["hyper_parameters", "hparams"])
@pytest.mark.parametrize("kind", [dict, argparse.Namespace])
def test_one_argument_may_take_them_all(training: ModuleType, key: str, kind: Any) -> None:
    module = trained(training.RobotPolicy, 3, 9)
    torch.save(checkpoint(module, **{key: kind(**ARGUMENTS)}, hparams_name="hparams"), "last.ckpt")
    require_equal(imported("OneArgument"), module)


def test_a_class_that_needs_no_arguments_takes_a_bare_state_dict(training: ModuleType) -> None:
    module = trained(training.Usual)
    torch.save(module.state_dict(), "last.ckpt")
    require_equal(imported("Usual"), module)
    assert len(import_from_factory("training_of_robots:Usual").model) == 3


def refused(spec: str, path: str | None = "last.ckpt") -> str:
    with pytest.raises(BadInput) as caught:
        import_from_factory(f"training_of_robots:{spec}", weights=path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_arguments_are_named_with_what_to_do(training: ModuleType) -> None:
    advice = "write a function that returns RobotPolicy(inputs=..., units=...) and name that: training_of_robots:make"
    module = training.RobotPolicy(3, 9)
    torch.save(checkpoint(module, {"lr": 0.1}), "last.ckpt")
    said = refused("RobotPolicy")
    assert "the hyper_parameters of last.ckpt do not say inputs, units, which its constructor needs" in said
    assert advice in said
    torch.save(module.state_dict(), "last.ckpt")
    said = refused("RobotPolicy")
    assert "last.ckpt holds no hyper_parameters that say inputs, units" in said
    assert advice in said
    said = refused("RobotPolicy", None)
    assert "no checkpoint is given (--weights FILE)" in said
    assert advice in said


def test_what_does_not_fit_is_refused_in_one_line(training: ModuleType) -> None:
    module = training.RobotPolicy(3, 9)
    whole = checkpoint(module, {"inputs": 3, "units": 9})
    state = whole["state_dict"]
    for change, words in (
        ({"hyper_parameters": {"inputs": 3, "units": 10}}, "does not fit the factory's model .*size mismatch"),
        ({"state_dict": {name: v for name, v in state.items() if name != "0.bias"}}, "does not fit .*0.bias"),
        ({"state_dict": {**state, "more": torch.ones(1)}}, "does not fit .*more"),
        ({"hyper_parameters": [3, 9]}, "its hyper_parameters are a list, not arguments by name"),
        ({"hyper_parameters": {3: 9}}, "its hyper_parameters are a dict, not arguments by name"),
        ({"hyper_parameters": {"inputs": "three", "units": 9}}, "its constructor raised TypeError"),
        ({"state_dict": {}}, r"last\.ckpt: (holds|does not fit)"),
    ):
        torch.save({**whole, **change}, "last.ckpt")
        assert re.search(words, refused("RobotPolicy")), change
    torch.save(checkpoint(module, {"units": 9}), "last.ckpt")
    assert "'training_of_robots:Failing': its constructor raised ValueError: two lines" in refused("Failing")


class Hostile:
    ran = False

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("from tests.test_hyper_parameters import Hostile; Hostile.ran = True",)


class Built(argparse.Namespace):
    """A namespace of another class: that class could do anything with what it is given."""


@pytest.mark.parametrize("value", [Hostile(), argparse.Namespace(a=Hostile()), Built(a=1), Hostile, torch.nn.Tanh()])
def test_hyper_parameters_open_no_door(training: ModuleType, value: Any) -> None:
    module = training.RobotPolicy(3, 9)
    torch.save(checkpoint(module, {**ARGUMENTS, "value": value}), "last.ckpt")
    made = len(training.MADE)
    assert "holds pickled Python objects, and loading those runs code" in refused("RobotPolicy")
    assert len(training.MADE) == made
    assert not Hostile.ran


def test_a_function_gets_no_arguments_as_ever(training: ModuleType) -> None:
    module = trained(training.RobotPolicy, 3, 8)
    torch.save(checkpoint(module, {"inputs": 5, "units": 6}), "last.ckpt")
    require_equal(imported("make"), module)


def test_the_policy_is_the_module_and_compiles(training: ModuleType, tmp_path: Path) -> None:
    """The command line from a class and its checkpoint to C; the policy is that of the module itself, bit for bit."""
    module = trained(training.RobotPolicy, 3, 9)
    torch.save(checkpoint(module, {**ARGUMENTS}), "last.ckpt")
    with pytest.warns(UserWarning, match="left out: lr"):
        result = CliRunner().invoke(cli, [
            "import", "training_of_robots:RobotPolicy", "--weights", "last.ckpt", "--input-range", "-1", "1", "--dt",
            "1", "1", "-o", "policy.safetensors"])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("3 inputs, 2 outputs, layers dense, activation, ltc\n")
    policy, direct = read_policy("policy.safetensors"), save(module, "direct.safetensors", input_range=(-1, 1), dt=1.0)
    assert policy.compared == direct.compared == "forward"
    np.testing.assert_array_equal(policy.layers[2].cm, direct.layers[2].cm)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(policy.layers[0].weight, direct.layers[0].weight)  # type: ignore[attr-defined]
    words = ["compile", "policy.safetensors", "--quant", "float32", "--steps", "20", "-o", "b"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "b" / "policy.c").stat().st_size > 1000
