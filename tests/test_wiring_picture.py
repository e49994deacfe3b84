"""The picture of every wired cell: LTCs, wired CfCs, mixed memories; as SVG and as PNG."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ncpc.cli.commands import run as cli
from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.frontend.container import write_policy
from ncpc.ir.gated import Cfc, Lstm, MixedMemory, WiredCfc
from ncpc.ir.policy import Dense, Policy
from ncpc.passes.lower import lower
from ncpc.report.drawing import drawing_of
from ncpc.report.wiring import left_out, wiring_svg
from ncpc.verification.compare import state_names
from tests.nets import random_ltc


def stage(rng: np.random.Generator, inputs: int, role: str, neurons: int) -> Cfc:
    """A stage in which every second input synapse is missing."""
    width = inputs + neurons
    mask = np.ones((neurons, width))
    mask[:, :inputs][(np.add.outer(np.arange(neurons), np.arange(inputs)) % 2) == 1] = 0
    dense = [Dense(rng.normal(size=(neurons, width)), rng.normal(size=neurons)) for _ in range(4)]
    ff1, ff2 = (Dense(d.weight * mask, d.bias) for d in dense[:2])
    names = tuple(f"{role}_{i}" for i in range(neurons))
    return Cfc((), ff1, ff2, dense[2], dense[3], None, None, "default", "tanh", "tanh", (role,) * neurons, names)


def wired_cfc() -> WiredCfc:
    rng = np.random.default_rng(0)
    return WiredCfc((stage(rng, 3, "inter", 4), stage(rng, 4, "command", 2), stage(rng, 2, "motor", 1)))


def policy_of(*layers: object) -> Policy:
    inputs = layers[0].inputs  # type: ignore[attr-defined]
    return Policy("net", layers, np.tile([-1.0, 1.0], (inputs, 1)))  # type: ignore[arg-type]


def edges(svg: str) -> list[str]:
    return [title.text or "" for title in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]


def test_wired_cfc_shows_each_synapse_with_its_weight_and_polarity() -> None:
    layer = wired_cfc()
    told = edges(wiring_svg(policy_of(layer)) or "")
    first = layer.stages[0]
    assert len(told) == sum(int(np.count_nonzero(s.ff1.weight)) for s in layer.stages)
    assert first.ff2 is not None
    pair = (first.ff1.weight[2, 0], first.ff2.weight[2, 0])
    assert f"u0 → inter_2: weight {max(pair, key=abs):.3g}" in told
    assert not any(line.startswith("u1 → inter_2") for line in told)


def test_mixed_memory_shows_its_cell() -> None:
    cell = random_ltc(1, neurons=5)
    memory = Lstm(np.zeros((20, 3)), np.zeros((20, 5)), np.zeros(20))
    assert drawing_of(MixedMemory(memory, cell, "state")) is cell


def test_a_memory_s_states_are_told_from_its_cell_s() -> None:
    cell = random_ltc(1, neurons=5)
    memory = Lstm(np.zeros((20, 3)), np.zeros((20, 5)), np.zeros(20))
    names = state_names(lower(policy_of(MixedMemory(memory, cell, "state"))))
    assert names == (*cell.names, *(f"c.{name}" for name in cell.names))


def test_the_file_says_what_the_colours_mean() -> None:
    svg = wiring_svg(policy_of(wired_cfc())) or ""
    texts = [text.text for text in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("excitatory") == texts.count("inhibitory") == 1


def crowded(neurons: int) -> WiredCfc:
    """All to all."""
    rng = np.random.default_rng(0)
    made = stage(rng, 3, "inter", neurons)
    assert made.ff1 is not None
    return WiredCfc((dataclasses.replace(made, ff1=Dense(rng.normal(size=(neurons, 3 + neurons)), np.zeros(neurons))),))


@pytest.mark.parametrize(("neurons", "ends", "missing"), [(8, True, 0), (25, False, 0), (60, False, 3780 - 2500)])
def test_a_crowd_is_drawn_thinner_and_says_what_is_missing(neurons: int, ends: bool, missing: int) -> None:
    layer = crowded(neurons)
    svg = wiring_svg(policy_of(layer)) or ""
    assert svg.count('class="edge') == neurons * (neurons + 3) - missing == len(edges(svg))
    assert svg.count('class="end') == (neurons * (neurons + 3) if ends else 0)
    assert ("a dot is where a synapse ends" in svg) == ends
    assert (f"the {missing:,} weakest synapses are not drawn" in svg) == bool(missing)
    assert left_out(drawing_of(layer)) == missing  # type: ignore[arg-type]


def test_the_report_draws_every_wired_cell(tmp_path: Path) -> None:
    cell = random_ltc(2, inputs=1)
    memory = Lstm(np.zeros((32, 1)), np.zeros((32, 8)), np.zeros(32))
    policy = policy_of(wired_cfc(), MixedMemory(memory, cell, "state"))
    outcome = compile_policy(policy, tmp_path / "b", Request("c", "float32", steps=50))
    page = (outcome.folder / "report.html").read_text()
    assert page.count('aria-label="wiring: ') == 2
    for layer in policy.layers:
        drawn = drawing_of(layer)
        assert drawn is not None
        assert f"{drawn.neurons} neurons, {len(drawn.recurrent)} synapses" in page


def test_every_wired_cell_is_drawn_and_nothing_else() -> None:
    layer = wired_cfc()
    ltc = random_ltc(2, inputs=1)
    both = edges(wiring_svg(policy_of(layer, ltc)) or "")
    assert len(both) == len(edges(wiring_svg(policy_of(layer)) or "")) + len(edges(wiring_svg(policy_of(ltc)) or ""))
    assert wiring_svg(policy_of(Dense(np.ones((2, 3)), np.zeros(2)))) is None


def test_png_holds_the_colours_of_the_picture(tmp_path: Path, require_tool) -> None:
    require_tool("matplotlib")
    from matplotlib.image import imread

    write_policy(policy_of(wired_cfc()), tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--wiring", str(tmp_path / "w.png")]) == 0
    pixels = {tuple(int(255 * v + 0.5) for v in pixel[:3]) for pixel in imread(tmp_path / "w.png").reshape(-1, 4)}
    assert {(0x3F, 0x9E, 0x8F), (0x8A, 0x63, 0xC9), (0xC9, 0x96, 0x2A), (0x7A, 0x87, 0x94)} <= pixels


@pytest.mark.parametrize("name", ["w.pdf", "w"])
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    write_policy(policy_of(wired_cfc()), tmp_path / "p.safetensors")
    assert cli(["inspect", str(tmp_path / "p.safetensors"), "--wiring", str(tmp_path / name)]) == 2
    assert not (tmp_path / name).exists()
