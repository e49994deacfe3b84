"""What can be said of a policy, a run or the targets without compiling: records for machines, tables for people."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from ncpc import builds
from ncpc.errors import BadInput, NcpcError
from ncpc.files import write_atomically
from ncpc.frontend.container import policy_bytes, read_policy
from ncpc.ir.heads import products
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.quantized import TABLE_SIZE
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.quant.calibrate import dead_band
from ncpc.quant.policy import table_size
from ncpc.report.anatomy import anatomy, parameters
from ncpc.report.raster import png
from ncpc.report.record import Json, device_cycles, plain, policy_record, spread
from ncpc.report.solver_study import solver_study
from ncpc.report.terminal import size
from ncpc.report.wiring import wiring_svg
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import RunResult
from ncpc.verify.compare import state_names
from ncpc.verify.sequences import suite
from ncpc.verify.verdict import TOLERANCE

PROBE_STEPS, FEWEST_STEPS, MOST_PRODUCTS = 2000, 4, 10**9
"""Steps whose states are shown: for a policy that reads frames as few as take so many products."""
LISTED = 64
"""Inputs or states beyond which a table sums them up."""


def inspection(path: Path) -> Json:
    """What the policy at ``path`` holds, as JSON."""
    policy = read_policy(path)
    record: Json = plain({
        "file": path.name,
        **policy_record(policy, builds.sha256(policy_bytes(policy))),
        "layers": [_layer(layer) for layer in policy.layers],
        "inputs": [{"name": n, "lo": lo, "hi": hi} for n, (lo, hi) in zip(_input_names(policy), policy.input_range,
                                                                         strict=True)],
        "outputs": list(policy.output_names) or [f"y{i}" for i in range(policy.outputs)],
        "dt": {"lo": policy.dt.lo, "hi": policy.dt.hi, "nominal": policy.dt.nominal},
        "calibration_steps": 0 if policy.calibration is None else policy.calibration.steps,
        "provenance": dict(policy.provenance),
        "states": _states(policy),
        "cost": [cost(name, policy) for name in registry.names()],
    })
    return record


def study(path: Path) -> Json:
    """Error against unfolds and cost of every solver, for the policy at ``path``."""
    return solver_study(read_policy(path))


def _input_names(policy: Policy) -> tuple[str, ...]:
    return policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))


def _layer(layer: Any) -> Json:
    found = anatomy(layer)
    record = {"kind": layer.kind, "inputs": layer.inputs, "outputs": layer.outputs, "parameters": parameters(layer),
              "products": found.products}
    if found.neurons:
        record |= {"roles": found.roles, "neurons": found.neurons, "synapses": found.synapses,
                   "sensory_synapses": found.sensory_synapses}
    if isinstance(layer, Ltc):
        record |= {
            "unfolds": layer.unfolds, "epsilon": layer.epsilon, "solver": layer.solver,
            "synapse_evaluations": evaluations(layer), "neuron_updates": layer.neurons * layer.unfolds,
        }
    return record


def evaluations(layer: Ltc) -> int:
    """Synapse evaluations of one step: recurrent ones in every unfold, sensory ones once."""
    return len(layer.recurrent) * layer.unfolds + len(layer.sensory)


def _states(policy: Policy) -> list[Json]:
    """The range each state visits on generated inputs that cover the declared ranges (not a bound)."""
    real = lower(policy)
    steps = max(FEWEST_STEPS, min(PROBE_STEPS, MOST_PRODUCTS // max(products(policy.layers), 1)))
    data = suite(policy, steps, not policy.dt.fixed)
    trace = run(real, data)
    lo, hi = trace.state.min(axis=(0, 1)), trace.state.max(axis=(0, 1))
    return [{"name": n, "lo": a, "hi": b} for n, a, b in zip(state_names(real), lo, hi, strict=True)]


@dataclass(frozen=True)
class Estimate:
    """Upper cycles and flash bytes of an int16 step, linear in what decides them: (per unit, per unit, fixed).

    ``cycles`` per synapse evaluation and neuron update, ``flash`` per synapse and neuron. Fitted to random networks of
    6 to 32 neurons; a test holds them to what is built.
    """

    cycles: tuple[float, float, float]
    flash: tuple[float, float, float]


ESTIMATES = {
    "cortex-m4": Estimate((28.0, 69.4, 21.0), (11.4, 37.4, 3280.0)),
    "rv32imc-ibex": Estimate((53.0, 126.0, -320.0), (10.5, 44.6, 3280.0)),
}


ENTRY_BYTES = 2
"""Of the sigmoid's table, of which the estimates hold the usual size."""


def cost(name: str, policy: Policy) -> Json:
    """What an int16 step costs on a target, before it is built; None where there is no estimate."""
    wired = [layer for layer in policy.layers if isinstance(layer, Ltc)]
    estimate = ESTIMATES.get(name) if len(wired) == len(policy.layers) else None
    record: Json = {"target": name, "cycles": None, "flash_bytes": None}
    if estimate is not None:
        synapses = sum(len(layer.recurrent) + len(layer.sensory) for layer in wired)
        updates = sum(layer.neurons * layer.unfolds for layer in wired)
        record["cycles"] = _linear(estimate.cycles, sum(map(evaluations, wired)), updates)
        finer = table_size(policy, dead_band(policy, TOLERANCE["int16"])) - TABLE_SIZE
        flash = _linear(estimate.flash, synapses, sum(layer.neurons for layer in wired))
        record["flash_bytes"] = flash + ENTRY_BYTES * finer
    return record


def _linear(factors: tuple[float, float, float], a: int, b: int) -> int:
    return round(factors[0] * a + factors[1] * b + factors[2])


def inspection_tables(found: Json) -> list[Table]:
    """The inspection for people: the policy, its layers, its inputs and states."""
    ranges = [_ranges("inputs", found["inputs"], "declared range"),
              _ranges("neurons", found["states"], "range on generated inputs")]
    return [_summary(found), _layers(found), *ranges, *_costs(found["cost"])]


def _costs(costs: list[Json]) -> list[Table]:
    known = [cost for cost in costs if cost["cycles"] is not None]
    table = Table(title="a step in int16, estimated", title_justify="left")
    table.add_column("core")
    table.add_column("cycles", justify="right")
    table.add_column("flash", justify="right")
    for cost in known:
        table.add_row(cost["target"], f"{cost['cycles']:,}", size(cost["flash_bytes"]))
    return [table] if known else []


def _summary(found: Json) -> Table:
    table = Table(title=f"{found['name']}  ({found['file']})", title_justify="left", show_header=False)
    dt = found["dt"]
    rows = {
        "neurons": found["neurons"], "synapses": f"{found['synapses']} + {found['sensory_synapses']} sensory",
        "parameters": f"{found['parameters']:,}", "outputs": ", ".join(found["outputs"]),
        "dt": f"{dt['nominal']:g}" if dt["lo"] == dt["hi"] else f"{dt['lo']:g} to {dt['hi']:g}",
        "calibration": f"{found['calibration_steps']} steps", "sha256": found["sha256"][:16],
    }
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table


def _layers(found: Json) -> Table:
    table = Table(title="layers", title_justify="left")
    for name in ("kind", "inputs", "outputs", "neurons", "synapses", "parameters", "products"):
        words = name in ("kind", "neurons")
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for layer in found["layers"]:
        roles = ", ".join(f"{count} {role}" for role, count in layer.get("roles", {}).items())
        synapses = f"{layer['synapses']:,} + {layer['sensory_synapses']:,}" if "synapses" in layer else ""
        kind = f"{layer['kind']}, {layer['unfolds']} unfolds" if "unfolds" in layer else layer["kind"]
        numbers = (f"{layer[name]:,}" for name in ("inputs", "outputs"))
        table.add_row(kind, *numbers, roles or str(layer.get("neurons", "")), synapses,
                      f"{layer['parameters']:,}", f"{layer['products']:,}")
    return table


def _ranges(title: str, rows: list[Json], heading: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("name")
    table.add_column(heading, justify="right")
    for row in rows if len(rows) <= LISTED else _summed(rows):
        table.add_row(row["name"], f"{row['lo']:.4g} .. {row['hi']:.4g}")
    return table


def _summed(rows: list[Json]) -> list[Json]:
    """Fewer rows: a frame has thousands, most often all alike. ``--json`` lists them."""
    ends = {"lo": min(row["lo"] for row in rows), "hi": max(row["hi"] for row in rows)}
    if all((row["lo"], row["hi"]) == (ends["lo"], ends["hi"]) for row in rows):
        return [{"name": f"{rows[0]['name']} .. {rows[-1]['name']}", **ends}]
    shown, rest = rows[: LISTED // 2], rows[LISTED // 2 :]
    ends = {"lo": min(row["lo"] for row in rest), "hi": max(row["hi"] for row in rest)}
    return [*shown, {"name": f"{len(rest):,} others", **ends}]


def draw_wiring(policy: Path, out: Path) -> None:
    """The wiring of the policy's wired cells as an SVG or PNG file. Raises BadInput when there is none to draw."""
    if out.suffix.lower() not in (".svg", ".png"):
        raise BadInput(f"{out}: the wiring is drawn as SVG or PNG; give a name that ends in .svg or .png")
    svg = wiring_svg(read_policy(policy))
    if svg is None:
        raise BadInput(f"{policy}: no layer with a wiring to draw")
    write_atomically(out, png(svg) if out.suffix.lower() == ".png" else svg.encode())


def run_record(result: RunResult, data: Sequences) -> Json:
    """One run as JSON: steps, flags, output ranges, instructions, cycles, profile."""
    record: Json = plain({
        "runtime": result.runtime, "runtime_version": result.runtime_version, "options": result.options,
        "steps": data.steps,
        "steps_with_flags": int((result.trace.flags != 0).sum()),
        "outputs": [{"lo": lo, "hi": hi} for lo, hi in zip(result.trace.y.min(axis=(0, 1)),
                                                           result.trace.y.max(axis=(0, 1)), strict=True)],
        "instructions": spread(result.instructions),
        "cycles": None if result.cycles is None else device_cycles(result.cycles),
        "memory": None if result.memory is None else vars(result.memory),
    })
    return record


def run_tables(record: Json) -> list[Table]:
    """One run for people: what it was, and where the cycles went."""
    table = Table(title=f"{record['runtime']} {record['runtime_version']}", title_justify="left", show_header=False)
    table.add_row("steps", f"{record['steps']:,}")
    table.add_row("steps with status flags", f"{record['steps_with_flags']:,}")
    for i, output in enumerate(record["outputs"]):
        table.add_row(f"output {i}", f"{output['lo']:.5g} .. {output['hi']:.5g}")
    for name, counts in (("instructions", record["instructions"]), *_cycle_rows(record)):
        if counts:
            table.add_row(f"{name} per step", f"{counts['min']:,} .. {counts['max']:,}, mean {counts['mean']:,.1f}")
    if record["memory"] and record["memory"]["stack_bytes"] is not None:
        table.add_row("stack", size(record["memory"]["stack_bytes"]))
    profile = (record["cycles"] or {}).get("per_function", {})
    return [table, *([_profile(profile)] if profile else [])]


def _cycle_rows(record: Json) -> list[tuple[str, Json | None]]:
    cycles = record["cycles"] or {}
    return [("cycles, lower bound", cycles.get("lower")), ("cycles, upper bound", cycles.get("upper"))]


def _profile(profile: Mapping[str, float]) -> Table:
    table = Table(title="cycles per step by function", title_justify="left")
    table.add_column("function")
    table.add_column("cycles", justify="right")
    table.add_column("share", justify="right")
    total = sum(profile.values()) or 1.0
    for name, count in sorted(profile.items(), key=lambda item: -item[1]):
        table.add_row(name, f"{count:,.1f}", f"{100 * count / total:.1f} %")
    return table


def write_run(result: RunResult, data: Sequences, out: Path) -> None:
    """Inputs, outputs, states and counts of every step as npz."""
    arrays: dict[str, Any] = {"x": data.x, "y": result.trace.y, "state": result.trace.state,
                              "flags": result.trace.flags, "raw_y": result.trace.raw_y,
                              "raw_state": result.trace.raw_state}
    optional = {"dt": data.dt, "reset": data.reset, "instructions": result.instructions}
    if result.cycles is not None:
        optional |= {"cycles_lower": result.cycles.lower, "cycles_upper": result.cycles.upper}
    arrays |= {name: array for name, array in optional.items() if array is not None}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_atomically(out, file.getvalue())


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
    table = Table()
    for name in ("target", "what it is", "quant", "cycles", "state"):
        table.add_column(name)
    for record in records:
        install = escape(f"pip install 'ncpc[{','.join(record['install'])}]'")
        state = f"[yellow]{install}[/]" if record["install"] else "[green]ready[/]"
        quant = ", ".join(record["quant"])
        table.add_row(record["name"], record["summary"], quant, record["timing_class"] or "", state)
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
