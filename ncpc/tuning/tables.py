"""A tuning for people: what each thing does alone, the front, the choice and why. 80 columns hold it."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.markup import escape
from rich.table import Table

from ncpc.report.record import Json
from ncpc.report.terminal import share

SHOWN = 8
"""Rows of the table of roundings."""


def sensitivity_tables(record: Json) -> list[Table]:
    """One rounding at a time, one change at a time."""
    found = record["sensitivity"]
    tables = [_roundings(found["roundings"])]
    if found["changes"]:
        tables.append(_changes(found["changes"]))
    return [table for table in tables if table.row_count]


def _table(title: str, *columns: str, left: int = 1) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left")
    for place, name in enumerate(columns):
        table.add_column(name, justify="left" if place < left else "right", overflow="fold")
    return table


def _roundings(schemes: Json) -> Table:
    """Values with the largest cost in any scheme, one column for each that rounds to integers."""
    rounded = {name: one for name, one in schemes.items() if not one["why"]}
    table = _table("one rounding at a time, % of the output range", "rounded value", *rounded)
    costs = {name: {(row["layer"], row["value"]): row["error"] for row in one["values"]}
             for name, one in rounded.items()}
    keys = {key: max(one.get(key, 0.0) for one in costs.values()) for one in costs.values() for key in one}
    for layer, value in sorted(keys, key=lambda key: -keys[key])[:SHOWN]:
        table.add_row(f"{value} ({layer})", *(share(one.get((layer, value))) for one in costs.values()))
    if rounded:
        table.add_row("weights and tables, as stored", *(share(one["stored"]) for one in rounded.values()))
        table.add_row("all together", *(share(one["all"]) for one in rounded.values()))
    return table


def _changes(changes: list[Json]) -> Table:
    """Those that were refused are named under the table, with the reason of the first."""
    table = _table("one change at a time, in float64", "change", "error", "tried", "")
    for one in (one for one in changes if one["error"] is not None):
        table.add_row(f"{one['knob']} {one['value']}", share(one["error"]), "yes" if one["tried"] else "no", one["why"])
    refused = [one for one in changes if one["error"] is None]
    if refused:
        names = ", ".join(one["value"] for one in refused)
        table.caption = escape(f"refused: {names}; the first, as {refused[0]['why']}")
    return table


def front_table(record: Json) -> Table:
    """The points that no other is better than, cheapest first, the chosen one marked."""
    knobs = [knob for knob, values in record["space"].items() if len(values) > 1 or knob == "quant"]
    count = f"{len(record['points'])} of {record['combinations']} combinations"
    table = _table(f"{record['policy']} on {record['target']}: {count} measured, none is better than these",
                   *knobs, *record["costs"], "error", "meets", left=len(knobs))
    chosen = (record["chosen"] or record["nearest"] or {}).get("point")
    for row in (record["points"][k] for k in record["front"]):
        cells = [*(row["point"][knob] for knob in knobs), *(f"{row['costs'][name]:,}" for name in record["costs"]),
                 share(row["error"]), "yes" if row["meets"] else "no"]
        table.add_row(*cells, style="bold" if row["point"] == chosen else None)
    return table


def lines(record: Json, folder: str) -> Iterator[str]:
    """What is said under the tables."""
    failed = [row for row in record["points"] if row["error"] is None]
    if failed:
        yield (f"[yellow]{len(failed)} of {len(record['points'])} points came to nothing[/], the first: "
               f"{escape(' '.join(failed[0]['point'].values()))}: {escape(failed[0]['reasons'][0])}")
    if record["chosen"] is not None:
        yield f"[green]chosen:[/] {escape(_words(record['chosen']))}" if record["chosen"]["meets"] else (
            f"[red]chosen, and does not hold:[/] {escape(_words(record['chosen']))}")
    elif record["nearest"] is not None:
        yield f"[red]no point meets everything; the nearest:[/] {escape(_words(record['nearest']))}"
    yield from (f"  {escape(line)}" for line in record["why"])
    if record["command"]:
        yield f"{folder}/chosen is made again by"
        yield f"  {escape(record['command'])}"


def _words(row: Json) -> str:
    return ", ".join(f"{knob} {value}" for knob, value in row["point"].items())
