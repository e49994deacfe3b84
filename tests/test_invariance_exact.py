"""The proof of the box accepts what its inequality accepts, to the unit; of any other update it says nothing.

The inequality is formed here once more, from the quantized layer instead of the program, one synapse at a time.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any

import numpy as np
import pytest

from ncpc.errors import ProofFailed
from ncpc.ir.policy import DtRange, Policy, Synapses
from ncpc.ir.program import Carry, Op, Program, Repeat, Value
from ncpc.ir.quantized import QuantizedLtc
from ncpc.ir.types import Fixed
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.proofs import division
from ncpc.proofs.invariance import CHUNK, Terms, Update, _conductance_range, _overshoot, lemmas
from ncpc.proofs.prove import _before_updates
from ncpc.proofs.ranges import Interval
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics import fixed
from tests.nets import random_policy

RANGE = DtRange(0.05, 20.0, 1.0)
POLICIES: dict[str, tuple[Policy, str, str, float]] = {
    "int16": (random_policy(3, neurons=3, inputs=2), "int16", "fixed", 1e-4),
    "int8": (random_policy(4, neurons=3, inputs=2, density=0.9), "int8", "fixed", 1e-4),
    "run-time dt": (random_policy(5, RANGE, neurons=3, inputs=2, density=0.8), "int16", "runtime", 1e-4),
    "slow": (random_policy(6, neurons=2, inputs=2, density=0.9, cm=np.full(2, 40.0)), "int16", "fixed", 1e-4),
    "quick": (random_policy(7, neurons=3, inputs=2, density=0.9, cm=np.zeros(3)), "int8", "fixed", 1e-4),
    "16-bit state": (random_policy(8, neurons=3, inputs=1, density=0.9), "int16", "fixed", np.inf),
    "many synapses": (random_policy(9, neurons=12, inputs=2, density=1.0), "int16", "fixed", 1e-4),
}


@cache
def made(name: str) -> tuple[Program, QuantizedLtc, np.ndarray]:
    """Program, layer, and all that the sigmoid's table returns."""
    policy, scheme, mode, stall = POLICIES[name]
    quantized = quantize(policy, scheme, mode, stall, Choices(largest_fractions))
    layer = quantized.layers[0]
    assert isinstance(layer, QuantizedLtc)
    every = fixed.lut(np.arange(128 * (len(quantized.table) - 1)), quantized.table, 7)
    return lower_fixed(policy, quantized), layer, np.unique(every)


def with_box(program: Program, box: np.ndarray) -> Program:
    return dataclasses.replace(program, states=(dataclasses.replace(program.states[0], box=box),))


def synapses(q: QuantizedLtc, neuron: int) -> Iterator[tuple[int, int, int, int]]:
    """Weights of conductance and current into a neuron, each with its shift."""
    for s in (q.sensory, q.recurrent):
        for post, w, we in zip(s.post, s.w, s.we, strict=True):
            if post == neuron:
                yield int(w), int(we), s.k_den, s.k_num


def overshoot(q: QuantizedLtc, table: np.ndarray, neuron: int, cm_t: int, width: int) -> int:
    lo, hi = int(table.min()), int(table.max())
    least, most = (int(q.gleak[neuron]) + sum(w * s >> k for w, _, k, _ in synapses(q, neuron)) for s in (lo, hi))
    step = Fraction(1, 2 ** (q.g - q.d))
    half = Fraction(1, 2) if q.g > q.d else 0
    error = 1 + division.excess()
    unit = Fraction(2) ** (46 + q.k_inverse - q.k_delta)  # of the quotient, in units of the state
    shares = [g * step / (cm_t + g * step - half) for g in (least, most)]
    scale = unit * Fraction(2) ** (q.g - q.d - (q.g + q.v.frac - q.n))
    beyond = max(error * scale * max(shares) - 1, Fraction(0))
    return ceil(beyond * width + error * unit / (cm_t + least * step - half) + Fraction(1, 2))


def pushed(q: QuantizedLtc, table: np.ndarray, neuron: int, level: int, sign: int) -> int:
    """The most that ``sign*N*2**m - G*level`` can be."""
    m = q.g + q.v.frac - q.n
    total = sign * int(q.leak[neuron]) * 2**m - int(q.gleak[neuron]) * level
    for w, we, k_den, k_num in synapses(q, neuron):
        total += int((sign * (we * table >> k_num) * 2**m - (w * table >> k_den) * level).max())
    return total


def allowed(name: str, neuron: int, row: tuple[int, int]) -> bool:
    """Whether the inequality holds for the neuron with this box."""
    program, q, table = made(name)
    lo, hi = row
    cm_t = int(q.cm_t[neuron]) if q.cm_t is not None else int(_before_updates(program)["cm_t"].lo[neuron])
    over, half = overshoot(q, table, neuron, cm_t, hi - lo), 2 ** (q.g + q.v.frac - q.n) // 2
    return (lo <= 0 <= hi and pushed(q, table, neuron, hi - over, 1) <= half
            and pushed(q, table, neuron, -(lo + over), -1) < half)


def narrowest(name: str, neuron: int, side: int) -> int:
    """The end nearest to 0 that still is allowed, the other one as it is."""
    box = np.asarray(made(name)[1].box, np.int64)[neuron]

    def fits(distance: int) -> bool:
        return allowed(name, neuron, (int(box[0]), distance) if side else (-distance, int(box[1])))

    inside, outside = abs(int(box[side])), -1
    assert fits(inside)
    while inside - outside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if fits(middle) else (inside, middle)
    return inside if side else -inside


def found(name: str, box: np.ndarray) -> dict[str, Interval]:
    program = with_box(made(name)[0], box)
    return lemmas(program, _before_updates(program))


CASES = [(name, neuron, side) for name, made_of in POLICIES.items() for side in (0, 1)
         for neuron in ((5, 11) if name == "many synapses" else range(made_of[0].layers[0].names.__len__()))]


@pytest.mark.parametrize(("name", "neuron", "side"), CASES)
def test_the_proof_accepts_the_narrowest_box_and_none_a_unit_narrower(name: str, neuron: int, side: int) -> None:
    box = np.asarray(made(name)[1].box, np.int64).copy()
    box[neuron, side] = narrowest(name, neuron, side)
    lemma = found(name, box)
    assert lemma["v_next"].lo.tolist() == box[:, 0].tolist()
    assert lemma["v_next"].hi.tolist() == box[:, 1].tolist()
    width = (box[:, 1] - box[:, 0]).tolist()
    assert (lemma["delta"].lo.tolist(), lemma["delta"].hi.tolist()) == ([-w for w in width], width)
    box[neuron, side] += -1 if side else 1
    bound = f"its {('lower', 'upper')[side]} bound {box[neuron, side]} "
    with pytest.raises(ProofFailed, match=f"^neuron n{neuron}: {bound}"):
        found(name, box)


def test_the_cases_reach_what_they_are_for() -> None:
    """Both widths of state, divisors with and without a shift, several chunks of synapses."""
    layers = {name: made(name)[1] for name in POLICIES}
    assert {q.v.bits for q in layers.values()} == {16, 32}
    assert {q.g > q.d for q in layers.values()} == {True, False}
    assert len(layers["many synapses"].recurrent.post) > CHUNK


def test_a_box_without_0_is_refused() -> None:
    """Reset puts every state to 0."""
    box = np.asarray(made("int16")[1].box, np.int64)
    for row, bound in (([1, 10**9], "lower bound 1 "), ([-(10**9), -1], "upper bound -1 ")):
        with pytest.raises(ProofFailed, match=f"neuron n0: its {bound}"):
            found("int16", np.array([row, *box[1:]]))


def test_a_state_without_a_box_is_refused() -> None:
    program = with_box(made("int16")[0], np.zeros((3, 2)))
    boxless = dataclasses.replace(program, states=(dataclasses.replace(program.states[0], box=None),))
    with pytest.raises(ProofFailed, match="state v: no box to check"):
        lemmas(boxless, {})


def changed(program: Program, name: str, **changes: Any) -> Program:
    """The program with one op changed, in its repeat or before."""
    def one(op: Any) -> Any:
        return dataclasses.replace(op, **changes) if isinstance(op, Op) and op.out.name == name else op

    body = tuple(dataclasses.replace(s, body=tuple(map(one, s.body))) if isinstance(s, Repeat) else one(s)
                 for s in program.body)
    assert str(body) != str(program.body)
    return dataclasses.replace(program, body=body)


OTHER_UPDATES: dict[str, tuple[str, dict[str, Any]]] = {
    "no sum": ("v_next", {"kind": "sub"}),
    "of another value": ("v_next", {"args": ("delta", "delta")}),
    "no product": ("delta", {"kind": "add"}),
    "no quotient": ("divisor_inverse", {"kind": "neg"}),
    "no difference": ("drive", {"kind": "add"}),
    "no pull": ("pull", {"kind": "mul"}),
    "a pull on another value": ("pull", {"args": ("den", "num")}),
    "no divisor": ("divisor", {"kind": "sub"}),
    "another divisor": ("g_d", {"args": ("num",)}),
}


@pytest.mark.parametrize("case", OTHER_UPDATES)
def test_of_another_update_nothing_is_assumed(case: str) -> None:
    program = next(made(name)[0] for name in POLICIES if made(name)[1].g > made(name)[1].d)
    known = _before_updates(program)
    assert set(lemmas(program, known)) == {"delta", "v_next"}
    name, changes = OTHER_UPDATES[case]
    assert lemmas(changed(program, name, **changes), known) == {}


@pytest.mark.parametrize(("name", "changes"), [
    ("den", {"kind": "add", "args": ("g", "g")}), ("num_s", {"args": ("i_s", "post_s")}),
    ("ws", {"kind": "add"}), ("s", {"kind": "asr"}),
])
def test_sums_of_another_form_are_refused(name: str, changes: dict[str, Any]) -> None:
    program = made("int16")[0]
    with pytest.raises(ProofFailed, match=r"not of the proved form|expected a sum over synapses"):
        lemmas(changed(program, name, **changes), _before_updates(program))


@pytest.mark.parametrize(("cm_t", "leak", "why"), [
    (10**9, -1, "its conductance can fall below 0"), (10**9, 0, None),
    (0, 0, "its divisor cm_t [+] G can fall below 1"), (1, 0, None),
])
def test_a_divisor_below_1_and_a_negative_conductance_are_refused(cm_t: int, leak: int, why: str | None) -> None:
    """Only a negative leak or weight, which no layer has, could bring a conductance below 0."""
    program, q, table = made("int16")
    assert q.g == q.d
    assert table.min() == 0
    known = _before_updates(program)
    value, gleak = program.constants["gleak"]
    constants = {**program.constants, "gleak": (value, np.array([leak, *gleak[1:]], gleak.dtype))}
    ends = np.array([cm_t, *known["cm_t"].lo[1:]])
    try:
        lemmas(dataclasses.replace(program, constants=constants), {**known, "cm_t": Interval(ends, ends)})
        message = ""
    except ProofFailed as error:
        message = str(error)
    assert re.search(f"^neuron n0: {why}", message) if why else "can fall below" not in message


def test_the_errors_of_the_division_are_the_worst_of_all_divisors() -> None:
    """A divisor that leads with m, from m up to but not m + 1, has the reciprocal r/2**31 of m."""
    m = np.arange(2**15, 2**16)
    r = fixed.recip(m << 15, np.zeros(len(m), np.int64))
    assert division.excess() == Fraction(int((r * (m + 1)).max()), 2**31) - 1
    assert division.shortfall() == 1 - Fraction(int((r * m).min()), 2**31)
    assert division.reciprocals() == (r.min(), r.max())


def bare_update(gleak: int, k_divisor: int, weights: tuple[int, ...] = ()) -> Update:
    """One neuron; its conductance is its leak and ``weight*s >> 1`` of each synapse, s from 1 to 9."""
    terms = Terms(np.zeros(len(weights), np.int64), np.array(weights, np.int64), 1, np.arange(1, 10))
    leak = np.array([gleak], np.int64)
    carry = Carry("v", Value("v_now", (), Fixed(32, 0)), "v_next", Value("v_end", (), Fixed(32, 0)))
    return Update(carry, "delta", leak, leak, (), (terms,), 8, 8 - k_divisor, k_divisor, "cm_t")


@pytest.mark.parametrize(("gleak", "k_divisor", "cm_t", "bound"), [
    (100, 3, 2, 3),  # 12.5 of at least 14, as G is rounded: a unit of the drive, 32/14, and a half
    (21, 1, 0, 64),  # 10.5 of 10: a 20th of 1000 too far, a unit of 128/10, and a half
    (95, 3, 0, 48),  # 11.875 of 11.375: 43.96, 32/11.375 and a half
    (7, 0, 0, 38),  # all of the way: the error of the reciprocal, 256/7 and a half
    (7, 0, 3, 27),  # 7 of 10: 256/10 and a half
])
def test_the_overshoot_is_what_the_divisor_allows(gleak: int, k_divisor: int, cm_t: int, bound: int) -> None:
    assert _overshoot(bare_update(gleak, k_divisor), 0, cm_t, 1000, "n0") == bound


def test_the_overshoot_counts_the_reciprocal_s_error_and_shifts_that_disagree() -> None:
    u, error = bare_update(7, 0), division.excess()
    half = Fraction(1, 2)
    assert _overshoot(u, 0, 0, 10**6, "n0") == ceil(error * 10**6 + (1 + error) * Fraction(256, 7) + half)
    unit = (1 + error) * Fraction(256, 14) + half
    for m, too_far in ((7, 1), (4, 8)):  # quotients of 2 and 16 times what they should be, half of the way
        u = dataclasses.replace(u, m=m)
        assert _overshoot(u, 0, 7, 10**6, "n0") == ceil(((1 + error) * too_far - 1) * 10**6 + unit)


def alone(leak: int) -> tuple[Program, int]:
    """A neuron without synapses that rests at ``2*leak``, its pull exact to half a unit; and its overshoot."""
    none = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)
    policy = random_policy(1, neurons=1, inputs=1, outputs=1, sensory=none, recurrent=none)
    quantized = quantize(policy, "int16", "fixed", 1e-4, Choices(largest_fractions))
    q = quantized.layers[0]
    assert isinstance(q, QuantizedLtc)
    layer = dataclasses.replace(q, gleak=np.array([1 << (q.g + q.v.frac - q.n) >> 1]), leak=np.array([leak]))
    assert layer.cm_t is not None
    program = lower_fixed(policy, dataclasses.replace(quantized, layers=(layer,)))
    return program, overshoot(layer, np.zeros(1), 0, int(layer.cm_t[0]), 1000)


def refused(program: Program, row: tuple[int, int]) -> str:
    """What is said against the box of one neuron; empty if nothing."""
    try:
        lemmas(with_box(program, np.array([row])), _before_updates(program))
    except ProofFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("side", "distance", "fits"), [
    (1, 101, True), (1, 99, False), (0, 101, False), (0, 103, True)])
def test_a_push_of_exactly_half_a_unit_is_allowed_upwards_alone(side: int, distance: int, fits: bool) -> None:
    """The pull is rounded half up: (N*2**m - G*v) / 2**m = 1/2 is no push at the upper end, and one at the lower."""
    program, over = alone(51 if side else -51)
    text = refused(program, (-500, distance + over) if side else (-distance - over, 500))
    assert text == "" if fits else f"its {('lower', 'upper')[side]} bound" in text


def test_of_a_box_that_ends_at_0_the_other_end_is_named() -> None:
    assert refused(alone(-51)[0], (-50, 0)) == "neuron n0: its lower bound -50 (raw) is not invariant"
    assert refused(alone(51)[0], (0, 50)) == "neuron n0: its upper bound 50 (raw) is not invariant"


@pytest.mark.parametrize("weights", [(), (3,), (40, 7)])
@pytest.mark.parametrize(("gleak", "k_divisor", "cm_t"), [
    (7, 0, 0), (7, 0, 3), (95, 3, 0), (100, 3, 2), (100, 3, 1000), (21, 1, 0), (10**6, 3, 5)])
def test_no_update_passes_its_rest_by_more_than_the_overshoot(
        gleak: int, k_divisor: int, cm_t: int, weights: tuple[int, ...]) -> None:
    """Every conductance, from every distance: the step's own divisor, the quotient exact."""
    least, most = (gleak + sum(w * s >> 1 for w in weights) for s in (1, 9))
    u, width = bare_update(gleak, k_divisor, weights), 5000
    assert _conductance_range(u, 0) == (least, most)
    moved = [Fraction(g, 2**k_divisor) / (cm_t + int(fixed.shr(np.array(g), k_divisor)))
             for g in range(least, most + 1)]
    assert _overshoot(u, 0, cm_t, width, "n0") >= max(0, max(moved) - 1) * width + Fraction(1, 2)
