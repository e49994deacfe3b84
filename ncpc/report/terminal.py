"""What a person sees in the terminal: one line per phase, then a table, then the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ncpc.phases import Mark

Json = Mapping[str, Any]
NONE = "-"
MARKS: Mapping[Mark, str] = {"✓": "green", "✗": "red", "-": "yellow"}


class PhaseLines:
    """A ``ncpc.phases.View``: a bar while a phase runs (on a terminal only), one line with its time when it is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None

    def begin(self, name: str) -> None:
        if not self._console.is_terminal:
            return
        columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(32), TimeElapsedColumn()
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task(escape(name), total=None)
        self._bar.start()

    def advance(self, fraction: float) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=1.0, completed=fraction)

    def end(self, name: str, seconds: float, note: str, mark: Mark) -> None:
        self.stop()
        line = f"[{MARKS[mark]}]{mark}[/] {escape(name):<34} {seconds:7.2f} s  [dim]{escape(note)}[/]"
        self._console.print(line, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away, also where a phase was left by an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def result_table(reports: Sequence[Json]) -> Table:
    """One column per target: error, cost, verdict. Narrow, so that a log of 80 characters holds it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(reports[0]["policy"]["name"])
    for report in reports:
        table.add_column(f"{report['target']['name']} {report['quant']['scheme']}", justify="right")
    for name, cell in ROWS.items():
        cells = [cell(report) for report in reports]
        if any(text != NONE for text in cells):
            table.add_row(name, *cells)
    return table


def _error(name: str) -> Callable[[Json], str]:
    return lambda report: share((report["error"] or {}).get(name))


def _bytes(name: str) -> Callable[[Json], str]:
    return lambda report: size((report["memory"] or {}).get(f"{name}_bytes"))


def _own(name: str) -> Callable[[Json], str]:
    """A number that only some targets report."""
    def cell(report: Json) -> str:
        value = (report["extra"].get(report["target"]["name"]) or {}).get(name)
        return NONE if value is None else f"{value:,}"
    return cell


def _verified(report: Json) -> str:
    ran = [link for link in report["links"] if link["holds"]]
    return f"{len(ran)} of {len(report['links'])} links"


def _steps(report: Json) -> str:
    return next((f"{link['steps']:,}" for link in reversed(report["links"]) if link["holds"]), NONE)


def _verdict(report: Json) -> str:
    return "[green]holds[/]" if report["verdict"]["holds"] else "[red]does not hold[/]"


ROWS: dict[str, Callable[[Json], str]] = {
    "max error": _error("max_range"),
    "rms error": _error("nrmse_range"),
    "worst found": lambda report: share(((report["error"] or {}).get("search") or {}).get("max_range")),
    "cycles per step": lambda report: cycles(report) if report["cycles"] else NONE,
    "instructions per step": lambda report: f"{report['instructions']['max']:,}" if report["instructions"] else NONE,
    "flash": _bytes("flash"),
    "RAM": _bytes("ram"),
    "stack": _bytes("stack"),
    "threshold units": _own("units"),
    "ticks per step": _own("ticks_per_step"),
    "spikes per step": _own("spikes_per_step"),
    "messages per step": _own("messages_per_step"),
    "synaptic events per step": _own("synaptic_events_per_step"),
    "links that hold": _verified,
    "steps compared": _steps,
    "verdict": _verdict,
}


def explanations(report: Json) -> list[str]:
    """The lines under a table: why the verdict does not hold, what was not run, what the cycles mean."""
    verdict, target = report["verdict"], report["target"]
    lines = [f"[red]{target['name']}:[/] {escape(reason)}" for reason in verdict["reasons"]]
    lines += [f"[yellow]{target['name']}: not run:[/] {escape(text)}" for text in verdict["not_run"]]
    limited = ((report["error"] or {}).get("status") or {}).get("activation_limited")
    if limited:
        lines.append(f"[yellow]{target['name']}: in {limited:,} of {report['error']['steps']:,} steps a value between "
                     "layers left the range it was calibrated for and was limited:[/] calibrate with such inputs")
    meaning = TIMING.get(target["timing_class"] or "")
    return lines + ([f"[dim]{target['name']}: {meaning}[/]"] if meaning and report["instructions"] else [])


TIMING = {
    "rtl-checked": "cycles are equal to the processor's own RTL on the committed comparison",
    "manual": "cycles follow the core's manual; not checked against hardware",
    "bounds": "cycles are an upper bound from the core's manual; not checked against hardware",
    "count": "no cycle model for this core: instructions are counted",
}


def cycles(report: Json) -> str:
    """Cycles per step, worst case seen; instructions where cycles are not modelled."""
    if report["cycles"] is not None:
        lower, upper = report["cycles"]["lower"]["max"], report["cycles"]["upper"]["max"]
        return f"{upper:,}" if lower == upper else f"≤ {upper:,}"
    return NONE if report["instructions"] is None else f"{report['instructions']['max']:,} instr."


def share(fraction: float | None) -> str:
    """A fraction of the output range as a percentage."""
    return NONE if fraction is None else f"{100 * fraction:.3g} %"


def size(count: int | None) -> str:
    """Bytes, in kB from 10,000 and MB from 1,000,000 on."""
    if count is None:
        return NONE
    if count >= 1_000_000:
        return f"{count / 1e6:.2f} MB"
    return f"{count / 1000:.1f} kB" if count >= 10_000 else f"{count:,} B"
