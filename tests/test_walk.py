"""The way of a policy through a compilation gets no longer unseen, and the documentation says how long it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import walk
from ncpc.frontend.container import read_policy
from tests.conftest import RequireTool

DOCUMENT = walk.ROOT / "docs" / "architecture.md"


def test_the_document_has_the_recorded_counts() -> None:
    held = json.loads(walk.RESULT.read_text())
    assert walk.counts(held["way"]) == {name: held[name] for name in ("files", "returns")}
    assert f"{held['files']} files and comes back {held['returns']} times" in " ".join(DOCUMENT.read_text().split())


def test_a_way_is_counted() -> None:
    assert walk.counts(["a", "b", "a", "c", "b", "a"]) == {"files": 3, "returns": 3}


@pytest.mark.slow
def test_the_way_is_no_longer_than_recorded(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("ziglang")
    held, way = json.loads(walk.RESULT.read_text()), walk.way(read_policy(walk.POLICY), tmp_path / "build")
    assert all(count <= held[name] for name, count in walk.counts(way).items()), way
