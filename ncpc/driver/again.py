"""A build made again from its policy and its request, and compared with the folder byte by byte.

Nothing that stands in the folder is run: what is run is what was made again, and the folder has to be equal to it.
"""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ncpc.driver import builds
from ncpc.errors import EXIT_DOES_NOT_HOLD, BadInput, NcpcError
from ncpc.frontend.npz import read_npz
from ncpc.report.record import Json
from ncpc.targets.base import Built
from ncpc.verification.deadline import DEADLINE

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.minisig"
UNLISTED = (builds.REPORT, builds.PAGE, builds.TIMING, SUMS, SIGNATURE)
"""Files that report.json's own list of hashes cannot hold, and the one that holds nothing but durations."""
HEADER = 1024
"""More bytes than stand before an array in an npz file."""
DERIVED = (builds.VECTORS, builds.REPORT, builds.PAGE)
"""Files made when the artifact has run."""


class Differs(NcpcError):
    """A folder that is not what its policy and request make: one line for each file (exit code 1)."""

    exit_code = EXIT_DOES_NOT_HOLD

    def __init__(self, reasons: tuple[str, ...]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


@dataclass(frozen=True)
class Original:
    """A build as it stands: its folder, report.json (valid under its schema, and believed in nothing), and the SHA-256
    that request.json gives of the policy.
    """

    folder: Path
    report: Json
    policy_sha256: str

    def names(self) -> list[str]:
        """Everything in the folder that is no folder, relative to it, sorted."""
        found = (path for path in self.folder.rglob("*") if not stat.S_ISDIR(path.lstat().st_mode))
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def content(self, name: str) -> bytes | None:
        """What is in a file; None for what is no regular file of this folder, a link for instance."""
        path = self.folder / name
        inside = path.parent.resolve().is_relative_to(self.folder.resolve())
        return path.read_bytes() if inside and path.exists() and stat.S_ISREG(path.lstat().st_mode) else None

    def irregular(self, name: str) -> str:
        """What is wrong with an entry that is no regular file of this folder; empty for one that is."""
        if self.content(name) is not None:
            return ""
        kind = "a link" if (self.folder / name).is_symlink() else "no regular file"
        return f"{name} is {kind}, and is not read; a build holds regular files alone"


@dataclass(frozen=True)
class Comparison:
    """``faults`` speak against the verdict. ``unmade`` could not be made again to the byte, as a tool is missing or is
    another one: nothing but a signature speaks for those. ``notes``: what was not compared, and why. One line each.
    ``compared``: how many files were.
    """

    faults: tuple[str, ...] = ()
    unmade: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    compared: int = 0


@dataclass(frozen=True)
class Otherwise:
    """How a verification differs from the one at compile time, in words; empty where it does not.

    ``same_steps``: generated sequences are the same. ``unmade``: some of the artifact could not be made again.
    """

    why: str = ""
    same_steps: bool = True
    unmade: bool = False


def listed(original: Original) -> dict[str, str]:
    """Of each file that is not as report.json's list of hashes says: what is wrong."""
    files: Mapping[str, str] = original.report["files"]
    there = original.names()
    wrong = {name: f"{name} is missing from the build" for name in sorted(set(files) - set(there))}
    for name in there:
        if fault := original.irregular(name):
            wrong[name] = fault
        elif name not in files and name not in UNLISTED:
            wrong[name] = f"{name} is no file of this build: report.json does not list it"
        elif name in files and builds.sha256(original.content(name) or b"") != files[name]:
            wrong[name] = f"{name} is not the file that was compiled (its SHA-256 differs)"
    return wrong


def artifacts(original: Original, made: Path, built: Built) -> Comparison:
    """The folder beside ``made``, which holds policy, request and artifact made again."""
    there = set(original.names()) - {*DERIVED, *UNLISTED}
    again = {path.relative_to(made).as_posix(): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    wrong, unmade, other = listed(original), dict[str, list[str]](), _other(original.report["tools"], built.tools)
    compared = {name for name in there | set(again) if name in wrong or name in again}
    for name in sorted(there | set(again)):
        if name in wrong or original.content(name) == again.get(name):
            continue
        if name not in again and built.missing:
            unmade.setdefault(f"built again: {'; '.join(built.missing)}", []).append(name)
        elif name in (*built.files, builds.TRACE) and other:
            unmade.setdefault(f"built again to the byte: {other}", []).append(name)
        else:
            wrong[name] = _unlike(original, name, name in again)
    lines = tuple(f"{', '.join(names)} {_was(names)} not {why}" for why, names in unmade.items())
    return Comparison(tuple(wrong.values()), lines, compared=len(compared) - sum(map(len, unmade.values())))


def derived(original: Original, made: Path, report: Json, other: Otherwise) -> Comparison:
    """The same for what is made from the artifact. ``report`` is the one made again."""
    if not other.why:
        return _derived(original, made, report, list(DERIVED), _numbers)
    names = [builds.VECTORS] if other.same_steps and not other.unmade else []
    left = [*(() if names else (builds.VECTORS,)), f"what {builds.REPORT} measured", builds.PAGE]
    note = f"{', '.join(left[:-1])} and {left[-1]} were not compared: {other.why}"
    if other.unmade:
        return Comparison(notes=(note,))
    found = _derived(original, made, report, names, _settled)
    return dataclasses.replace(found, notes=(note, *found.notes))


def _derived(original: Original, made: Path, report: Json, names: list[str],
             parts: Callable[[Json], Json]) -> Comparison:
    """Files compared to the byte, and ``parts`` of the report where it is not one of them or versions differ."""
    other = _other(_environment(original.report), _environment(report))
    unlike = [name for name in names if not _equal(name, original.content(name), (made / name))]
    recorded, here = _settled_proofs(original.report, report)
    if builds.REPORT not in names and parts(recorded) != parts(here):
        unlike.append(builds.REPORT)
    if not other:
        return Comparison(tuple(_unlike(original, name, True) for name in unlike), compared=len(names) - len(unlike))
    # The report names the versions, so it cannot be equal to the byte; everything else in it can.
    missed = [name for name in unlike if name == builds.VECTORS]
    missed += [builds.REPORT] if parts(recorded) != parts(here) else []
    page = (f"{builds.PAGE} was not compared: {other}",) if builds.PAGE in names else ()
    return Comparison(unmade=tuple(f"{name} was not made again to the byte: {other}" for name in missed), notes=page)


def _was(names: Sequence[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _settled(report: Json) -> Json:
    """What a report says that hangs on policy and request alone, whatever was run."""
    memory, proof = report["memory"] or {}, report["proof"] or {}
    box = [{key: state[key] for key in ("neuron", "lo", "hi")} for state in proof.get("box", ())]
    sizes = {key: memory.get(key) for key in ("flash_bytes", "ram_bytes")}
    kept = {key: report[key] for key in ("policy", "target", "quant")}
    return {**kept, "memory": sizes, "proof": {**proof, "box": box}}


def _numbers(report: Json) -> Json:
    """A report without the versions of what took part in it."""
    links = [{**link, "runtime_version": None} for link in report["links"]]
    return {**{name: part for name, part in report.items() if name not in ("tools", "files")}, "links": links}


def _equal(name: str, content: bytes | None, again: Path) -> bool:
    """Byte by byte; vectors.npz by its arrays where its bytes differ, as another zlib packs them otherwise."""
    new = again.read_bytes() if again.exists() else None
    return content == new or (name == builds.VECTORS and new is not None and _arrays(content, new) == _arrays(new, new))


def _arrays(content: bytes | None, like: bytes) -> object:
    """The arrays of an npz file that unpacks to no more than ``like`` does; equal to nothing else where it is none."""
    try:
        most = sum(array.nbytes + HEADER for array in read_npz(like, "").values())
        arrays = read_npz(content or b"", "", most)
    except BadInput:
        return object()
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()}


def _unlike(original: Original, name: str, known: bool) -> str:
    if not known:
        return f"{name} is no file of this build"
    if name not in original.names():
        return f"{name} is missing from the build"
    if name == builds.REQUEST:
        return f"{name} is not written as ncpc writes it, whatever it asks for"
    return f"{name} is not what ncpc makes of {builds.POLICY} and {builds.REQUEST}"


def _environment(report: Json) -> dict[str, str]:
    """Everything that took part in the numbers of a report, with its version."""
    runtimes = {link["to"]: link["runtime_version"] or "not run" for link in report["links"]}
    return {**report["tools"], **runtimes, "the proof of the step": _end_of_proof(report["theorem"])}


def _end_of_proof(theorem: Json | None) -> str:
    """How it ended: for want of time or of the solver it may end otherwise another time, or elsewhere."""
    if theorem is None or theorem["settled"]:
        return "settled"
    return f"not decided ({theorem['shown']} of {theorem['outcomes']} outcomes; {theorem['why']})"


def _settled_proofs(*reports: Json) -> Sequence[Json]:
    """Reports as far as they can be held against each other: without proofs where one is not settled."""
    if all(_end_of_proof(report["theorem"]) == "settled" for report in reports):
        return reports
    return [_without_proof(report) for report in reports]


def _without_proof(report: Json) -> Json:
    """A report without the proof of the step and what is told from it."""
    cycles = report["cycles"] and {**report["cycles"], "wcet": None, "wcet_method": None}
    rest = {name: part for name, part in report.items() if name != "time"}
    said = [line for line in report["verdict"]["not_run"] if not line.startswith(DEADLINE)]
    return {**rest, "theorem": None, "cycles": cycles, "verdict": {**report["verdict"], "not_run": said}}


def _other(recorded: Mapping[str, str], here: Mapping[str, str]) -> str:
    """Which tools are recorded otherwise than they are here; empty when none."""
    found = [f"{name} was {_version(recorded.get(name, 'none'))}, here {_version(version)}"
             for name, version in here.items() if recorded.get(name) != version]
    return ", ".join(found)


def _version(tool: str) -> str:
    """A tool's name and version without the flags it was given."""
    return tool.split(" -", 1)[0]
