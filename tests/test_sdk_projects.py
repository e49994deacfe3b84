"""--project for SDKs that are not at hand: configured, built and run on a PC against functions of their names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ncpc.targets.c.projects.kinds import KINDS
from tests.c_programs import program_of, tiny_policy
from tests.projects import cmake_command, laid_out, output, put
from tests.sdk_stubs import SDKS, STEPS


@pytest.fixture
def cmake(require_tool, require_program) -> list[str]:
    require_program("g++")
    return cmake_command(require_tool)


@pytest.mark.parametrize(("scheme", "dt"), [
    ("int16", "fixed"), pytest.param("float32", "runtime", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", SDKS)
def test_the_main_tests_itself_steps_and_feeds_the_watchdog(
    kind: str, scheme: str, dt: str, tmp_path: Path, cmake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variable, sdk, program = SDKS[kind]
    put(tmp_path / "sdk", sdk)
    monkeypatch.setenv(variable, str(tmp_path / "sdk"))
    project = laid_out(program_of(tiny_policy(), scheme, dt), [kind], tmp_path) / kind
    output([*cmake, "-B", "out", "-DCMAKE_C_FLAGS=-Wall -Wextra -Wno-unused-variable -Werror"], project)
    output([cmake[0], "--build", "out"], project)
    assert output([project / "out" / program], project).splitlines() == [
        "tiny self test: passed", "ended after 20 ms each"]
    assert STEPS > 1


@pytest.mark.parametrize(("kind", "name", "old", "new"), [
    ("esp-idf", "components/tiny/CMakeLists.txt", "tiny.c", "tin.c"),
    ("esp-idf", "main/CMakeLists.txt", "SRCS", "SOURCES"),
    ("zephyr", "prj.conf", "NCPC_TINY", "NCPC_TINI"),
    ("zephyr", "modules/tiny/zephyr/module.yml", "kconfig: Kconfig", "kconfig: KConfig"),
    ("pico-sdk", "CMakeLists.txt", "pico_add_extra_outputs(tiny_main", "pico_add_extra_outputs(tiny"),
    ("pico-sdk", "pico_sdk_import.cmake", "pico_sdk_init.cmake", "pico_sdk.cmake"),
])
def test_what_is_wrong_in_a_layout_is_seen(
    kind: str, name: str, old: str, new: str, tmp_path: Path, cmake: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted faults."""
    variable, sdk, _ = SDKS[kind]
    put(tmp_path / "sdk", sdk)
    monkeypatch.setenv(variable, str(tmp_path / "sdk"))
    project = laid_out(program_of(tiny_policy(), "int16", "fixed"), [kind], tmp_path) / kind
    text = (project / name).read_text()
    assert old in text
    (project / name).write_text(text.replace(old, new))
    output([*cmake, "-B", "out"], project, 1)


def test_zephyr_s_kconfig_knows_what_prj_conf_asks_for(tmp_path: Path, require_tool) -> None:
    kconfiglib, yaml = require_tool("kconfiglib"), require_tool("yaml")
    folder = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["zephyr"], tmp_path) / "zephyr"
    module = folder / "modules" / "tiny"
    described = yaml.safe_load((module / "zephyr" / "module.yml").read_text())
    assert set(described["build"]) == {"cmake", "kconfig"}
    kconfig = kconfiglib.Kconfig(str(module / described["build"]["kconfig"]), warn_to_stderr=False)
    assert kconfig.warnings == []
    kconfig.load_config(str(folder / "prj.conf"))
    assert kconfig.syms["NCPC_TINY"].str_value == "y"


def test_espressif_s_tool_packs_the_component(tmp_path: Path, require_program) -> None:
    compote = require_program("compote", optional=True)
    project = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["esp-idf"], tmp_path) / "esp-idf"
    folder = project / "components" / "tiny"
    output([compote, "component", "pack", "--name", "tiny"], folder)
    assert (folder / "dist" / "tiny_1.0.0.tgz").is_file()
    manifest = folder / "idf_component.yml"
    manifest.write_text(manifest.read_text().replace('version: "1.0.0"', 'version: "first"'))
    assert subprocess.run([compote, "component", "pack", "--name", "tiny"], cwd=folder, capture_output=True,
                          check=False).returncode != 0


def test_a_layout_is_called_one() -> None:
    assert {name for name, kind in KINDS.items() if kind.layout_only} == set(SDKS)
    assert all(("layout only" in kind.tried) == kind.layout_only for kind in KINDS.values())
