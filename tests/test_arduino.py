"""--project arduino and platformio: Arduino's specification; the sketch built and run, on a PC and on an AVR."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.semantics.run import run
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.projects.render import facts_of
from tests.c_programs import program_of, small_policy, tiny_policy
from tests.projects import ARDUINO, laid_out, output, put

STEPS = 4
CORE = Path("/usr/share/arduino/hardware/arduino/avr")
"""Where Debian's arduino-core-avr is."""
CATEGORIES = ("Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage",
              "Data Processing", "Other")
REQUIRED = ("name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures")
"""Of library.properties, by https://docs.arduino.cc/arduino-cli/library-specification."""


def violations(library: Path) -> Iterator[str]:
    """What the library specification, revision 2.2, says against a folder."""
    lines = (library / "library.properties").read_text().splitlines()
    wrong = [line for line in lines if line and not line.startswith("#") and not re.fullmatch(r"\w+=.*", line)]
    yield from (f"no property: {line}" for line in wrong)
    found = dict(line.split("=", 1) for line in lines if re.fullmatch(r"\w+=.*", line))
    yield from (f"{name} is missing" for name in REQUIRED if not found.get(name))
    for name in (found.get("name", ""), library.name):
        plain = re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", name)
        if not plain or name.lower().startswith("arduino"):
            yield f"'{name}' is no name of a library"
    if not re.fullmatch(r"\d+\.\d+\.\d+", found.get("version", "")):
        yield "version is not semantic"
    if found.get("category") not in CATEGORIES:
        yield "no such category"
    yield from (f"{header} is not in src" for header in found.get("includes", "").split(",")
                if header and not (library / "src" / header.strip()).is_file())
    for line in (library / "keywords.txt").read_text().splitlines():
        if line and not line.startswith("#") and not re.fullmatch(r"\w+\t(KEYWORD[123]|LITERAL[12])", line):
            yield f"keywords.txt: {line}"
    sketches = list((library / "examples").glob("*/*.ino"))
    yield from () if sketches else ("no example",)
    for sketch in sketches:
        if sketch.stem != sketch.parent.name or not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,62}", sketch.stem, re.ASCII):
            yield f"{sketch.name} does not open from {sketch.parent.name}"


@pytest.mark.parametrize("name", ["tiny", "3d walker", "arduino_bot", "_", "x" * 100])
def test_the_library_follows_the_specification(name: str, tmp_path: Path) -> None:
    program = program_of(dataclasses.replace(tiny_policy(), name=name), "int16", "fixed")
    (library,) = [path for path in (laid_out(program, ["arduino"], tmp_path) / "arduino").iterdir() if path.is_dir()]
    assert list(violations(library)) == []


@pytest.mark.parametrize(("name", "old", "new", "words"), [
    ("library.properties", "category=Data Processing", "category=Robots", "no such category"),
    ("library.properties", "author=ncpc\n", "", "author is missing"),
    ("library.properties", "version=1.0.0", "version=1", "version is not semantic"),
    ("library.properties", "includes=tiny.hpp", "includes=tiny.hh", "tiny.hh is not in src"),
    ("library.properties", "name=tiny", "name=_tiny", "'_tiny' is no name of a library"),
    ("keywords.txt", "step\tKEYWORD2", "step KEYWORD2", "keywords.txt: step KEYWORD2"),
])
def test_the_specification_is_looked_at(name: str, old: str, new: str, words: str, tmp_path: Path) -> None:
    """Planted faults."""
    library = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["arduino"], tmp_path) / "arduino" / "tiny"
    text = (library / name).read_text()
    assert old in text
    (library / name).write_text(text.replace(old, new))
    assert list(violations(library)) == [words]


STUB = """#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
inline unsigned long millis() { static unsigned long now = 0; return now += 3; }
inline void delay(unsigned long) { exit(1); }
struct Port {
  void begin(unsigned long) {}
  void print(const char *text) { fputs(text, stdout); }
  void println(const char *text) { puts(text); }
  void println(double number, int digits) { printf("%.*f\\n", digits, number); }
};
static Port Serial;
""" + ARDUINO
MAIN = f"int main() {{ setup(); for (int i = 0; i < 20 * {STEPS}; i++) loop(); }}\n"


def expected(program: Program) -> list[str]:
    """What a sketch prints whose sensors read what the example reads."""
    facts = facts_of(interface_of(program), 1.0)
    rest = [float(channel["rest"].rstrip("f")) for channel in facts["inputs"]["each"]]
    dt = None if program.dt is None else np.full((1, STEPS), 1.0)
    y = run(program, Sequences(np.tile(rest, (1, STEPS, 1)), dt)).y[0, :, 0]
    return ["tiny self test: passed", *(f"angle {value:.6f}" for value in y)]


@pytest.mark.parametrize(("scheme", "dt"), [("int16", "fixed"), ("float32", "fixed")])
@pytest.mark.parametrize(("kind", "source", "sketch"), [
    ("arduino", "tiny/src", "tiny/examples/tiny/tiny.ino"), ("platformio", "lib/tiny/src", "src/main.cpp")])
def test_the_sketch_runs_on_a_pc(
    scheme: str, dt: str, kind: str, source: str, sketch: str, tmp_path: Path, require_program
) -> None:
    program = program_of(tiny_policy(), scheme, dt)
    folder = laid_out(program, [kind], tmp_path) / kind
    put(folder, {"Arduino.h": STUB, "pc.cpp": f'#include "{sketch}"\n{MAIN}'})
    output([require_program("gcc"), "-std=gnu11", "-O2", "-c", f"{source}/tiny.c", "-o", "tiny.o"], folder)
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-I.", f"-I{source}"]
    output([require_program("g++"), *flags, "pc.cpp", "tiny.o", "-o", "pc"], folder)
    assert output([folder / "pc"], folder).splitlines()[: 1 + STEPS] == expected(program)


def test_a_sketch_for_frames_is_cpp(tmp_path: Path, require_program) -> None:
    program = program_of(small_policy(5, inputs=80), "int16", "runtime")
    library = laid_out(program, ["arduino"], tmp_path) / "arduino" / "net"
    put(library, {"Arduino.h": STUB})
    flags = ["-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-I.", "-Isrc", "-fsyntax-only", "-x", "c++"]
    output([require_program("g++"), *flags, "examples/net/net.ino"], library)


@pytest.fixture
def on_a_mega(require_program) -> Callable[[Path], Path]:
    """Builds a library's example for a Mega 2560, with the flags of Arduino's platform.txt; the program."""
    gcc, gpp = (require_program(f"avr-{name}", optional=True) for name in ("gcc", "g++"))
    if not CORE.exists():
        pytest.skip("optional: arduino-core-avr is not installed")
    shared = ["-g", "-Os", "-mmcu=atmega2560", "-DF_CPU=16000000L", "-DARDUINO=10819", "-DARDUINO_AVR_MEGA2560",
              "-DARDUINO_ARCH_AVR", f"-I{CORE}/cores/arduino", f"-I{CORE}/variants/mega", "-flto"]
    sections = ["-c", "-ffunction-sections", "-fdata-sections"]
    c = [gcc, *shared, *sections, "-std=gnu11", "-fno-fat-lto-objects"]
    cpp = [gpp, *shared, *sections, "-std=gnu++11", "-fpermissive", "-fno-exceptions", "-fno-threadsafe-statics",
           "-DDECIMAL_DIG=__DECIMAL_DIG__"]  # which the core takes from newer compilers than Debian's

    def build(library: Path) -> Path:
        out = library.parent / "out"
        out.mkdir()
        for path in sorted((CORE / "cores" / "arduino").glob("*.c*")):
            output([*(c if path.suffix == ".c" else cpp), "-w", path, "-o", f"core_{path.name}.o"], out)
        output([*c, "-Wall", "-Wextra", "-Werror", *(library / "src").glob("*.c"), "-o", "policy.o"], out)
        (sketch,) = library.glob("examples/*/*.ino")
        output([*cpp, "-Wall", "-Wextra", f"-I{library}/src", "-x", "c++", sketch, "-o", "sketch.o"], out)
        objects = sorted(out.glob("*.o"))
        output([gcc, *shared, "-fuse-linker-plugin", "-Wl,--gc-sections", *objects, "-lm", "-o", "sketch.elf"], out)
        return out / "sketch.elf"

    return build


def printed(elf: Path, simavr: str, lines: int) -> list[str]:
    """The first lines that a program sends over its serial port in simavr, which runs on for ever."""
    with subprocess.Popen([simavr, "-m", "atmega2560", "-f", "16000000", elf], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        try:
            found = [running.stdout.readline() for _ in range(lines)]
        finally:
            running.kill()
    return [re.sub(r"\x1b\[\d+m", "", line).strip().removesuffix("..") for line in found]


@pytest.mark.parametrize(("scheme", "dt"), [
    ("int16", "fixed"), pytest.param("float32", "fixed", marks=pytest.mark.slow),
    pytest.param("int8", "runtime", marks=pytest.mark.slow),
])
def test_the_sketch_runs_on_a_mega(
    scheme: str, dt: str, tmp_path: Path, on_a_mega: Callable[[Path], Path], require_program
) -> None:
    program = program_of(tiny_policy(), scheme, dt)
    elf = on_a_mega(laid_out(program, ["arduino"], tmp_path) / "arduino" / "tiny")
    lines = printed(elf, require_program("simavr", optional=True), 1 + STEPS)
    if program.dt is None:
        assert lines == expected(program)
    else:  # its timespans are the clock's
        assert lines[0] == "tiny self test: passed"
        assert all(line.startswith("angle ") for line in lines[1:])


def test_a_board_that_computes_otherwise_stops(
    tmp_path: Path, on_a_mega: Callable[[Path], Path], require_program
) -> None:
    """A planted fault: the sigmoid is rounded otherwise."""
    library = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["arduino"], tmp_path) / "arduino" / "tiny"
    source = library / "src" / "tiny.c"
    text = source.read_text()
    assert text.count("(inside & 127) + 64") == 1
    source.write_text(text.replace("(inside & 127) + 64", "(inside & 127) - 4096"))
    assert printed(on_a_mega(library), require_program("simavr", optional=True), 1) == ["tiny self test: FAILED"]


def test_platformio_packs_the_library(tmp_path: Path, require_program) -> None:
    pio = require_program("pio", optional=True)
    library = laid_out(program_of(tiny_policy(), "int16", "fixed"), ["platformio"], tmp_path) / "platformio/lib/tiny"
    manifest = library / "library.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('  "license": "0BSD",\n', ""))  # whose list it would fetch from the network
    assert manifest.read_text() != text
    output([pio, "pkg", "pack", library, "-o", tmp_path / "tiny.tar.gz"], tmp_path)
    names = output(["tar", "-tzf", tmp_path / "tiny.tar.gz"], tmp_path).split()
    assert {"library.json", "src/tiny.c", "src/tiny.h", "src/tiny.hpp"} <= set(names)
    manifest.write_text(manifest.read_text().replace("1.0.0", "first"))
    output([pio, "pkg", "pack", library, "-o", tmp_path / "wrong.tar.gz"], tmp_path, 1)
