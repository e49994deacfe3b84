"""Names: one rule for policies, inputs, outputs and neurons of every cell; what is refused reaches no terminal raw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ncpc.cli.commands import run
from ncpc.errors import BadInput
from ncpc.frontend.api import save
from ncpc.frontend.container import policy_bytes
from ncpc.frontend.validate import check_policy
from ncpc.ir.gated import Cfc, WiredCfc
from ncpc.ir.policy import Dense, Layer, Policy
from tests.conftest import RequireProgram
from tests.nets import random_ltc, random_policy

EVIL = ("*/ int evil(void); /*", "a\nint hack;", "<script>alert(1)</script>", '"];x', "\u202e\u2028x", "??/", "\x00",
        "\x1b[2J\x1b]0;pwn\x07esc", "[red]x[/red]", "a/b", "..", "", "1st", "\xe9", "\ud800", "x" * 300, "%s%n",
        "{{7*7}}")
TAKEN = ("int16", "uint8", "int_fast8", "intmax", "size", "wchar", "stdint", "string", "limits", "CON", "nul", "com1")
KEPT = ("int", "dense", "for", "class", "NULL", "EOF", "x", "y", "s", "status", "_", "main", "printf", "INT", "int16x")


def cfc(neurons: int, inputs: int, names: tuple[str, ...]) -> Cfc:
    rng = np.random.default_rng(0)
    dense = [Dense(rng.normal(size=(neurons, inputs + neurons)), rng.normal(size=neurons)) for _ in range(4)]
    return Cfc((), dense[0], dense[1], dense[2], dense[3], None, None, "default", "lecun_tanh", "tanh",
               ("motor",) * neurons, names)


def policies(name: str) -> list[Policy]:
    """The name at every place where one stands."""
    ranges = np.tile([-1.0, 1.0], (3, 1))
    layers: list[Layer] = [random_ltc(4, names=(*(f"n{i}" for i in range(7)), name)), cfc(2, 3, ("a", name)),
                           WiredCfc((cfc(2, 3, ("a", "b")), cfc(2, 2, ("c", name))))]
    good = random_policy(4)
    return [*(Policy("net", (layer,), ranges) for layer in layers),
            dataclasses.replace(good, input_names=("a", "b", name)),
            dataclasses.replace(good, output_names=("a", name)),
            dataclasses.replace(good, name=name)]


@pytest.mark.parametrize("name", EVIL, ids=lambda name: ascii(name)[:20])
def test_a_name_that_is_no_identifier_is_refused_wherever_it_stands(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, policy in enumerate(policies(name)):
        with pytest.raises(BadInput, match=r"names?: "):
            check_policy(policy, "p")
        path = tmp_path / f"{i}.safetensors"
        try:
            path.write_bytes(policy_bytes(policy))
        except UnicodeEncodeError:
            continue  # no JSON holds it
        assert run(["inspect", str(path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.isascii()
        assert said.err.removesuffix("\n").isprintable()


@pytest.mark.parametrize("name", TAKEN)
def test_a_policy_is_not_called_as_the_c_library_is(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"policy name: '{name}' is"):
        check_policy(dataclasses.replace(random_policy(4), name=name), "p")
    assert save([random_ltc(4)], tmp_path / f"{name}.safetensors", input_range=(-1, 1), dt=1.0).name == f"policy_{name}"


def test_any_file_name_gives_a_name(tmp_path: Path) -> None:
    for stem in ("x" * 200, "\xe9t\xe9", "1", " ", "a.b c", "-", "\x1b[2J"):
        policy = save([random_ltc(4)], tmp_path / f"{stem}.safetensors", input_range=(-1, 1), dt=1.0)
        check_policy(policy, "p")


@pytest.mark.parametrize("name", KEPT)
def test_every_other_name_makes_c_and_cpp_that_compile(
    name: str, tmp_path: Path, require_program: RequireProgram
) -> None:
    import subprocess

    from ncpc.passes.lower import lower
    from ncpc.passes.to_float32 import to_float32
    from ncpc.targets.c.emit import emit_c
    from ncpc.targets.c.interface import interface_of

    names = {"input_names": ("asm", "new", name), "output_names": ("void", name)}
    named = dataclasses.replace(random_policy(4), name=name, **names)
    check_policy(named, "p")
    for file, content in emit_c(interface_of(to_float32(lower(named)))).items():
        (tmp_path / file).write_bytes(content)
    for compiler, source in (("gcc", f"{name}.c"), ("g++", "use.cpp")):
        (tmp_path / "use.cpp").write_text(f'#include "{name}.h"\n')
        command = [require_program(compiler), "-Wall", "-Werror", "-fsyntax-only", source]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_path_with_control_characters_is_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", "\x1b[2J\x07[red]x.safetensors"]) == 2
    assert r"\x1b[2J\x07[red]x.safetensors" in capsys.readouterr().err
