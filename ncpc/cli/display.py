"""What commands show while they work and when they are done: phase lines, then a table or JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import click
from rich.console import Console

from ncpc.driver.comparison import between, lines
from ncpc.driver.pipeline import Outcome
from ncpc.errors import EXIT_HOLDS, MissingTool
from ncpc.phases import Phases, Silent
from ncpc.report import terminal
from ncpc.report.record import dumps

T = TypeVar("T")


def watched(as_json: bool, least: float = 0.0) -> tuple[Phases, Callable[[], None]]:
    """Phases shown on the terminal, or silent ones for machines; and what takes the bar away after an error. A phase of
    less than ``least`` seconds leaves no line; so that a log tells what is waited for, standard error is then given one
    as each begins, where that is no terminal.
    """
    if as_json:
        return Phases(Silent()), lambda: None
    log = partial(click.echo, err=True) if least and not sys.stderr.isatty() else None
    lines = terminal.PhaseLines(Console(), least, log)
    return Phases(lines), lines.stop


def watch(as_json: bool, work: Callable[[Phases], T], least: float = 0.0) -> T:
    """What ``work`` gives, its phases shown; the bar is taken away whatever happens."""
    phases, stop = watched(as_json, least)
    try:
        return work(phases)
    finally:
        stop()


def show(outcomes: list[Outcome], as_json: bool) -> None:
    """Reports as JSON (several targets: ``reports`` and ``between``, the distances), or as a table with remarks."""
    reports = [outcome.report for outcome in outcomes]
    distances = between(outcomes)
    if as_json:
        click.echo(dumps(reports[0] if len(reports) == 1 else {"reports": reports, "between": distances}), nl=False)
        return
    console = Console()
    console.print(terminal.result_table(reports))
    remarks = dict.fromkeys(line for report in reports for line in terminal.explanations(report))
    for line in ("[dim]errors are given in % of the output range[/]", *remarks, *lines(distances)):
        console.print(line, highlight=False, soft_wrap=True)


def worst_code(outcomes: list[Outcome]) -> int:
    """The worst exit code."""
    codes = [outcome.exit_code for outcome in outcomes]
    return next((code for code in (1, MissingTool.exit_code) if code in codes), EXIT_HOLDS)
