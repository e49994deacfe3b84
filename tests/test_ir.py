"""The IR: its checker refuses every kind of ill-formed program, its text is golden, its builder names uniquely."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncpc.ir.build import Builder
from ncpc.ir.check import IllFormedError, check
from ncpc.ir.ops import OPS
from ncpc.ir.policy import Policy
from ncpc.ir.program import Op, Port, Program, Repeat, Value, statements, values
from ncpc.ir.text import to_text
from ncpc.ir.types import Axis, Fixed, Float32, Real
from ncpc.passes.fold import fix_dt, fold_constants
from ncpc.passes.lower import lower
from ncpc.passes.lower_fixed import lower_fixed
from ncpc.passes.to_float32 import to_float32
from ncpc.quant.policy import Choices, largest_fractions, quantize
from ncpc.semantics.ops import _MAKERS
from tests.conftest import Golden
from tests.nets import random_policy


def tiny() -> Policy:
    return random_policy(1, neurons=3, inputs=2, outputs=1, density=0.7)


def integer_program() -> Program:
    return lower_fixed(tiny(), quantize(tiny(), "int16", "fixed", 1e-4, Choices(largest_fractions)))


def test_text_of_the_step_over_the_reals(golden: Golden) -> None:
    golden("ltc_real.txt", to_text(lower(tiny())))


def test_text_of_the_step_in_binary32(golden: Golden) -> None:
    golden("ltc_float32.txt", to_text(to_float32(fold_constants(fix_dt(lower(tiny()), 1.0)))))


def test_text_of_the_step_in_integers(golden: Golden) -> None:
    golden("ltc_int16.txt", to_text(integer_program()))


def test_every_op_has_a_meaning() -> None:
    assert set(_MAKERS) == set(OPS)


def edit(program: Program, name: str, **changes: object) -> Program:
    """The program with one op changed, wherever it stands."""
    def body(stmts: tuple[Op | Repeat, ...]) -> tuple[Op | Repeat, ...]:
        return tuple(
            dataclasses.replace(s, body=body(s.body)) if isinstance(s, Repeat)
            else dataclasses.replace(s, **changes) if s.out.name == name else s  # type: ignore[arg-type]
            for s in stmts
        )

    return dataclasses.replace(program, body=body(program.body))


def op(program: Program, name: str) -> Op:
    return next(o for o in statements(program.body) if o.out.name == name)


@pytest.mark.parametrize(("changes", "complaint"), [
    ({"kind": "sine"}, "is no op"),
    ({"args": ("num",)}, "takes"),
    ({"args": ("num", "tomorrow")}, "before it is defined"),
    ({"attrs": {"k": 3}}, "has attributes"),
    ({"args": ("num", "output_w")}, "mixes axes"),
])
def test_an_ill_formed_op_is_refused(changes: dict[str, object], complaint: str) -> None:
    program = integer_program()
    assert op(program, "drive").kind == "sub"
    with pytest.raises(IllFormedError, match=complaint):
        check(edit(program, "drive", **changes))


def test_a_wrong_fraction_is_refused() -> None:
    program = integer_program()
    drive = op(program, "drive")
    other = dataclasses.replace(drive.out, type=Fixed(32, 3))
    with pytest.raises(IllFormedError, match="fraction"):
        check(edit(program, "drive", out=other))


def test_fixed_and_float_do_not_mix() -> None:
    program = integer_program()
    drive = op(program, "drive")
    with pytest.raises(IllFormedError, match="mixes fixed and float"):
        check(edit(program, "drive", out=dataclasses.replace(drive.out, type=Float32())))


def test_a_value_defined_twice_is_refused() -> None:
    program = integer_program()
    with pytest.raises(IllFormedError, match="twice"):
        check(dataclasses.replace(program, body=(*program.body, program.body[0])))


def test_a_constant_outside_its_type_is_refused() -> None:
    program = integer_program()
    value, data = program.constants["w"]
    constants = {**program.constants, "w": (value, data + 40000)}
    with pytest.raises(IllFormedError, match="outside"):
        check(dataclasses.replace(program, constants=constants))


def test_a_state_of_another_type_is_refused() -> None:
    program = integer_program()
    state = dataclasses.replace(program.states[0], out="motor")
    with pytest.raises(IllFormedError, match="differs"):
        check(dataclasses.replace(program, states=(state,)))


def test_a_carried_value_does_not_leave_its_repeat() -> None:
    program = integer_program()
    stray = Op("slice", Value("late", (Axis("outputs", 1),), program.states[0].inp.type), ("v_now",), {"start": 0})
    with pytest.raises(IllFormedError, match="before it is defined"):
        check(dataclasses.replace(program, body=(*program.body, stray)))


def test_an_output_nobody_computes_is_refused() -> None:
    program = lower(tiny())
    missing = dataclasses.replace(program.y, value=dataclasses.replace(program.y.value, name="nothing"))
    with pytest.raises(IllFormedError, match="never computed"):
        check(dataclasses.replace(program, y=missing))


def test_the_builder_gives_unique_names() -> None:
    b = Builder(Real())
    names = [b.value("v", ()).name for _ in range(3)]
    assert names == ["v", "v_2", "v_3"]


def test_values_lists_what_repeats_define_too() -> None:
    found = values(integer_program())
    assert {"v_now", "v_end", "drive", "w", "x_in"} <= set(found)


def test_folding_keeps_what_depends_on_inputs() -> None:
    fixed = fold_constants(fix_dt(lower(tiny()), 1.0))
    assert fixed.dt is None
    assert "cm_t" in fixed.constants
    assert "cm_unfolds" not in fixed.constants
    assert op(fixed, "num").kind == "segment_sum"


def test_qm_n_counts_m_without_the_sign() -> None:
    assert [str(Fixed(16, 14)), str(Fixed(32, 16, signed=False)), str(Fixed(16, 18))] == ["Q1.14", "UQ16.16", "Q-3.18"]


def test_ports_carry_their_nominal_timespan() -> None:
    port = lower(tiny()).dt
    assert isinstance(port, Port)
    assert port.nominal == 1.0
    assert np.array_equal(port.range, [[1.0, 1.0]])
