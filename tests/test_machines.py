"""Machines as they are: disks that are full, caches that cannot be written, no home, two compilations at once."""

from __future__ import annotations

import errno
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ncpc.cli.commands import run
from ncpc.cores import load_core, toolchain
from ncpc.driver.again import SIGNATURE, SUMS
from ncpc.errors import BadInput
from ncpc.frontend.container import policy_bytes, read_policy, write_policy
from tests.conftest import RequireTool
from tests.nets import random_policy

ROOT = Path(__file__).parent.parent
COMPILE = ("-t", "interpreter", "--quant", "float32", "--tolerance", "0.05", "--steps", "60", "-o")


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], list[Path]]:
    """``room(n)``: the n-th file to be written, and each after it, ends in the middle. Files are listed as they are
    begun. The system gives no name to the error of a full disk.
    """
    whole = Path.write_bytes

    def only(count: int | None) -> list[Path]:
        begun: list[Path] = []

        def write(path: Path, data: bytes) -> int:
            begun.append(path)
            if count is None or len(begun) < count:
                return whole(path, data)
            whole(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(Path, "write_bytes", write)
        return begun

    return only


def files(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, but for durations."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "timing.json"}


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line of a command that the disk is too full for."""
    assert run([str(word) for word in arguments]) == 2
    message = capsys.readouterr().err
    assert re.fullmatch(r"ncpc: .*: cannot be written \(No space left on device\); .*\n", message), message
    return message


def test_a_disk_that_is_full_at_any_file_of_a_build_leaves_the_old_one(
    room: Callable[[int | None], list[Path]], good: Path, tmp_path: Path, interpreter: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "deep" / "build"
    begun = room(None)
    assert run(["compile", str(good), *COMPILE, str(out)]) == 0
    written, before = len(begun), files(tmp_path)
    assert written >= 8
    for count in range(1, written + 1):
        room(count)
        assert f"ncpc: {out}: " in said(capsys, "compile", good, *COMPILE, out)
        assert files(tmp_path) == before
    room(1)
    said(capsys, "compile", good, *COMPILE, tmp_path / "new" / "build")
    assert files(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_a_full_folder_for_temporary_files_is_no_verdict(
    room: Callable[[int | None], list[Path]], good: Path, tmp_path: Path, interpreter: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``verify`` makes the build again there; the build itself is not blamed."""
    assert run(["compile", str(good), *COMPILE, str(tmp_path / "build")]) == 0
    begun = room(None)
    assert run(["verify", str(tmp_path / "build")]) == 0
    before = files(tmp_path)
    for count in (1, len(begun) // 2, len(begun)):
        room(count)
        assert "ncpc-again-" in said(capsys, "verify", tmp_path / "build")
    assert files(tmp_path) == before


def test_a_signature_is_written_whole_or_not_at_all(
    room: Callable[[int | None], list[Path]], good: Path, tmp_path: Path, interpreter: None, require_tool: RequireTool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pair = require_tool("minisign").KeyPair.generate()
    (tmp_path / "own.key").write_bytes(bytes(pair.secret_key))
    build = tmp_path / "build"
    assert run(["compile", str(good), *COMPILE, str(build)]) == 0
    for name in (SUMS, SIGNATURE):
        (build / name).write_bytes(b"old")
    before = files(tmp_path)
    for count in (1, 2):
        room(count)
        assert f"ncpc: {build}/{(SUMS, SIGNATURE)[count - 1]}: " in said(
            capsys, "sign", build, "--key", tmp_path / "own.key")
        assert files(tmp_path) == before


def test_a_file_that_may_not_grow_is_not_written(good: Path, tmp_path: Path) -> None:
    """The system's own limit, at its own moment."""
    done = subprocess.run([sys.executable, "-m", "ncpc", "inspect", str(good), "--wiring", str(tmp_path / "w.svg")],
                          cwd=ROOT, capture_output=True, text=True, check=False,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "w.svg: cannot be written (File too large)" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [good.name]


def test_a_compiler_without_room_or_killed_speaks_not_against_the_policy(
    room: Callable[[int | None], list[Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is the compiler's, not that of the interpreter that starts it."""
    for ending, word in (("kill -9 $$", "cc was ended by signal 9"), ("exit 137", "cc was ended by signal 9"),
                         ("echo error: NoSpaceLeft; exit 1", "cc: no room on the disk of its cache")):
        with pytest.raises(BadInput, match=word):
            toolchain._run(["sh", "-c", ending], tmp_path, "cc")
    with pytest.raises(toolchain.BuildFailed, match=r"cc failed: error: \ufffd"):
        toolchain._run(["sh", "-c", r"printf 'error: \377\n'; exit 1"], tmp_path, "cc")
    room(1)
    with pytest.raises(OSError, match="No space left on device") as full:
        toolchain._run(["false"], tmp_path, "cc")
    assert full.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{}, {"HOME": "/dev/null"}, {"XDG_CACHE_HOME": "/dev/null"},
                                     {"ZIG_GLOBAL_CACHE_DIR": "/dev/null/cache"}])
def test_a_compiler_without_a_cache_gets_one(changes: dict[str, str], monkeypatch: pytest.MonkeyPatch,
                                             require_tool: RequireTool) -> None:
    """Nothing stands for no home, a file for a folder that cannot be written."""
    require_tool("ziglang")
    for name in ("HOME", "XDG_CACHE_HOME", "ZIG_GLOBAL_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    objects = toolchain.compile_objects({"a.c": b"int f(int a) { return a; }\n"}, load_core("cortex-m4"), None)
    assert objects["a.c"].startswith(b"\x7fELF")
    assert Path(toolchain._with_zig_cache()["ZIG_GLOBAL_CACHE_DIR"]).name.startswith("ncpc-zig-")


@pytest.mark.slow
def test_two_compilations_into_one_folder_and_one_cold_cache_leave_one_whole_build(
    tmp_path: Path, require_tool: RequireTool
) -> None:
    require_tool("ziglang")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "ncpc", "compile"]
    policies, out = (tmp_path / "4.safetensors", tmp_path / "5.safetensors"), tmp_path / "build"
    for seed, path in zip((4, 5), policies, strict=True):
        write_policy(random_policy(seed, neurons=3, inputs=1, outputs=1), path)
    running = [subprocess.Popen([*command, str(path), "--quant", "float32", "--steps", "20", "-o", str(out)], cwd=ROOT,
                                env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
               for path in policies]
    assert [process.communicate()[1] for process in running] == ["", ""]
    assert [process.returncode for process in running] == [0, 0]
    assert policy_bytes(read_policy(out / "policy.safetensors")) in [path.read_bytes() for path in policies]
    assert run(["verify", str(out)]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4.safetensors", "5.safetensors", "build", "cache"]
