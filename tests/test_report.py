"""report.html: self-contained, drawn from the numbers, right in a real browser."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from ncpc.driver.job import Request
from ncpc.driver.pipeline import Outcome, compile_policy
from ncpc.ir.policy import Ltc, Policy
from ncpc.report import plots
from ncpc.report.terminal import share, size
from ncpc.report.wiring import wiring
from ncpc.targets import registry
from ncpc.targets.base import PROGRAM, Target
from ncpc.verification.verdict import SEARCH
from tests.interpreter import interpreter_target
from tests.nets import random_policy

VOID = {"meta", "br", "link", "img", "input", "hr"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with pytest.MonkeyPatch.context() as patch:
        return compiled(patch, tmp_path_factory.mktemp("page"), random_policy(4), interpreter_target())


def compiled(patch: pytest.MonkeyPatch, folder: Path, policy: Policy, target: Target) -> Outcome:
    patch.setattr(registry, "load", lambda name: target)
    patch.setattr("ncpc.driver.job.MIN_STEPS", 900)
    patch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 24})
    return compile_policy(policy, folder / "build", Request("interpreter"))


def text_of(outcome: Outcome) -> str:
    return (outcome.folder / "report.html").read_text()


class Balance(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None: ...

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tr", "td", "th", "li"):
            while self.open[-1] in ("td", "th", "li") and self.open[-1] != tag:
                self.open.pop()
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(outcome: Outcome) -> None:
    text = text_of(outcome)
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", text)


def test_every_section_is_there_and_every_picture_is_xml(outcome: Outcome) -> None:
    text = text_of(outcome)
    for heading in ("What was checked", "Float and deployed", "Neurons", "Cost", "Wiring"):
        assert f"<h2>{heading}</h2>" in text
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) >= 8
    for picture in pictures:
        ElementTree.fromstring(picture)
        assert "nan" not in picture


def test_the_numbers_on_the_page_are_the_reports(outcome: Outcome) -> None:
    text, report = text_of(outcome), outcome.report
    for value in (share(report["error"]["max_range"]), share(report["error"]["search"]["max_range"]),
                  size(report["memory"]["flash_bytes"]), f"≤ {report['cycles']['upper']['max']:,}"):
        assert f"<b>{value}</b>" in text
    for neuron in report["error"]["neurons"]:
        assert neuron["name"] in text


def test_a_failed_verdict_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = compiled(monkeypatch, tmp_path, random_policy(4), interpreter_target(faults={"late": True}))
    text = text_of(outcome)
    assert "The verdict does not hold" in text
    assert "0 steps after a reset" in text
    assert '<span class="no">does not hold</span>' in text


def test_names_cannot_break_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = random_policy(4).layers[0]
    assert isinstance(layer, Ltc)
    layer = dataclasses.replace(layer, names=("<b>&\"'", *layer.names[1:]))
    policy = dataclasses.replace(random_policy(4), layers=(layer,))
    outcome = compiled(monkeypatch, tmp_path, policy, interpreter_target())
    assert "<b>&" not in text_of(outcome)
    assert "&lt;b&gt;" in text_of(outcome)


def test_curves_are_the_data() -> None:
    values = np.array([0.0, 1.0, np.nan, 0.5])
    root = ElementTree.fromstring(plots.lines([plots.Line("a", values, "dep")], "t"))
    (curve,) = root.findall("polyline")
    points = [tuple(map(float, p.split(","))) for p in str(curve.get("points")).split()]
    assert len(points) == 3
    assert points[0][0] == plots.LEFT
    assert points[1][1] < points[2][1] < points[0][1]
    halfway = (points[0][1] + points[1][1]) / 2
    assert points[2][1] == pytest.approx(halfway, abs=0.02)


@pytest.mark.parametrize(("lo", "hi"), [(0, 1), (-3.2, 17), (1e-9, 2e-9), (0, 12345), (5, 5)])
def test_ticks_are_round_and_inside(lo: float, hi: float) -> None:
    found = plots.ticks(lo, hi)
    assert 1 <= len(found) <= 11
    assert all(lo - 1e-12 <= t <= hi + 1e-12 for t in found)


def test_a_large_wiring_leaves_out_the_weakest_and_says_so() -> None:
    layer = random_policy(1, neurons=64, density=0.9).layers[0]
    assert isinstance(layer, Ltc)
    root = ElementTree.fromstring(wiring(layer))
    assert len(root.findall("path")) == 2500
    assert len(root.findall("circle")) == 64


@pytest.mark.slow
def test_a_browser_shows_the_page(outcome: Outcome, tmp_path: Path, require_program: Any) -> None:
    browser = require_program("chromium")
    page = f"file://{(outcome.folder / 'report.html').resolve()}"
    common = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = tmp_path / "page.png"
    subprocess.run([*common, "--window-size=1280,2600", "--hide-scrollbars", f"--screenshot={shot}", page],
                   check=True, capture_output=True, timeout=120)
    assert shot.read_bytes().startswith(b"\x89PNG")
    assert shot.stat().st_size > 100_000, "the page is nearly empty"
    dom = subprocess.run([*common, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=120).stdout
    assert "The verdict holds" in dom
    assert dom.count("<svg") == text_of(outcome).count("<svg")
