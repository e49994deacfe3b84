"""What is proved of convolutions and pooling: the totals that C forms, 0 beside the frame included; their limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ncpc.errors import ProofFailed
from ncpc.ir.formed import TOTAL
from ncpc.proofs.ranges import Analysis, analysis_of
from tests.test_op_meanings import INT, Case, program_of, window

ONE = window(height=1, width=1, kernel_h=1, kernel_w=1, rows=1, cols=1)
PLAIN: dict[str, Any] = {"relu": 0, "lo": None, "hi": None, "flag": None}
Rows = list[tuple[int, int]]


def conv(weights: list[int], bias: int, shift: int, rows: Rows) -> Analysis:
    """One filter over one place: ``(bias + weights x) >> shift``, x anywhere in its box."""
    n = len(weights)
    data = {0: np.array([weights]), 2: np.array([bias]), 3: np.array([shift])}
    case = Case("conv2d", (n, n, 1, 1), 1, {**ONE, **PLAIN, "channels": n}, data)
    return analysis_of(program_of(case, INT, {1: np.array(rows)})[0], {})


def totals(found: Analysis) -> list[tuple[int, int]]:
    nodes = [node for node in found.formed["y"] if node.term.kind == "arg" and node.term.name == TOTAL]
    return [(int(node.lo.min()), int(node.hi.max())) for node in nodes]


@pytest.mark.parametrize(("rows", "total", "result"), [
    ([(3, 5), (-7, -2)], (10 - 14 - 5, 10 + 10 + 7), (10 + 6 + 2, 10 + 10 + 7)),
    ([(3, 5), (4, 9)], (10 - 9, 10 + 18), (10 + 6 - 9, 10 + 10 - 4)),
    ([(-3, -2), (-8, -4)], (10 - 16, 10 + 8), (10 - 6 + 4, 10 - 4 + 8)),
])
def test_a_window_s_total_may_hold_any_input_or_none(
        rows: Rows, total: tuple[int, int], result: tuple[int, int]) -> None:
    """All places of a frame share one interval of their inputs, 0 with them; the result's is that of the place."""
    found = conv([2, -1], 10, 0, rows)
    assert total in totals(found)
    assert (int(found.found["y"].lo[0]), int(found.found["y"].hi[0])) == result


LEAST, MOST = -(2**31), 2**31 - 1


@pytest.mark.parametrize(("rows", "fits"), [
    ([(LEAST, 0)] * 2, True), ([(LEAST, 0)] * 3, False), ([(0, MOST)] * 2, True), ([(0, MOST)] * 3, False),
    ([(LEAST // 2, 0)] * 3, True),
])
def test_a_total_of_64_bits_has_to_fit_them(rows: Rows, fits: bool) -> None:
    weights = [MOST] * len(rows)
    if fits:
        conv(weights, 0, 33, rows)
        return
    with pytest.raises(ProofFailed, match="y = conv2d: its sums may leave 64 bits: the range proof does not close"):
        conv(weights, 0, 33, rows)


def test_the_bias_counts_too() -> None:
    with pytest.raises(ProofFailed, match="its sums may leave 64 bits"):
        conv([MOST] * 2, 2**33, 33, [(LEAST, 0)] * 2)


@pytest.mark.parametrize(("rows", "total"), [
    ([(3, 5), (-7, -2)], (-7, 5)), ([(3, 5), (2, 9)], (0, 14)), ([(-3, -1), (-6, -2)], (-9, 0))])
def test_a_mean_s_partial_sums_lie_between_those_of_one_sign(rows: Rows, total: tuple[int, int]) -> None:
    attrs = window(height=2, width=1, channels=1, kernel_h=2, kernel_w=1, rows=1, cols=1, function="avg")
    case = Case("pool", (2,), 1, attrs)
    found = analysis_of(program_of(case, INT, {0: np.array(rows)})[0], {})
    assert totals(found) == [total]
    products = [(int(n.lo.min()), int(n.hi.max())) for n in found.formed["y"] if n.term.kind == "*"]
    assert products == [(total[0] << 23, total[1] << 23)]


def test_a_mean_whose_sum_leaves_32_bits_is_refused() -> None:
    attrs = window(height=2, width=1, channels=1, kernel_h=2, kernel_w=1, rows=1, cols=1, function="avg")
    for rows in ([(0, MOST), (-1, 1)], [(LEAST, 0), (-1, 1)]):
        with pytest.raises(ProofFailed, match="y = pool: its sums may leave 32 bits"):
            analysis_of(program_of(Case("pool", (2,), 1, attrs), INT, {0: np.array(rows)})[0], {})
