"""What can be said of a policy without compiling it: a record for machines, tables for people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from ncpc.driver import builds
from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from ncpc.inspect.estimates import cost, evaluations
from ncpc.ir.heads import affordable
from ncpc.ir.policy import COMPARED, DtRange, Ltc, Policy
from ncpc.ir.schemes import DEFAULT, SCHEMES
from ncpc.ir.wires import is_row, tap_words
from ncpc.passes.lower import lower
from ncpc.quant.inputs import listening
from ncpc.report.anatomy import anatomy, parameters
from ncpc.report.raster import png
from ncpc.report.record import Json, plain, policy_record
from ncpc.report.solver_study import solver_study, steps_apart
from ncpc.report.terminal import size
from ncpc.report.wiring import wiring_svg
from ncpc.semantics.run import run
from ncpc.system.files import write_atomically
from ncpc.targets import registry
from ncpc.verification.compare import state_names
from ncpc.verification.sequences import suite

PROBE_STEPS = 2000
"""Steps whose states are shown, fewer for a policy that reads frames."""
LISTED = 64
"""Inputs or states beyond which a table sums them up."""


def inspection(path: Path) -> Json:
    """What the policy at ``path`` holds, as JSON."""
    policy = read_policy(path)
    record: Json = plain({
        "file": path.name,
        **policy_record(policy, builds.sha256(policy_bytes(policy))),
        "layers": [_layer(layer) | reads for layer, reads in zip(policy.layers, _reads(policy), strict=True)],
        **({} if is_row(policy) else {"outputs_read": tap_words(policy, policy.wires[-1])}),
        "inputs": _inputs(policy),
        "outputs": list(policy.output_names) or [f"y{i}" for i in range(policy.outputs)],
        "calibration_steps": 0 if policy.calibration is None else policy.calibration.steps,
        "provenance": dict(policy.provenance),
        "states": _states(policy),
        "cost": [cost(name, policy) for name in registry.names()],
    })
    return record


def study(path: Path) -> Json:
    """Error against unfolds and cost of every solver, for the policy at ``path``."""
    return solver_study(read_policy(path))


def record_steps(policy: Policy, path: Path, method: str, steps: int) -> str:
    """Measure how far ``steps`` steps of ``method`` are from the ODE, which an adaptive solver was to follow, and write
    that into the policy's provenance; in a line.
    """
    found = steps_apart(policy, method, steps)
    write_policy(replace(policy, provenance={**policy.provenance, "solver": found}), path)
    halved = "" if found["halved"] is None else f"; twice as many steps divide that by {found['halved']:.3g}"
    return (f"{path}: {steps} steps of {method} are at most {found['error']:.2g} of the outputs' range from the ODE "
            f"({found['data']}, {found['length']} steps of time){halved}")


def _inputs(policy: Policy) -> list[Json]:
    """Each input's range and, where the first layer listens to a part of what there is, that part (``DEFAULT``'s)."""
    names = policy.input_names or tuple(f"x{i}" for i in range(policy.inputs))
    rows = zip(names, policy.input_range, listening(policy, SCHEMES[DEFAULT].tail), strict=True)
    return [{"name": name, "lo": lo, "hi": hi, "listens": zone if np.isfinite(zone).all() else None}
            for name, (lo, hi), zone in rows]


def _reads(policy: Policy) -> list[Json]:
    """What each layer reads, where that is not just the one before it."""
    if is_row(policy):
        return [{} for _ in policy.layers]
    return [{"position": k, "reads": tap_words(policy, taps)} for k, taps in enumerate(policy.wires[:-1])]


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


def _states(policy: Policy) -> list[Json]:
    """The range each state visits on generated inputs that cover the declared ranges (not a bound)."""
    real = lower(policy)
    data = suite(policy, affordable(policy.layers, PROBE_STEPS), not policy.dt.fixed)
    trace = run(real, data)
    lo, hi = trace.state.min(axis=(0, 1)), trace.state.max(axis=(0, 1))
    return [{"name": n, "lo": a, "hi": b} for n, a, b in zip(state_names(real), lo, hi, strict=True)]


def inspection_tables(found: Json) -> list[Table]:
    """The inspection for people: the policy, its layers, its inputs and states."""
    told = f"{found['input_range']['source']} range"
    ranges = [_ranges("inputs", found["inputs"], told),
              _ranges("neurons", found["states"], "range on generated inputs")]
    return [_summary(found), _layers(found), *_wires(found), *ranges, *_costs(found["cost"])]


def _costs(costs: list[Json]) -> list[Table]:
    known = [row for row in costs if row["cycles"] is not None]
    table = Table(title="a step in int16, estimated", title_justify="left")
    table.add_column("core")
    table.add_column("cycles", justify="right")
    table.add_column("flash", justify="right")
    for row in known:
        table.add_row(row["target"], f"{row['cycles']:,}", size(row["flash_bytes"]))
    return [table] if known else []


def _summary(found: Json) -> Table:
    table = Table(title=f"{found['name']}  ({found['file']})", title_justify="left", show_header=False)
    dt = found["dt"]
    rows = {
        "neurons": found["neurons"], "synapses": f"{found['synapses']} + {found['sensory_synapses']} sensory",
        "parameters": f"{found['parameters']:,}", "outputs": ", ".join(found["outputs"]),
        "dt": DtRange(**dt).words.removeprefix("dt "),
        "compared with": COMPARED.get(found["compared"], "not recorded"),
        "calibration": f"{found['calibration_steps']} steps", "sha256": found["sha256"][:16],
        "input range": ". ".join(filter(None, [found["input_range"]["source"], found["input_range"]["short"]])),
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


def _wires(found: Json) -> list[Table]:
    """What each layer reads, where they are no row: a table of its own, as 80 columns do not hold both."""
    if "outputs_read" not in found:
        return []
    table = Table(title=f"wires; the outputs read {found['outputs_read']}", title_justify="left")
    for name in ("layer", "kind", "reads"):
        table.add_column(name, no_wrap=name != "reads")
    for layer in found["layers"]:
        table.add_row(str(layer["position"]), layer["kind"], layer["reads"])
    return [table]


def _ranges(title: str, rows: list[Json], heading: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("name")
    table.add_column(heading, justify="right")
    heard = any(row.get("listens") for row in rows) and len(rows) <= LISTED
    if heard:
        table.add_column("synapses listen in", justify="right")
    for row in rows if len(rows) <= LISTED else _summed(rows):
        ends = [(row["lo"], row["hi"]), *([row.get("listens")] if heard else [])]
        table.add_row(row["name"], *(f"{pair[0]:.4g} .. {pair[1]:.4g}" if pair else "" for pair in ends))
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
