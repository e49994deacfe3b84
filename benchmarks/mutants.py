"""The small faults that ``benchmarks.mutation`` plants: cosmic-ray's, of one line each, from one parse per file."""

from __future__ import annotations

import ast
import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SEED = 2026

PAIRS = {"ReplaceBinaryOperator": ("Add_Sub", "Sub_Add", "Mul_Add", "Div_Mul", "FloorDiv_Mul", "Mod_Add", "Pow_Mul",
                                   "RShift_LShift", "LShift_RShift", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr"),
         "ReplaceComparisonOperator": ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt", "Lt_Gt", "Gt_Lt",
                                       "Is_IsNot", "IsNot_Is"),
         "ReplaceUnaryOperator": ("Delete_USub", "Delete_Invert", "Delete_Not")}
ALONE = ("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
         "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop")
OPERATORS = (*(f"{kind}_{pair}" for kind, pairs in PAIRS.items() for pair in pairs), *ALONE)


@dataclass(frozen=True)
class Mutant:
    """One planted fault: in ``module`` the line ``before``, number ``line``, becomes ``after``, both without indent.

    ``twin`` counts equal lines that are changed equally, from 0.
    """

    module: str
    operator: str
    line: int
    before: str
    after: str
    twin: int = 0

    @property
    def key(self) -> str:
        """What names it over edits elsewhere in the file."""
        text = "\0".join((self.module, self.operator, self.before, self.after, str(self.twin)))
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def planted(self, source: str) -> str:
        """The module's text with the fault in it; the line is the nearest to where it was that reads ``before``."""
        lines = source.splitlines()
        near = [i for i, text in enumerate(lines) if text.strip() == self.before]
        if not near:
            raise LookupError(f"{self.module}: no line reads {self.before!r}")
        at = min(near, key=lambda i: abs(i + 1 - self.line))
        lines[at] = lines[at][: len(lines[at]) - len(lines[at].lstrip())] + self.after
        return "\n".join(lines) + "\n"


def modules(package: str) -> list[Path]:
    """The Python files of a package (``proofs``, ``quant``, ``targets/c``), or the one file (``ir/formed.py``)."""
    top = next(p for p in (ROOT / "ncpc" / package, ROOT / package) if p.exists())
    return [top] if top.is_file() else sorted(path for path in top.rglob("*.py") if path.name != "__init__.py")


def mutants_of(path: Path) -> list[Mutant]:
    """Every mutant of a file that changes what runs, in an order drawn by ``SEED``: its beginning is a sample."""
    source, name = path.read_text(), path.relative_to(ROOT).as_posix()
    seen: Counter[str] = Counter()
    found = []
    for plain in _all(source, name):
        found.append(replace(plain, twin=seen[plain.key]))
        seen[plain.key] += 1
    random.Random(f"{SEED} {name}").shuffle(found)
    return found


def _all(source: str, module: str) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.plugins import get_operator

    tree, silent, lines = get_ast(source), _annotations(source), source.splitlines()
    nodes = list(ast_nodes(tree))
    for operator in OPERATORS:
        change = get_operator(f"core/{operator}")()
        for node in nodes:
            for index, (start, _) in enumerate(change.mutation_positions(node)):
                text = _changed(tree, node, change, index)
                difference = _one_line(lines, text.splitlines())
                if difference is not None and not any(lo <= start < hi for lo, hi in silent):
                    line, before, after = difference
                    yield Mutant(module, operator, line, before, after)
    assert tree.get_code() == source


def _changed(tree: Any, node: Any, change: Any, index: int) -> str:
    """The tree's text with the node changed, which is as it was afterwards."""
    from cosmic_ray.ast import ast_nodes

    kept = [(n, getattr(n, "value", None), list(getattr(n, "children", ()))) for n in ast_nodes(node)]
    siblings = [node] if node.parent is None else node.parent.children
    at = next(i for i, sibling in enumerate(siblings) if sibling is node)
    new = change.mutate(node, index)
    siblings[at : at + 1] = [] if new is None else [new]
    text: str = tree.get_code()
    siblings[at : at + (new is not None)] = [node]
    for old, value, parts in kept:
        if parts:
            old.children[:] = parts
        elif value is not None:
            old.value = value
    return text


def _one_line(before: Sequence[str], after: Sequence[str]) -> tuple[int, str, str] | None:
    """Number and texts of the one line that differs; None where more do, or the result is no Python."""
    different = [i for i, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1]]
    if len(different) != 1 or len(before) != len(after):
        return None
    try:
        ast.parse("\n".join(after))
    except SyntaxError:
        return None
    at = different[0]
    return at + 1, before[at].strip(), after[at].strip()


def _annotations(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and docstrings stand, which never run."""
    silent: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            silent.append(node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            silent.append(node.returns)
    return [((e.lineno, e.col_offset), (e.end_lineno or 0, e.end_col_offset or 0)) for e in silent]
