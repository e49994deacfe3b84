"""What NAME.h tells whoever reads nothing else: formats, ranges, the timespan, and where outputs lie."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.proofs.prove import prove
from ncpc.targets.base import CompileOptions
from tests.c_programs import header_of
from tests.nets import random_policy


@pytest.mark.parametrize("scheme", ["int16", "int8"])
def test_outputs_lie_between_the_proved_ends_that_it_names(scheme: str) -> None:
    policy, options = random_policy(4), CompileOptions(quant=scheme, dt="fixed")  # type: ignore[arg-type]
    program = lower_for(Container(policy), options).lowered.program
    known = prove(program).intervals[program.y.value.name]
    outputs = re.split(r"Outputs y, int\d+_t, within these ends always:\n", header_of(policy, options))[1]
    text = outputs.split(" * State")[0]
    rows = re.findall(r"number = raw / (\d+), (\S+) \.\. (\S+) = raw (-?\d+) \.\. (-?\d+)", text)
    assert [(int(lo), int(hi)) for *_, lo, hi in rows] == list(zip(known.lo.flat, known.hi.flat, strict=True))
    for unit, lo, hi, *raw in rows:
        np.testing.assert_allclose([float(lo), float(hi)], [int(number) / int(unit) for number in raw], rtol=1e-5)


def test_it_says_the_timespan_that_is_compiled_in() -> None:
    policy = random_policy(4)
    said = f" * Timespan of every step, in the unit the network was trained with: {policy.dt.nominal:g}.\n"
    assert said in header_of(policy, CompileOptions(quant="int16", dt="fixed"))
    assert "Timespan of every step" not in header_of(policy, CompileOptions(quant="int16", dt="runtime"))
    assert said in header_of(policy, CompileOptions(quant="float32", dt="fixed"))


def test_it_says_nothing_of_ends_that_are_not_proved() -> None:
    assert "within these ends" not in header_of(random_policy(4), CompileOptions(quant="float32", dt="fixed"))
