"""Sums in 64 bits: chains of carries in any order are one term, and steps that have them are proved."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.cells import Sequential
from ncpc.driver.job import Request
from ncpc.ir.schemes import Scheme
from ncpc.system.torch_library import torch_module
from ncpc.theorem import equality
from ncpc.theorem.equality import Budget, Equality
from ncpc.theorem.term import FULL, BitTerm
from ncpc.theorem.terms import BitTerms
from ncpc.theorem.wide import multiples, word
from tests.conftest import RequireTool
from tests.theorem.builds import linked
from tests.theorem.term_steps import FLASH

INPUTS, UNITS = 8, 6


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)


def variables(terms: BitTerms, count: int, span: tuple[int, int] = FULL) -> list[BitTerm]:
    return [terms.var(f"x{i}", *span, np.array(span)) for i in range(count)]


def added(terms: BitTerms, a: tuple[BitTerm, BitTerm], b: BitTerm, rng: random.Random) -> tuple[BitTerm, BitTerm]:
    """b onto two words, as code may do it: the carry seen by either summand, the upper words added in any order."""
    low = terms.add(a[0], b)
    words = [a[1], terms.asr(b, 31), terms.sltu(low, rng.choice((a[0], b)))]
    rng.shuffle(words)
    return low, terms.add(terms.add(words[0], words[1]), words[2])


@pytest.mark.parametrize("seed", range(6))
def test_a_chain_of_carries_is_one_word_in_whatever_order(seed: int) -> None:
    """Products of 32 bits summed in two words, then shifted right over both."""
    terms, rng = BitTerms(2, FLASH), random.Random(seed)
    x, weights = variables(terms, 5, (-32768, 32767)), [30001, -29999, 32767, -31000, 28000]
    wanted = word(terms, multiples(zip(x, weights, strict=True), 5), 14)
    parts = [terms.lin([(n, w)]) for n, w in zip(x, weights, strict=True)]
    rng.shuffle(parts)
    total = terms.const(5), terms.const(0)
    for part in parts:
        total = added(terms, total, part, rng)
    assert terms.or_(terms.srl(total[0], 14), terms.shl(total[1], 18)) is wanted


def test_the_sign_of_a_difference_in_two_words_is_that_of_the_difference() -> None:
    terms = BitTerms(2, FLASH)
    a, b = variables(terms, 2, (-(1 << 29), 1 << 29))
    upper = terms.lin([(terms.asr(a, 31), 1), (terms.asr(b, 31), -1), (terms.sltu(a, b), -1)])
    assert upper is terms.asr(terms.sub(a, b), 31)


def test_a_sum_beyond_64_bits_is_no_word() -> None:
    terms = BitTerms(2, FLASH)
    assert word(terms, multiples(((n, (1 << 31) - 1) for n in variables(terms, 4)), 0), 32) is None


def test_terms_that_differ_for_some_values_are_not_put_to_the_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_: object) -> bool:
        raise AssertionError("the solver is asked")

    terms = BitTerms(2, FLASH)
    a, b = variables(terms, 2)
    monkeypatch.setattr(equality, "never_differ", asked)
    assert not Equality(terms, Budget(60)).equal(terms.smin(a, b), terms.smax(a, b))


def models() -> dict[str, Callable[[], Any]]:
    nn = torch_module().nn
    return {
        "GRU": lambda: Sequential([nn.GRU(INPUTS, UNITS, batch_first=True), nn.Linear(UNITS, 2)]),
        "LSTM": lambda: Sequential([nn.LSTM(INPUTS, UNITS, batch_first=True), nn.Linear(UNITS, 2)]),
        "dense": lambda: nn.Sequential(nn.Linear(INPUTS, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                                       nn.Linear(32, 2)),
    }


def proved(folder: Path, name: str, core: str, quant: Scheme) -> None:
    torch_module().manual_seed(0)
    noise = np.random.default_rng(1).uniform(-1, 1, (4, 60, INPUTS))
    policy = folder / "policy.safetensors"
    ncpc.save(models()[name](), str(policy), calibration=noise, input_range=(-1, 1))
    found = linked(folder, policy, Request(target=core, quant=quant)).prove()
    assert found.answer == "proved", found.why


def test_a_dense_stack_with_sums_of_64_bits_is_its_program(tmp_path: Path) -> None:
    proved(tmp_path, "dense", "cortex-m4", "int16")
    assert "int64_t sum" in (tmp_path / "policy.c").read_text()


def test_a_gru_and_its_read_out_are_their_program(tmp_path: Path) -> None:
    proved(tmp_path, "GRU", "rv32imc-ibex", "w8a16")


@pytest.mark.slow
@pytest.mark.parametrize("core", ["rv32imc-ibex", "cortex-m4"])
@pytest.mark.parametrize("quant", ["int16", "w8a16"])
@pytest.mark.parametrize("name", ["GRU", "LSTM"])
def test_a_cell_and_its_read_out_are_their_program(name: str, core: str, quant: Scheme, tmp_path: Path) -> None:
    proved(tmp_path, name, core, quant)
