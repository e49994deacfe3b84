"""The proved box of the integer LTC step: enumerated, attacked, and refused when it is too narrow."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpc.errors import ProofFailed
from ncpc.ir.policy import DtRange, Ltc, Policy, Synapses
from ncpc.ir.program import Op, Program, Repeat, State
from ncpc.ir.quantized import QuantizedLtc, QuantizedPolicy
from ncpc.ir.schemes import NumberScheme
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.proofs import division
from ncpc.proofs.prove import prove
from ncpc.quant import policy as quant_policy
from ncpc.quant.ltc import Demand, quantize_ltc
from ncpc.quant.ltc_rounding import GAIN_FRAC, LtcReading
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.quant.rounding import to_raw
from ncpc.semantics import fixed
from ncpc.semantics.run import Executor, run
from tests.nets import random_policy

NO_SYNAPSES = Synapses(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)


def tiny(policy: Policy, bits: int) -> tuple[Program, QuantizedPolicy]:
    """The policy with weights, inputs and state of ``bits`` bits, one unfold per step, proved."""
    layer = policy.layers[0]
    x = quant_policy.boundary(policy, NumberScheme("tiny", "integer", 1.0, "", bits, bits))
    incoming = quant_policy.Incoming(x.type, x.fracs, x.raw)
    timespans = quant_policy._timespans(policy, "fixed")
    demand = Demand(bits, 16, np.inf, bits)

    def nearest(reading: LtcReading) -> dict[str, np.ndarray]:
        """Each weight by itself; the proof does not ask why an integer is what it is."""
        whole = {name: to_raw(vector, reading.fracs[name]) for name, vector in reading.vectors.items()}
        return whole | {f"centre{tag}": np.zeros(len(one), np.int64) for tag, one in reading.sets} | {
            "gain": np.full(layer.neurons, 1 << GAIN_FRAC)}

    assert isinstance(layer, Ltc)
    q = quantize_ltc(layer, incoming, timespans, demand, lambda v, b: largest_fractions("0", v, b), nearest)
    table = quant_policy.sigmoid_table()
    quantized = QuantizedPolicy("int8", x.type, x.fracs, x.raw, x.range, x.note, None, None, table, (q,))
    return lower_fixed(policy, quantized), quantized


def step_all(program: Program, states: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """One step from every state with every input; the executor itself raises where an op overflows."""
    machine = Executor(program)
    name = program.states[0].inp.name
    pairs_state = np.repeat(states, len(inputs), axis=0)
    pairs_input = np.tile(inputs, (len(states), 1))
    worst = []
    for start in range(0, len(pairs_state), 1 << 18):
        part = slice(start, start + (1 << 18))
        machine.load({name: pairs_state[part]})
        _, after, _ = machine.step(pairs_input[part])
        worst.append(np.stack([after[0].min(0), after[0].max(0)]))
    return np.array([np.min([w[0] for w in worst], 0), np.max([w[1] for w in worst], 0)])


def inside(box: np.ndarray, states: np.ndarray) -> bool:
    return bool((states >= box[:, 0]).all() and (states <= box[:, 1]).all())


CASES = {
    "plain": {},
    "no capacitance": {"cm": np.zeros(2)},
    "no leak": {"gleak": np.zeros(2)},
    "leak outside": {"vleak": np.array([1.5, -1.4])},
    "epsilon": {"epsilon": 0.05},
    "stiff": {"cm": np.full(2, 0.001)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_state_of_two_neurons_stays_in_its_box(case: str, seed: int) -> None:
    policy = random_policy(seed, neurons=2, inputs=1, outputs=1, density=0.9, unfolds=1, **CASES[case])
    program, _quantized = tiny(policy, 6)
    prove(program)
    box = np.asarray(program.states[0].box, np.int64)
    states = np.array(list(product(*(range(lo, hi + 1) for lo, hi in box))), np.int64)
    inputs = np.arange(-32, 32, dtype=np.int64)[:, None]
    reached = step_all(program, states, inputs)
    assert inside(box, reached)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_every_state_of_three_neurons_stays_in_its_box(seed: int) -> None:
    policy = random_policy(seed, neurons=3, inputs=1, outputs=1, density=0.8, unfolds=1)
    program, _ = tiny(policy, 6)
    prove(program)
    box = np.asarray(program.states[0].box, np.int64)
    states = np.array(list(product(*(range(lo, hi + 1) for lo, hi in box))), np.int64)
    reached = step_all(program, states, np.arange(-32, 32, dtype=np.int64)[:, None])
    assert inside(box, reached)


def with_box(program: Program, box: np.ndarray) -> Program:
    state = program.states[0]
    return dataclasses.replace(program, states=(State(state.inp, state.out, state.init, box),))


def test_a_box_that_is_too_narrow_is_refused_with_the_neuron_named() -> None:
    program = _int16(random_policy(3))
    box = np.asarray(program.states[0].box, np.int64)
    for neuron, side in ((1, 0), (4, 1)):
        narrow = box.copy()
        narrow[neuron, side] //= 2
        with pytest.raises(ProofFailed, match=f"n{neuron}"):
            prove(with_box(program, narrow))


def test_a_narrow_box_really_is_left() -> None:
    """The refusal is not caution: a state at the narrow corner leaves it."""
    policy = random_policy(5, neurons=2, inputs=1, outputs=1, density=0.9, unfolds=1, cm=np.full(2, 0.01))
    program, _ = tiny(policy, 6)
    box = np.asarray(program.states[0].box, np.int64)
    narrow = box.copy()
    neuron = int(np.argmax(np.abs(box).max(1)))
    side = int(np.argmax(np.abs(box[neuron])))
    narrow[neuron, side] = narrow[neuron, side] // 2
    with pytest.raises(ProofFailed):
        prove(with_box(program, narrow))
    states = np.array(list(product(*(range(lo, hi + 1) for lo, hi in narrow))), np.int64)
    reached = step_all(program, states, np.arange(-32, 32, dtype=np.int64)[:, None])
    assert (reached[0] < narrow[:, 0]).any() or (reached[1] > narrow[:, 1]).any()


def test_formats_one_bit_narrower_are_refused() -> None:
    policy = random_policy(7)
    quantized = quantize(policy, "int16", "fixed", np.inf, Choices(largest_fractions))
    layer = quantized.layers[0]
    fifteen = dataclasses.replace(layer.v, bits=15)
    narrow = dataclasses.replace(layer, v=fifteen, u=fifteen)
    box = np.asarray(layer.box)
    assert np.abs(box).max() > narrow.v.hi, "the chosen format wastes a bit"
    with pytest.raises(ProofFailed, match="outside Q"):
        prove(lower_fixed(policy, dataclasses.replace(quantized, layers=(narrow,))))


@pytest.mark.parametrize("field", ["g", "n"])
def test_sums_one_bit_finer_are_refused(field: str) -> None:
    """Conductances and currents with more fraction than chosen overflow somewhere on the box."""
    policy = random_policy(11, neurons=12, density=0.9)
    layer = quantize(policy, "int16", "fixed", np.inf, Choices(largest_fractions)).layers[0]
    finest = {"g": layer.g, "n": layer.n}[field]
    assert finest < 30
    total = _most(layer, field)
    assert total < 2**31 <= total * 4, "the fraction is not the largest that fits"


def _most(layer: object, field: str) -> float:
    """The largest |G| or |N| + G*|v|, raw, by the weights alone."""
    assert isinstance(layer, QuantizedLtc)
    conductance, current = layer.gleak.astype(float), np.abs(layer.leak).astype(float)
    for s in (layer.sensory, layer.recurrent):
        np.add.at(conductance, s.post, s.w * 2.0 ** (15 - s.k_den))
        np.add.at(current, s.post, np.abs(s.we) * 2.0 ** (15 - s.k_num))
    reach = np.abs(layer.box).max(1) * 2.0**-layer.v.frac
    pushed = current + conductance * 2.0 ** (layer.n - layer.g) * reach
    return float((pushed if field == "n" else conductance).max())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["int16", "int8"]), st.sampled_from([0.01, 0.1, 1.0, 10.0]), st.data())
def test_sequences_from_the_corners_never_leave_the_box(seed: int, scheme: str, dt: float, data: st.DataObject) -> None:
    policy = random_policy(seed % 50, DtRange(dt, dt, dt), neurons=6, vleak=np.linspace(-1.3, 1.3, 6))
    program = _int(policy, scheme, "fixed")
    prove(program)
    box = np.asarray(program.states[0].box, np.int64)
    corner = np.array([box[i, data.draw(st.integers(0, 1))] for i in range(6)])
    rng = np.random.default_rng(seed)
    machine = Executor(program)
    machine.load({program.states[0].inp.name: np.tile(corner, (16, 1))})
    limit = program.x.value.type
    for _ in range(20):
        extreme = rng.uniform() < 0.5
        x = rng.choice([limit.lo, limit.hi, 0], (16, 3)) if extreme else rng.integers(limit.lo, limit.hi, (16, 3))
        _, after, _flags = machine.step(x)
        assert inside(box, after[0])


@pytest.mark.parametrize(("name", "changes"), [
    ("no capacitance", {"cm": np.zeros(8)}),
    ("no leak", {"gleak": np.zeros(8)}),
    ("neither, driven", {"cm": np.zeros(8), "gleak": np.zeros(8), "epsilon": 1e-3}),
    ("leak outside the synapses", {"vleak": np.full(8, 3.0)}),
    ("large epsilon", {"epsilon": 0.5}),
])
@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_degenerate_parameters_close_and_run(name: str, changes: dict[str, object], scheme: str) -> None:
    policy = random_policy(2, **changes)
    program = _int(policy, scheme, "fixed")
    prove(program)
    x = np.random.default_rng(0).uniform(-1, 1, (4, 100, 3))
    trace = run(program, Sequences(x))
    box = np.asarray(program.states[0].box, np.int64)
    assert inside(box, trace.raw_state)


def test_a_neuron_nothing_holds_is_refused() -> None:
    policy = random_policy(
        2, cm=np.zeros(8), gleak=np.zeros(8), epsilon=0.0, recurrent=NO_SYNAPSES, sensory=NO_SYNAPSES
    )
    with pytest.raises(ProofFailed, match=r"neuron|divi"):
        prove(_int16(policy))


def test_a_runtime_dt_is_covered_from_end_to_end() -> None:
    policy = random_policy(4, DtRange(0.1, 10.0, 1.0))
    program = _int(policy, "int16", "runtime")
    proof = prove(program)
    assert proof.dt_range == (0.1, 10.0)
    box = np.asarray(program.states[0].box, np.int64)
    rng = np.random.default_rng(1)
    dt = rng.choice([0.0, 0.05, 0.1, 1.0, 10.0, 500.0], (4, 200))
    trace = run(program, Sequences(rng.uniform(-2, 2, (4, 200, 3)), dt))
    assert inside(box, trace.raw_state)
    assert (trace.flags & 4 != 0).sum() == ((dt < 0.1) | (dt > 10)).sum()


def test_a_wrong_shift_breaks_the_proof() -> None:
    """The proof reads the emitted ops: a divisor with one bit too few must not pass."""
    program = _int16(random_policy(6))
    body = program.body
    repeat = next(s for s in body if hasattr(s, "body"))
    broken = tuple(
        dataclasses.replace(op, attrs={"k": int(op.attrs["k"]) - 4}) if op.out.name == "delta" else op
        for op in repeat.body
    )
    new = tuple(dataclasses.replace(s, body=broken) if s is repeat else s for s in body)
    with pytest.raises(ProofFailed):
        prove(dataclasses.replace(program, body=new))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_an_update_that_goes_too_far_breaks_the_proof(bits: int) -> None:
    """Twice the change leaves the box where little else holds the state; the sums are unchanged and fit."""
    program = _int16(random_policy(1, cm=np.full(8, 0.05)))
    repeat = next(s for s in program.body if isinstance(s, Repeat))
    further = tuple(
        dataclasses.replace(op, attrs={**op.attrs, "k": int(op.attrs["k"] or 0) - bits})
        if isinstance(op, Op) and op.out.name == "delta" else op
        for op in repeat.body
    )
    body = tuple(dataclasses.replace(repeat, body=further) if s is repeat else s for s in program.body)
    with pytest.raises(ProofFailed, match="is not invariant"):
        prove(dataclasses.replace(program, body=body))


def test_division_error_is_what_it_is_said_to_be() -> None:
    d = np.random.default_rng(0).integers(1, 2**31, 20000)
    got = fixed.inverse(d, 0) / (2.0**46 / d)
    assert got.max() <= 1 + float(division.excess())
    assert got.min() >= 1 - float(division.shortfall())
    assert 0 < float(division.excess()) < 2**-14
    assert 0 < float(division.shortfall()) < 2**-14


def _int16(policy: Policy) -> Program:
    return _int(policy, "int16", "fixed")


def _int(policy: Policy, scheme: str, mode: str) -> Program:
    return lower_fixed(policy, quantize(policy, scheme, mode, 1e-4, Choices(largest_fractions)))
