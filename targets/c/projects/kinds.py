"""The kinds of projects: which files each is made of, and how far they have been tried."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ncpc.errors import BadInput


@dataclass(frozen=True)
class ProjectKind:
    """One kind of project, a folder of that name in the build.

    ``sources`` says where NAME.c and where the headers go; ``files`` maps a path to its template. In paths, ``{name}``
    is the policy's name, ``{library}`` what a library of it is called. ``opens``: how the folder is opened, in one
    line. ``tried``: what was done with such a folder in ncpc's own tests; "layout only" where nothing could be built.
    """

    title: str
    sources: tuple[str, str]
    files: Mapping[str, str]
    opens: str
    tried: str
    layout_only: bool = field(default=False, kw_only=True)


STUBS = "layout only; configured, built and run on a PC against functions of the SDK's names"

KINDS: Mapping[str, ProjectKind] = {
    "cmake": ProjectKind(
        "CMake package", ("src", "include"),
        {"CMakeLists.txt": "cmake.txt", "example/main.c": "cmake_main.c", "example/main.cpp": "cmake_main.cpp"},
        "cmake -B out && cmake --build out && ctest --test-dir out",
        "built, installed and run on a PC, as C and as C++"),
    "arduino": ProjectKind(
        "Arduino library", ("{library}/src", "{library}/src"),
        {"{library}/library.properties": "arduino.properties", "{library}/keywords.txt": "arduino.keywords",
         "{library}/examples/{library}/{library}.ino": "arduino.ino"},
        "move the folder in it into the sketchbook's libraries, then File > Examples",
        "the sketch built for a Mega 2560 with Arduino's core and flags and run in simavr; built and run on a PC"),
    "platformio": ProjectKind(
        "PlatformIO project", ("lib/{library}/src", "lib/{library}/src"),
        {"platformio.ini": "platformio.ini", "src/main.cpp": "arduino.ino",
         "lib/{library}/library.json": "platformio.json"},
        "pio run -t upload -t monitor", "the library packed by 'pio pkg pack', main.cpp built and run on a PC"),
    "esp-idf": ProjectKind(
        "ESP-IDF project", ("components/{name}", "components/{name}/include"),
        {"CMakeLists.txt": "esp_idf.txt", "sdkconfig.defaults": "esp_idf.defaults", "main/main.c": "esp_idf.c",
         "main/CMakeLists.txt": "esp_idf_main.txt", "components/{name}/CMakeLists.txt": "esp_idf_component.txt",
         "components/{name}/idf_component.yml": "esp_idf.yml"},
        "idf.py set-target esp32c3 build flash monitor", STUBS, layout_only=True),
    "zephyr": ProjectKind(
        "Zephyr application and module", ("modules/{name}/src", "modules/{name}/include"),
        {"CMakeLists.txt": "zephyr.txt", "prj.conf": "zephyr.conf", "src/main.c": "zephyr.c",
         "modules/{name}/zephyr/module.yml": "zephyr.yml", "modules/{name}/CMakeLists.txt": "zephyr_module.txt",
         "modules/{name}/Kconfig": "zephyr.kconfig"},
        "west build -b nucleo_f401re -t flash", STUBS, layout_only=True),
    "pico-sdk": ProjectKind(
        "Pico SDK project", ("src", "include"),
        {"CMakeLists.txt": "pico.txt", "pico_sdk_import.cmake": "pico_import.cmake", "main.c": "pico.c"},
        "cmake -B out -DPICO_BOARD=pico2 && cmake --build out",
        f"{STUBS}. Linked by hand with Pico SDK 2.2.0 and gcc 12 for pico and pico2, not run there", layout_only=True),
}
"""In the order in which they are offered."""


def asked(text: str) -> tuple[str, ...]:
    """The kinds that ``--project`` names, with commas between them, in the table's order. Raises BadInput."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KINDS:
            raise BadInput(f"--project {name}: unknown; choose from {', '.join(KINDS)}")
    return tuple(name for name in KINDS if name in names)


def told(folder: Path, text: str) -> list[str]:
    """One line for each project in ``folder`` of those that ``--project`` names: where it is, how it is opened."""
    there = [(folder / name, KINDS[name]) for name in asked(text) if (folder / name).is_dir()]
    return [f"{place}: {kind.opens}{' (layout only)' if kind.layout_only else ''}"
            for place, kind in there]
