"""Fine-tuning of prepared modules: towards the float module, never to a worse end, the same again, on from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput, Unsupported
from ncpc.ir.sequences import Sequences
from ncpc.phases import Phases
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")
from ncpc import quant  # noqa: E402  (needs torch)
from ncpc.quant import twin_training  # noqa: E402
from ncpc.quant.held_weights import held_program, held_weights  # noqa: E402
from ncpc.quant.twin import finished, read_twin, require_twin, twin_of  # noqa: E402
from ncpc.quant.twin_run import detached, runner  # noqa: E402
from tests.twin_models import FAMILIES, inputs, model, outputs, told  # noqa: E402

BEGIN_NEAR = ("limbs", "observed")
"""One runs an LTC at several places, on the coarsest of their grids; the other makes much of little."""
QUICK = {"epochs": 2, "batch": 4, "window": 5, "rate": 2e-3}


def prepared(family: str = "gru", scheme: str = "int8") -> Any:
    return quant.prepare(model(family), scheme, **told(family))


def sequences(family: str = "gru", rows: int = 10, steps: int = 12) -> np.ndarray:
    x: np.ndarray = inputs(family, rows, steps).double().numpy()
    return x


def weights(module: Any) -> list[Any]:
    return [p.detach().clone() for p in module.parameters()]


def test_the_error_on_what_is_held_out_falls() -> None:
    module = prepared("gru", "w4a16")
    tuning = quant.fine_tune(module, sequences("gru", 20), epochs=8, batch=4, window=6, rate=1e-3)
    assert tuning.errors[tuning.best] < 0.9 * tuning.errors[0]
    assert len(tuning.losses) == 8 * 4 * 2 or len(tuning.errors) < 9


def test_it_never_ends_worse_than_it_began() -> None:
    """At a rate at which everything is spoilt the start is what remains, and training ends early."""
    module = prepared()
    before, start = weights(module), outputs(module, inputs("gru"))
    tuning = quant.fine_tune(module, sequences(), epochs=9, batch=4, window=6, rate=3.0, patience=2)
    assert tuning.best == 0
    assert len(tuning.errors) == 3
    assert all(torch.equal(a, b) for a, b in zip(before, weights(module), strict=True))
    torch.testing.assert_close(outputs(module, inputs("gru")), start, rtol=0, atol=0)


@pytest.mark.parametrize("scheme", ["w8a16", "w4a16"])
@pytest.mark.parametrize("family", [pytest.param(family, marks=[] if family in ("dense", "gru", "ltc", "conv")
                                                 else [pytest.mark.slow])
                                    for family in FAMILIES if family not in BEGIN_NEAR])
def test_training_begins_at_what_the_compiler_made(family: str, scheme: str) -> None:
    """Weight by weight, rounded together: the twin's program holds what that of the float module holds."""
    module = quant.prepare(model(family), scheme, **told(family))
    twin = require_twin(module, family)
    wanted = held_weights(read_twin(twin, twin.plain)[1], scheme)
    (_, program), found = finished(module), held_weights(read_twin(twin, quant.finish(module))[1], scheme)
    for before, after in zip(wanted, found, strict=True):
        if before.where not in twin.left and before.raw.shape == after.raw.shape:  # zeros may leave a matrix
            np.testing.assert_allclose(after.raw * after.unit, before.raw * before.unit, rtol=1e-4, atol=1e-9,
                                       err_msg=before.where)
    rounded = held_program(read_twin(twin, twin.plain)[1], scheme)[0]
    x = inputs(family, 4, 10)
    flat = x.reshape(4, 10 if x.ndim == 3 else -1, rounded.x.value.shape[-1]).double().numpy()
    data = Sequences(flat, np.ones(flat.shape[:2]))
    y = run(rounded, data).y
    np.testing.assert_allclose(run(program, data).y, y, rtol=0, atol=2e-3 * np.ptp(y))


@pytest.mark.parametrize("family", ["gru", "ltc"])
def test_the_same_seed_gives_the_same_weights(family: str) -> None:
    first, second, other = (prepared(family) for _ in range(3))
    found = [quant.fine_tune(module, sequences(family), seed=seed, **QUICK)
             for module, seed in ((first, 3), (second, 3), (other, 4))]
    assert all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
    assert found[0] == found[1]
    assert found[0].losses != found[2].losses


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut, again = prepared(), prepared(), prepared()
    options = {**QUICK, "epochs": 3}
    wanted = quant.fine_tune(whole, sequences(), **options)
    epoch, done = twin_training._epoch, []

    def twice(*args: Any) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        epoch(*args)

    monkeypatch.setattr(twin_training, "_epoch", twice)
    with pytest.raises(KeyboardInterrupt):
        quant.fine_tune(cut, sequences(), checkpoint=tmp_path / "c.pt", **options)
    monkeypatch.setattr(twin_training, "_epoch", epoch)
    found = quant.fine_tune(again, sequences(), checkpoint=tmp_path / "c.pt", **options)
    assert found == wanted
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))
    with pytest.raises(BadInput, match="of a training with another seed"):
        quant.fine_tune(prepared(), sequences(), checkpoint=tmp_path / "c.pt", **{**options, "seed": 1})
    (tmp_path / "c.pt").write_bytes(b"no file of torch")
    with pytest.raises(BadInput, match="is no checkpoint of a fine-tuning"):
        quant.fine_tune(prepared(), sequences(), checkpoint=tmp_path / "c.pt", **options)


@pytest.mark.parametrize("family", ["dense", "lstm", "wired cfc", "ltc", "functional", "actor", "limbs", "loop"])
def test_windows_carry_the_state(family: str) -> None:
    """What a module gives window by window is what it gives for the whole sequence; gradients end between them."""
    module, x = prepared(family), inputs(family, 2, 9)
    twin = twin_of(module)
    assert twin is not None
    run = runner(read_twin(twin, twin.plain)[0], twin.once, None, None)
    dt = x.new_ones(x.shape[:2])
    whole, _ = run(module, x, dt, None)
    state, parts = None, []
    for lo in (0, 4, 8):
        y, state = run(module, x[:, lo : lo + 4], dt[:, lo : lo + 4], state)
        state = detached(state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-6)


def test_the_mode_of_the_module_stays_and_phases_are_told() -> None:
    module, phases = prepared("dense").train(), Phases()
    quant.fine_tune(module, sequences("dense"), phases=phases, **QUICK)
    assert module.training
    assert list(phases.seconds) == ["fine-tune"]


@pytest.mark.parametrize(("x", "problem"), [
    (np.zeros((4, 20, 7)), "7"),
    (np.full((4, 20, 3), np.nan), "NaN|finite"),
    (np.zeros((2, 3, 3)), "6 steps are too few to hold some out; give at least 50"),
    (np.zeros(5), "shape"),
    ({"x": np.zeros((4, 20, 3)), "reset": np.eye(4, 20)}, "sequences with resets"),
])
def test_sequences_that_cannot_be_learned_from_are_refused(x: Any, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        quant.fine_tune(prepared("dense"), x)


@pytest.mark.parametrize(("given", "problem"), [
    ({"epochs": 0}, "epochs is 0"), ({"batch": 2.5}, "batch is 2.5"), ({"window": -1}, "window is -1"),
    ({"rate": 0.0}, "rate is 0"), ({"rate": float("nan")}, "rate is nan"),
])
def test_recipes_that_make_no_sense_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        quant.fine_tune(prepared("dense"), sequences("dense"), **given)


def test_what_was_not_prepared_is_refused() -> None:
    with pytest.raises(BadInput, match="was not made by"):
        quant.fine_tune(model("gru"), sequences())


def test_a_module_that_keeps_its_state_itself_is_refused() -> None:
    module = prepared()
    twin = twin_of(module)
    assert twin is not None
    with pytest.raises(Unsupported, match="keeps its state in attributes"):
        runner(read_twin(twin, twin.plain)[0], twin.once, None, "attributes")


@pytest.mark.slow
def test_a_row_of_the_committed_table_comes_again() -> None:
    """As near as other machines' float training is, whose sums have another order."""
    from benchmarks import qat_cells

    rows = json.loads(qat_cells.RESULT.read_text())["rows"]
    assert {row["cell"] for row in rows} == set(qat_cells.CELLS)
    held = next(row for row in rows if row["cell"] == "RNN")
    found = qat_cells.row("RNN", held["scheme"])
    for kind in ("rounded", "fine_tuned"):
        assert found[kind]["rms_over_range"] == pytest.approx(held[kind]["rms_over_range"], rel=0.2)
    for row in rows:  # of every kind, at 4 bits in both measures
        which = ("max_over_range", *(["rms_over_range"] if row["scheme"] == "w4a16" else []))
        assert all(row["fine_tuned"][name] < row["rounded"][name] for name in which), row
    assert found["fine_tuned"]["rms_over_range"] < found["rounded"]["rms_over_range"]
