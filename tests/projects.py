"""Project folders without a compilation around them."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from ncpc.ir.program import Program
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from ncpc.targets.c.projects.render import project_files
from tests.conftest import RequireTool


def laid_out(program: Program, kinds: Sequence[str], folder: Path, dt: float = 1.0) -> Path:
    """The projects of a program, written into ``folder``."""
    face = interface_of(program)
    put(folder, project_files(kinds, face, dt, emit_c(face)))
    return folder


def put(folder: Path, files: Mapping[str, bytes | str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def output(command: Sequence[str | Path], folder: Path, code: int = 0) -> str:
    """What a command prints, which has to end with ``code``."""
    done = subprocess.run([str(word) for word in command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def cmake_command(require_tool: RequireTool) -> list[str]:
    """How CMake is called to configure, both it and Ninja being those of PyPI."""
    ninja = Path(require_tool("ninja").BIN_DIR) / "ninja"
    return [str(Path(require_tool("cmake").CMAKE_BIN_DIR) / "cmake"), "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]


ARDUINO = """
#define HIGH 0x1
#define LOW 0x0
#define INPUT 0x0
#define OUTPUT 0x1
#define PI 3.1415926535897932384626433832795
#define DEFAULT 1
#define min(a,b) ((a)<(b)?(a):(b))
#define max(a,b) ((a)>(b)?(a):(b))
#define abs(x) ((x)>0?(x):-(x))
#define round(x) ((x)>=0?(long)((x)+0.5):(long)((x)-0.5))
#define constrain(amt,low,high) ((amt)<(low)?(low):((amt)>(high)?(high):(amt)))
#define radians(deg) ((deg)*0.017453292519943295769236907684886)
#define sq(x) ((x)*(x))
#define bit(b) (1UL << (b))
#define bitRead(value, bit) (((value) >> (bit)) & 0x01)
#define lowByte(w) ((uint8_t) ((w) & 0xff))
#define highByte(w) ((uint8_t) ((w) >> 8))
#define F(string_literal) (string_literal)
#define B0 0
#define B1 1
#define BIT(n) (1UL << (n))
#define MIN(a,b) ((a)<(b)?(a):(b))
#define MAX(a,b) ((a)>(b)?(a):(b))
"""
"""Macros that headers of boards bring, as Arduino.h and the SDKs of their makers have them."""
