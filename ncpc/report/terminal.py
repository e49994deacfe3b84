"""What a person sees in the terminal: one line per phase, then a table, then the verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ncpc.ir.policy import ASSUMED, COMPARED, DtRange, cautions
from ncpc.phases import Mark
from ncpc.report.theorem import ANSWERS
from ncpc.verification.amplification import MUCH
from ncpc.verification.deadline import megahertz

Json = Mapping[str, Any]
Cell = Callable[[Json], str]
NONE = "-"
NO_DATA = "no data of your own: generated inputs only"
DEAREST = 3
INFORMS = " (for information)"
WORST_CASE = ("[dim]the worst case is of the longest way that any input, dt and state can take; it takes memories "
              "without wait states, and no interrupt[/]")
MARKS: Mapping[Mark, str] = {"✓": "green", "✗": "red", "-": "yellow"}


class PhaseLines:
    """A ``ncpc.phases.View``: a bar while a phase runs (on a terminal only), one line with its time when it is done,
    where that took ``least`` seconds or more. ``log`` is given a plain line as each phase begins, if anywhere.
    """

    def __init__(self, console: Console, least: float = 0.0, log: Callable[[str], None] | None = None) -> None:
        self._console, self._least, self._log = console, least, log
        self._bar: Progress | None = None

    def begin(self, name: str) -> None:
        if self._log is not None:
            self._log(f"{name} ...")
        if not self._console.is_terminal:
            return
        spinner = SpinnerColumn("dots" if self._console.encoding.startswith("utf") else "line")
        columns = spinner, TextColumn("{task.description}"), BarColumn(32), TimeElapsedColumn()
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task(escape(name), total=None)
        self._bar.start()

    def advance(self, fraction: float) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], total=1.0, completed=fraction)

    def end(self, name: str, seconds: float, note: str, mark: Mark) -> None:
        self.stop()
        if seconds < self._least:
            return
        line = f"[{MARKS[mark]}]{mark}[/] {escape(name):<34} {seconds:7.2f} s  [dim]{escape(note)}[/]"
        self._console.print(line, highlight=False, soft_wrap=True)

    def stop(self) -> None:
        """Take the bar away, also where a phase was left by an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def result_table(reports: Sequence[Json]) -> Table:
    """One column per target: error, cost, verdict. Narrow, so that a log of 80 characters holds it."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption_style="yellow")
    table.add_column(reports[0]["policy"]["name"])
    for report in reports:
        table.add_column(f"{report['target']['name']} {report['quant']['scheme']}", justify="right")
    for name, cell in rows(reports).items():
        cells = [cell(report) for report in reports]
        if any(text != NONE for text in cells):
            table.add_row(name, *cells)
    if {one["purpose"] for report in reports for one in report["data"]} == {"generated"}:
        table.caption = NO_DATA
    return table


def rows(reports: Sequence[Json]) -> dict[str, Cell]:
    """Label -> cell: the error on every data set, the search, cost, verdict; what does not count says so."""
    names = list(dict.fromkeys(one["name"] for report in reports for one in report["data"]))
    found: dict[str, Cell] = {}
    if reports[0]["policy"]["dt"]["assumed"]:
        found[f"dt{ASSUMED}"] = lambda report: f"{report['policy']['dt']['nominal']}"
    if reports[0]["policy"]["compared"] in ("parts", "nothing"):
        found["compared with"] = lambda report: COMPARED[report["policy"]["compared"]].partition(",")[0]
    found["max error"] = _error("max_range")
    if len(names) > 1:
        found |= {f"  {name}{_informs(reports, name)}": _on(name, _share_of) for name in names}
    found["rms error"] = _error("nrmse_range")
    found |= {f"same decision, {name}{_informs(reports, name)}": _on(name, _agreement) for name in names}
    found |= {f"recorded y, {name}{_informs(reports, name)}": _on(name, _recorded) for name in names}
    counts = all(report["verdict"]["counts"] == "all" for report in reports)
    found["worst found" if counts else f"worst found{INFORMS}"] = _worst_found
    return found | ROWS


def _informs(reports: Sequence[Json], name: str) -> str:
    """The remark behind a data set that does not count."""
    return "" if any(one["counts"] for report in reports for one in report["data"] if one["name"] == name) else INFORMS


def _on(name: str, cell: Cell) -> Cell:
    """A cell about one data set."""
    def found(report: Json) -> str:
        return next((cell(one) for one in report["data"] if one["name"] == name), NONE)
    return found


def _share_of(one: Json) -> str:
    return share(one["max_range"])


def _agreement(one: Json) -> str:
    found = one["agreement"]
    return NONE if found is None else f"{100 * found['equal'] / found['steps']:.4g} %"


def _recorded(one: Json) -> str:
    return share((one["recorded"] or {}).get("max_range"))


def _worst_found(report: Json) -> str:
    return share(((report["error"] or {}).get("search") or {}).get("max_range"))


def _error(name: str) -> Cell:
    return lambda report: share((report["error"] or {}).get(name))


def _bytes(name: str) -> Cell:
    return lambda report: size((report["memory"] or {}).get(f"{name}_bytes"))


def _own(name: str) -> Cell:
    """A number that only some targets report."""
    def cell(report: Json) -> str:
        value = (report["extra"].get(report["target"]["name"]) or {}).get(name)
        return NONE if value is None else f"{value:,}"
    return cell


def _verified(report: Json) -> str:
    """Links that hold, recorded outputs (``y``) among them."""
    found = [link["holds"] for link in report["links"]]
    found += [one["recorded"]["holds"] for one in report["data"] if one["recorded"] is not None]
    return f"{found.count(True)} of {len(found)} links"


def _worst_case(report: Json) -> str:
    """Cycles, or instructions where those alone are counted, that no step takes more than."""
    ways = (report["theorem"] or {}).get("instructions")
    if ways is None:
        return NONE
    cycles = report["theorem"]["cycles"]
    return f"≤ {ways['most']:,} instr." if cycles is None else f"≤ {cycles['most']:,} cycles"


def _time(report: Json) -> str:
    """Microseconds per step at the clock."""
    time = report.get("time") or {}
    if time.get("most_us") is None:
        return NONE
    return f"{time['least_us']:,.4g} to {time['most_us']:,.4g} us"


def _of_period(report: Json) -> str:
    return share((report.get("time") or {}).get("share"))


def _deadline(report: Json) -> str:
    answer = (report.get("time") or {}).get("deadline")
    colour = {None: "", "holds": "green", "holds without wait states": "yellow", "missed": "red"}[answer]
    return f"[{colour}]{answer}[/]" if answer else NONE


def clocked(time: Json) -> str:
    """What the time of a step is of, in a line."""
    board = f" of {time['board']['title']}" if time["board"] else ""
    rate = "" if time["rate_hz"] is None else f", {time['rate_hz']:,.6g} steps per second"
    if time["most_us"] is None:
        return f"{megahertz(time['clock_hz'])}{board}{rate}: no cycles are known, so no time per step can be told"
    of = {"any input": "the worst case of any input", "steps run": "the slowest of the steps run"}[time["most_of"]]
    waits = ("wait states of the flash are not modelled" if time["waiting_us"] is None else
             "the flash has no wait states" if time["wait_states"] == 0 else
             f"without wait states of the flash; were every access to wait its {time['wait_states']} cycles, at most "
             f"{time['waiting_us']:,.4g} us")
    return f"time at {megahertz(time['clock_hz'])}{board}{rate}: to {of}; {waits}"


def _theorem(report: Json) -> str:
    found = report["theorem"]
    return NONE if found is None else ANSWERS[found["answer"]].said


def _steps(report: Json) -> str:
    return next((f"{link['steps']:,}" for link in reversed(report["links"]) if link["holds"]), NONE)


def _verdict(report: Json) -> str:
    return "[green]holds[/]" if report["verdict"]["holds"] else "[red]does not hold[/]"


ROWS: dict[str, Cell] = {
    "cycles per step": lambda report: cycles(report) if report["cycles"] else NONE,
    "instructions per step": lambda report: f"{report['instructions']['max']:,}" if report["instructions"] else NONE,
    "worst case, any input": _worst_case,
    "time per step": _time,
    "  of the period": _of_period,
    "deadline": _deadline,
    "flash": _bytes("flash"),
    "RAM": _bytes("ram"),
    "stack": _bytes("stack"),
    "  of a step": _bytes("step_stack"),
    "threshold units": _own("units"),
    "ticks per step": _own("ticks_per_step"),
    "spikes per step": _own("spikes_per_step"),
    "messages per step": _own("messages_per_step"),
    "synaptic events per step": _own("synaptic_events_per_step"),
    "links that hold": _verified,
    "ELF = program, any input": _theorem,
    "steps compared": _steps,
    "verdict": _verdict,
}


def explanations(report: Json) -> list[str]:
    """The lines under a table: why the verdict does not hold, what was not run, what the cycles mean."""
    verdict, target = report["verdict"], report["target"]
    dt, compared = DtRange(**report["policy"]["dt"]), report["policy"]["compared"]
    lines = [f"[bold yellow]{one.what}:[/] {one.means}; {one.remedy}" for one in cautions(dt, compared)]
    asked = ", ".join(f"{name} {value}" for name, value in report["asked"].items())
    lines += [f"[dim]{target['name']}: asked for, instead of the defaults:[/] {escape(asked)}"] if asked else []
    lines += [f"[red]{target['name']}:[/] {escape(reason)}" for reason in verdict["reasons"]]
    lines += [f"[red]{target['name']}:[/] {escape(line)}" for line in _causes(report["explanation"])]
    if sum(one["counts"] for one in report["data"]) > 1:
        lines.append(f"{target['name']}: the largest error that counts is on {verdict['worst']}")
    lines += [f"[yellow]{target['name']}: {escape(one['name'])}:[/] {clamped(one['clamping'])}"
              for one in report["data"] if one["clamping"]]
    told = set(verdict["reasons"])
    lines += [f"[yellow]{target['name']}:{'' if _whole(text) else ' not run:'}[/] {escape(text)}"
              for text in verdict["not_run"] if f"not run: {text}" not in told]
    lines += _of_all_inputs(report)
    lines += [f"[dim]{target['name']}: {escape(clocked(report['time']))}[/]"] if "time" in report else []
    certificate = report["extra"].get("certificate")
    if certificate and not certificate["certified"]:
        lines.append(f"[yellow]{target['name']}:[/] {escape(certificate['note'])}")
    error = report["extra"].get("error_certificate")
    if error:
        lines.append(f"[{'green' if error['certified'] else 'yellow'}]{target['name']}:[/] {escape(error['note'])}")
    limited = sum(one["status"].get("activation_limited", 0) for one in report["data"])
    if limited:
        steps = sum(one["steps"] for one in report["data"])
        lines.append(f"[yellow]{target['name']}: in {limited:,} of {steps:,} steps a value between "
                     "layers left the range it was calibrated for and was limited:[/] calibrate with such inputs")
    short = report["policy"]["input_range"]["short"]
    lines += [f"[yellow]{target['name']}: {escape(short)}[/]"] if short else []
    lines += [f"[dim]{target['name']}: {escape(report['quant']['inputs'])}[/]"] if report["quant"]["inputs"] else []
    meaning = TIMING.get(target["timing_class"] or "")
    return lines + ([f"[dim]{target['name']}: {meaning}[/]"] if meaning and report["instructions"] else [])


def _of_all_inputs(report: Json) -> list[str]:
    """What the proof of the linked step rests on, or why it was not decided."""
    found, name = report["theorem"], report["target"]["name"]
    if found is None or found["answer"] == "differs":
        return []
    if found["answer"] == "undecided":
        return [f"[yellow]{name}: not decided for every input that the ELF is the program:[/] {escape(found['why'])}"]
    return [f"[green]{name}: proved:[/] the linked step is the program for all inputs, every dt and all states in the "
            f"box, {found['shown']} of {found['outcomes']} outcomes",
            f"[dim]the proof assumes: {escape('; '.join(found['assumes']))}[/]",
            *([WORST_CASE] if found["cycles"] else [])]


def _causes(why: Json | None) -> list[str]:
    """The dearest roundings, and what to try."""
    if why is None:
        return []
    lines, found = [*filter(None, [amplifies(why["amplified"])])], why["roundings"]
    if found is not None:
        dearest = ", ".join(f"{one['value']} ({one['layer']}, {one['format']}) {share(one['max_range'])}"
                            for one in found["values"][:DEAREST])
        lines.append(f"rounded alone, what costs most there: {dearest}; all together {share(found['all'])}")
    return [*lines, "what to try: " + "; ".join(why["advice"])]


def amplifies(found: Json | None) -> str:
    """What the float network makes of small changes, in words; none where it does not amplify."""
    if found is None or found["gain"] < MUCH:
        return ""
    return ("the network itself amplifies there, in floating point too: a change of all states by 0.001 % of what they "
            f"span, {found['ahead']} steps earlier, moves an output by {share(found['gain'] * 1e-5)} of its range")


def _whole(text: str) -> bool:
    """Whether a line about what was left out says by itself that it was: "net.so was not built again: ..."."""
    return " was not " in text or " were not " in text


def clamped(found: Json) -> str:
    """How much of an error is clamping, in words."""
    beyond, what = ("its declared range", ", which counts") if found["declared"] else ("what the format holds", "")
    whole, limits, rounding = (share(found[name]) for name in ("whole", "clamping", "arithmetic"))
    return (f"in {found['steps']:,} steps an input lies beyond {beyond}; against unlimited inputs the error is "
            f"{whole}: {limits} clamping, {rounding} arithmetic{what}")


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
