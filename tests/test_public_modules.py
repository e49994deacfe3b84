"""Modules built like public ones are read as their forward computes or refused with a reason; the page says which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("ncps")

from benchmarks.public_modules import MODULES, RESULT, PublicModule, outcome, table

PAGE = Path(__file__).parents[1] / "docs" / "modules.md"
FOUND = json.loads(RESULT.read_text())
SAMPLE = ("UnmaskedLstm", "DepthDrone", "Continuous", "MixtureDensity", "Film", "NormedGru", "Minimal", "Pooled")


def test_the_page_shows_what_was_found() -> None:
    page, counts, save = PAGE.read_text(), FOUND["counts"], FOUND["save"]
    assert counts["wrong"] == 0
    assert table(FOUND["modules"]) in page
    assert f"{counts['read']} of {len(MODULES)} are read, {counts['refused']} refused, none read wrongly" in page
    assert f"in {save['save_seconds']:.0f} seconds, {save['save_per_forward']} times" in page
    assert [row["source"] for row in FOUND["modules"]] == [public.source for public in MODULES]


@pytest.mark.parametrize(("place", "public"), [
    pytest.param(k, public, id=f"{k}-{public.kind.__name__}",
                 marks=() if public.kind.__name__ in SAMPLE else pytest.mark.slow) for k, public in enumerate(MODULES)])
def test_a_public_module_fares_as_recorded(place: int, public: PublicModule, tmp_path: Path) -> None:
    found, row = outcome(public, tmp_path), FOUND["modules"][place]
    assert found.outcome == row["outcome"]
    assert found.reason == row.get("reason", "")
