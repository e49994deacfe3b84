"""``ncpc quantize``: compiling gives the integers that are shown; training goes on; what cannot be done is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("brevitas")
pytest.importorskip("ncps")
import ncpc
from ncpc.cli.commands import cli
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Interrupted, NcpcError, Unsupported
from ncpc.frontend.container import read_container, write_policy
from ncpc.frontend.ltc_module import ltc_module, with_weights_of
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.quant import twin_training
from ncpc.semantics.run import run
from tests.nets import random_policy

TRAINING = ["--fine-tune", "--epochs", "2", "--batch", "4", "--window", "6"]


def policy_with_data(seed: int = 1, rows: int = 6, **changes: Any) -> Policy:
    policy = random_policy(seed, neurons=5, inputs=2, outputs=1, **changes)
    lo, hi = policy.input_range.T
    x = lo + (hi - lo) * np.random.default_rng(seed).random((rows, 14, policy.inputs))
    return replace(policy, calibration=Sequences(x, np.full(x.shape[:2], policy.dt.nominal)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_policy(policy_with_data(), tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


def quantize(path: Path, *options: str, out: str = "q.safetensors") -> Any:
    done = CliRunner().invoke(cli, ["quantize", str(path), "-o", str(path.with_name(out)), *options],
                              standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.parametrize(("scheme", "own"), [("w8a16", "w8a16"), ("w8a8", "int8")])
def test_compiling_the_file_gives_the_integers_that_were_chosen(path: Path, scheme: str, own: str) -> None:
    record = json.loads(quantize(path, "--quant", scheme, "--json"))
    assert (record["scheme"], record["kept"], record["fine_tuned"]) == (own, "rounded", None)
    tensors = record["rounded"]["tensors"]
    assert {one["tensor"] for one in tensors} == {"w_s", "we_s", "sigma_s", "w", "we", "sigma"}
    assert {one["bits"] for one in tensors if not one["tensor"].startswith("sigma")} == {8}
    assert all(one["max_range"] >= one["rms_range"] > 0 for one in tensors)
    assert 0 < record["rounded"]["rms_range"] <= record["rounded"]["max_range"] < 0.2
    job = job_for(path.with_name("q.safetensors"), Request("cortex-m4"))
    assert job.options.quant == own
    stored = read_container(path.with_name("q.safetensors")).formats
    assert stored is not None
    assert lower_for(job.container, job.options).formats == stored


def test_a_file_without_integers_is_compiled_as_ever(path: Path) -> None:
    assert job_for(path, Request("cortex-m4")).options.quant == "int16"
    quantize(path, "--quant", "w8a16")
    assert job_for(path.with_name("q.safetensors"), Request("cortex-m4", "int16")).options.quant == "int16"


def test_fine_tuning_ends_no_worse_and_rounds_nothing_any_more(path: Path) -> None:
    record = json.loads(quantize(path, "--quant", "w4a16", "--json", *TRAINING, "--rate", "0.001"))
    training = record["training"]
    assert len(training["rms_range"]) == 3
    assert training["rms_range"][training["best"]] <= training["rms_range"][0]
    assert training["max_range"][training["best"]] <= training["max_range"][0]
    rounded, tuned = (record[key]["rms_range"] for key in ("rounded", "fine_tuned"))
    better = training["best"] > 0 and tuned < rounded
    assert record["kept"] == ("fine_tuned" if better else "rounded")
    if better:
        assert max(one["max_range"] for one in record["fine_tuned"]["tensors"]) < 1e-4
    shown = quantize(path, "--quant", "w4a16", *TRAINING, "--rate", "0.001", out="again.safetensors")
    assert "one rounding at a time" in shown
    assert path.with_name("again.safetensors").read_bytes() == path.with_name("q.safetensors").read_bytes()
    assert not list(path.parent.glob("*.pt"))


def test_an_interrupted_training_goes_on_and_ends_the_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize(path, "--quant", "w4a16", *TRAINING, out="whole.safetensors")
    epoch, done = twin_training._epoch, []

    def once(*args: Any) -> None:
        if done:
            raise KeyboardInterrupt
        done.append(1)
        epoch(*args)

    monkeypatch.setattr(twin_training, "_epoch", once)
    with pytest.raises(Interrupted, match=r"q\.safetensors\.tuning\.pt is kept, and the same command goes on"):
        quantize(path, "--quant", "w4a16", *TRAINING)
    assert not path.with_name("q.safetensors").exists()
    monkeypatch.setattr(twin_training, "_epoch", epoch)
    quantize(path, "--quant", "w4a16", *TRAINING)
    assert path.with_name("q.safetensors").read_bytes() == path.with_name("whole.safetensors").read_bytes()


@pytest.mark.parametrize(("x", "problem"), [
    (np.zeros((4, 20, 7)), "7 values"), (np.full((4, 20, 2), np.nan), "NaN|finite"),
    (np.zeros((2, 3, 2)), "too few to hold some out"), (np.zeros(5), "shape"),
])
def test_data_that_do_not_fit_are_named(path: Path, x: Any, problem: str) -> None:
    np.savez(path.with_name("data.npz"), x=x)
    with pytest.raises(BadInput, match=problem):
        quantize(path, "--calibrate", str(path.with_name("data.npz")), *TRAINING)
    assert not path.with_name("q.safetensors").exists()


@pytest.mark.parametrize(("options", "problem"), [
    (["--quant", "w17a16"], "w17a16"), (["--quant", "float32"], "float32"),
    (["--target", "nir", "--quant", "w8a16"], "w8a16"), (["--epochs", "3"], "it goes with --fine-tune"),
    (["--fine-tune", "--epochs", "0"], "0 is not in the range"), (["--target", "abacus"], "abacus"),
    (["--fine-tune", "--rate", "nan"], "no number above 0"),
])
def test_what_cannot_be_done_is_named(path: Path, options: list[str], problem: str) -> None:
    with pytest.raises(Exception, match=problem) as raised:
        quantize(path, *options)
    assert isinstance(raised.value, NcpcError) or type(raised.value).__module__.startswith("click")


def test_a_policy_that_cannot_be_trained_is_named(path: Path) -> None:
    write_policy(replace(policy_with_data(), calibration=None), path)
    with pytest.raises(BadInput, match="carries no calibration data to learn from"):
        quantize(path, *TRAINING)
    two = policy_with_data()
    (layer,) = two.layers
    assert isinstance(layer, Ltc)
    with pytest.raises(Unsupported, match="is no single LTC with the fused solver"):
        ltc_module(replace(two, layers=(replace(layer, solver="rk4"),)))


def test_the_module_of_a_policy_is_the_policy() -> None:
    policy = policy_with_data(3)
    again = with_weights_of(policy, ltc_module(policy))
    assert policy.calibration is not None
    np.testing.assert_allclose(run(lower(again), policy.calibration).y, run(lower(policy), policy.calibration).y,
                               rtol=0, atol=2e-6)


def test_help_has_examples() -> None:
    said = CliRunner().invoke(cli, ["quantize", "--help"]).output
    assert "ncpc quantize policy.safetensors -o small.safetensors --quant w4a16 --fine-tune" in said
    assert ncpc.__name__ in said


def test_outputs_that_never_move_have_no_range_to_err_in(path: Path) -> None:
    still = policy_with_data()
    layer = still.layers[0]
    assert isinstance(layer, Ltc)
    flat = replace(layer, output_w=np.zeros_like(layer.output_w))
    write_policy(replace(still, layers=(flat,)), path)
    with pytest.raises(BadInput, match="outputs are the same at every step"):
        quantize(path)
    assert not path.with_name("q.safetensors").exists()


def test_the_command_that_compiles_it_names_its_target(path: Path) -> None:
    assert "--target cortex-m4 --quant w8a16" in quantize(path, "--target", "cortex-m4")
