"""Fixtures of the whole suite: golden files, optional tools, one thread per test."""

from __future__ import annotations

import importlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from ncpc.errors import MissingTool
from ncpc.frontend.container import write_policy
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM
from ncpc.verification.verdict import SEARCH
from ncpc.worker.process import kept
from tests.interpreter import interpreter_target
from tests.nets import random_policy

# Continuous integration draws the same examples every time; at a desk each run tries new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

GOLDEN = Path(__file__).parent / "golden"
REQUIRE_ALL = os.environ.get("NCPC_REQUIRE_ALL") == "1"
OPTIONAL = "optional: "
"""A skip whose reason starts so stays a skip even where every tool is required."""
WITHOUT = os.environ.get("NCPC_WITHOUT", "").split()
"""Libraries that this environment is without on purpose: what needs one of them is skipped, required or not."""

Golden = Callable[[str, str | bytes], None]
RequireTool = Callable[..., ModuleType]
RequireProgram = Callable[..., str]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Where every tool is required, a test that skips because one is missing has failed."""
    report = yield
    return _forbid_skip(_without(report, call))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    """The same for a whole file that skips at import."""
    report = yield
    return _forbid_skip(report)


def _without(report: pytest.TestReport, call: pytest.CallInfo[None]) -> pytest.TestReport:
    """A test that ends in MissingTool of a library which is left out on purpose was skipped."""
    if call.excinfo and isinstance(call.excinfo.value, MissingTool) and _left_out(str(call.excinfo.value)):
        report.outcome = "skipped"
        report.longrepr = (str(report.location[0]), (report.location[1] or 0) + 1, f"Skipped: {call.excinfo.value}")
    return report


def _left_out(reason: str) -> bool:
    return any(re.search(rf"\b{re.escape(name)}\b", reason) for name in WITHOUT)


def _forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> pytest.TestReport | pytest.CollectReport:
    if not (REQUIRE_ALL and report.skipped) or hasattr(report, "wasxfail"):
        return report
    reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
    if reason.removeprefix("Skipped: ").startswith(OPTIONAL) or _left_out(reason):
        return report
    report.outcome = "failed"
    report.longrepr = f"skipped although NCPC_REQUIRE_ALL=1: {reason}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _workers() -> Iterator[None]:
    """Worker processes that tests borrow run on to the next test: each service starts once."""
    with kept():
        yield


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    write_policy(random_policy(4), path)
    return path


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """One target, ``interpreter``, beside the real error for any other name."""
    real = registry.load
    monkeypatch.setattr("ncpc.driver.job.MIN_STEPS", 600)
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})
    monkeypatch.setattr(registry, "load", lambda name: interpreter_target() if name == "interpreter" else real(name))
    monkeypatch.setattr(registry, "names", lambda: ("interpreter",))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """``golden(name, content)``: equal to ``tests/golden/name``, or written there under --update-golden."""

    def check(name: str, content: str | bytes) -> None:
        path, new = GOLDEN / name, content.encode() if isinstance(content, str) else content
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(new)
        assert path.exists(), f"{path} is missing: run pytest --update-golden and read what it wrote"
        assert _text(new) == _text(path.read_bytes()), f"differs from {path}; --update-golden if that is intended"

    return check


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


@pytest.fixture(scope="session")
def require_tool() -> RequireTool:
    """``require_tool("onnxruntime")``: the module, or a skip (a failure under NCPC_REQUIRE_ALL=1)."""

    def load(module: str, optional: bool = False) -> ModuleType:
        try:
            return importlib.import_module(module)
        except ImportError as error:
            pytest.skip(f"{OPTIONAL if optional else ''}{module} is not installed: {error}")

    return load


@pytest.fixture(scope="session")
def require_program() -> RequireProgram:
    """``require_program("gcc")``: its path, or a skip; ``optional=True`` for what no one has to have."""

    def find(program: str, optional: bool = False) -> str:
        path = shutil.which(program)
        if path is None:
            pytest.skip(f"{OPTIONAL if optional else ''}{program} is not installed")
        return path

    return find
