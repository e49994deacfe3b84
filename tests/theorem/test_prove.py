"""``ncpc prove``: what it says, and what it returns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ncpc.cli import commands as cli
from ncpc.cores import load_core
from ncpc.cores.toolchain import build_elf
from tests.conftest import RequireTool
from tests.theorem.builds import with_byte
from tests.theorem.test_theorem import CARTPOLE


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in ("ziglang", "elftools", "bitwuzla", "unicorn"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("proved") / "build"
    assert cli.run(["compile", str(CARTPOLE), "-t", "rv32imc-ibex", "-o", str(folder), "--steps", "50"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _tools(require_tool: RequireTool) -> None:
    for module in ("ziglang", "elftools", "bitwuzla"):
        require_tool(module)


def test_a_build_is_proved_with_its_assumptions(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prove", str(build), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == "proved"
    assert found["shown"] == found["outcomes"]
    assert 0 < found["instructions"]["least"] <= found["instructions"]["most"]
    assert any("RAM" in text for text in found["assumes"])
    report = json.loads((build / "report.json").read_text())
    seen = report["instructions"]
    assert found["instructions"]["least"] <= seen["max"] <= found["instructions"]["most"]
    assert found["stack_bytes"] == report["memory"]["step_stack_bytes"]


def test_what_is_not_decided_is_no_success(build: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["prove", str(build), "--seconds", "0.001"]) == 4
    said = capsys.readouterr().out
    assert "not decided" in said
    assert "nothing against the build" in said


def test_another_folder_is_refused_before_anything_is_proved(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in build.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    elf = bytearray((copy / "cartpole.elf").read_bytes())
    elf[-1] ^= 1
    (copy / "cartpole.elf").write_bytes(elf)
    assert cli.run(["prove", str(copy)]) == 1
    assert "cartpole.elf" in capsys.readouterr().err


def test_a_program_of_ones_own_is_proved_or_differs(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The build's C linked anew, without what the simulator's profile needs, holds its functions at other addresses."""
    mine, core = tmp_path / "firmware.elf", load_core("rv32imc-ibex")
    sources = {name: (build / name).read_bytes() for name in ("cartpole.c", "cartpole.h")}
    mine.write_bytes(build_elf(sources, core, None, ("cartpole_self_test", "cartpole_init", "cartpole_step")).elf)
    assert cli.run(["prove", str(build), "--elf", str(mine)]) == 0
    capsys.readouterr()
    mine.write_bytes(with_byte(mine.read_bytes(), "sigmoid_table", 2 * 256, 1))
    assert cli.run(["prove", str(build), "--elf", str(mine), "--seconds", "300"]) == 1
    said = capsys.readouterr().out
    assert "differs" in said
    assert re.search("in the simulator: .* is -?[0-9]+, in the Program", said)
    mine.write_bytes(with_byte((build / "cartpole.test.elf").read_bytes(), "recip_seed", 10, 1))
    assert cli.run(["prove", str(build), "--elf", str(mine)]) == 4
    assert "nothing is shown of this program" in capsys.readouterr().out


def test_a_program_that_is_none_is_refused_by_name(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "firmware.elf"
    assert cli.run(["prove", str(build), "--elf", str(mine)]) == 2
    assert "firmware.elf: there is no such file" in capsys.readouterr().err
    monkeypatch.setattr("ncpc.driver.proving.made_build", pytest.fail)  # all of it can be seen of the file
    linked = linked_for("rv32imc-ibex", ("cartpole_step",))
    object_file = linked[:16] + b"\1\0" + linked[18:]
    for content, why in ((b"no program", "not an ELF"), (linked_for("cortex-m4", ("cartpole_step",)), "is for"),
                         (linked_for("rv32imc-ibex", ("cartpole_init",)), "has no function 'cartpole_step'"),
                         (linked[:600], "damaged ELF"), (object_file, "not linked")):
        mine.write_bytes(content)
        assert cli.run(["prove", str(build), "--elf", str(mine)]) == 2
        message = capsys.readouterr().err
        assert why in message
        assert "firmware.elf" in message


def linked_for(core: str, roots: tuple[str, ...]) -> bytes:
    code = "".join(f"int {name}(int a) {{ return a + 1; }}\n" for name in roots).encode()
    return build_elf({"a.c": code}, load_core(core), "zig", roots).elf


def test_no_time_and_no_core_are_refused_by_name(
    build: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["prove", str(build), "--seconds", "-1"]) == 2
    assert "--seconds" in capsys.readouterr().err
    assert cli.run(["compile", str(CARTPOLE), "-t", "host", "-o", str(tmp_path / "host"), "--steps", "20"]) == 0
    capsys.readouterr()
    assert cli.run(["prove", str(tmp_path / "host")]) == 2
    assert "no integer step on a core" in capsys.readouterr().err
