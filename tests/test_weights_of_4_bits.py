"""w4a16: weights of 4 bits, two to a byte in the C, read back right by compilers and by the checker."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncpc.driver.certification import range_certificate
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.types import Fixed
from ncpc.proofs import certify
from ncpc.targets.c.data import paired
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.placement import placement
from tests.c_programs import deep_policy, fixed_program
from tests.conftest import RequireTool
from tests.test_certificate import alter
from tests.test_weights_of_8_bits import calibrated
from tests.undefined import Run, run_under_ubsan

NARROW = 4


@pytest.fixture(scope="module")
def programs() -> dict[str, Any]:
    """An LTC between matrices, and, of odd and even width, the matrices of a CfC."""
    torch, ncps = pytest.importorskip("torch"), pytest.importorskip("ncps.torch")
    torch.manual_seed(3)
    cfc = calibrated(import_model(ncps.CfC(4, 9, backbone_units=15)).layers)
    return {"ltc": fixed_program(deep_policy(5), "w4a16"), "cfc": fixed_program(cfc, "w4a16")}


@pytest.fixture(scope="module")
def texts(programs: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    return {name: emit_c(interface_of(program)) for name, program in programs.items()}


@given(seed=st.integers(0, 10_000), width=st.integers(1, 9))
def test_what_is_put_together_is_taken_apart(seed: int, width: int) -> None:
    numbers = np.random.default_rng(seed).integers(-8, 8, (3, width))
    held = paired(numbers)
    assert held.shape == (3, (width + 1) // 2)
    assert held.min() >= 0
    assert held.max() < 256
    assert [[certify.nibble(i % 2, int(row[i // 2])) for i in range(width)] for row in held] == numbers.tolist()


@pytest.mark.parametrize("name", ["ltc", "cfc"])
def test_c_is_its_program_and_defined_everywhere(name: str, programs: dict[str, Any], tmp_path: Path,
                                                 require_tool: RequireTool) -> None:
    require_tool("ziglang")
    assert run_under_ubsan(Run(programs[name], tmp_path, np.random.default_rng(0))) == ""


@pytest.mark.parametrize("name", ["ltc", "cfc"])
def test_weights_take_half_a_byte(name: str, programs: dict[str, Any], texts: dict[str, dict[str, bytes]]) -> None:
    """Every matrix of the program is an array of half as many bytes, every synapse's two weights are one."""
    program = programs[name]
    text = next(text.decode() for file, text in texts[name].items() if file.endswith(".c"))
    weights = {key: data for key, (value, data) in program.constants.items()
               if isinstance(value.type, Fixed) and value.type.bits == NARROW}
    assert weights
    assert max(np.abs(data).max() for data in weights.values()) == 7
    for key, data in weights.items():
        if data.ndim == 2:
            found = re.search(rf"static const uint(\d+)_t {key}\[(\d+)\]\[(\d+)\]", text)
            assert found, key
            bits, rows, columns = map(int, found.groups())
            assert rows * columns * bits // NARROW <= 4 * data.size / 3
    if name == "ltc":
        assert re.search(r"uint16_t pre_w_we; /\* pre: position in neurons, w: Q[-\d.]+, we: Q[-\d.]+ \*/", text)
        assert "int8_t w" not in text


def test_it_is_told_where_each_half_lies(programs: dict[str, Any]) -> None:
    """trace.json: from a synapse's bytes and its fields back to its weights."""
    program = programs["ltc"]
    table = next(t for t in placement(interface_of(program), None)["tables"] if t["axis"] == "synapses")
    fields = {field["name"]: field for field in table["fields"]}
    for key in ("w", "we"):
        field = fields[key]
        bits = [bytes.fromhex(e["bits"])[field["offset"]] >> field["lowest_bit"] & 15 for e in table["elements"]]
        assert field["bits"] == NARROW
        assert [(n + 8) % 16 - 8 for n in bits] == program.constants[key][1].tolist()
    assert table["stride"] == sum(field["bytes"] for field in table["fields"]) - 1


@pytest.mark.parametrize("name", ["ltc", "cfc"])
def test_the_checker_reads_them(name: str, programs: dict[str, Any], texts: dict[str, dict[str, bytes]],
                                tmp_path: Path) -> None:
    """It certifies the C, and not one in which a single half of a byte is another."""
    found = range_certificate(programs[name], texts[name])
    assert found.holds, found.note
    for file, data in {**texts[name], **found.files}.items():
        (tmp_path / file).write_bytes(data)
    source = next(file for file in texts[name] if file.endswith(".c"))
    text = texts[name][source].decode()
    if name == "ltc":
        old = re.search(r"NIBBLES\((\d), (-?\d)\)", text)[0]  # type: ignore[index]
        new = old.replace("(", "(-").replace("--", "")
    else:
        row = re.search(r"static const uint8_t \w+\[\d+\]\[\d+\] = \{\n +\{(\d+)", text)
        old = row[0]  # type: ignore[index]
        new = re.sub(r"\d+$", lambda m: str(int(m[0]) ^ 8), old)
    alter(tmp_path, source, old, new)
    record = json.loads((tmp_path / "certificate.json").read_text())
    with pytest.raises(certify.Refused):
        certify.check(record, tmp_path)
