"""What options take besides words and numbers: files to be written, shares of a range, solvers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import click

from ncpc.ir.schemes import ALIASES, SCHEMES, canonical
from ncpc.ir.tableau import TABLEAUS
from ncpc.system.files import require_writable

MOST_STEPS = 10_000
"""The most steps that a fixed solver takes."""


class NewFile(click.Path):
    """A file to be written when all is done: that it can be is looked at before anything is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        require_writable(value)
        return Path(value)


class ShareOfRange(click.ParamType[float]):
    """A positive fraction of the output range: ``0.005`` or ``0.5%``, the same number."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip()
        try:
            found = float(Decimal(text.removesuffix("%").strip()) / (100 if text.endswith("%") else 1))
        except (InvalidOperation, OverflowError):
            found = 0.0
        if not 0 < found < float("inf"):
            self.fail(f"'{value}' is no positive share of the output range; give one such as 0.5% or 0.005", param, ctx)
        return found


class SchemeName(click.Choice[str]):
    """A number scheme's own name, of that or another name of it."""

    def __init__(self, *arithmetic: str) -> None:
        held = [name for name, row in SCHEMES.items() if row.arithmetic in arithmetic]
        super().__init__([*held, *(name for name, own in ALIASES.items() if own in held)])

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return canonical(super().convert(value, param, ctx))


class FixedSolver(click.ParamType[tuple[str, int]]):
    """A method of ``TABLEAUS`` and a number of its steps: ``rk4:8``."""

    name = "method:steps"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        method, _, count = str(value).partition(":")
        if method not in TABLEAUS or not count.isdecimal() or not 1 <= int(count) <= MOST_STEPS:
            self.fail(f"'{value}' is no method and number of steps; give one of {', '.join(TABLEAUS)} and 1 to "
                      f"{MOST_STEPS}, as rk4:8", param, ctx)
        return method, int(count)


class PositiveNumber(click.ParamType[float]):
    """A number above 0, and no infinite one."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(value)
        except ValueError:
            found = 0.0
        if not 0 < found < float("inf"):
            self.fail(f"'{value}' is no number above 0", param, ctx)
        return found


class SecondsOrOff(click.ParamType[Any]):
    """A positive number of seconds, ``10`` or ``10s``; or ``off``."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip()
        try:
            found = 0.0 if text == "off" else float(text.removesuffix("s"))
        except ValueError:
            found = 0.0
        if text != "off" and not 0 < found < float("inf"):
            self.fail(f"'{value}' is no time; give seconds such as 10, or off", param, ctx)
        return found or "off"
