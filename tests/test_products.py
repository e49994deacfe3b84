"""Weighted sums in integers: exact where they fit 32 bits, else rounded block by block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncpc.errors import ProofFailed
from ncpc.ir.build import Builder
from ncpc.ir.policy import Activation, Dense, Policy
from ncpc.ir.program import Op, Port, Program, statements
from ncpc.ir.types import Axis, Fixed
from ncpc.passes.lower import lower
from ncpc.proofs.prove import prove
from ncpc.semantics.run import Executor, run
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.c import source
from ncpc.targets.registry import load
from tests.c_programs import assert_c_is_program, assert_same, fixed_program, tame


def one_op(weight: np.ndarray, start: np.ndarray, k: int, block: int) -> Program:
    """``y = start + W x`` in blocks; x has 16 bits."""
    b = Builder(Fixed(32, 0))
    rows, columns = Axis("rows", weight.shape[0]), Axis("columns", weight.shape[1])
    x = b.value("x", [columns], Fixed(16, 0))
    w = b.const("w", weight, [rows, columns], Fixed(16, k))
    y = b.op("matmulshr", "y", w, x, b.const("start", start, [rows]), type_=Fixed(32, 0), k=k, block=block)
    ports = [Port(v, ("n",) * v.shape[0], (0,) * v.shape[0], np.zeros((v.shape[0], 2))) for v in (x, y)]
    return Program("products", ports[0], ports[1], None, (), b.constants, b.body)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_blocks_are_summed_exactly_and_rounded_half_up(seed: int, columns: int, block: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    weight, x = rng.integers(-900, 900, (3, columns)), rng.integers(-900, 900, columns)
    start = rng.integers(-1000, 1000, 3)
    want = []
    for row, first in zip(weight.tolist(), start.tolist(), strict=True):
        parts = [sum(w * v for w, v in zip(row[at : at + block], x[at : at + block].tolist(), strict=True))
                 for at in range(0, columns, block)]
        want.append(first + sum((part + 2 ** (k - 1)) // 2**k for part in parts))
    assert Executor(one_op(weight, start, k, block)).step(x[None])[0].tolist() == [want]


def test_the_proof_refuses_a_block_whose_sum_may_leave_32_bits() -> None:
    """Four products of 2**14 and 2**15 - 1 leave room for a half of 2**15, and none for one of 2**16."""
    weight, start = np.full((1, 64), 1 << 14), np.zeros(1)
    prove(one_op(weight, start, 16, 4))
    for k, block in ((17, 4), (16, 5)):
        with pytest.raises(ProofFailed, match=r"y\[0\] = matmulshr"):
            prove(one_op(weight, start, k, block))


def test_the_proof_refuses_a_total_that_may_leave_32_bits() -> None:
    weight = np.full((1, 64), 1 << 14)
    prove(one_op(weight, np.zeros(1), 5, 2))
    with pytest.raises(ProofFailed, match=r"y\[0\] = matmulshr"):
        prove(one_op(weight, np.array([2**31 - 1 - (1 << 28)]), 5, 2))


def wide(inputs: int, seed: int = 0) -> Policy:
    """tanh of so many inputs that their weighted sum in 32 bits would cost its weights many bits; those are alike."""
    rng = np.random.default_rng(seed)
    layers = (Dense(rng.uniform(-2, 2, (6, inputs)) / np.sqrt(inputs), rng.normal(size=6)), Activation("tanh", 6))
    return Policy("wide", layers, np.tile([-1.0, 1.0], (inputs, 1)))


def sums(program: Program) -> dict[str, Op]:
    return {op.kind: op for op in statements(program.body) if op.kind.startswith("matmul")}


@pytest.mark.parametrize("inputs", [77, 96, 300])
def test_many_inputs_lose_no_accuracy(inputs: int, tmp_path: Path) -> None:
    program = fixed_program(wide(inputs))
    prove(program)
    op = sums(program)["matmulshr"]
    assert 1 < int(op.attrs["block"] or 0) < inputs
    data = tame(program, 1)
    exact, got = run(lower(wide(inputs)), data), run(program, data)
    assert np.abs(got.y - exact.y).max() < 2e-4 * np.ptp(exact.y)
    assert_c_is_program(program, tmp_path)


def test_few_inputs_are_summed_exactly() -> None:
    assert set(sums(fixed_program(wide(4)))) == {"matmul"}


def on_a_cortex_m4(folder: Path) -> int:
    """Cycles of a step with 576 products, after its outputs were compared."""
    policy, target = wide(96), load("cortex-m4")
    what = Lowered(policy, lower(policy), fixed_program(policy), "int16")
    folder.mkdir()
    artifact = target.prepare(what, CompileOptions())
    for name, text in artifact.files.items():
        (folder / name).write_bytes(text)
    artifact.build(folder)
    data = tame(what.program, 3, steps=3)
    found = artifact.run(folder, data, "cortex-m4")
    assert_same(found.trace, run(what.program, data))
    assert found.cycles is not None
    return int(found.cycles.upper.max())


def test_long_sums_are_formed_two_products_at_a_time(
    tmp_path: Path, require_tool: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a core has SIMD, two products take two loads and one instruction instead of four and two."""
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    pairs = on_a_cortex_m4(tmp_path / "pairs")
    monkeypatch.setattr(source, "dots_of", lambda nest: {})
    assert on_a_cortex_m4(tmp_path / "one by one") - pairs > 2 * 576
