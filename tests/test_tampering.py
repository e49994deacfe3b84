"""Verify trusts nothing in the folder: what is changed there, hashes put right, is found, and nothing of it is run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save

from ncpc.cli.commands import run
from ncpc.driver import builds
from ncpc.driver.job import MOST_STEPS, Request
from ncpc.driver.pipeline import compile_policy, placed
from ncpc.driver.reopen import open_build, simulate_build, verify_build
from ncpc.driver.request_file import SCHEMA
from ncpc.errors import NcpcError
from ncpc.frontend.container import write_policy
from ncpc.report.record import schema
from ncpc.report.validate import RULES, STRUCTURE, faults
from ncpc.targets.base import MODEL, PROGRAM
from ncpc.verification.verdict import SEARCH
from tests.conftest import RequireTool
from tests.nets import random_policy

Edit = Callable[[Path], object]
Builds = Callable[[str], Path]
NEEDS = {"host": ("ziglang",), "cortex-m4": ("ziglang", "unicorn", "capstone"), "onnx": ("onnx", "onnxruntime"),
         "tflite": ("ai_edge_litert", "flatbuffers")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Iterator[Builds]:
    """``made("host")``: a build that holds, made once, with a search that is short."""
    base = tmp_path_factory.mktemp("builds")
    with pytest.MonkeyPatch.context() as patch:
        for root in (PROGRAM, MODEL):
            patch.setitem(SEARCH, root, {"screens": 1, "generations": 1, "length": 12})

        def build(target: str) -> Path:
            for tool in NEEDS[target]:
                require_tool(tool)
            if not (base / target).exists():
                write_policy(random_policy(4), base / "net.safetensors")
                outcome = compile_policy(base / "net.safetensors", base / target,
                                         Request(target, steps=60, tolerance=0.05))
                assert outcome.exit_code == 0, outcome.report["verdict"]
            return base / target

        yield build


@pytest.fixture
def folder(made: Builds, tmp_path: Path) -> Builds:
    """``folder("host")``: a copy of that build, to be spoiled."""
    return lambda target: Path(shutil.copytree(made(target), tmp_path / target))


def rehash(folder: Path) -> None:
    """Put the hashes in report.json right, as whoever changes a file can."""
    path = folder / builds.REPORT
    report = json.loads(path.read_text())
    report["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
                       for name in report["files"] if (folder / name).is_file()}
    path.write_text(json.dumps(report, indent=1) + "\n")


def text(name: str, pattern: str, new: str) -> Edit:
    def edit(folder: Path) -> None:
        old = (folder / name).read_text()
        changed = re.sub(pattern, new, old, count=1)
        assert changed != old
        (folder / name).write_text(changed)
    return edit


def content(name: str, data: bytes) -> Edit:
    return lambda folder: (folder / name).write_bytes(data)


def flip(name: str, share: float) -> Edit:
    def edit(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[int(share * len(data))] ^= 1
        (folder / name).write_bytes(data)
    return edit


def value(name: str, *path: str, to: Any) -> Edit:
    """A member of a JSON file replaced."""
    def edit(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to
        (folder / name).write_text(json.dumps(record, indent=1, sort_keys=name == builds.REQUEST) + "\n")
    return edit


def weight(folder: Path) -> None:
    """One weight of the policy by one percent."""
    path = folder / builds.POLICY
    with safe_open(path, framework="numpy") as file:
        head, tensors = file.metadata(), {key: file.get_tensor(key).copy() for key in file.keys()}  # noqa: SIM118
    tensors["layers.0.recurrent.w"][0] *= 1.01
    path.write_bytes(save(tensors, metadata=head))


def proved_box(folder: Path) -> None:
    report = json.loads((folder / builds.REPORT).read_text())
    for state in report["proof"]["box"]:
        state["lo"], state["hi"] = 2 * state["lo"], 2 * state["hi"]
    (folder / builds.REPORT).write_text(json.dumps(report, indent=1) + "\n")


def onnx_weight(folder: Path) -> None:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / "net.onnx"))
    tensor = next(t for t in model.graph.initializer if np.prod(t.dims) > 2)
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] += 1
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, str(folder / "net.onnx"))


def loop_forever(folder: Path) -> None:
    """The program's step becomes a branch to itself (Thumb: E7FE)."""
    from ncpc.cores.elf import read_elf

    raw = (folder / "net.elf").read_bytes()
    image = read_elf(raw)
    step = next(f for f in image.functions if f.name == "net_step").address & ~1
    segment = next(s for s in image.segments if s.address <= step < s.address + len(s.data))
    at = raw.find(bytes(segment.data[:64])) + step - segment.address
    (folder / "net.elf").write_bytes(raw[:at] + b"\xfe\xe7" + raw[at + 2 :])


TAMPERED: dict[str, tuple[str, Edit, str]] = {
    "C: a table entry": ("host", text("net.c", r"PAIR\(16384, ", "PAIR(16385, "), "net.c"),
    "C: a step that returns at once": ("host", text("net.c", r"status = 0;", "status = 0; return 7u;"), "net.c"),
    "C: deleted": ("host", lambda d: (d / "net.c").unlink(), "net.c"),
    "header: a fraction": ("host", text("net.h", r"(NET_X0_FRAC) (\d+)", r"\1 3"), "net.h"),
    "header: deleted": ("host", lambda d: (d / "net.h").unlink(), "net.h"),
    "library: a bit": ("host", flip("net.so", 0.5), "net.so"),
    "library: truncated": ("host", lambda d: os.truncate(d / "net.so", 5000), "net.so"),
    "library: empty": ("host", content("net.so", b""), "net.so"),
    "library: a link": ("host", lambda d: ((d / "net.so").rename(d.parent / "own.so"),
                                           (d / "net.so").symlink_to(d.parent / "own.so")), "net.so"),
    "trace: rubbish": ("host", content("trace.json", b'{"x": 1}'), "trace.json"),
    "vectors: rubbish": ("host", content("vectors.npz", b"rubbish"), "vectors.npz"),
    "page: rubbish": ("host", content("report.html", b"<script>"), "report.html"),
    "page: deleted": ("host", lambda d: (d / "report.html").unlink(), "report.html"),
    "policy: a weight": ("host", weight, "policy.safetensors"),
    "report: a wider proved box": ("host", proved_box, "report.json"),
    "report: a wider tolerance": ("host", value("report.json", "verdict", "tolerance", to=1e9), "report.json"),
    "report: another scheme": ("host", value("report.json", "quant", "scheme", to="int8"), "report.json"),
    "report: less memory": ("cortex-m4", value("report.json", "memory", "flash_bytes", to=12), "report.json"),
    "report: no list of files": ("host", value("report.json", "files", to={}), "net.c"),
    "report: files elsewhere": ("host", lambda d: value("report.json", "files", to={"../../etc/passwd": "0" * 64})(d),
                                "../../etc/passwd"),
    "request: a wider tolerance": ("host", value("request.json", "tolerance", to=0.9), "report.json"),
    "request: another scheme": ("host", value("request.json", "quant", to="int8"), "net.c"),
    "certificate: rubbish": ("host", content("certificate.json", b"{}"), "certificate.json"),
    "checker: one that says yes": ("host", content("certify.py", b"print('certified')"), "certify.py"),
    "a file too many": ("host", content("more.c", b"int more;"), "more.c"),
    "a link too many": ("host", lambda d: (d / "more.c").symlink_to(d / "net.c"), "more.c"),
    "durations: a link": ("host", lambda d: ((d / "timing.json").unlink(), (d / "timing.json").symlink_to("net.c")),
                          "timing.json"),
    "request: the same in other bytes": ("host", lambda d: (d / "request.json").write_text(
        json.dumps(json.loads((d / "request.json").read_text()))), "request.json"),
    "a pipe": ("host", lambda d: os.mkfifo(d / "pipe"), "pipe"),
    "map: rubbish": ("cortex-m4", content("net.map", b"zzz"), "net.map"),
    "trace: an address": ("cortex-m4", text("trace.json", r'"address": (\d+)', '"address": 7'), "trace.json"),
    "ELF: a bit": ("cortex-m4", flip("net.elf", 0.4), "net.elf"),
    "ELF: truncated": ("cortex-m4", lambda d: os.truncate(d / "net.elf", 3000), "net.elf"),
    "ELF: a step that never ends": ("cortex-m4", loop_forever, "net.elf"),
    "ONNX: a weight": ("onnx", onnx_weight, "net.onnx"),
    "ONNX: rubbish": ("onnx", content("net.onnx", b"zz"), "net.onnx"),
    "ONNX: rubbish for sequences": ("onnx", content("net_sequence.onnx", b"zz"), "net_sequence.onnx"),
    "ONNX: vectors": ("onnx", content("vectors.npz", b""), "vectors.npz"),
    "TFLite: a bit in the middle": ("tflite", flip("net.tflite", 0.5), "net.tflite"),
    "TFLite: rubbish": ("tflite", content("net.tflite", b"zz"), "net.tflite"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_is_changed_in_a_build_does_not_hold_and_is_named(case: str, folder: Builds) -> None:
    target, edit, named = TAMPERED[case]
    build = folder(target)
    edit(build)
    if "report" not in case and "too many" not in case:
        rehash(build)
    found = verify_build(build)
    assert found.exit_code == 1
    assert not found.report["verdict"]["holds"]
    reasons = found.report["verdict"]["reasons"]
    assert any(reason.startswith(f"{named} is ") for reason in reasons), reasons


def test_what_is_wrong_with_each_file_is_said_of_it(folder: Builds) -> None:
    build = folder("host")
    for name in ("net.h", "certify.py", "trace.json"):
        (build / name).unlink()
    (build / "trace.json").symlink_to("net.c")
    os.mkfifo(build / "certify.py")
    request = build / builds.REQUEST
    request.write_text(json.dumps(json.loads(request.read_text())))
    rehash(build)
    assert set(verify_build(build).report["verdict"]["reasons"]) == {
        "net.h is missing from the build", "trace.json is a link, and is not read; a build holds regular files alone",
        "certify.py is no regular file, and is not read; a build holds regular files alone",
        "request.json is not written as ncpc writes it, whatever it asks for",
    }


def test_a_file_that_is_missing_is_said_to_be(folder: Builds) -> None:
    build = folder("host")
    (build / builds.PAGE).unlink()
    assert verify_build(build).report["verdict"]["reasons"] == ["report.html is missing from the build"]


def test_other_inputs_excuse_nothing_that_does_not_hang_on_them(folder: Builds) -> None:
    build, x = folder("host"), np.zeros((20, 3))
    found = verify_build(build, x)
    assert found.exit_code == 0, found.report["verdict"]
    assert found.report["verdict"]["not_run"] == [
        "what report.json measured and report.html were not compared: they answer to the options and inputs at compile "
        "time, not to those given here"]
    content(builds.VECTORS, b"rubbish")(build)
    proved_box(build)
    rehash(build)
    assert verify_build(build, x).report["verdict"]["reasons"] == [
        f"{name} is not what ncpc makes of policy.safetensors and request.json"
        for name in (builds.VECTORS, builds.REPORT)]


def test_vectors_that_would_fill_the_memory_are_not_unpacked(folder: Builds) -> None:
    build = folder("host")
    np.savez_compressed(build / builds.VECTORS, x=np.zeros(5 * 10**7, np.uint8))
    rehash(build)
    assert "vectors.npz is not what ncpc makes of policy.safetensors and request.json" in verify_build(
        build).report["verdict"]["reasons"]


@pytest.mark.parametrize("target", NEEDS)
def test_what_is_not_changed_holds_again_to_the_byte(target: str, folder: Builds) -> None:
    build = folder(target)
    found = verify_build(build)
    assert found.exit_code == 0, found.report["verdict"]
    assert found.report == json.loads((build / builds.REPORT).read_text())
    assert sorted(found.report["asked"]) == ["steps", "tolerance"]


@pytest.mark.parametrize("use", [verify_build, simulate_build, open_build])
def test_a_library_that_was_changed_is_not_even_loaded(use: Callable[[Path], object], folder: Builds,
                                                       tmp_path: Path) -> None:
    build, mark = folder("host"), tmp_path / "ran"
    code = f"""#include <stdlib.h>
__attribute__((constructor)) static void go(void) {{ system("touch {mark}"); }}
"""
    (tmp_path / "evil.c").write_text(code)
    subprocess.run([sys.executable, "-m", "ziglang", "cc", "-shared", "-fPIC", "-o", str(build / "net.so"),
                    str(tmp_path / "evil.c")], check=True)
    rehash(build)
    code, why = outcome_of(lambda: use(build))
    assert code == 1
    assert "net.so is not what" in why
    assert not mark.exists()


def outcome_of(work: Callable[[], Any]) -> tuple[int, str]:
    """The exit code of a verification or of the error it raises, and what is said against the build."""
    try:
        found = work()
    except NcpcError as error:
        return error.exit_code, str(error)
    return found.exit_code, "; ".join(found.report["verdict"]["reasons"])


def test_a_report_of_one_scheme_over_a_library_of_another(folder: Builds, tmp_path: Path) -> None:
    build = folder("host")
    value(builds.REQUEST, "quant", to="float32")(build)
    rehash(build)
    assert verify_build(build).exit_code == 1
    with pytest.raises(NcpcError, match=r"net\.c is not what"):
        open_build(build)


@pytest.mark.parametrize("compiler", ["./gcc", "/bin/false", "net.so"])
def test_no_program_is_run_for_the_word_of_a_folder(compiler: str, folder: Builds) -> None:
    build, name = folder("host"), Path(compiler).name
    mark = build.parent / "ran"
    (build.parent / "gcc").write_text(f"#!/bin/sh\ntouch {mark}\n")
    (build.parent / "gcc").chmod(0o755)
    value(builds.REQUEST, "cc", to=str(build.parent / name) if name == "gcc" else compiler)(build)
    code, why = outcome_of(lambda: verify_build(build))
    assert (code, "no name of a C compiler" in why) in ((1, False), (2, True), (3, False))
    assert not mark.exists()


@pytest.mark.parametrize("path", ["./gcc", "../gcc", "bin/clang"])
def test_a_compiler_by_a_path_from_anywhere_is_refused(path: str, folder: Builds) -> None:
    build = folder("host")
    value(builds.REQUEST, "cc", to=path)(build)
    code, why = outcome_of(lambda: verify_build(build))
    assert code == 2
    assert f"'{path}' is a relative path" in why


def test_a_request_holds_the_whole_path_of_a_compiler() -> None:
    assert placed(Request(cc="./gcc")).cc == str(Path("gcc").absolute())
    assert [placed(Request(cc=cc)).cc for cc in ("zig", "gcc", "/usr/bin/gcc")] == ["zig", "gcc", "/usr/bin/gcc"]


def test_a_file_of_another_compiler_is_said_and_does_not_hold(folder: Builds,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    build = folder("host")
    value(builds.REPORT, "tools", "host compiler", to="zig cc 0.1.0")(build)
    flip("net.so", 0.5)(build)
    rehash(build)
    found = verify_build(build)
    assert found.exit_code == 3
    assert any("net.so was not built again to the byte: host compiler was zig cc 0.1.0, here zig" in reason
               for reason in found.report["verdict"]["reasons"])
    assert run(["verify", str(build)]) == 3
    lines = " ".join(capsys.readouterr().out.split())
    assert lines.count("net.so was not built again") == 1
    assert ("vectors.npz, what report.json measured and report.html were not compared: not all of what they speak of "
            "could be built again here") in lines
    there = len(list(build.iterdir()))
    assert f"{there - 5} of {there} files" in lines, "but for the library, the three files derived, and the durations"


DAMAGED: dict[str, tuple[str, bytes]] = {
    "deep": ("report.json", b"[" * 200_000),
    "no text": ("report.json", b'{"schema": 1, "a": "\xff\xfe"}'),
    "not whole": ("report.json", b'{"schema": 1,'),
    "a number": ("report.json", b"5"),
    "another schema": ("report.json", b'{"schema": 2}'),
    "twice the same key": ("report.json", b'{"schema": 1, "schema": 1}'),
    "a request in a list": ("request.json", b"[]"),
    "an empty request": ("request.json", b""),
    "NaN": ("request.json", b'{"tolerance": NaN}'),
}
MEMBERS: dict[str, Edit] = {
    "files a list": value("report.json", "files", to=["net.c"]),
    "a hash that is a number": value("report.json", "files", to={"net.c": 5}),
    "target a list": value("report.json", "target", "name", to=[1]),
    "options a number": value("report.json", "target", "options", to=5),
    "tolerance negative": value("report.json", "verdict", "tolerance", to=-1),
    "tolerance null": value("report.json", "verdict", "tolerance", to=None),
    "scheme unknown": value("report.json", "quant", "scheme", to="zz"),
    "memory a number": value("report.json", "memory", to=5),
    "flash null": value("report.json", "memory", to={"flash_bytes": None}),
    "proof a word": value("report.json", "proof", to="x"),
    "request: target unknown": value("request.json", "target", to="nosuch"),
    "request: target a number": value("request.json", "target", to=5),
    "request: dt unknown": value("request.json", "dt", to="weird"),
    "request: tolerance negative": value("request.json", "tolerance", to=-1),
    "request: tolerance a word": value("request.json", "tolerance", to="x"),
    "request: steps": value("request.json", "steps", to=0),
    "request: too many steps": value("request.json", "steps", to=10**12),
    "request: steps for hours": value("request.json", "steps", to=10**8),
    "request: a step more than can be asked for": value("request.json", "steps", to=MOST_STEPS + 1),
    "request: tolerance beyond float64": value("request.json", "tolerance", to=10**400),
    "request: something more": value("request.json", "more", to=1),
    "report a folder": lambda d: ((d / "report.json").unlink(), (d / "report.json").mkdir()),
    "request a pipe": lambda d: ((d / "request.json").unlink(), os.mkfifo(d / "request.json")),
    "request missing": lambda d: (d / "request.json").unlink(),
    "policy missing": lambda d: (d / "policy.safetensors").unlink(),
    **{name: content(file, data) for name, (file, data) in DAMAGED.items()},
}


@pytest.mark.parametrize("case", MEMBERS)
def test_damaged_records_are_one_line_and_exit_code_2(case: str, folder: Builds,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    build = folder("host")
    MEMBERS[case](build)
    assert run(["verify", str(build)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("ncpc: ")
    assert len(said.splitlines()) == 1


def test_what_was_asked_stands_beside_the_verdict(folder: Builds, capsys: pytest.CaptureFixture[str]) -> None:
    build = folder("host")
    value(builds.REQUEST, "tolerance", to=0.9)(build)
    rehash(build)
    assert run(["verify", str(build), "--steps", "30"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "asked for, instead of the defaults: tolerance 0.9, steps 30" in printed
    assert "report.html were not compared" in printed
    page = (build / builds.PAGE).read_text()
    assert "asked for: tolerance 0.05" in page
    assert "asked for: steps 60" in page


def recorded_numpy(folder: Path) -> None:
    """The report says that another NumPy made it, so that nothing in it were to be equal."""
    value("report.json", "tools", "numpy", to="2.0.0")(folder)


@pytest.mark.parametrize("case", [builds.VECTORS, builds.REPORT])
def test_another_version_in_the_report_excuses_nothing(case: str, folder: Builds) -> None:
    """What can be equal whatever the versions has to be: the vectors, and the report but for the versions in it."""
    build = folder("host")
    recorded_numpy(build)
    assert verify_build(build).holds
    if case == builds.VECTORS:
        arrays = dict(np.load(build / case))
        np.savez_compressed(build / case, **{**arrays, "y": arrays["y"] + 1})
    else:
        value(case, "error", "max_range", to=1e-9)(build)
    rehash(build)
    again = verify_build(build)
    assert again.exit_code == 3
    reasons = " ".join(again.report["verdict"]["reasons"])
    assert f"not run: {case} was not made again to the byte: numpy was 2.0.0" in reasons


def test_the_request_is_all_there_is_of_a_request() -> None:
    assert set(SCHEMA["properties"]) - {"schema", "policy_sha256"} == set(Request.__dataclass_fields__)


def keywords(schema: Any) -> Iterator[str]:
    for key, rule in schema.items():
        yield key
        inner = [rule] if isinstance(rule, dict) else []
        for one in rule.values() if key == "properties" else inner:
            yield from keywords(one)


@pytest.mark.parametrize("schema", [schema(), SCHEMA], ids=["report", "request"])
def test_every_keyword_of_a_schema_is_looked_at(schema: Any) -> None:
    assert set(keywords(schema)) <= RULES.keys() | STRUCTURE


def test_the_schema_is_read_as_jsonschema_reads_it(made: Builds) -> None:
    """Every member of a report replaced by every kind of value, in turn."""
    rules = schema()
    judge = jsonschema.Draft202012Validator(rules)
    report = json.loads((made("host") / builds.REPORT).read_text())
    verdicts = set()
    for holder, key in list(members(report)):
        kept = holder[key]
        for new in (None, True, -1, 0.5, 3, "x", [], {}, [kept], {"a": kept}):
            holder[key] = new
            expected = judge.is_valid(report)
            assert (next(faults(report, rules, ""), None) is None) == expected, (key, new)
            verdicts.add(expected)
        holder[key] = kept
    assert verdicts == {True, False}


def members(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value, of lists the first item."""
    keys: list[Any] = list(value) if isinstance(value, dict) else [0] if isinstance(value, list) and value else []
    for key in keys:
        yield value, key
        yield from members(value[key])


