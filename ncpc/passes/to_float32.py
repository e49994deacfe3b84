"""Program over the reals -> program in binary32, with guards where numbers enter."""

from __future__ import annotations

import dataclasses

from ncpc.ir.check import check
from ncpc.ir.program import Attr, Op, Port, Program, Value
from ncpc.ir.rewrite import map_values
from ncpc.ir.types import Float32, Real


def to_float32(program: Program) -> Program:
    """Every real becomes binary32. NaN or infinite inputs count as 0 and set ``input_nan``; dt is limited to its range.

    A dt whose range is one number stays an input here; ``ncpc.passes.fix_dt`` makes it a constant.
    """
    inputs = [program.x, *([program.dt] if program.dt else [])]
    raw = {port.value.name: f"{port.value.name}_in" for port in inputs}
    body = (*(op for port in inputs for op in _guards(port)), *map_values(program.body, _value))
    typed = dataclasses.replace(
        program,
        x=_port(program.x, raw), y=_port(program.y, {}), dt=_port(program.dt, raw) if program.dt else None,
        states=tuple(dataclasses.replace(s, inp=_value(s.inp)) for s in program.states),
        constants={name: (_value(value), data) for name, (value, data) in program.constants.items()},
        body=body,
    )
    check(typed)
    return typed


def _guards(port: Port) -> list[Op]:
    value = _value(port.value)
    raw = f"{value.name}_in"
    if port.names != ("dt",):
        return [Op("guard", value, (raw,), {"flag": "input_nan"})]
    finite = dataclasses.replace(value, name=f"{value.name}_finite")
    lo, hi = (float(v) for v in port.range[0])
    limits: dict[str, Attr] = {"lo": lo, "hi": hi, "flag": "dt_out_of_range"}
    return [Op("guard", finite, (raw,), {"flag": "dt_out_of_range"}), Op("clamp", value, (finite.name,), limits)]


def _port(port: Port, renamed: dict[str, str]) -> Port:
    value = _value(port.value)
    return dataclasses.replace(port, value=dataclasses.replace(value, name=renamed.get(value.name, value.name)))


def _value(value: Value) -> Value:
    return dataclasses.replace(value, type=Float32()) if isinstance(value.type, Real) else value


