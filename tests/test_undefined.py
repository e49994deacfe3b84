"""No C that is emitted does anything undefined, at and beyond every corner; a planted overflow is found twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells_table import policy_of
from benchmarks.cells_table_rows import CELLS, ROWS
from ncpc.driver.lowering import lower_for, proved
from ncpc.errors import NcpcError, ProofFailed
from ncpc.frontend.container import Container
from ncpc.ir.policy import DtRange, Policy
from ncpc.ir.program import Program
from ncpc.proofs.prove import prove
from ncpc.targets.base import CompileOptions
from tests.c_programs import small_policy
from tests.extreme_nets import KINDS, extreme_policy
from tests.test_formed import crowded_program
from tests.undefined import Run, run_under_ubsan

SCHEMES = ("int16", "int8", "float32")
NO_FORM = ("refused", "unstable")


@pytest.fixture(autouse=True)
def _compiler(require_tool: Any) -> None:
    require_tool("ziglang")


def lowered(policy: Policy, scheme: Any, dt: Any) -> Program:
    return lower_for(Container(policy), CompileOptions(quant=scheme, dt=dt)).lowered.program


def spans(row: str) -> tuple[float, float]:
    """Timespans that the row's solver is stable at."""
    return (0.25, 1.0) if row == "LIF" else (0.5, 2.0)


def with_dt(policy: Policy, lo: float, hi: float) -> Policy:
    return dataclasses.replace(policy, dt=DtRange(lo, hi, 1.0))


def run_of(program: Program, folder: Path, seed: int = 0, **changes: Any) -> Run:
    return Run(program, folder, np.random.default_rng(seed), **changes)


QUICK = ("LTC", "CfC", "wired CfC", "mixed memory, LTC", "GRU", "CT-GRU", "LIF", "neural ODE")


@pytest.mark.parametrize(("row", "scheme"), [*((row, "int16") for row in QUICK), ("LTC", "w8a16"), ("CfC", "w8a16"),
                                            ("wired CfC", "w8a16"), ("CT-GRU", "w8a16"), ("wired CfC", "w4a16")])
def test_cells_are_defined_everywhere(row: str, scheme: str, tmp_path: Path) -> None:
    policy = with_dt(policy_of(row), *spans(row))
    assert run_under_ubsan(run_of(lowered(policy, scheme, "runtime"), tmp_path)) == ""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ltcs_with_a_fixed_timespan_are_defined_everywhere(scheme: str, tmp_path: Path) -> None:
    assert run_under_ubsan(run_of(lowered(small_policy(), scheme, "fixed"), tmp_path)) == ""


@pytest.mark.slow
@pytest.mark.parametrize(("row", "scheme", "dt"), [
    *((row, *how) for row in ROWS for how in (("int16", "runtime"), ("int8", "fixed"))),
    *((row, "float32", "runtime") for row in list(ROWS)[::3]),
    *((row, "w8a16", "runtime") for row in list(ROWS)[1::2]),
])
def test_every_row_of_the_table_is_defined_everywhere(row: str, scheme: str, dt: str, tmp_path: Path) -> None:
    policy = with_dt(policy_of(row), *spans(row)) if dt == "runtime" else policy_of(row)
    assert run_under_ubsan(run_of(lowered(policy, scheme, dt), tmp_path)) == ""


def test_every_kind_of_cell_has_a_row() -> None:
    assert set(QUICK) <= set(CELLS) <= set(ROWS)


def extreme(seed: int, scheme: str, folder: Path) -> str:
    """What UBSan says of a random network; ``refused`` where ncpc says that it has no integer form, ``unstable`` where
    its explicit solver diverges: then it has none in any numbers.
    """
    policy = extreme_policy(seed)
    try:
        program = lowered(policy, scheme, "fixed" if policy.dt.fixed else "runtime")
    except NcpcError as e:
        return "unstable" if "is unstable" in str(e) else "refused"
    return run_under_ubsan(run_of(program, folder, seed))


@pytest.mark.parametrize("seed", [0, 3, 5, 12, 17])
def test_extreme_networks_are_defined_everywhere(seed: int, tmp_path: Path) -> None:
    assert extreme(seed, "int16", tmp_path) in ("", *NO_FORM)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "seeds"), [("int16", range(5, 5 + len(KINDS))), ("int8", range(23, 32))])
def test_many_extreme_networks_are_defined_everywhere(scheme: str, seeds: range, tmp_path: Path) -> None:
    """Each kind once. Most of those that a solver can step compile; what does not is refused in one line."""
    found = []
    for seed in seeds:
        folder = tmp_path / str(seed)
        folder.mkdir()
        found.append(extreme(seed, scheme, folder))
    assert set(found) <= {"", *NO_FORM}, [(seed, said) for seed, said in zip(seeds, found, strict=True) if said]
    assert found.count("") > 0.7 * (len(found) - found.count("unstable"))


def test_a_shift_without_room_is_found_by_the_proof_and_by_the_sanitizer(tmp_path: Path) -> None:
    """The form that overflows, as it would be emitted without the proof, and the one that takes its place."""
    program = crowded_program()
    with pytest.raises(ProofFailed, match="no room for the rounding half"):
        prove(program)
    with pytest.raises(OverflowError, match="outside int32_t"):
        run_under_ubsan(run_of(program, tmp_path))
    fitting, _ = proved(program)
    assert run_under_ubsan(run_of(fitting, tmp_path)) == ""


def test_a_shift_that_is_edited_back_is_found_by_the_sanitizer(tmp_path: Path) -> None:
    program, _ = proved(crowded_program())

    def crowded(text: str) -> str:
        assert text.count(" >> 24) + (") == 1
        line = next(line for line in text.splitlines() if " >> 24) + (" in line)
        source = line.split("((")[-1].split(" >> ")[0] if "((" in line else line.split("(")[1].split(" >> ")[0]
        head = line.split("= ")[0]
        return text.replace(line, f"{head}= ({source} + 8388608) >> 24;")

    said = run_under_ubsan(run_of(program, tmp_path, source=crowded))
    assert "signed integer overflow" in said, said
    assert "8388608" in said
