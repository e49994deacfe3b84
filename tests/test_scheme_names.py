"""Schemes by another name: ``w8a8`` is taken wherever ``int8`` is, and what is written says ``int8``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import ncpc
from ncpc.cli.commands import cli
from ncpc.driver.job import Request
from ncpc.driver.lowering import lower_for
from ncpc.driver.request_file import SCHEMA, read_request
from ncpc.frontend.container import Container, write_policy
from ncpc.ir.schemes import ALIASES, SCHEMES, canonical, shown
from ncpc.report.validate import faults
from ncpc.targets.base import CompileOptions
from tests.nets import random_policy


def test_an_alias_is_no_scheme_of_its_own() -> None:
    assert not set(ALIASES) & set(SCHEMES)
    assert set(ALIASES.values()) <= set(SCHEMES)
    assert (canonical("w8a8"), canonical("int16"), canonical("int7")) == ("int8", "int16", "int7")
    assert (shown("int8"), shown("w8a16")) == ("int8 (w8a8)", "w8a16")


def test_a_request_by_either_name_is_the_same() -> None:
    assert Request(quant="w8a8") == Request(quant="int8")  # type: ignore[arg-type]
    assert not list(faults("w8a8", SCHEMA["properties"]["quant"], "quant"))
    assert list(faults("w8a9", SCHEMA["properties"]["quant"], "quant"))


def test_the_command_line_takes_both_and_writes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.safetensors"
    write_policy(random_policy(1, neurons=4, inputs=2, outputs=1), path)
    made = []
    for name in ("w8a8", "int8"):
        done = CliRunner().invoke(cli, ["compile", str(path), "-o", name, "--quant", name, "--steps", "50", "--json"],
                                  standalone_mode=False)
        assert done.exception is None, done.exception
        made.append((tmp_path / name / "trace.json").read_bytes())
        report = json.loads((tmp_path / name / "report.json").read_text())
        assert report["quant"]["scheme"] == "int8"
        assert read_request(tmp_path / name)[0].quant == "int8"
    assert made[0] == made[1]
    shown_targets = CliRunner().invoke(cli, ["targets"], standalone_mode=False).output
    assert "int8 (w8a8)" in " ".join(shown_targets.split())


def test_formats_stored_under_the_other_name_are_found() -> None:
    policy = random_policy(1, neurons=4, inputs=2, outputs=1)
    options = CompileOptions(quant="int8", dt="fixed" if policy.dt.fixed else "runtime")
    first = lower_for(Container(policy), options)
    assert first.formats is not None
    odd = {"w8a8": {**first.formats["int8"], "dead_band": 2.0 * first.formats["int8"]["dead_band"]}}
    again = lower_for(dataclasses.replace(Container(policy), formats=odd), options)
    assert again.formats == {"int8": odd["w8a8"]}
    assert ncpc.compile.__doc__ is not None
    assert "w8a8" in ncpc.compile.__doc__
