"""report.html: one self-contained page, no scripts, no links; everything drawn as SVG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ncpc.ir.policy import Policy, cautions
from ncpc.report import plots
from ncpc.report.blocks import blocks
from ncpc.report.drawing import drawings
from ncpc.report.record import Json, ReportFacts, device_run
from ncpc.report.terminal import INFORMS, NO_DATA, TIMING, amplifies, clamped, clocked, cycles, share, size
from ncpc.report.wiring import left_out, wiring
from ncpc.targets.base import CycleCounts
from ncpc.verification.deadline import megahertz
from ncpc.verification.explain import Explanation
from ncpc.verification.rounding import Costs
from ncpc.verification.verdict import Measured, Verification

PROVED = ("No input and timespan in the declared ranges can ever drive a state out of its outer bar, nor any integer "
          "of a step past its width.")
BEFORE, AFTER = 90, 30
"""Steps drawn before and after the one where the error is largest."""
SHOWN_STEPS, SHOWN_OUTPUTS, SHOWN_NEURONS = 300, 3, 40


@dataclass(frozen=True)
class Figure:
    """A chart with its title, a sentence under it, and the legend: (css class, text)."""

    title: str
    svg: Markup
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class PageSection:
    """A heading and its figures."""

    title: str
    figures: tuple[Figure, ...]


def page(report: Json, facts: ReportFacts) -> str:
    """The page for a report; the same report and verification give the same text."""
    sections = tuple(s for s in (draw(report, facts) for draw in SECTIONS) if s is not None and s.figures)
    text: str = _template().render(
        report=report, sections=sections, cards=cards(report), share=share, size=size, details=details(report["extra"]),
        dt=facts.policy.dt, cautions=cautions(facts.policy.dt, facts.policy.compared), clamped=clamped,
        no_data=NO_DATA if {one["purpose"] for one in report["data"]} == {"generated"} else "",
        clocked=clocked(report["time"]) if "time" in report else "",
        meaning=TIMING.get(report["target"]["timing_class"] or ""),
    )
    return text


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader("ncpc.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )
    return environment.get_template("page.html.j2")


def details(extra: Json) -> list[tuple[str, str]]:
    """What the target and the runs add, a row each: names joined along the way, what is nothing left out."""
    rows: list[tuple[str, str]] = []
    for key, value in extra.items():
        name = key.replace("_", " ")
        if isinstance(value, dict) and value.keys() == {"value", "unit", "source"}:
            rows.append((name, f"{value['value']:,} {value['unit']} ({value['source']})"))
        elif isinstance(value, dict):
            rows += [(f"{name}: {inner}", text) for inner, text in details(value)]
        elif value not in (None, "", []):
            rows.append((name, _text(value)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def cards(report: Json) -> list[tuple[str, str, str]]:
    """The numbers at the top: (name, value, remark)."""
    error, memory, verdict = report["error"] or {}, report["memory"] or {}, report["verdict"]
    search = error.get("search") or {}
    found = [
        ("max error", share(error.get("max_range")),
         f"of the output range on {verdict['worst']}, allowed {share(verdict['tolerance'])}"),
        ("rms error", share(error.get("nrmse_range")), "of the output range"),
        ("worst input found", share(search.get("max_range")), f"by search{'' if verdict['strict'] else INFORMS}"),
    ]
    if report["instructions"] is not None:
        what = "cycles per step" if report["cycles"] else "instructions per step"
        found.append((what, cycles(report), "at most, over all steps run"))
        if report["cycles"] and report["cycles"]["wcet"] is not None:
            found.append(("worst case", f"≤ {report['cycles']['wcet']:,}", "cycles per step, for any input and state"))
    time = report.get("time") or {}
    if time.get("most_us") is not None:
        found.append(("time per step", f"≤ {time['most_us']:,.4g} us", f"at {megahertz(time['clock_hz'])}"))
    if time.get("deadline") is not None:
        rate = f"deadline, {time['rate_hz']:,.6g} Hz"
        found.append((rate, share(time["share"]), f"of the period; {time['deadline']}"))
    if memory:
        found += [("flash", size(memory["flash_bytes"]), "code and constants"),
                  ("RAM", size(memory["ram_bytes"]), "static state"),
                  ("stack", size(memory["stack_bytes"]), f"deepest seen; of a step {size(memory['step_stack_bytes'])}")]
    return found


def _traces(report: Json, facts: ReportFacts) -> PageSection | None:
    check = facts.verification
    if check is None:
        return None
    drawn = [(found, row) for found in check.measured for row in _rows(found, facts.policy)]
    figures = [_trace(found, facts, row, output) for output in range(min(facts.policy.outputs, SHOWN_OUTPUTS))
               for found, row in drawn]
    return PageSection("Float and deployed", (*figures, _over_time(check.deciding, facts)))


def _rows(found: Measured, policy: Policy) -> range:
    """The sequences that are drawn of a data set: one of the user's, two or three of generated ones."""
    wanted = 1 if found.data.purpose == "data" else 2 if policy.outputs > 1 else 3
    return range(min(wanted, len(found.ran.x)))


def _trace(found: Measured, facts: ReportFacts, row: int, output: int) -> Figure:
    steps = slice(0, SHOWN_STEPS)
    name = (facts.policy.output_names or tuple(f"y{i}" for i in range(facts.policy.outputs)))[output]
    title = f"{name}, {found.data.name}, sequence {row}"
    curves = [plots.Line("float64", found.reference.y[row, steps, output], "ref"),
              plots.Line(found.runtime, found.trace.y[row, steps, output], "dep")]
    reset = found.ran.reset
    marks = [] if reset is None else [int(t) for t in np.nonzero(reset[row, :len(curves[0].values)])[0]]
    legend = (("ref", "policy in float64"), ("dep", f"deployed ({found.runtime})"), ("mark", "reset"))
    return Figure(title, Markup(plots.lines(curves, title, marks=marks)), "", legend if marks else legend[:2])


def _over_time(found: Measured, facts: ReportFacts) -> Figure:
    over = found.error.over_time / (found.error.output_range or 1.0)
    allowed = plots.Line("allowed", np.full(len(over), facts.tolerance), "limit")
    return Figure(
        "Error over time", Markup(plots.decades([plots.Line("error", over, "err"), allowed], "error over time")),
        f"Largest error of all sequences of {found.data.name} at each step after the start, as a fraction of the "
        "output range.", (("err", "largest error"), ("limit", "allowed")),
    )


def _neurons(report: Json, facts: ReportFacts) -> PageSection | None:
    figures = (_errors(facts.verification), _ranges(report["proof"]))
    return PageSection("Neurons", tuple(figure for figure in figures if figure is not None))


def _errors(check: Verification | None) -> Figure | None:
    if check is None or not check.deciding.error.neurons:
        return None
    found = check.deciding
    rows = sorted(found.error.neurons, key=lambda n: -n[1])[:SHOWN_NEURONS]
    neurons = [plots.Bar(name, worst, rmse) for name, worst, rmse in rows]
    return Figure(
        "Error per neuron", Markup(plots.bars(neurons, "error per neuron")),
        f"State of each neuron against the float64 policy on {found.data.name}"
        f"{_first_of(len(rows), len(found.error.neurons))}.", (("bar", "largest"), ("bar-inner", "root mean square")),
    )


def _first_of(shown: int, total: int) -> str:
    return "" if shown == total else f"; the {shown} worst of {total}"


def _ranges(proof: Json | None) -> Figure | None:
    if proof is None:
        return None
    rows = [plots.Span(b["neuron"], (b["lo"], b["hi"]),
                       None if b["observed_lo"] is None else (b["observed_lo"], b["observed_hi"]))
            for b in proof["box"] if b["lo"] is not None and b["hi"] is not None][:SHOWN_NEURONS]
    if not rows:
        return None
    claim = PROVED if proof["no_overflow"] else "The ranges are assumed, not proved."
    return Figure("Range of each state", Markup(plots.spans(rows, "state ranges")), claim,
                  (("span", "proved"), ("span-inner", "observed")))


def _cost(report: Json, facts: ReportFacts) -> PageSection | None:
    memory = _memory(report, facts)
    return PageSection("Cost", (*_cycles(report, facts), *((memory,) if memory else ())))


def _cycles(report: Json, facts: ReportFacts) -> tuple[Figure, ...]:
    run = device_run(facts.verification)
    if run is None or run.cycles is None:
        return ()
    counts = run.cycles
    figures = [_per_step(counts, f"{len(counts.upper):,} steps on the simulated {report['target']['core']}")]
    for title, profile in (("By function", counts.per_function), ("By neuron", counts.per_neuron)):
        top = sorted(profile.items(), key=lambda item: -item[1])[:SHOWN_NEURONS]
        if len(top) > 1:
            rows = [plots.Bar(name, value) for name, value in top]
            figures.append(Figure(title, Markup(plots.bars(rows, f"cycles {title.lower()}")), "Mean cycles per step."))
    return tuple(figures)


def _per_step(counts: CycleCounts, what: str) -> Figure:
    """How often each count occurs, or the bounds alone where every step costs the same."""
    exact = np.array_equal(counts.lower, counts.upper)
    if np.ptp(counts.lower) == 0 and np.ptp(counts.upper) == 0:
        both = [("lower bound", counts.lower), ("upper bound", counts.upper)]
        rows = [plots.Bar(name, float(c[0]), note=f"{c[0]:,}") for name, c in (both[1:] if exact else both)]
        return Figure("Cycles per step", Markup(plots.bars(rows, "cycles per step")),
                      f"{what}: every step takes the same time, whatever the inputs.")
    legend = () if exact else (("hist", "upper bound"), ("hist-low", "lower bound"))
    return Figure("Cycles per step", Markup(plots.histogram(counts.lower, counts.upper, "cycles per step")),
                  f"{what}.", legend)


def _memory(report: Json, facts: ReportFacts) -> Figure | None:
    memory, can = report["memory"], facts.target.capabilities
    if memory is None or not (can.flash_bytes and can.ram_bytes):
        return None
    rows = [("flash", memory["flash_bytes"], can.flash_bytes), ("RAM", memory["ram_bytes"], can.ram_bytes),
            ("stack", memory["stack_bytes"], can.ram_bytes)]
    known = [plots.Bar(f"{name}, {size(used)}", used / has, note=f"{100 * used / has:.2g} %")
             for name, used, has in rows if used is not None and has]
    caption = ", ".join(f"{name} {size(has)}" for name, _, has in rows[:2] if has)
    return Figure("Memory", Markup(plots.bars(known, "memory", 1.0)), f"Share of what the core has: {caption}.")


def _wiring(report: Json, facts: ReportFacts) -> PageSection | None:
    figures = []
    if (layers := blocks(facts.policy)) is not None:
        figures.append(Figure("Layers", Markup(layers), "A thicker line is more channels. Hover for which."))
    for layer, names in drawings(facts.policy):
        missing = left_out(layer)
        caption = ("Thicker and darker is a larger weight; dots are where synapses end. Hover for the numbers."
                   + (f" The {missing} weakest synapses are left out." if missing else ""))
        legend = (("exc", "excitatory"), ("inh", "inhibitory"))
        figures.append(Figure(f"{layer.neurons} neurons, {len(layer.recurrent)} synapses, {len(layer.sensory)} sensory "
                              "synapses", Markup(wiring(layer, names)), caption, legend, True))
    return PageSection("Wiring", tuple(figures)) if figures else None


def _why(report: Json, facts: ReportFacts) -> PageSection | None:
    """The outputs around the step where it is worst, and what costs most there."""
    why = facts.explanation
    if why is None:
        return None
    figures = [_around(why, facts, amplifies(report["explanation"]["amplified"]))]
    if why.costs is not None:
        figures.append(_roundings(why.costs, why.output_range or 1.0))
    return PageSection("Why it does not hold", tuple(figures))


def _roundings(costs: Costs, output_range: float) -> Figure:
    shown = [cost for cost in costs.values[:SHOWN_NEURONS] if cost.max_abs > 0]
    rows = [plots.Bar(f"{cost.value}, {cost.format}", cost.max_abs / output_range) for cost in shown]
    return Figure("Each rounding alone", Markup(plots.bars(rows, "each rounding alone")),
                  "Largest change of an output up to that step when this value alone is rounded, as a fraction of the "
                  f"output range; all together {share(costs.all / output_range)}.")


def _around(why: Explanation, facts: ReportFacts, caption: str) -> Figure:
    """The output in question before and after the step: what was expected, what was found."""
    names = [*(facts.policy.output_names or [f"y{i}" for i in range(facts.policy.outputs)])]
    output = names.index(why.output) if why.output in names else 0
    around = slice(max(0, why.time - BEFORE), why.time + AFTER)
    title = f"{names[output]}, {why.data_set}, sequence {why.sequence}, from step {around.start}"
    curves = [plots.Line(why.pair.names[0], why.pair.expected[around, output], "ref"),
              plots.Line(why.pair.names[1], why.pair.found[around, output], "dep")]
    legend = (("ref", why.pair.names[0]), ("dep", why.pair.names[1]), ("mark", f"step {why.time}"))
    return Figure(title, Markup(plots.lines(curves, title, marks=[why.time - around.start])), caption, legend)


SECTIONS: tuple[Callable[[Json, ReportFacts], PageSection | None], ...] = (_why, _traces, _neurons, _cost, _wiring)
