"""What every policy must satisfy, checked when one is saved and when one is loaded.

Each check is a generator of problems in words; the first one found is raised, so a later check may rely on the
earlier ones (values are looked at only once shapes are right).
"""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.ir.cells import KINDS, RECURRENT
from ncpc.ir.gated import MixedMemory, OdeRnn
from ncpc.ir.kinds import load
from ncpc.ir.names import identifiers, policy_name
from ncpc.ir.policy import COMPARED, ROLES, DtRange, Layer, Ltc, Policy, Synapses
from ncpc.ir.problems import Problems, finite
from ncpc.ir.sequences import Sequences
from ncpc.ir.tableau import LTC_SOLVERS
from ncpc.ir.wires import wire_problems

MEANINGS = ("values", "logits")
_CLIP = "call apply_weight_constraints() on the cell before saving, or save with clip_negative=True (--clip-negative)"


def check_policy(policy: Policy, where: str) -> None:
    """Raise ``BadInput`` ("where: what, why, what to do") at the first thing that makes ``policy`` unusable."""
    for problem in _policy(policy):
        raise BadInput(f"{where}: {problem}")


def check_sequences(sequences: Sequences, inputs: int, dt: DtRange, where: str) -> None:
    """Raise ``BadInput`` if the sequences do not fit a policy with this many inputs and this range of timespans."""
    for problem in _sequences(sequences, inputs, dt):
        raise BadInput(f"{where}: {problem}")


def require_meaning(outputs: object, where: str) -> None:
    """Raises BadInput where ``outputs`` is no meaning that a policy's outputs may have."""
    if outputs not in MEANINGS:
        raise BadInput(f"{where}: outputs are {outputs!r}; known are {', '.join(MEANINGS)}; an output to deploy is "
                       f"named by head={outputs!r}")


def check_dt_range(dt: DtRange, where: str) -> None:
    """Raise ``BadInput`` unless 0 < lo <= nominal <= hi < inf."""
    for problem in _dt_range(dt):
        raise BadInput(f"{where}: {problem}")


def check_input_range(input_range: Any, inputs: int, where: str) -> None:
    """Raise ``BadInput`` unless ``input_range`` is (inputs, 2), finite, lower below upper."""
    for problem in _input_range(input_range, inputs):
        raise BadInput(f"{where}: {problem}")


def _policy(policy: Policy) -> Problems:
    if not policy.layers:
        yield "has no layers; a policy needs at least one"
    for i, layer in enumerate(policy.layers):
        yield from (f"layer {i} ({layer.kind}): {problem}" for problem in _layer(layer))
    yield from () if policy.wires else _chain(policy.layers)
    yield from wire_problems(policy)
    yield from _initial(policy)
    yield from _input_range(policy.input_range, policy.inputs)
    yield from _dt_range(policy.dt)
    yield from policy_name(policy.name)
    yield from _optional_names(policy.input_names, policy.inputs, "input names")
    yield from _optional_names(policy.output_names, policy.outputs, "output names")
    if policy.sample_hz is not None and not 0 < policy.sample_hz < np.inf:
        yield f"sample_hz is {policy.sample_hz}; give a positive number of steps per second"
    if policy.compared is not None and policy.compared not in COMPARED:
        yield f"compared with {policy.compared!r}; known are {', '.join(COMPARED)}"
    if policy.meaning not in MEANINGS:
        yield f"outputs are {policy.meaning!r}; known are {', '.join(MEANINGS)}"
    if policy.calibration is not None:
        found = _sequences(policy.calibration, policy.inputs, policy.dt)
        yield from (f"calibration: {problem}" for problem in found)
        yield from _recorded(policy.calibration, policy.outputs)


def _layer(layer: Layer) -> Problems:
    yield from finite(layer)
    if isinstance(layer, MixedMemory | OdeRnn):
        yield from (f"cell: {problem}" for problem in _layer(layer.cell))
    if layer.kind in KINDS:
        yield from load(KINDS[layer.kind].problems)(layer)


def ltc_problems(layer: Ltc) -> Problems:
    """Shapes, synapses, signs and denominators of an LTC."""
    yield from _ltc_shapes(layer)
    yield from _ltc_scalars(layer)
    yield from _synapses("sensory", layer.sensory, layer.inputs, layer)
    yield from _synapses("recurrent", layer.recurrent, layer.neurons, layer)
    if len(layer.sensory) + len(layer.recurrent) == 0:
        yield "empty wiring: it has no synapse at all"
    yield from _not_negative("cm", layer.cm, layer.names)
    yield from _not_negative("gleak", layer.gleak, layer.names)
    yield from _denominator(layer)


def _ltc_shapes(layer: Ltc) -> Problems:
    if layer.cm.ndim != 1 or layer.neurons == 0:
        yield f"empty wiring: cm has shape {layer.cm.shape}, expected (neurons,) with at least one neuron"
    for name in ("gleak", "vleak"):
        yield from _shape(name, getattr(layer, name), layer.neurons)
    for name, width in (("input", layer.input_w), ("output", layer.output_w)):
        if width.ndim != 1 or width.shape[0] == 0:
            yield f"{name}_w has shape {width.shape}, expected ({name}s,) with at least one {name}"
    yield from _shape("input_b", layer.input_b, layer.inputs)
    yield from _shape("output_b", layer.output_b, layer.outputs)
    if layer.outputs > layer.neurons:
        yield f"it has {layer.outputs} outputs but only {layer.neurons} neurons"
    yield from identifiers(layer.names, layer.neurons, "neuron names")
    yield from _roles(layer)


def _roles(layer: Ltc) -> Problems:
    if len(layer.roles) != layer.neurons:
        yield f"roles: {len(layer.roles)} given for {layer.neurons} neurons"
    for role in layer.roles:
        if role not in ROLES[1:]:
            yield f"unknown role {role!r}; a neuron is {', '.join(ROLES[1:])}"


def _ltc_scalars(layer: Ltc) -> Problems:
    if layer.unfolds < 1:
        yield f"unfolds is {layer.unfolds}, expected at least 1"
    if layer.epsilon < 0:
        yield f"epsilon is {layer.epsilon}, expected 0 or more"
    if layer.solver not in LTC_SOLVERS:
        yield f"unknown solver {layer.solver!r}; known are {', '.join(LTC_SOLVERS)}"


def _synapses(name: str, synapses: Synapses, sources: int, layer: Ltc) -> Problems:
    if synapses.pre.ndim != 1:
        yield f"{name}.pre has shape {synapses.pre.shape}, expected (synapses,)"
    for field in fields(synapses):
        yield from _shape(f"{name}.{field.name}", getattr(synapses, field.name), len(synapses))
    yield from _within(f"{name}.pre", synapses.pre, sources)
    yield from _within(f"{name}.post", synapses.post, layer.neurons)
    order = synapses.post * max(sources, 1) + synapses.pre
    if np.any(np.diff(order) < 0):
        yield f"{name} synapses are not sorted by post, then pre"
    for s in np.flatnonzero(synapses.w < 0):
        which = synapse_name(name, layer, int(s))
        yield f"w of {which} is {synapses.w[s]:g}, but conductances are never negative; {_CLIP}"


def synapse_name(name: str, layer: Ltc, index: int) -> str:
    """How messages call synapse ``index`` of the set ``name`` (``sensory`` or ``recurrent``)."""
    synapses = layer.sensory if name == "sensory" else layer.recurrent
    pre, post = int(synapses.pre[index]), layer.names[int(synapses.post[index])]
    return f"{name} synapse {f'input {pre}' if name == 'sensory' else layer.names[pre]} -> {post}"


def _within(name: str, index: Any, size: int) -> Problems:
    for value in index[(index < 0) | (index >= size)]:
        yield f"{name} holds {value}, out of range 0 to {size - 1}"


def _not_negative(name: str, values: Any, names: tuple[str, ...]) -> Problems:
    for i in np.flatnonzero(values < 0):
        yield f"{name} of {names[i]} is {values[i]:g}, but it is never negative; {_CLIP}"


def _denominator(layer: Ltc) -> Problems:
    weight = layer.cm + layer.gleak
    for synapses in (layer.sensory, layer.recurrent):
        weight = weight + np.bincount(synapses.post, synapses.w, minlength=layer.neurons)
    for i in np.flatnonzero(weight == 0):
        yield (f"zero denominator: {layer.names[i]} has cm = gleak = 0 and no incoming synapse with w > 0; "
               "remove the neuron or give it a capacitance")


def _shape(name: str, array: Any, length: int) -> Problems:
    if array.shape != (length,):
        yield f"{name} has shape {array.shape}, expected ({length},)"


def _chain(layers: tuple[Layer, ...]) -> Problems:
    for i, (before, after) in enumerate(pairwise(layers)):
        if before.outputs != after.inputs:
            yield (f"layer {i} ({before.kind}) gives {before.outputs} values, "
                   f"but layer {i + 1} ({after.kind}) takes {after.inputs}")


def _initial(policy: Policy) -> Problems:
    for start in policy.initial:
        cells = [k for k, layer in enumerate(policy.layers) if layer.kind in RECURRENT]
        if start.layer not in cells or start.values.ndim != 1 or not np.isfinite(start.values).all():
            yield (f"initial state of layer {start.layer}: expected finite numbers (states,) for one of the layers "
                   f"with a state, {cells}")


def _input_range(input_range: Any, inputs: int) -> Problems:
    if input_range.shape != (inputs, 2):
        yield f"input range has shape {input_range.shape}, expected ({inputs}, 2): lower and upper bound per input"
    if not np.all(np.isfinite(input_range)):
        yield "input range holds NaN or infinity; give finite bounds"
    for i in np.flatnonzero(input_range[:, 0] >= input_range[:, 1]):
        lo, hi = input_range[i]
        yield f"input range of input {i} is [{lo:g}, {hi:g}]; the lower bound must be below the upper"


def _dt_range(dt: DtRange) -> Problems:
    if not all(np.isfinite((dt.lo, dt.hi, dt.nominal))) or dt.lo <= 0:
        yield f"dt range [{dt.lo:g}, {dt.hi:g}] (nominal {dt.nominal:g}); dt must be positive and finite"
    if not dt.lo <= dt.nominal <= dt.hi:
        yield f"dt range [{dt.lo:g}, {dt.hi:g}] with nominal {dt.nominal:g}; expected lo <= nominal <= hi"


def _optional_names(names: tuple[str, ...], count: int, what: str) -> Problems:
    return identifiers(names, count, what) if names else iter(())


def _sequences(sequences: Sequences, inputs: int, dt: DtRange) -> Problems:
    x = sequences.x
    if x.ndim != 3 or 0 in x.shape[:2]:
        yield f"x has shape {x.shape}, expected (sequences, steps, inputs), none of them empty"
    if x.shape[2] != inputs:
        yield f"x has {x.shape[2]} values per step, but the policy takes {inputs}"
    if not np.all(np.isfinite(x)):
        yield "x holds NaN or infinity; remove those steps"
    if sequences.reset is not None and sequences.reset.shape != x.shape[:2]:
        yield f"reset has shape {sequences.reset.shape}, expected {x.shape[:2]} as x"
    if sequences.restored is not None:
        yield "holds states to restore; only verification has such"
    if sequences.dt is not None:
        yield from _timespans(sequences.dt, x.shape[:2], dt)


def _recorded(sequences: Sequences, outputs: int) -> Problems:
    y, expected = sequences.y, (*sequences.x.shape[:2], outputs)
    if y is not None and (y.shape != expected or not np.isfinite(y).all()):
        yield f"calibration: y has shape {y.shape}, expected {expected}, all of it finite; leave it out"


def _timespans(timespans: Any, shape: tuple[int, ...], dt: DtRange) -> Problems:
    if timespans.shape != shape:
        yield f"dt has shape {timespans.shape}, expected {shape} as x"
    if not np.all(np.isfinite(timespans)) or np.any(timespans <= 0):
        yield "dt holds values that are not positive and finite; every timespan must be > 0"
    lo, hi = float(timespans.min()), float(timespans.max())
    if lo < dt.lo or hi > dt.hi:
        yield f"dt spans [{lo:g}, {hi:g}], outside the declared [{dt.lo:g}, {dt.hi:g}]; declare dt=({lo:g}, {hi:g})"
