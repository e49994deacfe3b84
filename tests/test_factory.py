"""Models from the user's own factory and weights files; pickles only when they are trusted."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.errors import BadInput
from ncpc.frontend.factory import import_from_factory, read_checkpoint, read_model, read_weights
from ncpc.ir.policy import Ltc

torch = pytest.importorskip("torch")
LTC = pytest.importorskip("ncps.torch").LTC
save_file = pytest.importorskip("safetensors.torch").save_file

FACTORY = '''
import torch
from ncps.torch import LTC
from ncps.wirings import AutoNCP


class Pilot(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = LTC(3, AutoNCP(8, 2, seed=5))
        self.head = torch.nn.Linear(2, 1)


class makers:
    @staticmethod
    def cell():
        return LTC(3, AutoNCP(8, 2, seed=5))


cell = makers.cell


def layers():
    return [torch.nn.Linear(4, 3), cell()]


def pilot():
    made = Pilot()
    return made, [made.rnn, made.head]


def broken():
    raise ValueError("two\\nlines")


number = 3


def numbers():
    return number
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a module ``training.py`` in it."""
    (tmp_path / "training.py").write_text(FACTORY)
    (tmp_path / "unimportable.py").write_text("import no_such_library")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "training", raising=False)
    return tmp_path


def refused(spec: str, **options: Any) -> str:
    with pytest.raises(BadInput) as caught:
        import_from_factory(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def trained(spec: str) -> tuple[Any, dict[str, Any]]:
    """The factory's weight owner with other weights than a fresh one has, and its state_dict."""
    made = import_from_factory(spec).model
    owner = torch.nn.ModuleList(made) if isinstance(made, list) else made
    for p in owner.parameters():
        p.data += 0.05 * p.requires_grad
    return owner, owner.state_dict()


@pytest.mark.parametrize("spec", ["training:cell", "training:makers.cell", "training:layers"])
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "nested.pt"])
def test_weights_are_loaded_into_what_the_factory_makes(here: Path, spec: str, suffix: str) -> None:
    _, state = trained(spec)
    path = here / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if suffix == "nested.pt" else state, path)
    model = import_from_factory(spec, weights=path).model
    policy = ncpc.save(model, here / "p.safetensors", input_range=(-1, 1))
    cell = policy.layers[-1]
    assert isinstance(cell, Ltc)
    key = next(k for k in state if k.endswith("vleak"))
    assert np.array_equal(cell.vleak, state[key].double().numpy())


def test_a_pair_says_whose_weights_and_which_order(here: Path) -> None:
    import_from_factory("training:pilot")
    owner = sys.modules["training"].Pilot()
    owner.head.weight.data[:] = 7
    torch.save(owner.state_dict(), here / "w.pt")
    found = import_from_factory("training:pilot", weights="w.pt")
    rnn, head = found.model
    assert isinstance(found.like, sys.modules["training"].Pilot)
    assert isinstance(rnn, LTC)
    assert head.weight.data.eq(7).all()


def test_the_current_folder_is_on_the_path_only_meanwhile(here: Path) -> None:
    before = list(sys.path)
    import_from_factory("training:cell")
    assert sys.path == before


@pytest.mark.parametrize(("spec", "words"), [
    ("training", "not a factory; write package.module:function"),
    (":cell", "not a factory"),
    ("no_such_module:f", "importing no_such_module failed (ModuleNotFoundError"),
    ("unimportable:f", "importing unimportable failed (ModuleNotFoundError: No module named 'no_such_library')"),
    ("training:nothing", "training has no 'nothing'"),
    ("training:number", "'number' is not a function"),
    ("training:broken", "the factory raised ValueError: two lines"),
])
def test_bad_factories_are_refused_in_one_line(here: Path, spec: str, words: str) -> None:
    assert words in refused(spec)


def test_weights_that_do_not_fit_are_refused(here: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), here / "w.pt")
    assert "w.pt: does not fit the factory's model (RuntimeError" in refused("training:cell", weights="w.pt")
    assert "the factory returned a int, which cannot hold weights" in refused("training:numbers", weights="w.pt")


class Whole(torch.nn.Module):
    """A module that can only be pickled with its class."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = LTC(2, 3)


RAN: list[str] = []


class Hostile:
    def __reduce__(self) -> Any:
        return RAN.append, ("code ran",)


def test_pickled_modules_are_refused_unless_trusted(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    model = LTC(2, 3)
    torch.save(model, path)
    with pytest.raises(BadInput, match=r"holds pickled Python objects.*trust_pickle=True \(--trust-pickle\)") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    loaded = read_checkpoint(path, trust_pickle=True)
    assert isinstance(loaded, LTC)
    assert torch.equal(loaded.rnn_cell.w, model.rnn_cell.w)
    assert set(read_weights(path, trust_pickle=True)) == set(model.state_dict())


def test_refusing_a_pickle_runs_none_of_it(tmp_path: Path) -> None:
    torch.save({"a": Hostile()}, tmp_path / "m.pt")
    with pytest.raises(BadInput, match="holds pickled Python objects"):
        read_checkpoint(tmp_path / "m.pt")
    assert RAN == []


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize(("content", "message"), [
    *[(content, "not a readable (torch checkpoint|safetensors file)") for content in (b"", b"garbage", b"PK\x03\x04")],
    (b"\x80\x02.", "a pickle; loading one runs code"),
])
def test_unreadable_weights_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=rf"w\.\w+: {message}") as caught:
        read_weights(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("old", [True, False])
def test_names_at_length_are_refused_before_torch_looks_for_them(old: bool, tmp_path: Path) -> None:
    """Half a megabyte would take torch's message a quarter of an hour."""
    path = tmp_path / "weights.pt"
    torch.save(torch.nn.Linear(2, 3).state_dict(), path, _use_new_zipfile_serialization=not old)
    assert len(read_weights(path)) == 2
    long = b"\x80\x02c" + b"t" * (1 << 19) + b"\nname\n."
    if old:
        path.write_bytes(long)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights/data.pkl", long)
    refused = "a pickle; loading one runs code" if old else (
        "not a readable torch checkpoint; it is truncated or of another kind")
    with pytest.raises(BadInput, match=refused):
        read_weights(path)


def test_truncated_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(LTC(2, 3).state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(BadInput, match="not a readable torch checkpoint"):
        read_weights(path)


@pytest.mark.parametrize("content", [torch.ones(3), {}, {"a": 1}, {"state_dict": {"a": "b"}}])
def test_files_without_a_state_dict_are_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="holds no state_dict"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(BadInput, match="no such file"):
        read_weights(tmp_path / "none.pt")


# --- what a command line names ----------------------------------------------------------------------------------------


OPTIONS = {"implicit_param_constraints": True, "unfolds": 6, "epsilon": 1e-8}


def test_a_command_lines_source_is_a_factory_a_state_dict_or_a_trusted_pickle(here: Path) -> None:
    model, state = trained("training:cell")
    save_file(state, here / "w.safetensors")
    torch.save(model, here / "whole.pt")
    found = [
        read_model("training:cell", weights="w.safetensors", unfolds=None),
        read_model("w.safetensors", **OPTIONS),
        read_model("whole.pt", trust_pickle=True),
    ]
    policies = [ncpc.save(one.model, here / "p.safetensors", input_range=(-1, 1)) for one in found]
    vleak = [policy.layers[0].vleak for policy in policies]  # type: ignore[attr-defined]
    assert all(np.array_equal(v, state["rnn_cell.vleak"].double().numpy()) for v in vleak)


def test_a_command_lines_options_without_effect_are_refused(here: Path) -> None:
    torch.save(LTC(2, 3), here / "whole.pt")
    for source, options, words in [
        ("training:cell", {"unfolds": 6}, "leave out unfolds"),
        ("whole.pt", {"trust_pickle": True, "epsilon": 0.0}, "leave out epsilon"),
        ("whole.pt", {"weights": "w.pt"}, "takes no further weights"),
        ("whole.pt", {}, "holds pickled Python objects"),
        ("no_such_file.pt", {}, "no such file"),
    ]:
        with pytest.raises(BadInput, match=words):
            read_model(source, **options)  # type: ignore[arg-type]


def test_a_state_dict_without_its_options_is_refused(here: Path) -> None:
    torch.save(LTC(2, 3).state_dict(), here / "w.pt")
    with pytest.raises(BadInput, match="does not say implicit_param_constraints, unfolds, epsilon"):
        read_model("w.pt", unfolds=None)
