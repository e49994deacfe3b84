"""The picture of layers that branch and join."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ncpc.cli.commands import run as cli
from ncpc.frontend.container import write_policy
from ncpc.ir.policy import Activation, ChannelGroup, Tap
from ncpc.ir.wires import row, taps_of
from ncpc.report.blocks import blocks
from ncpc.report.wiring import wiring_svg
from tests.nets import random_policy
from tests.wired_nets import wired_policy


def boxes(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<rect [^>]*x="([\d.]+)" y="([\d.]+)"', svg)]


@pytest.mark.parametrize("seed", range(6))
def test_every_layer_is_a_box_behind_what_it_reads(seed: int) -> None:
    policy = wired_policy(seed)
    drawn = blocks(policy)
    assert drawn is not None
    ElementTree.fromstring(drawn)
    found = boxes(drawn)
    assert len(found) == len(policy.layers) + 2
    assert len(set(found)) == len(found), "no box hides another"
    paths = re.findall(r'd="M([\d.]+) [\d.]+C.* ([\d.]+) [\d.]+"', drawn)
    assert len(paths) == sum(map(len, taps_of(policy)))
    assert all(float(start) < float(end) for start, end in paths), "lines go to the right"
    assert "action, value" in drawn


def test_a_row_has_no_such_picture() -> None:
    policy = random_policy(1)
    assert blocks(policy) is None
    assert blocks(replace(policy, wires=row(policy.layers))) is None


def test_names_cannot_break_the_picture(tmp_path: Path) -> None:
    policy = replace(random_policy(1), wires=((Tap(-1, 0, 3),), (Tap(0, 1, 2), Tap(0, 0, 1))),
                     output_groups=(ChannelGroup("<b>&", (2,)),))
    drawn = wiring_svg(policy)
    assert drawn is not None
    assert "&lt;b&gt;&amp;" in drawn
    ElementTree.fromstring(drawn)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_command_draws_layers_without_a_wired_cell_too(suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    policy = replace(random_policy(1), layers=(Activation("tanh", 2),), input_range=random_policy(1).input_range[:2],
                     wires=((Tap(-1, 0, 2),), (Tap(0, 1, 2), Tap(-1, 0, 1))))
    write_policy(policy, tmp_path / "p.safetensors")
    out = tmp_path / f"layers{suffix}"
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--wiring", str(out)]) == 0
    assert out.stat().st_size > 500
