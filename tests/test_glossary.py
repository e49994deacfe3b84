"""docs/glossary.md speaks of words that are used where it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROWS = re.findall(r"^\| ([\w ]+) \| .+ \| `([\w/.]+)` \|$", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)


def test_the_glossary_has_rows() -> None:
    words = [word for word, _ in ROWS]
    assert len(words) > 30
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(("word", "home"), ROWS)
def test_a_word_is_at_home_where_the_glossary_says(word: str, home: str) -> None:
    text = (ROOT / home).read_text().lower().replace("_", " ").replace("-", " ")
    forms = {word, f"{word}s", word.removesuffix("e") + "ed", f"{word}ed"}
    assert any(re.search(rf"\b{form}\b", text) for form in forms)
