"""A program as readable text, for people and for golden tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ncpc.ir.program import Array, Op, Port, Program, Repeat, Stmt, Value


def to_text(program: Program) -> str:
    """The whole program; constants show their first elements only."""
    lines = [f"program {program.name}({_ports(program)}) -> {_port(program.y)}"]
    lines += [f"  state {_value(s.inp)} <- {s.out}" for s in program.states]
    lines += [f"  const {_value(value)} = {_data(data)}" for value, data in program.constants.values()]
    lines += _body(program.body, "  ")
    return "\n".join([*lines, ""])


def _ports(program: Program) -> str:
    return ", ".join(_port(p) for p in (program.x, program.dt) if p)


def _port(port: Port) -> str:
    fracs = "" if port.fracs is None else f" fracs {','.join(map(str, port.fracs))}"
    return _value(port.value) + fracs


def _value(value: Value) -> str:
    axes = ", ".join(f"{a.name}={a.size}" for a in value.axes)
    return f"{value.name}[{axes}]: {value.type}" if axes else f"{value.name}: {value.type}"


def _body(body: tuple[Stmt, ...], indent: str) -> Iterator[str]:
    for stmt in body:
        if isinstance(stmt, Repeat):
            carried = ", ".join(f"{c.inner.name} = {c.init}" for c in stmt.carried)
            yield f"{indent}repeat {stmt.count} ({carried}) {{"
            yield from _body(stmt.body, indent + "  ")
            results = ", ".join(f"{c.out.name} = {c.result}" for c in stmt.carried)
            yield f"{indent}}} ({results})"
        else:
            yield f"{indent}{_op(stmt)}"


def _op(op: Op) -> str:
    attrs = "".join(f", {k}={v}" for k, v in op.attrs.items() if v is not None)
    origin = f"  # {op.origin.layer}: {op.origin.equation}" if op.origin else ""
    return f"{_value(op.out)} = {op.kind}({', '.join(op.args)}{attrs}){origin}"


def _data(data: Array) -> str:
    flat = data.reshape(-1)
    shown = ", ".join(f"{v:.6g}" if np.issubdtype(data.dtype, np.floating) else str(v) for v in flat[:4])
    return f"[{shown}{', ...' if flat.size > 4 else ''}]"
