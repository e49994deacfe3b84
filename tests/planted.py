"""Targets that emit a fault: what follows after ``prepare`` meets it as if the compiler had made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from ncpc.targets import registry
from ncpc.targets.base import Artifact, CompileOptions, Lowered, Target

Edit = Callable[[str, bytes], bytes]
"""A file's name and content -> its content with the fault; the same where the fault is none of this file's."""


def faulty(target: Target, edit: Edit) -> Target:
    """The target with its files edited after they were made; everything else is the target's own."""

    def prepare(lowered: Lowered, options: CompileOptions) -> Artifact:
        made: Any = target.prepare(lowered, options)
        return cast("Artifact", replace(made, files={name: edit(name, data) for name, data in made.files.items()}))

    return replace(target, prepare=prepare)


def plant(monkeypatch: pytest.MonkeyPatch, edit: Edit) -> None:
    """Every target loaded from now on emits the fault, until ``monkeypatch`` is undone."""
    real = registry.load
    monkeypatch.setattr(registry, "load", lambda name: faulty(real(name), edit))
