"""The checker at the seams: a program that passes is single-assignment, well shaped and well typed."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ncpc.ir.ops import OPS
from ncpc.ir.program import Op, Program, Repeat, Stmt, Value
from ncpc.ir.types import Fixed, Index, Type


class IllFormedError(AssertionError):
    """A program that breaks a rule of the IR: a defect of a pass, never of a user's input."""


def check(program: Program) -> None:
    """Raise ``IllFormedError``, naming the statement, unless every rule of the IR holds."""
    scope = {value.name: value for value, _ in program.constants.values()}
    for value, data in program.constants.values():
        _require(data.shape == value.shape, value.name, f"data {data.shape} is not of shape {value.shape}")
        _fits(value, data)
    for port in filter(None, (program.x, program.dt)):
        _define(scope, port.value)
    for state in program.states:
        _define(scope, state.inp)
    _check_body(program.body, scope)
    for state in program.states:
        _same(scope, state.out, state.inp)
    _require(program.y.value.name in scope, program.y.value.name, "the output is never computed")


def _check_body(body: tuple[Stmt, ...], scope: dict[str, Value]) -> None:
    for stmt in body:
        if isinstance(stmt, Repeat):
            _check_repeat(stmt, scope)
        else:
            _check_op(stmt, scope)
            _define(scope, stmt.out)


def _check_repeat(stmt: Repeat, scope: dict[str, Value]) -> None:
    _require(stmt.count >= 1, "repeat", f"count {stmt.count} is less than 1")
    inner = dict(scope)
    for carry in stmt.carried:
        _same(scope, carry.init, carry.inner)
        _define(inner, carry.inner)
    _check_body(stmt.body, inner)
    for carry in stmt.carried:
        _same(inner, carry.result, carry.inner)
        _define(scope, carry.out)


def _check_op(op: Op, scope: Mapping[str, Value]) -> None:
    name = f"{op.out.name} = {op.kind}"
    _require(op.kind in OPS, name, "is no op")
    spec = OPS[op.kind]
    _require(spec.arity[0] <= len(op.args) <= spec.arity[1], name, f"takes {spec.arity} arguments, got {len(op.args)}")
    _require(set(op.attrs) == set(spec.attrs), name, f"has attributes {sorted(op.attrs)}, wants {sorted(spec.attrs)}")
    for arg in op.args:
        _require(arg in scope, name, f"uses {arg} before it is defined")
    args = [scope[arg] for arg in op.args]
    _check_axes(op, args, name)
    _check_domain(op, args, name, spec.domain)


def _check_axes(op: Op, args: list[Value], name: str) -> None:
    shape, out = OPS[op.kind].shape, op.out.axes
    if shape == "each":
        operands = args[:1] if op.kind == "lut" else args
        _require(all(a.axes in ((), out) for a in operands), name, "mixes axes")
    elif shape == "gather":
        axis = args[0].axes[-1].name
        _require(isinstance(args[1].type, Index) and args[1].type.axis == axis, name, "is indexed for another axis")
        _require(out == (*args[0].axes[:-1], *args[1].axes), name, "has other axes than its index")
    elif shape == "reduce":
        _require(isinstance(args[1].type, Index) and args[1].type.axis == out[-1].name, name, "sums over another axis")
        _require(args[0].axes == args[1].axes and all(a.axes == out for a in args[2:]), name, "mixes axes")
    elif shape == "matmul":
        _require(args[0].axes == (*out, *args[1].axes) and all(a.axes == out for a in args[2:]), name, "mixes axes")


def _check_domain(op: Op, args: list[Value], name: str, domain: str) -> None:
    types = [a.type for a in args if not isinstance(a.type, Index)]
    fixed = isinstance(op.out.type, Fixed)
    _require(domain == "any" or (domain == "fixed") == fixed, name, f"is not defined on {op.out.type}")
    if op.kind != "cast":
        _require(all(isinstance(t, Fixed) == fixed for t in types), name, "mixes fixed and float")
    if fixed:
        want = _fraction(op, [t for t in types if isinstance(t, Fixed)])
        _require(want is None or want == _frac(op.out.type), name, f"has fraction {_frac(op.out.type)}, not {want}")


def _fraction(op: Op, types: list[Fixed]) -> int | None:
    """The fraction an op's result must have; None where the op is free to say."""
    fracs, k = [t.frac for t in types], int(op.attrs.get("k") or 0)
    if op.kind in ("mul", "mulshr", "matmul", "matmulshr"):
        return fracs[0] + fracs[1] - k
    if op.kind in ("shr", "shr_full", "asr", "shl"):
        return fracs[0] + k if op.kind == "shl" else fracs[0] - k
    if op.kind == "conv2d" or (op.kind == "gt" and fracs[0] == fracs[1]):
        return None
    if op.kind == "mix":
        fracs = fracs[:2]
    if op.kind == "lut":
        return fracs[1]
    if op.kind == "inverse":
        return 46 + k - fracs[0]
    if len(set(fracs)) != 1:
        raise IllFormedError(f"{op.out.name} = {op.kind}: arguments have fractions {fracs}")
    return fracs[0]


def _frac(type_: Type) -> int | None:
    return type_.frac if isinstance(type_, Fixed) else None


def _define(scope: dict[str, Value], value: Value) -> None:
    _require(value.name not in scope, value.name, "is defined twice")
    scope[value.name] = value


def _same(scope: Mapping[str, Value], name: str, like: Value) -> None:
    _require(name in scope, name, "is never computed")
    found = scope[name]
    _require(found.axes == like.axes and found.type == like.type, name, f"differs from {like.name} in shape or type")


def _fits(value: Value, data: object) -> None:
    array = np.asarray(data)
    if isinstance(value.type, Fixed) and array.size:
        inside = value.type.lo <= array.min() and array.max() <= value.type.hi
        _require(bool(inside), value.name, f"holds values outside {value.type.lo}..{value.type.hi}")


def _require(condition: bool, where: str, what: str) -> None:
    if not condition:
        raise IllFormedError(f"{where}: {what}")
