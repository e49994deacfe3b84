"""The tree keeps its shape: imports point one way, heavy libraries load late, files stay readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ORDER = ("ir", "semantics", "cells", "passes", "frontend", "quant", "proofs", "cores", "sim", "theorem", "targets",
         "verification", "report", "driver", "inspect", "tuning", "api", "cli")
"""Each imports of those before it alone."""
LEVEL = {**dict.fromkeys(("errors", "system", "phases", "worker"), 0),
         **{name: 1 + place for place, name in enumerate(ORDER)},
         "nir": len(ORDER), "__main__": len(ORDER) + 1}
HEAVY = ("torch", "brevitas", "ncps", "onnx", "onnxruntime", "ai_edge_litert", "tflite_micro", "nir", "unicorn",
         "optuna")
MAX_LINES, MAX_FUNCTION = 400, 60
WHOLE = {"ncpc/proofs/certify.py"}
"""Copied into builds as one file, to be read alone from its first line to its last."""


def sources() -> list[Path]:
    """Every Python file of the package, each once (ncpc/targets and ncpc/quant are links)."""
    return [path for top in ("ncpc", "targets", "quant") for path in sorted((ROOT / top).rglob("*.py"))
            if top != "ncpc" or path.relative_to(ROOT).parts[1] not in ("targets", "quant")]


def part(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return (parts[1] if parts[0] == "ncpc" else parts[0]).removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The absolute names a file imports, those inside functions and under TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ([f"ncpc.{a.name}" for a in node.names] if node.module == "ncpc" else [str(node.module)])


def edges() -> Iterator[tuple[Path, str, str]]:
    for path in sources():
        for name in imports(path):
            if name.startswith("ncpc.") and part(path) != "__init__" and (to := name.split(".")[1]) in LEVEL:
                yield path, part(path), to


def test_imports_point_one_way() -> None:
    wrong = [f"{path.relative_to(ROOT)} imports ncpc.{to}" for path, here, to in edges() if LEVEL[to] > LEVEL[here]]
    assert not wrong, "\n".join(wrong)


def module(path: Path) -> str:
    """The name a file is imported by; a package's ``__init__`` is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(p for p in ("ncpc", *parts[parts[0] == "ncpc" :]) if p != "__init__")


def targets(path: Path, known: set[str]) -> Iterator[str]:
    """The modules of the package that a file imports as it loads; registries import what they list only when asked."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            yield from ({f"{node.module}.{alias.name}" for alias in node.names} & known or {str(node.module)} & known)


def test_modules_import_each_other_in_no_circle() -> None:
    known = {module(path) for path in sources()}
    graph = {module(path): set(targets(path, known)) for path in sources()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other in a circle: {' -> '.join(error.args[1])}")


def test_every_module_has_a_level() -> None:
    assert {part(path) for path in sources()} - set(LEVEL) <= {"__init__"}


def test_the_command_line_starts_without_heavy_libraries() -> None:
    code = f"import sys, ncpc, ncpc.cli.commands; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp)
"""Those that Python 3.12 makes a part of the function."""


def bound(comprehension: ast.AST) -> frozenset[str]:
    """The variables of a comprehension; none of any other node."""
    return frozenset(name.id for part in getattr(comprehension, "generators", ())
                     for name in ast.walk(part.target) if isinstance(name, ast.Name))


def outside(node: ast.AST, hidden: frozenset[str] = frozenset()) -> Iterator[ast.Name]:
    """The names in ``node`` that are no variable of a comprehension around them."""
    hidden |= bound(node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Name) and child.id not in hidden:
            yield child
        yield from outside(child, hidden)


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_comprehensions_hide_no_name_of_the_module_that_is_used_beside_them(path: Path) -> None:
    """Python 3.12.0 and 3.12.1 take the variable of a comprehension for a local one of the whole function."""
    tree = ast.parse(path.read_text())
    module_s = {name for node in tree.body for name in (
        [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef)
        else [alias.asname or alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom)
        else [])}
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        variables = {name for node in ast.walk(function) if isinstance(node, COMPREHENSIONS) for name in bound(node)}
        names = list(outside(function))
        used = {name.id for name in names} - {name.id for name in names if isinstance(name.ctx, ast.Store)}
        assert not variables & used & module_s, f"{function.name}: rename the variable"


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= MAX_LINES or str(path.relative_to(ROOT)) in WHOLE
    long = [node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION]
    assert not long
