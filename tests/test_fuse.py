"""Loop fusion: the nests of known programs, and programs made to break it, run beside their semantics."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.loops import For, Nest, Times, assigns, loops, to_text
from ncpc.ir.policy import DtRange
from ncpc.ir.program import Port, Program, State, Value
from ncpc.ir.types import Axis, Float32, Index
from ncpc.passes.fuse import fuse
from tests.c_programs import NONE, assert_c_is_program, deep_policy, fixed_program, float_program, small_policy, tame
from tests.nets import random_policy

N = Axis("neurons", 4)


def program(b: Builder, x: Value, y: Value, states: list[State]) -> Program:
    bounds = np.tile([-1.0, 1.0], (x.shape[0], 1))
    names = tuple(f"x{i}" for i in range(x.shape[0]))
    port = Port(y, tuple(f"y{i}" for i in range(y.shape[0])), None, np.tile([-np.inf, np.inf], (y.shape[0], 1)))
    made = Program("made", Port(x, names, None, bounds), port, None, tuple(states), b.constants, b.body)
    check(made)
    return made


def state(inp: Value, out: Value) -> State:
    return State(inp, out.name, np.linspace(0.1, 0.4, inp.shape[0]))


def start() -> tuple[Builder, Value]:
    b = Builder(Float32())
    x_in = b.value("x_in", [N])
    return b, x_in


def outer(nest: Nest) -> list[str]:
    return [node.axis.name for node in nest.body if isinstance(node, For)]


@pytest.mark.parametrize("name", ["ltc_float32", "ltc_int16", "deep_runtime"])
def test_known_nests(name: str, golden) -> None:
    made = {
        "ltc_float32": lambda: float_program(small_policy(0)),
        "ltc_int16": lambda: fixed_program(small_policy(0)),
        "deep_runtime": lambda: float_program(
            dataclasses.replace(deep_policy(1), dt=DtRange(0.5, 2.0, 1.0)), dt="runtime"),
    }[name]()
    golden(f"nest_{name}.txt", to_text(fuse(made)))


def test_synapses_run_inside_their_neuron() -> None:
    nest = fuse(float_program(small_policy(2)))
    times = next(node for node in nest.body if isinstance(node, Times))
    (neurons,) = [node for node in times.body if isinstance(node, For)]
    (synapses,) = [node for node in neurons.body if isinstance(node, For)]
    assert (neurons.axis.name, synapses.axis.name, synapses.of) == ("neurons", "synapses", neurons.var)
    assert all(not assign.out.at for assign in assigns((synapses,))), "a synapse's values are scalars"
    assert sum(b.place == "local" and b.axes[0].name == "synapses" for b in nest.buffers) == 0


def test_a_wide_state_is_updated_in_place_behind_its_16_bit_view() -> None:
    nest = fuse(fixed_program(random_policy(0, DtRange(0.01, 0.01, 0.01))))
    times = next(node for node in nest.body if isinstance(node, Times))
    assert not times.pairs
    assert [loop.axis.name for loop in times.body if isinstance(loop, For)] == ["neurons", "neurons"]


def test_odd_unfolds_end_in_the_state(tmp_path: Path) -> None:
    for unfolds in (1, 2, 3):
        made = float_program(small_policy(3, unfolds=unfolds))
        (pair,) = next(node for node in fuse(made).body if isinstance(node, Times)).pairs
        assert pair.home == "v"
        assert (pair.first == "v") == (unfolds % 2 == 0)
        assert_c_is_program(made, tmp_path)


def test_what_reads_other_elements_waits_for_the_loop_before(tmp_path: Path) -> None:
    b, x_in = start()
    x = b.op("mul", "x", x_in, x_in)
    turned = b.op("gather", "turned", x, b.const("turn", np.array([1, 2, 3, 0]), [N], Index("neurons")))
    old = b.value("h", [N])
    both = b.op("add", "both", turned, old)
    made = program(b, x_in, b.op("add", "y", both, x), [state(old, both)])
    nest = fuse(made)
    assert outer(nest) == ["neurons", "neurons"]
    assert [buffer.name for buffer in nest.buffers if buffer.place == "local"] == ["x"]
    assert_c_is_program(made, tmp_path, inputs=tame)


def test_ops_join_an_earlier_loop_over_their_axis() -> None:
    b, x_in = start()
    outputs = Axis("outputs", 2)
    a = b.op("add", "a", x_in, x_in)
    first = b.op("slice", "first", x_in, axes=[outputs], start=2)
    late = b.op("mul", "late", a, a)
    total = b.op("segment_sum", "total", late, b.const("to", np.array([0, 0, 1, 1]), [N], Index("outputs")), first,
                 axes=[outputs])
    assert outer(fuse(program(b, x_in, total, []))) == ["outputs"]


def test_a_state_read_after_its_successor_is_made_keeps_its_old_value(tmp_path: Path) -> None:
    b, x_in = start()
    h = b.value("h", [N])
    new = b.op("add", "new", x_in, h)
    turned = b.op("gather", "turned", new, b.const("turn", np.array([3, 2, 1, 0]), [N], Index("neurons")))
    made = program(b, x_in, b.op("sub", "y", turned, h), [state(h, new)])
    assert_c_is_program(made, tmp_path, inputs=tame)


def test_a_delay_line_shifts_all_states_at_once(tmp_path: Path) -> None:
    b, x_in = start()
    one, two, three = (b.value(name, [N]) for name in ("one", "two", "three"))
    out = b.op("add", "y", b.op("add", "sum", one, two), three)
    fresh = b.op("add", "fresh", x_in, three)
    line = [state(three, two), state(two, one), state(one, fresh)]
    assert_c_is_program(program(b, x_in, out, line), tmp_path, inputs=tame)


def test_swapped_values_in_a_repeat(tmp_path: Path) -> None:
    b, x_in = start()
    h = b.value("h", [N])
    scale = b.const("scale", np.float32(0.75))
    with b.repeat(3, p=(h, None), q=(x_in, None), gain=(scale, None)) as loop:
        loop.set("p", loop["q"])
        loop.set("q", b.op("mul", "scaled", loop["p"], loop["gain"]))
        loop.set("gain", b.op("mul", "less", loop["gain"], scale))
    made = program(b, x_in, b.op("add", "y", loop["q"], loop["gain"]), [state(h, loop["p"])])
    assert_c_is_program(made, tmp_path, inputs=tame)


def test_sums_that_need_each_other_are_not_merged(tmp_path: Path) -> None:
    """A softmax over each segment: the second sum's terms need the first sum."""
    b, x_in = start()
    groups = Axis("groups", 2)
    to = b.const("to", np.array([0, 0, 0, 1]), [N], Index("groups"))
    e = b.op("exp", "e", x_in)
    total = b.op("segment_sum", "total", e, to, axes=[groups])
    share = b.op("div", "share", e, b.op("gather", "back", total, to))
    weighted = b.op("segment_sum", "weighted", b.op("mul", "term", share, x_in), to, total, axes=[groups])
    made = program(b, x_in, weighted, [])
    assert [loop.segment for loop in loops(fuse(made).body)].count("to") == 2
    assert_c_is_program(made, tmp_path, inputs=tame)


def test_an_lstm_like_step(tmp_path: Path) -> None:
    """Recurrent matmul over the state it replaces, concat, two states, the output one of them."""
    rng, (b, x_in) = np.random.default_rng(0), start()
    h, c, both = b.value("h", [N]), b.value("c", [N]), Axis("joined", 8)
    joined = b.op("concat", "joined_x", h, x_in, axes=[both])
    gate = [b.op("matmul", f"gate{k}", b.const(f"w{k}", rng.normal(size=(4, 8)), [N, both]), joined) for k in range(3)]
    kept = b.op("mul", "kept", b.op("sigmoid", "forget", gate[0]), c)
    fresh = b.op("mul", "fresh", b.op("sigmoid", "write", gate[1]), b.op("tanh", "candidate", gate[2]))
    c_next = b.op("add", "c_next", kept, fresh)
    h_next = b.op("mul", "h_next", b.op("tanh", "squashed", c_next), b.op("relu", "open", gate[1]))
    assert_c_is_program(program(b, x_in, h_next, [state(h, h_next), state(c, c_next)]), tmp_path, inputs=tame)


@pytest.mark.parametrize("empty", ["sensory", "recurrent", "both"])
def test_axes_without_elements(empty: str, tmp_path: Path) -> None:
    gone = {"sensory": NONE, "recurrent": NONE} if empty == "both" else {empty: NONE}
    made = float_program(small_policy(4, **gone))
    assert all(loop.axis.size for loop in loops(fuse(made).body))
    assert_c_is_program(made, tmp_path)
