"""How finely integers hold what one layer hands to the next: no bit is lost to the way in which bounds are kept."""

from __future__ import annotations

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.ir.gated import Cfc
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Policy
from ncpc.ir.program import Program, statements, values
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.proofs.prove import prove
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions, Lowered

pytest.importorskip("brevitas")

INPUTS, WIDTH = 4, 12


def dense(rng: np.random.Generator, inputs: int, outputs: int) -> Dense:
    return Dense(rng.normal(size=(outputs, inputs)) / np.sqrt(inputs), rng.normal(size=outputs) * 0.1)


def smooth(seed: int, inputs: int = INPUTS) -> Sequences:
    """Sums of slow waves within -1 .. 1, (6, 80, inputs)."""
    rng, t = np.random.default_rng(seed), np.arange(80)[None, :, None, None]
    waves = np.sin(rng.uniform(0.02, 0.4, (6, 1, inputs, 2)) * t + rng.uniform(0, 6.3, (6, 1, inputs, 2)))
    return Sequences(waves.mean(axis=3), np.ones((6, 80)))


def lowered(*layers: Layer, data: Sequences | None = None, ranges: np.ndarray | None = None) -> Lowered:
    """In int16, calibrated on ``data``."""
    known = np.tile([-1.0, 1.0], (layers[0].inputs, 1)) if ranges is None else ranges
    policy = Policy("net", layers, known, DtRange(), calibration=data or smooth(0))
    return lower_for(Container(policy, None), CompileOptions(quant="int16", dt="fixed")).lowered


def fraction_of(program: Program, name: str) -> int:
    kind = values(program)[name].type
    assert isinstance(kind, Fixed)
    return kind.frac


def error_of(built: Lowered, data: Sequences) -> float:
    """The largest error, by the output range."""
    want, got = run(built.real, data).y, run(built.program, data).y
    return float(np.abs(want - got).max() / np.ptp(want))


def test_a_relu_hands_on_at_its_inputs_fraction() -> None:
    rng = np.random.default_rng(0)
    first, second = dense(rng, INPUTS, WIDTH), dense(rng, WIDTH, 2)
    program = lowered(first, Activation("relu", WIDTH), second).program
    assert fraction_of(program, "relu_out") == fraction_of(program, "dense_y_out") == 13


def test_inputs_of_several_fractions_meet_at_the_coarsest() -> None:
    """2.5 has 13 bits of fraction and 1.9 has 14; neither channel's range reaches a power of two at 13."""
    ranges = np.array([[-3.999, 3.999], [-1.9, 1.9]])
    data = Sequences(smooth(0, 2).x * ranges[:, 1], np.ones((6, 80)))
    program = lowered(dense(np.random.default_rng(0), 2, 2), data=data, ranges=ranges).program
    assert program.x.fracs == (13, 14)
    assert fraction_of(program, "x_aligned") == 13
    assert "x_16" not in values(program) or fraction_of(program, "x_16") == 13


def test_what_tables_hold_is_handed_on_with_15_bits_of_fraction() -> None:
    rng = np.random.default_rng(0)
    for function in ("tanh", "sigmoid"):
        program = lowered(dense(rng, INPUTS, WIDTH), Activation(function, WIDTH), dense(rng, WIDTH, 2)).program
        assert fraction_of(program, f"{function}_out") == 15


FUNCTIONS = ("silu", "gelu", "softplus", "hard_silu", "elu")
LARGEST = {"silu": 4e-4, "gelu": 5e-4, "softplus": 4e-4, "hard_silu": 4e-4, "elu": 2.5e-4}
PARAMETERS = {"hard_silu": (1 / 6,), "elu": (1.0, 1.0)}


def mlp(function: str, seed: int) -> tuple[Layer, ...]:
    rng, curve = np.random.default_rng(seed), Activation(function, WIDTH, PARAMETERS.get(function, ()))
    return dense(rng, INPUTS, WIDTH), curve, dense(rng, WIDTH, WIDTH), curve, dense(rng, WIDTH, 2)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_smooth_functions_cost_no_more_than_the_formats_around_them(function: str) -> None:
    """Their arguments are 32-bit sums and their results as little below 0 as they truly reach."""
    assert max(error_of(lowered(*mlp(function, seed)), smooth(seed + 9)) for seed in range(3)) < LARGEST[function]


@pytest.mark.parametrize(("function", "least"), [("silu", -0.2785), ("gelu", -0.17), ("hard_silu", -0.375)])
def test_bounds_know_how_far_below_0_a_function_reaches(function: str, least: float) -> None:
    program = lowered(*mlp(function, 0)).program
    out = next(name for name in values(program) if name.startswith(function) and name.endswith("_out"))
    found = prove(program).intervals[out].lo * 2.0 ** -fraction_of(program, out)
    assert least - 1e-2 < found.min() <= least + 1e-3


@pytest.fixture(scope="module")
def behind_silu() -> Lowered:
    """A CfC reads what SiLU gives, from -0.28 to several."""
    return lowered(*silu_cfc(np.random.default_rng(2)))


def silu_cfc(rng: np.random.Generator) -> tuple[Layer, ...]:
    steep, backbone = dense(rng, INPUTS, WIDTH), dense(rng, 2 * WIDTH, 3 * WIDTH)
    heads = (dense(rng, 3 * WIDTH, WIDTH) for _ in range(4))
    cell = Cfc((backbone,), *heads, None, None, "default", "lecun_tanh", "tanh", ("motor",) * WIDTH,
               tuple(f"h_{k}" for k in range(WIDTH)))
    return (Dense(steep.weight * 3, steep.bias), Activation("silu", WIDTH), cell, dense(rng, WIDTH, 2),
            Activation("tanh", 2))


def test_a_cell_behind_silu_errs_no_more_than_its_formats_ask(behind_silu: Lowered) -> None:
    """1.7e-4; half a bit coarser throughout would be 2.4e-4."""
    assert max(error_of(behind_silu, smooth(seed)) for seed in (0, 9)) < 2.2e-4


def test_what_is_one_sided_is_read_less_its_centre(behind_silu: Lowered) -> None:
    """So it spans half as much, and has a bit of fraction more."""
    program = behind_silu.program
    (centred,) = [op for op in statements(program.body) if op.out.name.endswith("_centred")]
    found = prove(program).intervals
    less, before = found[centred.out.name], found[centred.args[0]].hi.max()
    assert max(less.hi.max(), -less.lo.min()) < 0.6 * before
    read = fraction_of(program, f"{centred.out.name}_16")
    assert before * 2.0 ** (read - fraction_of(program, centred.args[0])) > 2**15


def test_a_layer_is_bounded_by_what_the_one_before_gives_each_unit() -> None:
    """Units of very different size: the sums over them are bounded by theirs, not by 12 times the largest."""
    rng = np.random.default_rng(0)
    first = dense(rng, INPUTS, WIDTH)
    first = Dense(first.weight * np.geomspace(1.0, 0.2, WIDTH)[:, None], first.bias * 0)
    second = Dense(np.ones((2, WIDTH)) / 8, np.zeros(2))
    program = lowered(first, Activation("tanh", WIDTH), second).program
    total = [op.out.name for op in statements(program.body) if op.kind.startswith("matmul")][-1]
    reach = np.abs(first.weight).sum(axis=1).clip(max=1.0).sum() / 8
    assert reach * 1.1 < 1.0 < WIDTH / 8
    proved = prove(program).intervals[total]
    assert max(proved.hi.max(), -proved.lo.min()) * 2.0 ** -fraction_of(program, total) < reach * 1.1


def test_an_output_that_moves_little_is_held_as_finely_as_that_asks() -> None:
    """Its weights could reach 2, and never do: the outputs of the data span 0.02."""
    rng = np.random.default_rng(0)
    first = dense(rng, INPUTS, WIDTH)
    pairs = np.tile([1.0, -1.0], WIDTH // 2)
    same = Dense(np.repeat(first.weight[::2], 2, axis=0), np.repeat(first.bias[::2], 2))
    second = Dense(np.stack([pairs / 4, pairs / 4]) + 0.01 * rng.normal(size=(2, WIDTH)), np.zeros(2))
    built = lowered(same, Activation("tanh", WIDTH), second)
    assert np.ptp(run(built.real, smooth(1)).y) < 0.2
    assert error_of(built, smooth(1)) < 1e-3
