"""Standard output and standard error may be closed, full, unread or of an encoding with few signs: what is done is the
same, and no exit code is another but where the output itself is lost.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ncpc.cli.commands import run
from ncpc.errors import EXIT_BAD_INPUT, EXIT_BROKEN_PIPE
from ncpc.system import streams

ROOT = Path(__file__).parent.parent
COMPILE = ("compile", "GOOD", "-t", "interpreter", "--quant", "float32", "--tolerance", "0.05", "-o", "OUT")


def shell(redirected: str, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """``ncpc ARGUMENTS`` with the redirections of a shell."""
    line = f'exec "$0" -m ncpc "$@" {redirected}'
    return subprocess.run(["sh", "-c", line, sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False, env={**os.environ, **changes})


@pytest.mark.parametrize("redirected", [">&-", "<&- >&- 2>&-", "> /dev/full"])
def test_a_closed_output_changes_no_exit_code_and_a_full_one_does(redirected: str, good: Path) -> None:
    """What was asked for is lost there."""
    done, lost = shell(redirected, "inspect", str(good), "--json"), redirected == "> /dev/full"
    assert done.returncode == (EXIT_BAD_INPUT if lost else 0)
    assert done.stderr.count("\n") == lost
    assert ("standard output: cannot be written (No space left on device)" in done.stderr) == lost


@pytest.mark.parametrize("redirected", ["2>&-", "2>/dev/full"])
def test_where_no_error_can_be_said_the_exit_code_is(redirected: str, good: Path) -> None:
    assert shell(redirected, "inspect", f"{good}x").returncode == EXIT_BAD_INPUT


def test_a_closed_descriptor_is_taken_before_a_file_gets_its_number(tmp_path: Path) -> None:
    """Children write to 1 and 2, whatever that is."""
    script = "from ncpc.system import streams; streams.prepare(); print(1); import os, sys; " \
             f"sys.exit(open({str(tmp_path / 'file')!r}, 'w').fileno() < 3 or not os.get_inheritable(1))"
    for redirected in ("<&-", ">&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'"$0" -c "{script}" {redirected}', sys.executable], cwd=ROOT, check=False)
        assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize(("changes", "said"), [
    ({"PYTHONIOENCODING": "ascii"}, b"+ <= \\xfc \\udcc3\n"), ({"PYTHONIOENCODING": "latin-1"}, b"+ <= \xfc \\udcc3\n"),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"+ <= \\xfc \\udcc3\n"),
    ({"LC_ALL": "C"}, "✓ ≤ ü \\udcc3\n".encode()), ({"LC_ALL": "no_SUCH"}, "✓ ≤ ü \\udcc3\n".encode()),
])
def test_no_character_is_one_too_many(changes: dict[str, str], said: bytes) -> None:
    script = "from ncpc.system import streams; streams.prepare(); print('\\u2713 \\u2264 \\xfc \\udcc3')"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHON", "LANG"))}
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True,
                          env={**environment, "PYTHONPATH": str(ROOT), **changes})
    assert done.stdout == said


def compiled(monkeypatch: pytest.MonkeyPatch, stream: streams.NamedStream, good: Path, out: Path) -> int:
    """The exit code of a compilation that prints to ``stream``."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        return run([{"GOOD": str(good), "OUT": str(out)}.get(word, word) for word in COMPILE])


def test_a_build_is_the_same_in_every_encoding(good: Path, tmp_path: Path, interpreter: None,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    said, builds = {}, {}
    for encoding in ("utf-8", "ascii", "latin-1"):
        stream, out = streams.NamedStream(io.BytesIO(), encoding, streams.PLAINLY), tmp_path / encoding
        assert compiled(monkeypatch, stream, good, out) == 0
        said[encoding] = stream.detach().getvalue().decode(encoding)
        builds[encoding] = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "timing.json"}
    assert [text.split()[:2] for text in said.values()] == [["✓", "read"], ["+", "read"], ["+", "read"]]
    assert builds["ascii"] == builds["latin-1"] == builds["utf-8"]


@pytest.mark.parametrize("where", ["a pipe that no one reads", "a full disk"])
def test_a_compilation_whose_output_is_lost_writes_nothing(
    where: str, good: Path, tmp_path: Path, interpreter: None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The folder is not blamed for it."""
    reader, writer = os.pipe()
    os.close(reader)
    full = where == "a full disk"
    with open("/dev/full" if full else writer, "wb", buffering=0) as raw:
        stream = streams.NamedStream(io.BufferedWriter(raw), "utf-8", streams.PLAINLY)
        code = compiled(monkeypatch, stream, good, tmp_path / "out")
        with suppress(OSError):
            stream.close()
    assert code == (EXIT_BAD_INPUT if full else EXIT_BROKEN_PIPE)
    assert capsys.readouterr().err.count("standard output: cannot be written") == full
    assert [path.name for path in tmp_path.iterdir()] == [good.name]


def test_a_warning_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("from tests.nets import random_ltc\ndef layers(): return [random_ltc(4)]\n")
    done = subprocess.run([sys.executable, "-m", "ncpc", "import", "net:layers", "--input-range", "-1", "1"],
                          cwd=tmp_path, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if "dt 1.0 (assumed" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("ncpc: warning: policy.safetensors: ")
    assert {line.split()[0] for line in done.stderr.splitlines() if line not in warnings} <= {"read", "compare"}
