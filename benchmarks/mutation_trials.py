"""Trying mutants: pytest collects the tests once, and each mutant runs those that reach its line, in a fork.

What a test reaches is traced first, one fork per test. In the fork of a mutant, the functions that the fault changes
get its code in place; nothing is imported again, so a mutant costs some tenths of a second and the tests' own time.
Where that would not do (a fault outside functions, or in one that ran while modules were loading), an interpreter of
its own runs the tests that reach the module, on a copy of the tree with the fault written into it.

The tests run quickest first, up to the first that fails, but no more than ``BUDGET`` seconds of them: what survives
is a survivor of those. A mutant is killed by a test that fails or does not end.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest

from benchmarks.mutants import ROOT, Mutant

PATIENCE = 20.0
"""Seconds a mutant's tests may take, beside eight times what they take without it."""
BUDGET, ENOUGH = 10.0, 3
"""Seconds of tests that a mutant has to survive, and how many tests at least."""
ENDLESS = "does not end"
TRACED = ROOT / "build" / "mutation"
Lines = set[tuple[str, int]]


@dataclass
class Reached:
    """Which lines of ``modules`` run, as (module, line), while ``sys.settrace`` is on."""

    modules: dict[str, str]
    lines: Lines = field(default_factory=set)

    def __call__(self, frame: FrameType, _event: str, _arg: object) -> Any:
        name = self.modules.get(frame.f_code.co_filename)
        if name is None:
            return None
        self.lines.add((name, frame.f_lineno))

        def line(frame: FrameType, _event: str, _arg: object) -> Any:
            self.lines.add((name, frame.f_lineno))
            return line

        return line


@dataclass
class Tests:
    """What is known of the collected tests: seconds, the lines each reaches, and those reached while collecting."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, Lines] = field(default_factory=dict)
    loading: Lines = field(default_factory=set)

    def of(self, mutant: Mutant, whole: bool) -> list[str]:
        """The tests that reach the mutant's line (its module, if ``whole``), quickest first, up to ``BUDGET``."""
        at = (mutant.module, mutant.line)
        names = [name for name, lines in self.lines.items()
                 if (any(module == mutant.module for module, _ in lines) if whole else at in lines)]
        names.sort(key=lambda name: self.seconds[name])
        spent = list(accumulate(self.seconds[name] for name in names))
        return names[: max(ENOUGH, bisect_right(spent, BUDGET))]


Report = Callable[[Mutant, str | None], None]
"""Told of every mutant the test that killed it, or None."""


@dataclass
class Trials:
    """A pytest plugin that tries ``mutants`` in place of running the tests."""

    mutants: Sequence[Mutant]
    report: Report
    say: Callable[[str], object]
    reached: Reached
    tests: Tests = field(default_factory=Tests)
    failing: list[str] = field(default_factory=list)

    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        settings.register_profile("mutation", derandomize=True, deadline=None, report_multiple_bugs=False,
                                  phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutation")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        sys.settrace(None)
        self.tests.loading = set(self.reached.lines)
        self.items = {item.nodeid: item for item in session.items}
        gc.freeze()
        self._trace()
        if not self.failing:
            for mutant in self.mutants:
                self.report(mutant, self._killer(mutant))
        return True

    def _trace(self) -> None:
        began, known = time.monotonic(), _known(self.items)
        for name, item in self.items.items():
            found = known.get(name) or _forked(partial(_traced, item, self.reached.modules), 300.0)
            if found is None or found["failed"]:
                self.failing.append(name)
                continue
            known[name] = found
            self.tests.lines[name] = {(module, line) for module, lines in found["lines"].items() for line in lines}
        _keep(known)
        timed = _forked(partial(_timed, list(self.items.values())), 1200.0) or {}
        self.tests.seconds = {name: timed.get(name, 0.0) for name in self.tests.lines}
        self.failing += [name for name in self.tests.lines if name not in timed]
        self.say(f"{len(self.items)} tests traced in {time.monotonic() - began:.0f} s")

    def _killer(self, mutant: Mutant) -> str | None:
        source = Path(mutant.module).read_text()
        texts = source, mutant.planted(source)
        old, new = (compile(text, mutant.module, "exec", dont_inherit=True) for text in texts)
        swaps = None if (mutant.module, mutant.line) in self.tests.loading else swapped(old, new)
        if swaps is None:
            names = self.tests.of(mutant, whole=True)
            return alone(mutant, Path.cwd(), names, self._patience(names) + PATIENCE) if names else None
        names = self.tests.of(mutant, whole=False)
        if not names:
            return None
        found = _forked(lambda: {"killer": self._run(mutant, swaps, names)}, self._patience(names))
        return ENDLESS if found is None else found["killer"]

    def _patience(self, names: Sequence[str]) -> float:
        return PATIENCE + 8 * sum(self.tests.seconds[name] for name in names)

    def _run(self, mutant: Mutant, swaps: dict[CodeType, CodeType], names: Sequence[str]) -> str | None:
        plant(mutant.module, swaps)
        items = [self.items[name] for name in names]
        for item, after in zip(items, [*items[1:], None], strict=True):
            if _fails(item, after):
                return item.nodeid
        return None


def _timed(items: Sequence[pytest.Item]) -> dict[str, float]:
    """Seconds of each test that passes, run one after the other: what several share is counted once."""
    found = {}
    for item, after in zip(items, [*items[1:], None], strict=True):
        began = time.monotonic()
        if not _fails(item, after):
            found[item.nodeid] = time.monotonic() - began
    return found


def _traced(item: pytest.Item, modules: dict[str, str]) -> dict[str, Any]:
    reached = Reached(modules)
    sys.settrace(reached)
    failed = _fails(item, None)
    sys.settrace(None)
    lines = {name: sorted({n for module, n in reached.lines if module == name}) for name, _ in reached.lines}
    return {"failed": failed, "lines": lines}


def _known(names: Iterable[str]) -> dict[str, Any]:
    """What earlier runs traced of tests in files that are as they were, in a tree that is as it was."""
    found: dict[str, Any] = {}
    for file in {name.split("::")[0] for name in names}:
        path = TRACED / f"{_state(file)}.json"
        found |= json.loads(path.read_text()) if path.exists() else {}
    return found


def _keep(found: dict[str, Any]) -> None:
    TRACED.mkdir(parents=True, exist_ok=True)
    for file in {name.split("::")[0] for name in found}:
        rows = {name: row for name, row in found.items() if name.split("::")[0] == file}
        (TRACED / f"{_state(file)}.json").write_text(json.dumps(rows))


def product() -> list[Path]:
    """Every Python file that mutants may stand in; ``ncpc/targets`` and ``ncpc/quant`` are links to the folders."""
    return [path for top in ("ncpc", "quant", "targets") for path in sorted((ROOT / top).rglob("*.py"))]


@cache
def _state(file: str) -> str:
    """A hash of a test file, of all files beside it that are no tests, and of the product."""
    helpers = (path for path in sorted((ROOT / "tests").glob("*.py")) if not path.name.startswith("test_"))
    paths = [ROOT / file, *helpers, *product()]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def _fails(item: pytest.Item, after: pytest.Item | None) -> bool:
    from _pytest.runner import runtestprotocol

    return any(report.failed for report in runtestprotocol(item, log=False, nextitem=after))


def _forked(work: Callable[[], dict[str, Any]], patience: float) -> dict[str, Any] | None:
    """What ``work`` gives in a fork of this process; None where it does not end in time or dies."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            silent = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(silent, stream)
            answer = json.dumps(work()).encode()
            with os.fdopen(write, "wb") as out:
                out.write(answer)
        finally:
            os._exit(0)
    os.close(write)
    return _answer(child, read, time.monotonic() + patience)


def _answer(child: int, read: int, end: float) -> dict[str, Any] | None:
    from select import select

    text = b""
    with os.fdopen(read, "rb", buffering=0) as pipe:
        while select([pipe], [], [], max(0.0, end - time.monotonic()))[0] and (part := pipe.read(1 << 16)):
            text += part
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return json.loads(text) if text.endswith(b"}") else None


def swapped(old: CodeType, new: CodeType) -> dict[CodeType, CodeType] | None:
    """By the code of each function that differs, its new one; None where code outside functions differs."""
    pairs = list(_paired(old, new))
    if (None, None) in pairs or any(_outer(a) != _outer(b) for a, b in pairs if not _function(a)):
        return None
    changed = {a: b for a, b in pairs if _function(a) and a != b}
    same = {a for a, b in pairs if a == b}
    return None if same & set(changed) or any(a.co_freevars != b.co_freevars for a, b in changed.items()) else changed


def _paired(old: Any, new: Any) -> Iterator[tuple[Any, Any]]:
    yield old, new
    inner = [[c for c in code.co_consts if isinstance(c, CodeType)] for code in (old, new)]
    if len(inner[0]) != len(inner[1]):
        yield None, None
        return
    for a, b in zip(*inner, strict=True):
        yield from _paired(a, b)


def _function(code: CodeType) -> bool:
    return bool(code.co_flags & inspect.CO_OPTIMIZED)


def _outer(code: CodeType) -> tuple[object, ...]:
    """What runs of a module or a class body itself; types too, as 1 == 1.0 == True."""
    plain = [(type(c), c) for c in code.co_consts if not isinstance(c, CodeType)]
    return code.co_code, code.co_names, code.co_varnames, repr(plain)


def plant(module: str, swaps: dict[CodeType, CodeType]) -> None:
    """Give every function of the module its new code, wherever it is held."""
    gc.unfreeze()
    for thing in gc.get_objects():
        if isinstance(thing, FunctionType) and thing.__code__.co_filename.endswith(module) and thing.__code__ in swaps:
            thing.__code__ = swaps[thing.__code__]


def alone(mutant: Mutant, tree: Path, names: Sequence[str], seconds: float) -> str | None:
    """The test that kills the mutant when it stands in its file in ``tree``, by an interpreter of its own."""
    path = tree / mutant.module
    original = path.read_text()
    path.write_text(mutant.planted(original))
    try:
        return first_failure(tree, names, seconds)
    finally:
        path.write_text(original)


def first_failure(tree: Path, names: Sequence[str], seconds: float) -> str | None:
    """The first of the tests to fail in ``tree``, as pytest names it; ``ENDLESS`` where they take longer."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "CI": "1"}
    try:
        done = subprocess.run([*command, *names], cwd=tree, capture_output=True, text=True, timeout=seconds,
                              env=environment)
    except subprocess.TimeoutExpired:
        return ENDLESS
    renamed = done.returncode == pytest.ExitCode.USAGE_ERROR
    if renamed and any("::" in name for name in names):
        return first_failure(tree, sorted({name.split("::")[0] for name in names}), seconds)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    failed = [name.split(" - ")[0] for _, name in lines]
    return None if done.returncode == 0 else failed[0] if failed else "loading"


def try_all(tree: Path, tests: Sequence[str], mutants: Sequence[Mutant], report: Report,
            say: Callable[[str], object]) -> list[str]:
    """Try the mutants on a copy of the tree, in this process, which is to end after it; tests that fail without any."""
    sys.dont_write_bytecode = True
    os.environ.update(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1", CI="1", PYTHONPATH=str(tree))
    os.chdir(tree)
    sys.path[:] = [str(tree), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT)]
    sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
    files = {path.relative_to(ROOT).as_posix() for path in product()}
    reached = Reached({str(tree / top / name): name for name in files for top in ("", "ncpc")})
    trials = Trials(mutants, report, say, reached)
    sys.settrace(reached)
    code = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests], plugins=[trials])
    sys.settrace(None)
    return trials.failing if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) else [f"pytest: {code!r}"]
