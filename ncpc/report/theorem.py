"""What a proof of the linked step found, as JSON and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ncpc.phases import Mark
from ncpc.theorem.theorem import ASSUMPTIONS, Theorem


@dataclass(frozen=True)
class AnswerWords:
    """An answer for people: what it is called, its mark behind a phase."""

    said: str
    mark: Mark


ANSWERS: Mapping[str, AnswerWords] = {
    "proved": AnswerWords("proved", "✓"),
    "differs": AnswerWords("differs", "✗"),
    "undecided": AnswerWords("not decided", "-"),
}


def theorem_record(found: Theorem, replay: str | None = None) -> dict[str, Any]:
    """A theorem as report.json has it. ``replay``: what the simulator leaves of the counterexample, in words."""
    witness = found.counterexample
    return {
        "answer": found.answer, "why": found.why or None, "settled": found.settled,
        "outcomes": found.outcomes, "shown": found.shown,
        "instructions": {"least": found.least, "most": found.most} if found.outcomes else None,
        "stack_bytes": found.stack_bytes if found.outcomes else None,
        "cycles": {"least": found.cycles.lower, "most": found.cycles.upper} if found.cycles else None,
        "sites": list(found.sites),
        "counterexample": None if witness is None else {
            "outcome": witness.what, "core": witness.got, "program": witness.wanted,
            "raw": {name: numbers.tolist() for name, numbers in witness.raw.items()}, "simulator": replay},
        "assumes": list(ASSUMPTIONS),
    }


def theorem_lines(record: dict[str, Any], title: str, built: bool = True) -> Iterator[str]:
    """A record in words, the answer first, behind ``title``; ``built``: of a build's own ELF, which was run as well."""
    if record["answer"] == "proved":
        yield f"{title}: proved for all inputs, every dt and all states in the box"
    else:
        yield f"{title}: {ANSWERS[record['answer']].said}: {record['why']}"
    if record["outcomes"]:
        shown = f"{record['shown']} of {record['outcomes']}"
        yield f"  outcomes      {shown}: states, outputs, status word, kept registers, stack"
        ways = record["instructions"]
        yield f"  instructions  {ways['least']:,} to {ways['most']:,} a step, on the shortest and the longest way"
        if record["cycles"] is not None:
            yield f"  cycles        {record['cycles']['least']:,} to {record['cycles']['most']:,} a step, on any way"
        if record["sites"]:
            yield f"  data decides at {', '.join(record['sites'])}"
        yield f"  stack         {record['stack_bytes']:,} bytes below the stack pointer"
    witness = record["counterexample"]
    if witness is not None:
        yield from (f"  {name:<12}  {numbers}" for name, numbers in witness["raw"].items())
        yield f"  in the simulator: {witness['simulator']}"
    if record["answer"] == "undecided":
        says = "this says nothing against the build, whose bitwise links stand" if built else (
            "nothing is shown of this program: it was not run, either")
        yield f"  {says}; docs/theorem.md tells what is covered"
    if record["answer"] == "proved":
        yield from ("  assumed: " + text for text in record["assumes"])
