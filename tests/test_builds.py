"""Build folders: whole after a kill at any moment, after a race of two, behind a link; nothing is left beside them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ncpc.driver import builds
from ncpc.errors import BadInput
from ncpc.system import places
from ncpc.system.files import write_atomically

ROOT = Path(__file__).parent.parent
WRITER = """
import os, sys
from pathlib import Path
from ncpc.driver import builds
from ncpc.system import places
out, text, moment, exchanged = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "exchange"
if not exchanged:
    places._exchange = lambda one, other: False
left = [moment]
def counted(step):
    def then(*arguments, **options):
        result = step(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), 9)
        return result
    return then
for name in ("mkdir", "rename", "write_bytes"):
    setattr(Path, name, counted(getattr(Path, name)))
places._replaced, places._exchange = counted(places._replaced), counted(places._exchange)
with builds.staged(out) as folder:
    builds.write_files(folder, {"report.json": text.encode(), "a/b": text.encode()})
print(left[0])
"""


def write(out: Path, text: str) -> None:
    with builds.staged(out) as folder:
        builds.write_files(folder, {"report.json": text.encode(), "a/b": text.encode()})


def killed(out: Path, text: str, moment: int, way: str) -> int:
    """Writes a build in a process that is killed after so many steps; 0 if it was, else the steps it did not need."""
    done = subprocess.run([sys.executable, "-c", WRITER, str(out), text, str(moment), way], cwd=ROOT, text=True,
                          capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return 0 if done.returncode else int(done.stdout)


def whole(out: Path) -> str:
    texts = {(out / "report.json").read_text(), (out / "a/b").read_text()}
    assert len(texts) == 1
    return texts.pop()


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_a_kill_at_any_moment_leaves_the_old_build_or_the_new_one(way: str, tmp_path: Path) -> None:
    """Without the exchange the old one may stand aside, until the next compilation looks."""
    out, moment = tmp_path / "build", 0
    write(out, "old")
    while killed(out, "new", moment := moment + 1, way) == 0:
        if way == "exchange":
            assert whole(out) in ("old", "new")
        with pytest.raises(ZeroDivisionError), builds.staged(out):
            raise ZeroDivisionError
        assert whole(out) in ("old", "new")
        assert os.listdir(tmp_path) == ["build"]
    assert whole(out) == "new"
    assert moment > 6


def test_what_a_living_process_holds_is_not_swept(tmp_path: Path) -> None:
    """Its number may be unknown here (another container), or our own."""
    out = tmp_path / "build"
    with places.stage(out) as mine:
        foreign = tmp_path / ".build.99999999.0.tmp"
        mine.rename(foreign)
        write(out, "new")
        assert foreign.is_dir()
        foreign.rename(mine)
    (tmp_path / f".build.{os.getpid()}.tmp").mkdir()
    (tmp_path / ".build.99999999.tmp").write_text("a file")
    (tmp_path / ".build.mine.tmp").mkdir()
    (tmp_path / ".building.99999999.0.tmp").mkdir()
    write(out, "newer")
    assert sorted(os.listdir(tmp_path)) == [".build.mine.tmp", ".building.99999999.0.tmp", "build"]


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_builds_of_many_processes_into_one_folder_leave_one_whole(way: str, tmp_path: Path) -> None:
    out = tmp_path / "deep/build"
    again = WRITER + "for i in range(60):\n    with builds.staged(out) as folder:\n" \
        "        builds.write_files(folder, {'report.json': text.encode(), 'a/b': text.encode()})\n"
    running = [subprocess.Popen([sys.executable, "-c", again, str(out), text, "0", way], cwd=ROOT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for text in "abc"]
    errors = [process.communicate(timeout=60)[1] for process in running]
    assert [p.returncode for p in running] == [0, 0, 0], errors
    assert whole(out) in "abc"
    assert os.listdir(out.parent) == ["build"]


def test_a_link_to_a_build_stays_and_leads_to_the_new_one(tmp_path: Path) -> None:
    link, real = tmp_path / "current", tmp_path / "elsewhere/build"
    write(real, "old")
    link.symlink_to(real)
    write(link, "new")
    assert link.is_symlink()
    assert whole(real) == "new"
    assert os.listdir(real.parent) == ["build"]


def test_what_is_no_build_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    for name, to in (("nothing", "absent"), ("loop", "loop"), ("linked", "file"), ("stranger", "full")):
        (tmp_path / name).symlink_to(to)
    monkeypatch.chdir(tmp_path)
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    for out in ("nothing", "loop", "linked", "stranger", "file", "full", ".", "..", "/", "", "a\0b", "x" * 300,
                "file/below", "\ud800"):
        with pytest.raises(BadInput) as found:
            write(Path(out), "new")
        assert "\n" not in str(found.value)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_a_file_is_written_through_a_link_but_never_over_a_device(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / ".link.99999999.tmp").write_bytes(b"left")
    (tmp_path / ".real.99999999.tmp").write_bytes(b"left")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "real").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()
    assert ".real.99999999.tmp" not in os.listdir(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null", "a\0b", "/", ""):
        with pytest.raises(BadInput):
            write_atomically(path, b"")
    assert not os.path.isfile("/dev/null")
