"""w8a16: roundings that make up for each other, scales per row and per neuron, and what that is worth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ncpc
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import Container
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.passes.weight_rows import row_fractions
from ncpc.proofs.errors.certify import certify
from ncpc.quant import matrix_rounding
from ncpc.quant.calibrate import formats_from_json, stored
from ncpc.quant.compensate import compensated, ridged
from ncpc.quant.ltc_rounding import equalizing, scaled
from ncpc.quant.policy import quantize
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions
from ncpc.verification.sequences import suite
from tests.conftest import RequireTool
from tests.nets import random_policy

SCHEME: Any = "w8a16"
CARTPOLE = Path(__file__).parent.parent / "examples" / "cartpole" / "policy.safetensors"


def cost(whole: np.ndarray, weights: np.ndarray, hessian: np.ndarray) -> float:
    error = whole - weights
    return float(error @ hessian @ error)


def test_one_weight_takes_what_another_lost() -> None:
    """Two signals that are always equal: rounded alone both weights become 0; together their sum is kept."""
    alike = ridged(np.ones((2, 2)))
    assert compensated(np.array([[0.4, 0.4]]), (np.full(2, -7.0), np.full(2, 7.0)), alike).sum() == 1


@given(seed=st.integers(0, 10_000), width=st.integers(1, 12))
@example(seed=679, width=10)  # where what the first weights lose is more than the last ones can make up for
@settings(max_examples=80)
def test_roundings_together_cost_no_more_than_each_by_itself(seed: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(40, width)) @ rng.normal(size=(width, width))
    hessian, weights = ridged(signals.T @ signals), rng.uniform(-7, 7, (3, width))
    ends = np.full(width, -7.0), np.full(width, 7.0)
    whole = compensated(weights, ends, hessian)
    assert np.abs(whole).max() <= 7
    for row, own in zip(whole, weights, strict=True):
        assert cost(row, own, hessian) <= cost(np.floor(own + 0.5), own, hessian) * (1 + 1e-9) + 1e-9


@given(seed=st.integers(0, 10_000))
def test_integers_stay_what_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = rng.integers(-127, 128, (2, 6))
    signals = rng.normal(size=(9, 6))
    ends = np.full(6, -127.0), np.full(6, 127.0)
    assert (compensated(whole.astype(float), ends, ridged(signals.T @ signals)) == whole).all()


@pytest.mark.parametrize("hessian", [np.full((2, 2), np.inf), np.full((2, 2), np.nan), np.ones((2, 2)),
                                     np.diag([1.0, 1e-320])])
def test_costs_that_say_nothing_leave_each_weight_to_itself(hessian: np.ndarray) -> None:
    assert compensated(np.array([[0.4, 9.7]]), (np.full(2, -7.0), np.full(2, 7.0)), hessian).tolist() == [[0, 7]]


@given(seed=st.integers(0, 10_000), bits=st.integers(2, 16))
def test_a_rows_scale_is_the_finest_that_holds_it(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(4, 5)) * np.exp2(rng.uniform(-3, 3, (4, 1)))
    rows, top = np.broadcast_to(np.arange(4)[:, None], (4, 5)), (1 << (bits - 1)) - 1
    fracs = row_fractions(weights, rows, bits)
    for row in range(4):
        most = np.abs(weights[row]).max()
        assert np.floor(most * 2.0 ** fracs[row, 0] + 0.5) <= top
        assert np.floor(most * 2.0 ** (fracs[row, 0] + 1) + 0.5) > top


def test_a_neurons_gain_changes_nothing_over_the_reals() -> None:
    policy = random_policy(3)
    layer = policy.layers[0]
    assert isinstance(layer, Ltc)
    gain = np.random.default_rng(0).uniform(1.0, 50.0, layer.neurons)
    changed = dataclasses.replace(policy, layers=(scaled(layer, gain),))
    data = suite(policy, 300, not policy.dt.fixed)
    np.testing.assert_allclose(run(lower(changed), data).y, run(lower(policy), data).y, rtol=0, atol=1e-12)
    assert (equalizing(layer) >= 1.0).all()
    assert np.log2(equalizing(layer)).astype(int).tolist() == np.log2(equalizing(layer)).tolist()


def built(policy: Policy) -> Any:
    return lower_for(Container(policy), CompileOptions(quant=SCHEME, dt=policy.dt.mode)).lowered


def calibrated(layers: Any) -> Policy:
    """A policy of four inputs with random walks as its calibration."""
    rng = np.random.default_rng(0)
    walks = Sequences(np.clip(np.cumsum(rng.uniform(-1, 1, (4, 80, 4)), axis=1) * 0.3, -1, 1))
    return Policy("net", layers, np.tile([-1.0, 1.0], (4, 1)), calibration=walks)


@pytest.mark.parametrize("family", ["cfc", "cfc_silu", "wired_cfc", "lstm", "gru", "ct_gru", "lrc", "mixed_cfc"])
def test_every_family_errs_less_than_one_in_a_hundred(family: str, require_tool: RequireTool) -> None:
    """With its proof; and the weights take 8 bits."""
    require_tool("brevitas")
    torch, ncps, wirings = (require_tool(name) for name in ("torch", "ncps.torch", "ncps.wirings"))
    import ncpc.cells as cells
    from ncpc.frontend.ncps_torch import import_model

    torch.manual_seed(3)
    model = {
        "cfc": lambda: ncps.CfC(4, 12, backbone_units=24), "lstm": lambda: torch.nn.LSTM(4, 12),
        "cfc_silu": lambda: ncps.CfC(4, 12, activation="silu", backbone_units=24), "gru": lambda: torch.nn.GRU(4, 12),
        "wired_cfc": lambda: ncps.CfC(4, wirings.AutoNCP(20, 3)), "ct_gru": lambda: cells.CtGru(4, 8, scales=4),
        "lrc": lambda: cells.LRC(4, 10), "mixed_cfc": lambda: ncps.CfC(4, 8, mixed_memory=True, backbone_units=16),
    }[family]()
    policy = calibrated(import_model(model).layers)
    lowered, data = built(policy), suite(policy, 1000, False)
    want = run(lowered.real, data).y
    error = np.abs(run(lowered.program, data).y - want).max() / np.ptp(want)
    assert lowered.proved
    assert error <= SCHEMES[SCHEME].tolerance, error
    narrow = [data.size for value, data in lowered.program.constants.values() if getattr(value.type, "bits", 0) == 8]
    assert sum(narrow) >= 0.4 * sum(data.size for layer in policy.layers for data in vars(layer).values()
                                    if isinstance(data, np.ndarray) and data.ndim == 2)


def test_rounding_together_is_worth_it(require_tool: RequireTool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows, each weight rounded by itself, err more."""
    require_tool("brevitas")
    torch, ncps = require_tool("torch"), require_tool("ncps.torch")
    from ncpc.frontend.ncps_torch import import_model

    torch.manual_seed(3)
    policy = calibrated(import_model(ncps.CfC(4, 16)).layers)
    data = suite(policy, 1000, False)

    def error() -> float:
        lowered = built(policy)
        return float(np.sqrt(np.mean((run(lowered.program, data).y - run(lowered.real, data).y) ** 2)))

    together = error()
    monkeypatch.setattr(matrix_rounding, "LARGEST", 0)
    assert together < 0.7 * error()


@pytest.mark.parametrize(("change", "words"), [
    (lambda held: held["0"].pop("w"), "integers of w are needed and none are there"),
    (lambda held: held["0"].update(w=held["0"]["w"][1:]), "integers of w are needed"),
    (lambda held: held.clear(), "layer 0 has no integers"),
])
def test_stored_integers_that_do_not_fit_are_refused(change: Any, words: str, require_tool: RequireTool) -> None:
    require_tool("brevitas")
    policy = random_policy(1)
    formats = dict(lower_for(Container(policy), CompileOptions(quant=SCHEME, dt=policy.dt.mode)).formats or {})[SCHEME]
    change(formats["integers"])
    held = formats_from_json(formats)
    with pytest.raises(BadInput, match=words):
        quantize(policy, SCHEME, policy.dt.mode, held.dead_band, stored(held))


def test_error_certificates_say_that_they_do_not_cover_it(require_tool: RequireTool) -> None:
    require_tool("brevitas")
    policy = random_policy(1)
    with pytest.raises(Unsupported, match="compile with --quant int16"):
        certify(policy, built(policy).program)


def test_cartpole_is_smaller_and_no_slower_than_in_16_bits(tmp_path: Path, require_tool: RequireTool) -> None:
    """On a Cortex-M4: at most 0.8 of the flash, no more cycles, within 1 %, its certificate checked; and smaller again
    with weights of 4 bits.
    """
    for tool in ("brevitas", "ziglang", "unicorn"):
        require_tool(tool)
    outcomes = {scheme: ncpc.compile(CARTPOLE, tmp_path / scheme, target="cortex-m4", quant=scheme, steps=400)
                for scheme in ("int16", SCHEME, "w4a16")}
    smallest = outcomes["w4a16"].report
    assert outcomes["w4a16"].holds
    assert smallest["extra"]["certificate"]["certified"]
    wide, narrow = (outcomes[scheme].report for scheme in ("int16", SCHEME))
    assert outcomes[SCHEME].holds
    assert narrow["memory"]["flash_bytes"] <= 0.8 * wide["memory"]["flash_bytes"]
    assert smallest["memory"]["flash_bytes"] <= 0.92 * narrow["memory"]["flash_bytes"]
    assert narrow["cycles"]["upper"]["max"] <= wide["cycles"]["upper"]["max"]
    assert max(part["max_range"] for part in narrow["data"]) <= 0.01
    again = ncpc.compile(tmp_path / SCHEME / "policy.safetensors", tmp_path / "again", target="cortex-m4",
                         quant=SCHEME, steps=400)
    for name in ("cartpole.c", "cartpole.h"):
        assert (again.folder / name).read_bytes() == (tmp_path / SCHEME / name).read_bytes()
