"""Build folders: written whole or not at all, and read back."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, reason
from ncpc.report.record import schema
from ncpc.report.validate import read_json
from ncpc.system import interruption, places
from ncpc.system.files import write

POLICY, REPORT, PAGE, TRACE = "policy.safetensors", "report.json", "report.html", "trace.json"
VECTORS, TIMING, REQUEST = "vectors.npz", "timing.json", "request.json"
OWN = frozenset({POLICY, REPORT, PAGE, TRACE, VECTORS, TIMING, REQUEST})
"""What stands in every build beside the target's files."""
_NAMED = {"type": "object", "properties": {"name": {"type": "string", "pattern": r"^[\w.-]{1,100}\Z"}},
          "required": ["name"]}
_IDENTITY = {"type": "object", "properties": {"policy": _NAMED, "target": _NAMED}, "required": ["policy", "target"]}
"""What any report says of its build, of whatever version of ncpc."""


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``out`` when the block ends well, and vanishes when it does not.

    ``out`` may be absent, empty, or an earlier build (it holds a report.json; of what, see ``require_place``). Anything
    else is refused by BadInput, so that no stranger's files are replaced. Several processes may fill the same ``out``:
    one of their builds stays.
    """
    place = _place(out)
    places.sweep(place)
    _require_ours(place, out)
    made = _make_parents(place)
    try:
        with places.stage(place) as stage:
            yield stage
            interruption.check()
            places.take_place(stage, place)
    except BaseException as error:
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # another process has put something there
                folder.rmdir()
        if isinstance(error, OSError) and _concerns(place, error):
            raise BadInput(f"{out}: cannot be written ({reason(error)}); give a path in a writable folder") from None
        raise


def _concerns(place: Path, error: OSError) -> bool:
    """Whether ``error`` is about the folder or its stage, not about temporary files or what is printed meanwhile."""
    named = (Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None)
    tops = [path.relative_to(place.parent).parts[:1] for path in named if path.is_relative_to(place.parent)]
    return any(name == place.name or name.startswith(f".{place.name}.") for top in tops for name in top)


def require_place(out: Path, policy: str, target: str, force: bool = False) -> None:
    """Raises BadInput where ``staged`` would, and where a build of ``policy`` for ``target`` would replace another one
    (unless ``force``) or lie in one; leaves nothing behind. A policy is known by its name, however often it is trained.
    """
    place = _place(out)
    _require_ours(place, out)
    if not force:
        _require_same(place, out, (policy, target))
    for folder in place.parents:
        if (around := _identity(folder)) is not None:
            raise BadInput(f"{out}: lies in {folder}, {_named(around)}; give another folder with -o")
    above = next(folder for folder in place.parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise BadInput(f"{out}: cannot be written ({above} is closed to you); give a path in a writable folder")


def _require_same(place: Path, out: Path, wanted: tuple[str, str]) -> None:
    """Raises BadInput where there is a build, and not of the policy and the target of these names."""
    there = _identity(place)
    if there == wanted or not (place / REPORT).exists():
        return
    what = f"a {REPORT} that names no policy and target" if there is None else _named(there)
    raise BadInput(f"{out}: holds {what}; give another folder with -o, or --force (force=True) to replace it")


def _identity(folder: Path) -> tuple[str, str] | None:
    """The names of policy and target of the build in ``folder``; None where its report tells none."""
    try:
        report = read_json(folder / REPORT, _IDENTITY)
    except (BadInput, FileNotFoundError):
        return None
    return report["policy"]["name"], report["target"]["name"]


def _named(build: tuple[str, str]) -> str:
    policy, target = build
    return f"a build of policy '{policy}' for target '{target}'"


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files``, names relative to ``folder``."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


def hashes(folder: Path, names: list[str]) -> dict[str, str]:
    """SHA-256 of each named file of a folder, sorted by name."""
    return {name: sha256((folder / name).read_bytes()) for name in sorted(names)}


def read_report(folder: Path) -> dict[str, Any]:
    """The report of a build, valid under its schema; BadInput when ``folder`` is none."""
    if os.path.isdir(folder) or os.path.isfile(folder):
        require_build(folder)
    try:
        return read_json(folder / REPORT, schema())
    except FileNotFoundError:
        raise BadInput(f"{folder}: not a build (no {REPORT}); give a folder made by 'ncpc compile'") from None


def require_build(folder: Path) -> None:
    """Raises BadInput for what is not the folder of one build."""
    if folder.is_file():
        raise BadInput(f"{folder}: is a file; give a folder made by 'ncpc compile'")
    if (folder / REPORT).is_file():
        return
    several = sorted(path.parent.name for path in folder.glob(f"*/{REPORT}"))
    if several:
        raise BadInput(f"{folder}: holds the builds of several targets; give one of them: "
                       f"{', '.join(str(folder / name) for name in several)}")
    raise BadInput(f"{folder}: not a build (no {REPORT}); give a folder made by 'ncpc compile'")


def _place(out: Path) -> Path:
    """Where ``out`` really is: a link stays, and what it leads to is replaced."""
    try:
        place, here = Path(os.path.realpath(out)), Path(os.path.realpath("."))
        leads_nowhere = out.is_symlink() and not place.exists()
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(out)!r}: is no path ({reason(error)}); give the build folder with -o") from None
    if leads_nowhere:
        raise BadInput(f"{out}: a link to nothing; remove it, or give another folder with -o")
    if here.is_relative_to(place):
        raise BadInput(f"{out}: this runs in that folder, which would be replaced; give another one with -o")
    return place


def _require_ours(place: Path, out: Path) -> None:
    try:
        ours = _ours(place) or _ours(place)  # again: another process may have replaced it meanwhile
    except OSError as error:
        raise BadInput(f"{out}: cannot be read ({reason(error)}); give another folder with -o") from None
    if not ours:
        raise BadInput(f"{out}: exists and is not a build of ncpc; give another folder with -o")


def _ours(place: Path) -> bool:
    """Whether there is nothing, an empty folder or a build."""
    try:
        names = os.listdir(place)
    except FileNotFoundError:
        return True
    except NotADirectoryError:
        return False
    return not names or REPORT in names


def _make_parents(out: Path) -> list[Path]:
    """Make the folders above ``out``; those that were made, outermost first."""
    try:
        missing = [folder for folder in reversed(out.absolute().parents) if not folder.exists()]
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made ({reason(error)}); give a path in a writable folder") from None
    return missing
