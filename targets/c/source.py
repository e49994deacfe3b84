"""NAME.c: constants, the support functions it needs, and the functions of the header."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ncpc.ir.loops import Nest, loops
from ncpc.ir.types import Float32
from ncpc.targets.c.api import functions, self_test
from ncpc.targets.c.data import constants
from ncpc.targets.c.dot import dots_of
from ncpc.targets.c.interface import Interface
from ncpc.targets.c.layout import INDENT, wrapped
from ncpc.targets.c.locals import bundles_of, declarations
from ncpc.targets.c.names import Names
from ncpc.targets.c.statements import profiled, statements
from ncpc.targets.c.support import support, support_names
from ncpc.targets.c.tables import tables_of
from ncpc.targets.c.vectors import Vectors
from ncpc.targets.c.writer import Rendering

FUNCTIONS = ("step", "init", "reset", "save", "restore", "self_test")


def source(face: Interface, vectors: Vectors, fpu: bool = False, long_products: bool = True) -> str:
    """The text of NAME.c; ``fpu`` and ``long_products`` as ``emit_c`` says."""
    writer, nest = _writer(face, long_products), face.nest
    data = list(constants(writer))
    step = "\n".join(_step(writer, face))
    test = self_test(face, vectors.x, vectors.dt, vectors.y, vectors.states)
    body = "\n\n".join([*data, step, *functions(face), test])
    helpers = support(re.findall(r"\b\w+", body), long_products)
    mark = [_profile_label(face)] if writer.marked else []
    return "\n\n".join([_head(face, fpu), *mark, _sizes(nest, writer.names), *helpers, body]) + "\n"


def written(face: Interface) -> Rendering:
    """The writer of NAME.c after its constants have got their names."""
    writer = _writer(face)
    list(constants(writer))
    return writer


def _writer(face: Interface, long_products: bool = True) -> Rendering:
    nest, dots = face.nest, dots_of(face.nest)
    return Rendering(nest, tables_of(nest), _names(face), face.macro, profiled(nest), bundles=bundles_of(nest, dots),
                     dots=dots, long_products=long_products)


def _profile_label(face: Interface) -> str:
    return f"""/* Labels for a profile of cycles per neuron; they cost nothing. */
#ifdef {face.macro}_PROFILE
#define PROFILE_LABEL(name) __asm__ volatile(#name "_%=:" : :)
#else
#define PROFILE_LABEL(name) (void)0
#endif"""


def _names(face: Interface) -> Names:
    """Parameters keep their names; sizes are enumerators; everything else is named after its value."""
    own = [face.name, f"{face.name}_t", f"{face.name}_state_t", f"{face.name}_dt_t"]
    names = Names([*own, *(f"{face.name}_{function}" for function in FUNCTIONS), *support_names()])
    for buffer in face.nest.buffers:
        if buffer.place in ("x", "dt", "y"):
            names.fix(buffer.name, buffer.place)
    for array in face.arena:
        names.fix(array.value, array.text)
    for state, field in zip(face.program.states, face.states, strict=True):
        names.fix(state.inp.name, field.name)
    for loop in loops(face.nest.body):
        names.fix(f"size:{loop.axis.name}", loop.axis.name.upper())
    return names


def _head(face: Interface, fpu: bool) -> str:
    rules = _INTEGER_RULES
    if isinstance(face.program.y.value.type, Float32):
        rules = _FLOAT_RULES + (_FPU_RULE.replace("NAME", face.name) if fpu else "")
    return f'/* SPDX-License-Identifier: 0BSD */\n#include "{face.name}.h"\n{rules.rstrip()}'


_FLOAT_RULES = """
#include <float.h>

/* Every operation is rounded to binary32 by itself: no wider intermediate results, no fused multiply-add, whatever
 * the compiler's default is. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif
typedef char binary32_arithmetic[FLT_EVAL_METHOD == 0 && FLT_MANT_DIG == 24 ? 1 : -1];
"""

_FPU_RULE = """
/* The figures of this build are those of an FPU whose registers pass floats. */
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#if !defined(__ARM_FP) || (__ARM_FP & 4) == 0 || !defined(__ARM_PCS_VFP)
#error "NAME.c is made for a core with an FPU: compile it with -mfloat-abi=hard and -mfpu, or make it for another core"
#endif
#endif
"""

_INTEGER_RULES = """
#include <limits.h>

/* Negative numbers are shifted right as floor(a / 2^k), as every compiler for a two's complement machine does. */
typedef char arithmetic_shift[(-5 >> 1) == -3 ? 1 : -1];
"""


def _sizes(nest: Nest, names: Names) -> str:
    sizes = {loop.axis.name: loop.axis.size for loop in loops(nest.body)}
    entries = "\n".join(f"{INDENT}{names[f'size:{axis}']} = {size}," for axis, size in sizes.items())
    return f"enum {{\n{entries}\n}};"


def _step(writer: Rendering, face: Interface) -> Iterator[str]:
    yield from wrapped(f"uint32_t {face.step_signature()}")
    yield "{"
    lines = [part for line in statements(writer, writer.nest.body, INDENT) for part in wrapped(line)]
    if face.flags:
        yield f"{INDENT}uint32_t status = 0;"
    yield from declarations(writer)
    for parameter in ("s", "x", *(["dt"] if face.dt else [])):
        if not any(re.search(rf"\b{parameter}\b", line) for line in lines):
            yield f"{INDENT}(void){parameter};"
    yield from lines
    yield f"{INDENT}return {'status' if face.flags else '0'};"
    yield "}"
