"""Boards as data, the time of a step on them, and deadlines."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from ncpc.cli.commands import run
from ncpc.cores import load_core
from ncpc.cores.boards import Board, board_text, boards, likely_board, load_board
from ncpc.cores.boards.clock import Setup, hertz, setup_of
from ncpc.driver.pipeline import misfits
from ncpc.errors import EXIT_DOES_NOT_HOLD, EXIT_HOLDS, BadInput, ProofFailed, Unsupported
from ncpc.inspect.targets import board_records, board_table
from ncpc.ir.policy import Dense, Policy
from ncpc.targets.base import Built, CompileOptions, CycleCounts, Memory
from ncpc.targets.c.fit import require_fit, with_memories
from ncpc.targets.c.interface import interface_of
from ncpc.targets.registry import load
from ncpc.verification.deadline import left_out, missed, step_time
from tests.c_programs import fixed_program

CARTPOLE = Path(__file__).parent.parent / "examples" / "cartpole" / "policy.safetensors"
BENCH = Board("bench", "a bench", "stm32f407", 100_000_000, 1 << 20, 1 << 17, 3, ("a test",))
OWN = 'chip = "stm32f407"\nclock_hz = 100_000_000\nflash_bytes = 0x10000\nram_bytes = 0x2000\n'
CYCLES = st.integers(1, 10**9)


def setup(clock: Fraction | int = 10**8, rate: Fraction | int | None = None, board: Board | None = None) -> Setup:
    return Setup(board, Fraction(clock), None if rate is None else Fraction(rate))


def counts(*cycles: int) -> CycleCounts:
    return CycleCounts(np.array(cycles), np.array(cycles))


@pytest.mark.parametrize("board", boards(), ids=lambda board: board.name)
def test_every_board_is_whole(board: Board) -> None:
    """Its chip has a core, its memories lie in that core's map, and every figure names a source."""
    chip = with_memories(board.core, {"board": board.name})
    assert (chip.flash.size, chip.ram.size) == (board.flash_bytes, board.ram_bytes)
    assert 10**6 <= board.clock_hz <= 10**9
    assert len(board.sources) == (1 if board.wait_states is None else 2)
    assert load_board(board.name) is board
    assert setup_of(board.core, {"board": board.name}) == Setup(board, Fraction(board.clock_hz), None)
    with pytest.raises(Unsupported, match=f"target '{board.name}': a board, no target; compile with --board"):
        load(board.name)


def test_boards_are_listed_in_80_columns() -> None:
    table = Console(width=80, record=True, file=io.StringIO())
    table.print(board_table(board_records()))
    shown = table.export_text()
    assert all(f"│ {board.name} " in shown for board in boards())
    assert "…" not in shown


@pytest.mark.parametrize(("name", "words"), [
    ("nucleol4r5", "did you mean 'nucleo-l4r5'"), ("Nano33", "did you mean 'nano33ble'"),
    ("teensy4.1", "did you mean 'teensy41'"), ("esp32-c3", "did you mean 'esp32c3-devkit'"),
    ("stm32f405", "its core is 'cortex-m4f'"), ("uno", "an AVR processor"), ("esp32s3", "an Xtensa processor"),
    ("zzz", "unknown; 'ncpc targets --boards' lists them"), ("{", "neither the name of a board nor"),
])
def test_an_unknown_board_is_answered_with_the_nearest(name: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        load_board(name)
    assert likely_board("zzz") is None


@pytest.mark.parametrize(("core", "options", "words"), [
    ("cortex-m0", {"board": "nano33ble"}, "its core is cortex-m4f, not cortex-m0; leave out --target"),
    ("cortex-m4", {"rate-hz": "50"}, "of what clock"),
    ("cortex-m7", {"board": "teensy41", "rate-hz": "50"}, "no model of cycles"),
    ("cortex-m4", {"clock": "0"}, "--clock 0: give a frequency"),
    ("cortex-m4", {"clock": "1e6"}, "--clock 1e6: give a frequency"),
    ("cortex-m4", {"clock": "168M", "rate-hz": "-1"}, "--rate-hz -1: give a frequency"),
])
def test_what_contradicts_is_told_in_a_line(core: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        setup_of(load_core(core), options)


@pytest.mark.parametrize(("text", "value"), [
    ("168M", 168 * 10**6), ("64 MHz", 64 * 10**6), ("32.768k", 32768), ("0.1", Fraction(1, 10)), ("1G", 10**9),
])
def test_frequencies_are_read_exactly(text: str, value: Fraction) -> None:
    assert hertz("clock", text) == value


@given(CYCLES, CYCLES, st.integers(1, 10**10))
def test_a_deadline_is_missed_exactly_past_the_worst_case(most: int, clock: int, rate: int) -> None:
    """cycles * rate <= clock, in whole numbers: no rounding decides."""
    time = step_time(setup(clock, rate), counts(most), None)
    assert (time.deadline == "missed") == (most * rate > clock)
    assert step_time(setup(clock, Fraction(clock, most)), counts(most), None).deadline != "missed"


@given(CYCLES, CYCLES, CYCLES)
def test_the_proved_worst_case_decides_where_there_is_one(seen: int, wcet: int, clock: int) -> None:
    time = step_time(setup(clock, 1), counts(seen), wcet)
    assert (time.most, time.proved, time.least) == (wcet, True, seen)
    assert time.microseconds(wcet) == pytest.approx(wcet * 1e6 / clock)
    assert time.record()["most_of"] == "any input"
    assert step_time(setup(clock), counts(seen, 2 * seen), None).most == 2 * seen


@given(CYCLES, st.integers(0, 20), CYCLES)
def test_wait_states_never_make_a_step_faster(most: int, waits: int, clock: int) -> None:
    """And at no clock above the board's are they known; without them a step takes what was counted."""
    board = Board("bench", "", "stm32f4", clock, 4096, 4096, waits, ())
    time = step_time(setup(clock, board=board), counts(most), None)
    assert time.waiting == most * (1 if waits == 0 else 2 + 4 * waits)
    assert step_time(setup(clock + 1, board=board), counts(most), None).waiting is None
    assert step_time(setup(clock), counts(most), None).waiting is None


def test_a_deadline_says_what_it_rests_on() -> None:
    """1,000 cycles at 100 MHz: 10 us, and 140 us were every access to wait 3 cycles."""
    def at(rate: int, wcet: int | None = 1000, board: Board | None = BENCH) -> tuple[str | None, str]:
        time = step_time(setup(rate=rate, board=board), counts(1000), wcet)
        return time.deadline, "; ".join(left_out(time))

    assert at(7000) == ("holds", "")
    assert at(7143)[0] == "holds without wait states"
    assert "with 3 of them a step could take up to 140 us" in at(7143)[1]
    assert at(100_000)[0] == "holds without wait states"
    assert at(100_001) == ("missed", "")
    assert "what they cost is not known here" in at(50, board=None)[1]
    assert "the worst case was not proved" in at(50, wcet=None)[1]
    words = missed(step_time(setup(rate=100_001, board=BENCH), counts(1000), 1000))
    assert "up to 1,000 cycles (for any input), 10 us at 100 MHz" in words
    assert "--rate-hz 100000 holds at this clock, 100.001 MHz or more" in words


@given(CYCLES, CYCLES)
def test_the_rate_that_is_advised_holds(most: int, clock: int) -> None:
    words = missed(step_time(setup(clock, 10**10), counts(most), None))
    rate = Fraction(words.split("--rate-hz ")[1].split()[0])
    assert most * rate <= clock


def test_cycles_that_nobody_counted_give_no_time() -> None:
    time = step_time(setup(rate=50), None, None)
    assert (time.deadline, time.record()["most_us"], left_out(time)) == (None, None, ())


@pytest.mark.parametrize(("text", "words"), [
    ("chip = 1", "chip: give a text"), ("chip = 'z80'\n", "chip 'z80': of no known core"),
    ("clock_hz = 0", "clock_hz: give a whole number above 0"),
    ("ram_bytes = 1000", "ram_bytes: give a multiple of 4096"),
    ("flash_bytes = true", "flash_bytes: give a whole number"), ("wait_states = -1", "wait_states: give 0 to 1000"),
    ("colour = 'red'", "no entry 'colour' is known"), ("sources = []", "sources: give a list"),
    ("name = ''", "name: give a short name"), ("= 3", "cannot be read"),
])
def test_a_wrong_entry_of_a_board_of_ones_own_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    entry = text.split(" =")[0]
    (tmp_path / "mine.toml").write_text("".join(line + "\n" for line in (*OWN.splitlines(), text)
                                                if line == text or not line.startswith(entry + " ")))
    with pytest.raises(BadInput, match=words) as told:
        board_text(tmp_path / "mine.toml")
    assert "\n" not in str(told.value).strip()


def test_what_does_not_fit_names_boards_that_hold_it() -> None:
    rng = np.random.default_rng(0)
    face = interface_of(fixed_program(Policy("net", (Dense(rng.normal(size=(300, 200)), rng.normal(size=300)),),
                                             np.tile([-1.0, 1.0], (200, 1)))))
    board = load_board("nucleo-f030r8")
    with pytest.raises(ProofFailed, match=r"120,000 bytes of flash, nucleo-f030r8 has 65,536; boards that have room: "):
        require_fit(face, with_memories(board.core, {"board": board.name}), board)
    options = CompileOptions(extra={"board": "bluepill"})
    job = SimpleNamespace(target=load("cortex-m3"), options=options)
    lines = misfits(job, Built(memory=Memory(70_000, 9_000, None, 65_536, 20_480)))  # type: ignore[arg-type]
    assert len(lines) == 1
    assert "needs 70,000 bytes of flash, bluepill has 65,536; fewer bits (--quant)" in lines[0]
    assert all(load_board(name).flash_bytes >= 70_000 for name in lines[0].split("room: ")[1].split(", "))


def test_a_deadline_holds_and_fails_and_verify_repeats_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped cart-pole on a board of the user's own; the folder alone is enough to verify it."""
    file = tmp_path / "mine.toml"
    file.write_text(OWN + "wait_states = 3\n")
    quick = ["--steps", "200", "--verdict", "data", "--json"]

    def compiled(rate: str, code: int) -> dict[str, object]:
        given = ["--board-file", str(file), "--rate-hz", rate, "--quant", "int16", "--out", str(tmp_path / rate)]
        assert run(["compile", str(CARTPOLE), *given, *quick]) == code
        report: dict[str, object] = json.loads(capsys.readouterr().out)
        return report

    held, late = compiled("50", EXIT_HOLDS), compiled("20k", EXIT_DOES_NOT_HOLD)
    assert held["target"]["name"] == "cortex-m4f"  # type: ignore[index]
    assert (held["time"]["deadline"], held["time"]["most_of"]) == ("holds", "any input")  # type: ignore[index]
    assert held["time"]["most_us"] == held["cycles"]["wcet"] / 100  # type: ignore[index]
    assert late["explanation"] is None
    (reason,) = late["verdict"]["reasons"]  # type: ignore[index]
    assert reason.startswith("deadline missed: a step takes up to ")
    file.unlink()
    assert run(["verify", str(tmp_path / "20k"), "--json"]) == EXIT_DOES_NOT_HOLD
    assert json.loads(capsys.readouterr().out) == late
    assert "deadline missed" in (tmp_path / "20k" / "report.html").read_text()
