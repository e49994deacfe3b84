"""The targets, and the simulators of NIR files: what each is, what of it is missing here."""

from __future__ import annotations

import dataclasses

from rich.markup import escape
from rich.table import Table

from ncpc.cores.boards import boards
from ncpc.errors import NcpcError
from ncpc.ir.schemes import shown
from ncpc.report.record import Json
from ncpc.targets import registry


def target_records() -> list[Json]:
    """Every target: what it is, what it needs, what of that is missing."""
    return [_target_record(name) for name in registry.names()]


def _target_record(name: str) -> Json:
    try:
        target = registry.load(name)
    except NcpcError as error:
        return {"name": name, "summary": str(error), "core": None, "timing_class": None, "quant": [], "needs": [],
                "missing": [], "install": []}
    absent = registry.missing(target)
    return {
        "name": name,
        "summary": target.summary,
        "core": target.core,
        "timing_class": target.timing_class,
        "quant": list(target.capabilities.schemes),
        "needs": [f"{need.module} ({need.purpose})" for need in target.requirements],
        "missing": [f"{need.module}, for {need.purpose}: pip install 'ncpc[{need.extra}]'" for need in absent],
        "install": sorted({need.extra for need in absent}),
    }


def target_table(records: list[Json]) -> Table:
    """The targets for people."""
    every = max((record["quant"] for record in records), key=len)
    caption = (f"every: {', '.join(map(shown, every))}\n"
               "cycles: as on the core's RTL, by its manual, between bounds, or a count of instructions alone")
    table = Table(caption=caption, caption_justify="left")
    table.add_column("target", no_wrap=True)
    for name in ("what it is", "quant", "cycles", "state"):
        table.add_column(name)
    for record in records:
        install = escape(f"pip install 'ncpc[{','.join(record['install'])}]'")
        state = f"[yellow]{install}[/]" if record["install"] else "[green]ready[/]"
        quant = "every" if record["quant"] == every else ", ".join(map(shown, record["quant"]))
        table.add_row(record["name"], record["summary"], quant, record["timing_class"] or "", state)
    return table


def board_records() -> list[Json]:
    """Every board: chip, core, clock in Hz, memories in bytes, wait states, where the figures are from."""
    return [{"name": board.name, "title": board.title, "chip": board.chip, "core": board.core.name,
             "timing_class": board.core.timing_class, "clock_hz": board.clock_hz, "flash_bytes": board.flash_bytes,
             "ram_bytes": board.ram_bytes, "wait_states": board.wait_states, "sources": list(board.sources)}
            for board in boards()]


def board_table(records: list[Json]) -> Table:
    """The boards for people, in 80 columns."""
    caption = ("waits: wait states of the flash at that clock; -: not known, or behind a cache\n"
               "cycles: by the core's manual, between bounds, or a count of instructions\n"
               "alone, of which no time can be told; where all figures are from: --json")
    table = Table(caption=caption, caption_justify="left")
    table.add_column("board", no_wrap=True)
    table.add_column("core", no_wrap=True)
    for name in ("MHz", "flash", "RAM", "waits"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("cycles", no_wrap=True)
    for one in records:
        waits = "-" if one["wait_states"] is None else str(one["wait_states"])
        table.add_row(one["name"], one["core"], f"{one['clock_hz'] / 1e6:g}", f"{one['flash_bytes'] >> 10} kB",
                      f"{one['ram_bytes'] >> 10} kB", waits, one["timing_class"])
    return table


def consumer_records() -> list[Json]:
    """The simulators of NIR files: version, what each makes of the two forms of recurrence, what is missing."""
    from ncpc.targets.nir.probe import findings

    return [dataclasses.asdict(found) for found in findings()]


def consumer_table(records: list[Json]) -> Table:
    """The simulators for people."""
    forms = list(dict.fromkeys(form for record in records for form in record["cycles"]))
    table = Table()
    for name in ("simulator", "version", *forms, "single spikes"):
        table.add_column(name)
    for record in records:
        if record["version"] is None:
            table.add_row(record["name"], "[yellow]missing[/]")
            continue
        told = [_told(record["cycles"][form]) for form in forms]
        table.add_row(record["name"], record["version"], *told, "readable" if record["spikes"] else "hidden")
    return table


def consumer_notes(records: list[Json]) -> list[str]:
    """What is missing, a line each."""
    return [record["note"] for record in records if record["note"]]


def _told(outcome: str) -> str:
    return f"[{'green' if outcome == 'as written' else 'red'}]{escape(outcome)}[/]"
