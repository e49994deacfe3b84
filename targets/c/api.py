"""The small functions beside the step: init, reset, save, restore, self test."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.targets.c.interface import Interface, StateField
from ncpc.targets.c.layout import WIDTH
from ncpc.targets.c.numbers import CType, literal


def functions(face: Interface) -> list[str]:
    """init, reset, save and restore."""
    return [_reset(face), _init(face), _save(face), _restore(face)]


def number_table(numbers: NDArray[Any], ctype: CType, name: str, begins: str = "") -> str:
    """A constant array of one or two dimensions; ``begins`` is what stands before its type."""
    sizes = "".join(f"[{n}]" for n in numbers.shape)
    head = f"static const {begins}{ctype.name} {name}{sizes} = "
    return f"{head}{braces(numbers, ctype, len(head))};"


def braces(data: NDArray[Any], ctype: CType, used: int, indent: str = "    ") -> str:
    """The initializer of an array, on the same line if it fits behind the ``used`` characters."""
    if data.ndim > 1:
        rows = [f"{indent}{braces(row, ctype, len(indent), indent + '    ')}," for row in data]
        return "\n".join(["{", *rows, f"{indent[:-4]}}}"])
    text = ", ".join(literal(v, ctype) for v in data)
    if used + len(text) < WIDTH - 3:
        return f"{{{text}}}"
    filled = textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
    return f"{{\n{filled},\n{indent[:-4]}}}"


def _reset(face: Interface) -> str:
    lines = [f"void {face.name}_reset({face.name}_t *s)", "{"]
    tables = []
    for state in face.states:
        if np.all(state.init == state.init[0]):
            value = literal(state.init[0], state.ctype)
        else:
            tables.append(number_table(state.init, state.ctype, f"{state.name}_reset"))
            value = f"{state.name}_reset[i]"
        lines += _each(state, f"{state.element('s->state', 'i')} = {value};")
    return "\n".join([*tables, *([""] if tables else []), *(lines if face.states else [*lines, "    (void)s;"]), "}"])


def _each(state: StateField, statement: str) -> list[str]:
    if state.scalar:
        return [f"    {statement.replace('[i]', '[0]')}"]
    return [f"    for (int i = 0; i < {state.size}; i++) {{", f"        {statement}", "    }"]


def _init(face: Interface) -> str:
    return f"void {face.name}_init({face.name}_t *s)\n{{\n    {face.name}_reset(s);\n}}"


def _save(face: Interface) -> str:
    lines = [f"void {face.name}_save(const {face.name}_t *s, {face.name}_state_t *to)", "{"]
    for state in face.states:
        target = f"to->{state.name}" + ("" if state.scalar else "[i]")
        lines += _each(state, f"{target} = {state.element('s->state', 'i')};")
    return "\n".join([*lines, *([] if face.states else ["    (void)s;", "    (void)to;"]), "}"])


def _restore(face: Interface) -> str:
    head = [f"uint32_t {face.name}_restore({face.name}_t *s, const {face.name}_state_t *from)", "{"]
    if not face.states:
        return "\n".join([*head, "    (void)s;", "    (void)from;", "    return 0;", "}"])
    tables: list[str] = []
    lines = [*head, "    uint32_t status = 0;"]
    for state in face.states:
        limited, table = _limited(state)
        tables += table
        lines += _block(state, [
            f"const {state.ctype.name} kept = {limited};",
            f"if (kept != {_source(state)}) {{",
            f"    status |= {face.macro}_STATE_CLAMPED;",
            "}",
            f"{state.element('s->state', 'i')} = kept;",
        ])
    return "\n".join([*tables, *([""] if tables else []), *lines, "    return status;", "}"])


def _source(state: StateField) -> str:
    return f"from->{state.name}" + ("" if state.scalar else "[i]")


def _block(state: StateField, statements: list[str]) -> list[str]:
    head = "    {" if state.scalar else f"    for (int i = 0; i < {state.size}; i++) {{"
    return [head, *(f"        {line}" for line in statements), "    }"]


def _limited(state: StateField) -> tuple[str, list[str]]:
    """The number limited to its box; without one, what is no finite number becomes 0."""
    source, is_float = _source(state), state.ctype.name == "float"
    if state.box is None:
        return (f"finite_f({source})" if is_float else source), []
    value = f"finite_f({source})" if is_float else source
    clamp, cast = ("clamp_f", "") if is_float else ("clamp_i", f"({state.ctype.name})")
    box = state.box if is_float else state.box.astype(np.int64)
    if np.all(box == box[0]):
        lo, hi = (literal(b, state.ctype) for b in box[0])
        return f"{cast}{clamp}({value}, {lo}, {hi})", []
    table = number_table(box, state.ctype, f"{state.name}_box")
    return f"{cast}{clamp}({value}, {state.name}_box[i][0], {state.name}_box[i][1])", [table]


def self_test(face: Interface, x: NDArray[Any], dt: NDArray[Any] | None, y: NDArray[Any],
              states: tuple[NDArray[Any], ...]) -> str:
    """Steps from the reset state with known answers."""
    return "\n".join(_self_test(face, x, dt, y, states))


def _self_test(face: Interface, x: NDArray[Any], dt: NDArray[Any] | None, y: NDArray[Any],
               states: tuple[NDArray[Any], ...]) -> Iterator[str]:
    yield "/* The self test's inputs and what they must give, bit for bit. */"
    yield number_table(x, face.x, "test_x")
    if dt is not None and face.dt is not None:
        yield number_table(dt, face.dt, "test_dt")
    yield number_table(y, face.y, "test_y")
    for state, after in zip(face.states, states, strict=True):
        yield number_table(after.reshape(-1), state.ctype, f"test_{state.name}")
    yield ""
    yield f"int {face.name}_self_test(void)"
    yield "{"
    yield f"    {'static ' if face.arena else ''}{face.name}_t s;"
    yield f"    {face.y.name} y[{face.outputs}];"
    yield "    int wrong = 0;"
    yield f"    {face.name}_init(&s);"
    yield f"    for (int t = 0; t < {len(x)}; t++) {{"
    yield f"        (void){face.name}_step(&s, test_x[t], {'test_dt[t], ' if face.dt else ''}y);"
    yield f"        for (int i = 0; i < {face.outputs}; i++) {{"
    yield f"            wrong += {_differs('y[i]', 'test_y[t][i]', face.y)};"
    yield "        }"
    yield "    }"
    for state in face.states:
        test = f"test_{state.name}[{'0' if state.scalar else 'i'}]"
        yield from _each_scalar_safe(state, f"wrong += {_differs(state.element('s.state', 'i'), test, state.ctype)};")
    yield "    return wrong;"
    yield "}"


def _each_scalar_safe(state: StateField, statement: str) -> list[str]:
    if state.scalar:
        return [f"    {statement}"]
    return [f"    for (int i = 0; i < {state.size}; i++) {{", f"        {statement}", "    }"]


def _differs(a: str, b: str, ctype: CType) -> str:
    return f"differ_f({a}, {b})" if ctype.name == "float" else f"{a} != {b}"
