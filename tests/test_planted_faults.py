"""The verifier's own test: faults planted into the emitted C, each of which it must find, and say where.

The sources are emitted as always, changed in one place, then built and verified as always.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncpc.driver.job import Request, data_for, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.pipeline import Outcome, compile_policy
from ncpc.ir.policy import DtRange
from ncpc.semantics.ops import FLAGS
from ncpc.semantics.run import run
from ncpc.targets.base import PROGRAM
from ncpc.verification.verdict import SEARCH
from tests.nets import random_ltc, random_policy
from tests.planted import plant

Edit = Callable[[str], str]
SEED, STEPS = 4, 400


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, require_tool: Any) -> Callable[..., Outcome]:
    """``compiled(edit, target, quant)``: the outcome of compiling a small network with ``edit`` done to its C."""
    for module in ("ziglang", "elftools", "unicorn", "capstone"):
        require_tool(module)
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})

    def run(edit: Edit, target: str = "host", quant: str = "int16") -> Outcome:
        with monkeypatch.context() as patch:
            plant(patch, lambda name, content: edit(content.decode()).encode() if name.endswith(".c") else content)
            return compile_policy(random_policy(SEED), tmp_path / "out", Request(target, quant, steps=STEPS))

    return run


def once(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Edit:
    """Replace the first match; the pattern must be there."""
    def edit(text: str) -> str:
        changed, count = re.subn(pattern, replacement, text, count=1)
        assert count == 1, f"no {pattern} in the emitted C"
        assert changed != text
        return changed
    return edit


def table_entry_off_by_one() -> Edit:
    return once(r"\bPAIR\(16384, (\d+)\)", r"PAIR(16385, \1)")


def shift_off_by_one() -> Edit:
    return once(r"(= sigmoid_table_at\([^;]*>> )(\d+)", lambda m: f"{m[1]}{int(m[2]) - 1}")


def synapses_swapped(text: str) -> str:
    """Exchange the numbers of the first synapses of two neurons, leaving the comments where they are."""
    rows = re.findall(r"^    (\{[^}]*\}), /\* n\d -> (n\d) \*/$", text, re.MULTILINE)
    first = rows[0]
    other = next(row for row in rows if row[1] != first[1])
    mark = "{swapped}"
    return text.replace(first[0], mark, 1).replace(other[0], first[0], 1).replace(mark, other[0], 1)


def swapped_posts() -> set[str]:
    layer = random_ltc(SEED)
    first = int(layer.recurrent.post[0])
    return {f"n{first}", f"n{next(int(p) for p in layer.recurrent.post if p != first)}"}


def reset_that_forgets() -> Edit:
    return once(r"(_reset\(.*\)\n\{\n    for \(int i = 0; i < )8;", r"\g<1>7;")


def stale_numerator(text: str) -> str:
    """From the second unfold on, the numerator of the unfold before."""
    text = once(r"(uint32_t net_step\()", r"static int32_t stale[8];\n\n\1")(text)
    return once(r"(            /\* v <- v \+ .*\n)", r"\1            const int32_t fresh = num;\n"
                "            if (unfold > 0) {\n                num = stale[neuron];\n            }\n"
                "            stale[neuron] = fresh;\n")(text)


FAULTS: dict[str, tuple[Edit, set[str]]] = {
    "table entry off by one": (table_entry_off_by_one(), {f"n{i}" for i in range(8)}),
    "shift off by one": (shift_off_by_one(), {f"n{i}" for i in range(8)}),
    "synapses swapped": (synapses_swapped, swapped_posts()),
    "reset forgets a state": (reset_that_forgets(), {"n7"}),
    "stale numerator": (stale_numerator, {f"n{i}" for i in range(8)}),
}


def test_without_a_fault_the_verdict_holds(compiled: Callable[..., Outcome]) -> None:
    outcome = compiled(lambda text: text)
    assert outcome.exit_code == 0, outcome.report["verdict"]


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_and_named(name: str, compiled: Callable[..., Outcome]) -> None:
    edit, places = FAULTS[name]
    outcome = compiled(edit)
    link, verdict = outcome.report["links"][0], outcome.report["verdict"]
    assert outcome.exit_code == 1
    assert link["mismatches"] > 0
    assert places & set(link["first_divergent"]["neurons"])
    assert f"first at step {link['first_divergent']['time']} of sequence" in verdict["reasons"][0]
    assert link["first_divergent"]["neuron"] in verdict["reasons"][0]


def test_a_forgotten_reset_is_found_at_a_reset(compiled: Callable[..., Outcome]) -> None:
    first = compiled(reset_that_forgets()).report["links"][0]["first_divergent"]
    assert first["context"] in ("from the start", "0 steps after a reset")


def test_float_contraction_is_found(compiled: Callable[..., Outcome]) -> None:
    """Fused multiply-adds round once where the Program rounds twice."""
    fused = ('#if defined(__x86_64__)\n#pragma clang attribute push(__attribute__((target("fma"))), '
             "apply_to = function)\n#endif\n#pragma clang fp contract(fast)\n")
    end = "\n#if defined(__x86_64__)\n#pragma clang attribute pop\n#endif\n"
    assert compiled(lambda text: text, quant="float32").exit_code == 0
    contract = once(r"#pragma STDC FP_CONTRACT OFF\n", fused)
    outcome = compiled(lambda text: contract(text) + end, quant="float32")
    link = outcome.report["links"][0]
    assert outcome.exit_code == 1
    assert link["mismatches"] > 0
    assert 0 < link["max_abs"] < 1e-5
    assert link["first_divergent"]["neuron"].startswith("n")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc-ibex"])
def test_a_fault_in_the_device_code_alone_is_found_there(target: str, compiled: Callable[..., Outcome]) -> None:
    """The host's C is right: only the link to the simulated device may break."""
    def edit(text: str) -> str:
        wrong = table_entry_off_by_one()(text)
        return f"#if defined(__arm__) || defined(__riscv)\n{wrong}\n#else\n{text}\n#endif\n"
    outcome = compiled(edit, target)
    assert [link["holds"] for link in outcome.report["links"]] == [True, False]
    assert outcome.exit_code == 1
    proof, link = outcome.report["verdict"]["reasons"][:2]
    assert "the linked step is not the program" in proof
    assert f"host and {target} differ" in link


def restore_that_believes() -> Edit:
    """No limit, and so no flag."""
    return once(r"(const (?:int32_t|float) kept = )[^;]*;", r"\1from->v[i];")


def restore_that_is_silent() -> Edit:
    return once(r"status \|= NET_STATE_CLAMPED;", "status |= 0u;")


def save_that_forgets() -> Edit:
    return once(r"(_save\(.*\)\n\{\n    for \(int i = 0; i < )8;", r"\g<1>7;")


def vector_off() -> Edit:
    return once(r"(test_y\[\d\]\[2\] = \{\n    \{)", r"\g<1>1 + ")


BESIDE: dict[str, tuple[Edit, str, str]] = {
    "restore takes what it is given": (restore_that_believes(), "restored", "n"),
    "restore does not flag": (restore_that_is_silent(), "restored", "status flags"),
    "save forgets a state": (save_that_forgets(), "restored", "net_save gives another state"),
    "a vector of the self test is off": (vector_off(), "restored", "net_self_test"),
}


def failing_sets(outcome: Outcome, runtime: str) -> set[str]:
    (link,) = [one for one in outcome.report["links"] if one["to"] == runtime]
    return {one["name"] for one in link["sets"] if one["mismatches"] or one["mismatches"] is None}


@pytest.mark.parametrize("name", BESIDE)
def test_a_fault_beside_the_step_is_found(name: str, compiled: Callable[..., Outcome]) -> None:
    """Functions that no step calls: restore, save, self test."""
    edit, where, said = BESIDE[name]
    outcome = compiled(edit)
    assert outcome.exit_code == 1
    assert failing_sets(outcome, "host") == {where}
    assert said in " ".join(outcome.report["verdict"]["reasons"])


@pytest.mark.slow
@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("target", ["cortex-m4", "rv32imc-ibex"])
def test_a_fault_beside_the_step_is_found_on_the_device(
    name: str, target: str, compiled: Callable[..., Outcome]
) -> None:
    """Planted into the device's code alone."""
    edit, where, said = BESIDE[name]
    outcome = compiled(lambda text: f"#if defined(__x86_64__)\n{text}\n#else\n{edit(text)}\n#endif\n", target)
    assert outcome.exit_code == 1
    assert failing_sets(outcome, "host") == set()
    assert failing_sets(outcome, target) == {where}
    assert said in " ".join(outcome.report["verdict"]["reasons"])


@pytest.mark.parametrize("quant", ["int16", "float32"])
def test_the_data_beyond_the_ranges_raises_the_status_bits(quant: str) -> None:
    """Every bit of the network's program is raised by some steps, and left alone by others."""
    policy = random_policy(SEED, DtRange(0.5, 2.0, 0.75))
    job = job_for(policy, Request("host", quant, "runtime"))  # type: ignore[arg-type]
    lowered = lower_for(job.container, job.options).lowered
    sets = {one.name: one for one in data_for(job, lowered, job.target.prepare(lowered, job.options).links)}
    found = [run(lowered.program, sets[name].sequences).flags for name in ("outside", "restored")]
    first = "input_nan" if quant == "float32" else "input_saturated"
    for flags, names in zip(found, ((first, "dt_out_of_range"), ("state_clamped",)), strict=True):
        for name in names:
            raised = flags >> FLAGS.index(name) & 1
            assert 0 < raised.mean() < 1, name
    kept = found[1][:, 0] >> FLAGS.index("state_clamped") & 1
    assert kept.tolist() == ([0, 0, 0, 1, 1, 1, 1] if quant == "int16" else [0] * 6 + [1])  # floats have no box
    assert sets["outside"].purpose == sets["restored"].purpose == "bitwise"
