"""A signature speaks for every byte of a build, to ncpc and to minisign itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncpc.cli.commands import run
from ncpc.driver import builds
from ncpc.driver.again import SIGNATURE, SUMS
from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.driver.reopen import verify_build
from ncpc.driver.signing import require_signed, sign_build
from ncpc.errors import NcpcError
from ncpc.targets.base import PROGRAM
from ncpc.verification.verdict import SEARCH
from tests.conftest import RequireProgram, RequireTool
from tests.nets import random_policy


def no_password() -> str:
    raise AssertionError("the key is not encrypted")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Path:
    """A folder with ``own.key``, ``own.pub`` and those of a stranger."""
    minisign, folder = require_tool("minisign"), tmp_path_factory.mktemp("keys")
    for name in ("own", "other"):
        pair = minisign.KeyPair.generate()
        (folder / f"{name}.key").write_bytes(bytes(pair.secret_key) + b"\n")
        (folder / f"{name}.pub").write_bytes(bytes(pair.public_key) + b"\n")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool, keys: Path) -> Path:
    """A signed build."""
    require_tool("ziglang")
    folder = tmp_path_factory.mktemp("signed") / "build"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 12})
        assert compile_policy(random_policy(4), folder, Request("host", steps=60, tolerance=0.05)).exit_code == 0
    sign_build(folder, keys / "own.key", no_password)
    return folder


@pytest.fixture
def build(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "build"))


def test_a_signed_build_is_verified_by_its_key(build: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 12})
    found = verify_build(build, key=keys / "own.pub")
    assert found.exit_code == 0, found.report["verdict"]
    text = (keys / "own.pub").read_text().split()[-1]
    assert require_signed(build, text) == f"ncpc build of {found.report['policy']['name']} for host"


def test_the_command_line_signs_and_verifies(build: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (build / SIGNATURE).unlink()
    (build / SUMS).unlink()
    assert run(["verify", str(build), "--key", str(keys / "own.pub")]) == 1
    assert "not signed, it has no SHA256SUMS" in capsys.readouterr().err
    assert run(["sign", str(build), "--key", str(keys / "own.key")]) == 0
    assert str(build / SIGNATURE) in capsys.readouterr().out
    assert run(["verify", str(build), "--key", str(keys / "other.pub")]) == 1
    assert "is not the signature of SHA256SUMS by this key" in " ".join(capsys.readouterr().err.split())


def test_every_changed_byte_is_found(build: Path, keys: Path) -> None:
    """A bit in every file, early, midway and late; a file more; a file less."""
    for path in sorted(p for p in build.rglob("*") if p.is_file()):
        whole = path.read_bytes()
        for at in np.linspace(0, len(whole) - 1, 3).astype(int):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            if path.name == SIGNATURE and at < whole.index(b"\n"):  # the untrusted comment, which no one signs
                continue
            refused(build, keys, path.name)
        path.unlink()
        refused(build, keys, path.name)
        path.write_bytes(whole)
    (build / "more").write_bytes(b"")
    refused(build, keys, "more")


def refused(build: Path, keys: Path, name: str) -> None:
    with pytest.raises(NcpcError) as error:
        require_signed(build, keys / "own.pub")
    assert error.value.exit_code == 1
    assert name in str(error.value)


@pytest.mark.parametrize("spoil", [
    lambda d: (d / SIGNATURE).write_bytes(b""), lambda d: (d / SIGNATURE).write_bytes(b"\xff" * 300),
    lambda d: (d / SIGNATURE).write_text("a\nb\nc\nd\n"), lambda d: (d / SUMS).write_bytes(b"\xff"),
])
def test_a_damaged_signature_is_one_line(spoil: Callable[[Path], object], build: Path, keys: Path) -> None:
    spoil(build)
    refused(build, keys, SIGNATURE)


@pytest.mark.parametrize("key", ["nothing.pub", "own.key", "RWabc"])
def test_what_is_no_key_is_said(key: str, build: Path, keys: Path) -> None:
    with pytest.raises(NcpcError, match="no public key of minisign") as error:
        require_signed(build, key if key.startswith("RW") else keys / key)
    assert error.value.exit_code == 2


def test_an_encrypted_key_asks_for_its_password(build: Path, keys: Path, tmp_path: Path,
                                                require_tool: RequireTool) -> None:
    pair = require_tool("minisign").KeyPair.generate()
    pair.secret_key.encrypt("right")
    (tmp_path / "k").write_bytes(bytes(pair.secret_key) + b"\n")
    sign_build(build, tmp_path / "k", lambda: "right")
    with pytest.raises(NcpcError, match="wrong password"):
        sign_build(build, tmp_path / "k", lambda: "wrong")


def test_a_build_that_was_changed_is_not_signed(build: Path, keys: Path) -> None:
    (build / "net.c").write_text("int changed;\n")
    with pytest.raises(NcpcError, match=r"not signed, net\.c is not the file that was compiled"):
        sign_build(build, keys / "own.key", no_password)


def test_a_link_in_a_signed_build_is_no_part_of_it(build: Path, keys: Path) -> None:
    (build / "more").symlink_to("net.c")
    with pytest.raises(NcpcError, match=r"^'more' was not signed: it is no regular file") as caught:
        require_signed(build, keys / "own.pub")
    assert caught.value.exit_code == 1


def test_a_signature_speaks_for_another_compiler(build: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that this compiler does not make: without the signature exit code 3, with it believed."""
    monkeypatch.setitem(SEARCH, PROGRAM, {"screens": 1, "generations": 1, "length": 12})
    text = (build / builds.REPORT).read_text()
    name = str(verify_build(build).report["tools"]["host compiler"])
    library = (build / "net.so").read_bytes() + b"\0"
    old, new = builds.sha256((build / "net.so").read_bytes()), builds.sha256(library)
    (build / "net.so").write_bytes(library)
    (build / builds.REPORT).write_text(text.replace(name, "zig cc 0.1.0").replace(old, new))
    assert verify_build(build).exit_code == 3
    sign_build(build, keys / "own.key", no_password)
    found = verify_build(build, key=keys / "own.pub")
    assert found.exit_code == 0, found.report["verdict"]
    assert any("net.so was not built again" in line for line in found.report["verdict"]["not_run"])


def test_other_tools_read_both_files(build: Path, keys: Path, require_program: RequireProgram) -> None:
    command = [require_program("minisign"), "-Vm", SUMS, "-p", str(keys / "own.pub")]
    assert subprocess.run(command, cwd=build, capture_output=True, check=False).returncode == 0
    sums = [require_program("sha256sum"), "--strict", "-c", SUMS]
    assert subprocess.run(sums, cwd=build, capture_output=True, check=False).returncode == 0
    (build / SUMS).write_bytes((build / SUMS).read_bytes() + b"\n")
    assert subprocess.run(command, cwd=build, capture_output=True, check=False).returncode != 0


def test_ncpc_reads_what_minisign_signed(build: Path, tmp_path: Path, require_program: RequireProgram) -> None:
    minisign = require_program("minisign")
    subprocess.run([minisign, "-GWf", "-s", str(tmp_path / "k"), "-p", str(tmp_path / "k.pub")], check=True,
                   capture_output=True)
    subprocess.run([minisign, "-Sm", SUMS, "-s", str(tmp_path / "k"), "-t", "by minisign"], cwd=build, check=True,
                   capture_output=True)
    assert require_signed(build, tmp_path / "k.pub") == "by minisign"
