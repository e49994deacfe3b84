"""The table of what C forms: it means what the semantics say, and what it asks of types is asked by all who read it."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import proved
from ncpc.errors import ProofFailed
from ncpc.ir.build import Builder
from ncpc.ir.cwords import INT32, INT64, UINT32, Term, arg, to
from ncpc.ir.formed import ELEMENTWISE, formed, interpolation
from ncpc.ir.policy import DtRange, Ltc, Policy, Synapses
from ncpc.ir.program import Op, Port, Program, State, Value, statements
from ncpc.ir.types import Axis, Fixed, Index
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.proofs import division
from ncpc.proofs.prove import prove
from ncpc.proofs.ranges import CrowdedError
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics import fixed
from ncpc.semantics.formed import Intervals, operations, value
from ncpc.semantics.ops import implementation
from ncpc.semantics.run import Executor
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.expressions import Expr, ctype_of, printed
from ncpc.targets.c.interface import interface_of

W, N, DT = Fixed(32, 8), Fixed(16, 8), Fixed(32, 8, signed=False)
CORNERS = (-(2**31), -(2**31) + 1, -32768, -3, -2, -1, 0, 1, 2, 3, 127, 32767, 2**30, 2**31 - 2, 2**31 - 1)
ELEMENTS = Axis("elements", 4)


def numbers(kind: Fixed, rng: np.random.Generator) -> np.ndarray:
    wild = rng.integers(kind.lo, kind.hi, 60, endpoint=True) >> rng.integers(0, kind.bits, 60)
    return np.array([n for n in (*CORNERS, *wild.tolist()) if kind.lo <= n <= kind.hi], np.int64)


CASES: list[tuple[str, tuple[Fixed, ...], Fixed, dict[str, Any]]] = [
    *((kind, (W, W), W, {}) for kind in ("add", "sub", "min", "max")),
    *((kind, (N, DT), W, {}) for kind in ("add", "sub")),
    ("mul", (N, N), Fixed(32, 16), {}), ("neg", (W,), W, {}), ("relu", (W,), W, {}), ("cast", (N,), W, {}),
    ("gt", (W, W), Fixed(16, 8), {}),
    *((kind, (W,), Fixed(32, 8 - k), {"k": k}) for kind in ("shr", "shr_full", "asr") for k in (1, 2, 7, 24, 31)),
    *(("shr", (DT,), Fixed(32, 8 - k), {"k": k}) for k in (1, 24)),
    *(("shl", (W,), Fixed(32, 8 + k), {"k": k}) for k in (1, 5, 30, 31, 40)),
    *(("mulshr", (a, W), Fixed(32, 16 - k), {"k": k}) for a in (W, DT) for k in (1, 15, 31, 46)),
    *(("mix", (W, W, Fixed(32, k)), W, {}) for k in (1, 15)),
    *(("inverse", (W,), Fixed(32, 38 + k), {"k": k}) for k in (-15, -3, 0)),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_an_expression_is_what_the_semantics_say_wherever_it_fits(case: int) -> None:
    kind, types, out, attrs = CASES[case]
    rng = np.random.default_rng(case)
    columns = [numbers(t, rng) for t in types]
    grid = np.array(list(itertools.product(*columns)), np.int64)
    grid = grid[rng.permutation(len(grid))[:4000]]
    if kind == "mix":
        grid = grid[(grid[:, 2] >= 0) & (grid[:, 2] <= 1 << types[2].frac)]
    if kind == "inverse":
        grid = grid[(grid[:, 0] >= 1) & (fixed.norm(np.maximum(grid[:, 0], 1)) + attrs["k"] >= 0)]
    term, args = formed(kind, types, out, attrs), {str(i): column for i, column in enumerate(grid.T)}
    held = np.ones(len(grid), bool)
    for node in operations(term):
        got = np.broadcast_to(value(node, args), held.shape)
        held &= node.wraps | ((got >= node.word.lo) & (got <= node.word.hi))
    values = [Value(str(i), (ELEMENTS,), t) for i, t in enumerate(types)]
    op = Op(kind, Value("y", (ELEMENTS,), out), tuple(args), attrs)
    want = implementation(op, values, {})(list(args.values()), {})
    assert held.mean() > (0.02 if kind == "shl" else 0.1)
    np.testing.assert_array_equal(value(term, args)[held], want[held])


def test_every_op_with_an_expression_is_tried() -> None:
    assert {kind for kind, *_ in CASES} | {"copy", "start", "clamp"} == ELEMENTWISE


@pytest.mark.parametrize("k", [0, 1, 7, 12])
def test_a_table_is_read_as_the_semantics_say(k: int) -> None:
    table = np.array([-900, -100, 5, 5, 30000, 29000], np.int64)
    t = np.arange(-300, (6 << k) + 300)
    form = interpolation(len(table), k)
    inside = value(form.inside, {"t": t})
    index = value(form.index, {"inside": inside})
    parts = {"inside": inside, "value": table[index], "step": np.diff(table)[index]}
    np.testing.assert_array_equal(value(form.result, parts), fixed.lut(t, table, k))


def test_the_full_shift_rounds_like_the_other_and_always_fits() -> None:
    for k in range(1, 32):
        term = formed("shr_full", [W], Fixed(32, 8 - k), {"k": k})
        ends = Intervals({"0": (np.asarray(W.lo), np.asarray(W.hi))})
        ends.of(term)
        assert all(node.fits for node in ends.nodes)


def test_all_numbers_of_a_reciprocal_are_enumerated() -> None:
    nodes = division.formed()
    assert {np.size(node.lo) for node in nodes} >= {1 << 15}
    assert all(node.fits for node in nodes)


def test_64_bits_are_not_taken_for_more() -> None:
    big = np.asarray(2**62, np.int64)
    for term in (arg("a", INT64) + arg("a", INT64), arg("a", INT64) * 2, to(INT64, arg("a", INT64)) << 1):
        ends = Intervals({"a": (big, big)})
        ends.of(term)
        assert not ends.nodes[-1].fits


def test_unsigned_numbers_do_not_wrap_unseen() -> None:
    """``(dt + half) >> k`` of a large dt would wrap to nearly 0 in C."""
    top = np.asarray(DT.hi)
    ends = Intervals({"0": (top, top)})
    ends.of(formed("shr", [DT], Fixed(32, 0), {"k": 8}))
    assert [node.term.kind for node in ends.nodes if not node.fits] == ["+"]
    assert next(node for node in ends.nodes if not node.fits).term.word == UINT32


def test_narrow_operands_are_widened_before_they_meet() -> None:
    narrow = ctype_of(dataclasses.replace(INT32, name="int16_t", bits=16))
    a, b = Expr("a", narrow), Expr("b", narrow)
    assert printed(arg("a") * arg("b"), {"a": a, "b": b}).text == "(int32_t)a * b"
    assert printed(arg("a") * arg("b"), {"a": a, "b": Expr("b", ctype_of(INT32))}).text == "a * b"
    assert printed(arg("a") >> 3, {"a": a}).text == "(int32_t)a >> 3"


def one_shift(kind: str, k: int, frac: int = 8) -> Program:
    """``y = kind(x)`` of 32-bit inputs."""
    b = Builder(W)
    axis = Axis("inputs", 2)
    x = b.value("x", [axis], Fixed(32, frac))
    y = b.op(kind, "y", x, type_=Fixed(32, frac - k), k=k)
    ports = (Port(v, ("a", "b"), (8, 8), np.tile([-1.0, 1.0], (2, 1))) for v in (x, y))
    return Program("net", next(ports), next(ports), None, (), b.constants, b.body)


def test_a_half_without_room_is_refused_by_the_proof_and_by_the_semantics() -> None:
    program = one_shift("shr", 24)
    with pytest.raises(CrowdedError, match="y: no room for the rounding half"):
        prove(program)
    machine = Executor(program)
    machine.step(np.array([[2**31 - 1 - 2**23, 0]]))
    with pytest.raises(OverflowError, match="2147483648, outside int32_t"):
        machine.step(np.array([[0, 2**31 - 2**23]]))


def test_what_has_no_elements_forms_nothing() -> None:
    """A cell without recurrent synapses has values over an empty axis; their formats mean nothing."""
    b = Builder(W)
    x = b.value("x", [Axis("inputs", 2)], Fixed(32, 8))
    pre = b.const("pre", np.zeros(0, np.int64), [Axis("synapses", 0)], Index("inputs"))
    z = b.op("gather", "z", x, pre, type_=Fixed(32, 8))
    shifted = b.op("shr", "shifted", z, type_=Fixed(32, -24), k=32)
    total = b.op("segment_sum", "y", shifted, pre, axes=[Axis("inputs", 2)], type_=Fixed(32, -24))
    ports = [Port(v, ("a", "b"), (8, 8), np.tile([-1.0, 1.0], (2, 1))) for v in (x, total)]
    program, proof = proved(Program("net", ports[0], ports[1], None, (), b.constants, b.body))
    assert [op.kind for op in statements(program.body)] == ["gather", "shr", "segment_sum"]
    assert proof.formed["shifted"] == []
    assert Executor(program).step(np.array([[5, 7]]))[0].tolist() == [[0, 0]]


def test_such_a_shift_takes_the_form_that_needs_none() -> None:
    program, proof = proved(one_shift("shr", 24))
    assert [op.kind for op in statements(program.body)] == ["shr_full"]
    assert all(node.fits for node in proof.formed["y"])
    assert "(x[input] >> 24) + ((x[input] >> 23) & 1)" in emit_c(interface_of(program))["net.c"].decode()
    y, _, _ = Executor(program).step(np.array([[2**31 - 1, -(2**31)]]))
    assert y.tolist() == [[128, -128]]


def test_a_shift_with_room_keeps_its_form() -> None:
    b = Builder(W)
    x = b.value("x", [Axis("inputs", 2)], N)
    y = b.op("shr", "y", x, type_=Fixed(32, 0), k=8)
    ports = (Port(v, ("a", "b"), (8, 8), np.tile([-1.0, 1.0], (2, 1))) for v in (x, y))
    program = Program("net", next(ports), next(ports), None, (), b.constants, b.body)
    assert proved(program)[0] is program


def slow_leak(gleak: float = 63.8, cm: float = 1e6) -> Policy:
    """One neuron whose conductance fills 32 bits, while cm/dt leaves its divisor few of them."""
    def synapses(erev: float) -> Synapses:
        return Synapses(*(np.zeros(1, np.int64),) * 2, *(np.array([n]) for n in (0.05, 3.0, 0.0, erev)))

    cell = Ltc(synapses(0.5), synapses(-0.5), np.array([cm]), np.array([gleak]), np.zeros(1), np.ones(1), np.zeros(1),
               np.ones(1), np.zeros(1), ("motor",), ("n0",))
    return Policy("net", (cell,), np.array([[-1.0, 1.0]]), DtRange(0.01, 1.0, 0.01))


def crowded_program(**changes: float) -> Program:
    """As quantized, before any shift has found room."""
    policy = slow_leak(**changes)
    return lower_fixed(policy, quantize(policy, "int16", "runtime", 1e-4, Choices(largest_fractions)))


def test_a_conductance_that_fills_its_bits_is_shifted_without_overflow() -> None:
    """Its sum of 2142735740 and the half 8388608 leaves int32; the divisor would come out negative."""
    program = crowded_program()
    with pytest.raises(CrowdedError, match="g_d"):
        prove(program)
    program, proof = proved(program)
    assert {op.out.name: op.kind for op in statements(program.body)}["g_d"] == "shr_full"
    assert all(node.fits for nodes in proof.formed.values() for node in nodes)
    top = np.array([[2**31 - 1]])
    machine = Executor(program)
    machine.reset(1)
    for dt in (0, 2**32 - 1):
        machine.step(top >> 16, np.array([dt]))


@pytest.mark.parametrize("cm", [1e4, 1e6, 1e8])
@pytest.mark.parametrize("gleak", [63.83, 127.7, 250.0, 1023.0])
def test_conductances_at_the_end_of_a_format_are_proved(gleak: float, cm: float) -> None:
    _, proof = proved(crowded_program(gleak=gleak, cm=cm))
    assert all(node.fits for nodes in proof.formed.values() for node in nodes)


def formed_terms(proof_nodes: list[Term]) -> set[str]:
    return {term.kind for term in proof_nodes}


def test_the_proof_lists_every_number_that_is_formed() -> None:
    _, proof = proved(crowded_program())
    kinds = {name: formed_terms([node.term for node in nodes]) for name, nodes in proof.formed.items()}
    assert {">>", "&", "+"} <= kinds["g_d"]
    assert {"as", "*", "+", ">>", "<<"} <= kinds["delta"]
    assert "+" in kinds["v_next"]
    assert {"look", "zeros"} & kinds["divisor_inverse"]
    assert "arg" in kinds["den"], "partial sums"


def partial(weights: list[int], start: int) -> Program:
    """``y = start + W x``, a product with one row."""
    b = Builder(W)
    x = b.value("x", [Axis("inputs", len(weights))], N)
    w = b.const("w", np.array([weights], np.int64), [Axis("outputs", 1), Axis("inputs", len(weights))], Fixed(16, 0))
    s = b.const("s", np.array([start], np.int64), [Axis("outputs", 1)], W)
    y = b.op("matmul", "y", w, x, s, axes=[Axis("outputs", 1)], type_=W)
    ports = [Port(v, tuple("ab"[: v.shape[0]]), (8,) * v.shape[0], np.tile([-1.0, 1.0], (v.shape[0], 1)))
             for v in (x, y)]
    return Program("net", ports[0], ports[1], None, (), b.constants, b.body)


def test_a_partial_sum_beyond_32_bits_is_refused_though_the_sum_returns() -> None:
    program = partial([32767, -32767], 2**30 + 2**29)
    with pytest.raises(ProofFailed, match=r"y\[0\] = matmul forms .* in C, outside int32_t"):
        prove(program)
    with pytest.raises(OverflowError, match="adds up to"):
        Executor(program).step(np.array([[32767, 32767]]))
    Executor(program).step(np.array([[3, 3]]))


def test_a_table_whose_steps_leave_32_bits_is_refused() -> None:
    b = Builder(W)
    x = b.value("x", [Axis("inputs", 1)], W)
    table = b.const("t", np.array([0, 1 << 24, 0], np.int64), [Axis("entries", 3)], W)
    y = b.op("lut", "y", x, table, type_=W, k=8)
    ports = [Port(v, ("a",), (8,), np.array([[-1.0, 1.0]])) for v in (x, y)]
    program = Program("net", ports[0], ports[1], None, (), b.constants, b.body)
    with pytest.raises(ProofFailed, match="between two entries"):
        prove(program)
    with pytest.raises(OverflowError, match="between two entries"):
        Executor(program)


def test_states_beside_a_lemma_are_checked_too() -> None:
    """What a lemma says of a new state does not excuse the sum that makes it."""
    program, _ = proved(crowded_program())
    state = program.states[0]
    assert isinstance(state.inp.type, Fixed)
    wide = np.array([[state.inp.type.lo, state.inp.type.hi]], np.int64)
    with pytest.raises(ProofFailed):
        prove(dataclasses.replace(program, states=(State(state.inp, state.out, state.init, wide),)))
