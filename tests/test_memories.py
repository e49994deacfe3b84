"""A core in a chip of other memories: what fits, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ncpc.cores import load_core
from ncpc.driver.pipeline import misfits
from ncpc.errors import BadInput, ProofFailed
from ncpc.ir.policy import Dense, Policy
from ncpc.targets.base import Built, CompileOptions, Memory
from ncpc.targets.c.fit import require_fit, with_memories
from ncpc.targets.c.interface import interface_of
from ncpc.targets.registry import load
from tests.c_programs import fixed_program


def test_sizes_are_read_as_people_write_them() -> None:
    core = load_core("cortex-m4")
    chip = with_memories(core, {"flash": "2M", "ram": "640k"})
    assert (chip.flash.size, chip.ram.size) == (2 << 20, 640 << 10)
    assert (chip.flash.origin, chip.ram.origin) == (core.flash.origin, core.ram.origin)
    assert with_memories(core, {"flash": "auto"}) == core


@pytest.mark.parametrize(("sizes", "words"), [
    ({"ram": "0"}, "--ram 0: give a multiple of 4096"), ({"ram": "100"}, "--ram 100: give"),
    ({"flash": "2 MB"}, "--flash 2 MB: give"), ({"flash": "-4k"}, "--flash -4k: give"),
])
def test_what_is_no_size_is_refused(sizes: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        with_memories(load_core("cortex-m4"), sizes)


def test_memories_may_not_overlap() -> None:
    with pytest.raises(BadInput, match=r"reach into the other memory at 0x00200000; ask for 1,048,576 at most"):
        with_memories(load_core("rv32imc-ibex"), {"flash": "2M"})


def test_weights_decide_which_chip_holds_a_layer() -> None:
    rng = np.random.default_rng(0)
    wide = Dense(rng.normal(size=(600, 1000)), rng.normal(size=600))
    program = fixed_program(Policy("net", (wide,), np.tile([-1.0, 1.0], (1000, 1))))
    core = load_core("cortex-m4")
    with pytest.raises(ProofFailed, match=r"1,200,000 bytes of flash, cortex-m4 has 1,048,576; give the chip's own"):
        require_fit(interface_of(program), core)
    require_fit(interface_of(program), with_memories(core, {"flash": "2M"}))


def test_what_is_built_is_held_to_the_chips_own_memories() -> None:
    job = SimpleNamespace(target=load("cortex-m4"), options=CompileOptions())
    big = Built(memory=Memory(1_600_000, 140_000))
    assert [line.split(",")[0] for line in misfits(job, big)] == ["needs 1", "needs 140"]  # type: ignore[arg-type]
    for has, lines in (((2 << 20, 256 << 10), 0), ((1 << 20, 256 << 10), 1), ((1 << 20, 128 << 10), 2)):
        chip = Built(memory=Memory(1_600_000, 140_000, None, *has))
        assert len(misfits(job, chip)) == lines  # type: ignore[arg-type]


def test_options_belong_to_cores_alone() -> None:
    here = load("host").options
    assert load("c").options == here
    own = [option.name for option in load("cortex-m4").options if option.name not in {one.name for one in here}]
    assert own == ["flash", "ram", "board", "clock", "rate-hz"]
    assert CompileOptions().extra == {}
