"""Mixed memory: an LSTM around an LTC or CfC (Lechner & Hasani 2020; ncps ``use_mixed``)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.gated import Cfc, MixedMemory, WiredCfc
from ncpc.ir.policy import Layer, Ltc
from ncpc.ir.program import State, Value
from ncpc.ir.types import Axis
from ncpc.passes.context import Lowering
from ncpc.passes.lower_cfc import cfc_state, cfc_step, wired_cfc_output, wired_cfc_step
from ncpc.passes.lower_gates import lstm_step
from ncpc.passes.lower_ltc import hull_of_targets, ltc_state, ltc_step


def lower_mixed_memory(layer: MixedMemory, ctx: Lowering) -> Value:
    """The memory steps first; its output is the cell's state or the cell's input."""
    b, hs = ctx.builder, _states(layer.cell, ctx)
    whole = hs[0].axes[0] if len(hs) == 1 else Axis(b.unique("memory"), layer.memory.neurons)
    h = hs[0] if len(hs) == 1 else b.op("concat", "h_all", *hs, axes=[whole])
    c = b.value("c", [whole])
    recalled, c_next = lstm_step(layer.memory, b, ctx.x, h, c)
    if layer.into == "input":
        y, after = _step(layer.cell, ctx, recalled, hs)
    else:
        y, after = _step(layer.cell, ctx, ctx.x, _parts(b, recalled, hs))
    ctx.states.extend(State(old, new.name, np.zeros(old.shape)) for old, new in zip(hs, after, strict=True))
    ctx.states.append(State(c, c_next.name, np.zeros(c.shape)))
    return y


def _parts(b: Builder, h: Value, like: Sequence[Value]) -> list[Value]:
    """``h`` cut into the pieces that the cell's stages know."""
    if len(like) == 1:
        return [h]
    starts = np.cumsum([0, *(part.shape[0] for part in like)])
    return [b.op("slice", f"{part.name}_recalled", h, axes=part.axes, start=int(start))
            for part, start in zip(like, starts, strict=False)]


def _states(cell: Layer, ctx: Lowering) -> list[Value]:
    if isinstance(cell, Ltc):
        return [ltc_state(cell, ctx)]
    if isinstance(cell, Cfc):
        return [cfc_state(cell, ctx, "h")]
    if isinstance(cell, WiredCfc):
        return [cfc_state(stage, ctx, f"h_{stage.roles[0]}") for stage in cell.stages]
    raise Unsupported(f"mixed memory around a layer of kind '{cell.kind}' cannot be lowered; "
                      "supported: ltc, cfc, wired_cfc")


def _step(cell: Layer, ctx: Lowering, x: Value, hs: list[Value]) -> tuple[Value, list[Value]]:
    """The cell's output and new states; an LTC's state starts in [-1, 1], as the memory's output does."""
    if isinstance(cell, Ltc):
        y, v = ltc_step(cell, ctx.builder, x, hs[0], ctx.dt, hull_of_targets(cell, -1.0, 1.0))
        return y, [v]
    if isinstance(cell, WiredCfc):
        after = wired_cfc_step(cell, ctx, x, hs)
        return wired_cfc_output(cell, ctx.builder, after), after
    assert isinstance(cell, Cfc)
    h = cfc_step(cell, ctx, x, hs[0])
    return h, [h]
