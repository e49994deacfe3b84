"""The command line: help, messages and exit codes; wrong input gives one line and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.cli.commands import run
from ncpc.frontend.container import policy_bytes
from ncpc.ir.policy import Policy
from ncpc.targets import registry
from ncpc.targets.base import Artifact
from tests.interpreter import interpreter_target
from tests.nets import random_ltc

ROOT = Path(__file__).parent.parent


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    """Exit code and standard error, which must be one line without a traceback."""
    code = run([str(a) for a in arguments])
    message = capsys.readouterr().err
    assert message.startswith("ncpc: ")
    assert message.count("\n") == 1, message
    assert "Traceback" not in message
    return code, message


def changed(**fields: Any) -> Policy:
    """A policy that ``write_policy`` would refuse, to be written as bytes."""
    return Policy("bad", (random_ltc(4, **fields),), np.tile([-1.0, 1.0], (3, 1)))


def nan_in_cm() -> Policy:
    cm = random_ltc(4).cm.copy()
    cm[2] = np.nan
    return changed(cm=cm)


def negative_gleak() -> Policy:
    gleak = random_ltc(4).gleak.copy()
    gleak[1] = -0.25
    return changed(gleak=gleak)


def zero_denominator() -> Policy:
    layer = random_ltc(4)
    cm, gleak = layer.cm.copy(), layer.gleak.copy()
    lonely = 3
    cm[lonely] = gleak[lonely] = 0.0
    def without(s: Any) -> Any:
        keep = s.post != lonely
        return type(s)(*(getattr(s, f)[keep] for f in ("pre", "post", "w", "sigma", "mu", "erev")))
    return changed(cm=cm, gleak=gleak, sensory=without(layer.sensory), recurrent=without(layer.recurrent), epsilon=0.0)


def wrong_shape() -> Policy:
    return changed(vleak=np.zeros(5))


def bad_dt() -> Policy:
    policy = changed()
    return dataclasses.replace(policy, dt=dataclasses.replace(policy.dt, lo=0.0, hi=0.0, nominal=0.0))


def empty_wiring() -> Policy:
    layer = random_ltc(4)
    none = type(layer.sensory)(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 4)
    return changed(sensory=none, recurrent=none)


BROKEN: dict[str, tuple[Callable[[], Policy], str]] = {
    "nan": (nan_in_cm, "cm"),
    "negative": (negative_gleak, "gleak"),
    "zero denominator": (zero_denominator, "n3"),
    "shape": (wrong_shape, "vleak"),
    "dt": (bad_dt, "dt"),
    "empty wiring": (empty_wiring, "synapse"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy_is_refused_by_name(
    name: str, tmp_path: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make, word = BROKEN[name]
    path = tmp_path / "bad.safetensors"
    path.write_bytes(policy_bytes(make()))
    code, message = complaint(capsys, "compile", path, "--target", "interpreter", "-o", tmp_path / "out")
    assert code == 2
    assert "bad.safetensors" in message
    assert word in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.safetensors"]


def test_truncated_and_foreign_files(tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short, foreign = tmp_path / "short.safetensors", tmp_path / "foreign.safetensors"
    short.write_bytes(good.read_bytes()[:100])
    foreign.write_bytes(b"PK\x03\x04" + bytes(200))
    for path in (short, foreign, tmp_path / "absent.safetensors"):
        for command in ("compile", "inspect"):
            code, message = complaint(capsys, command, path)
            assert code == 2
            assert path.name in message


def test_unknown_target_lists_the_known(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = complaint(capsys, "compile", good, "--target", "toaster")
    assert code == 2
    assert "toaster" in message
    assert "cortex-m4" in message


def test_calibration_of_the_wrong_width(
    tmp_path: Path, good: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "five.npz", x=np.zeros((50, 5)))
    code, message = complaint(capsys, "compile", good, "-t", "interpreter", "--calibrate", tmp_path / "five.npz",
                              "-o", tmp_path / "out")
    assert code == 2
    assert "5" in message
    assert "3" in message
    assert not (tmp_path / "out").exists()


def test_a_strangers_folder_is_not_replaced(
    tmp_path: Path, good: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    code, message = complaint(capsys, "compile", good, "-t", "interpreter", "-o", tmp_path / "home")
    assert code == 2
    assert "not a build" in message
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_a_folder_that_cannot_be_made(
    tmp_path: Path, good: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    code, message = complaint(capsys, "compile", good, "-t", "interpreter", "-o", tmp_path / "file" / "out")
    assert code == 2
    assert "file" in message
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "good.safetensors"]


@pytest.mark.skipif(os.geteuid() == 0, reason="optional: root may write everywhere")
def test_an_unwritable_folder(
    tmp_path: Path, good: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    code, message = complaint(capsys, "compile", good, "-t", "interpreter", "-o", tmp_path / "locked" / "out")
    assert code == 2
    assert "writable" in message


OF_A_BUILD = {
    "verify BUILD --inputs missing.npz": "missing.npz: no such file",
    "verify BUILD --inputs POLICY": "not a readable npz file",
    "verify BUILD --tolerance -1": "'-1' is no positive share",
    "verify BUILD --verdict data": "the policy carries no calibration data",
    "simulate BUILD --inputs missing.npz": "missing.npz: no such file",
    "simulate BUILD -o missing/out.npz": "missing/out.npz: cannot be written",
    "certify BUILD --error -o missing/c.json": "missing/c.json: cannot be written",
}
OF_A_POLICY = {
    "inspect POLICY --wiring missing/w.svg": "missing/w.svg: cannot be written",
    "inspect POLICY --linearize missing/l.npz": "missing/l.npz: cannot be written",
    "import training:make -o missing/p.safetensors": "missing/p.safetensors: cannot be written",
    "compile POLICY -t cortex-m4 --flash 17": "--flash 17: give a multiple of",
    "compile POLICY -t cortex-m4 --ram huge": "--ram huge: give a multiple of",
    "compile POLICY -t cortex-m4 --flash 4000M": "reach into the other memory",
    "compile POLICY --verdict data": "the policy carries no calibration data",
    "compile POLICY -t host,cortex-m4 --flash 17": "--flash 17: give a multiple of",
    "compile POLICY -t host,c -o STRANGE": "exists and is not a build of ncpc",
}


def require_early(command: str, said: str, good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line and exit code 2, before a policy is lowered or looked at."""
    def work(*arguments: object) -> None:
        raise AssertionError("worked before it looked")

    here = {"BUILD": "build", "POLICY": str(good), "STRANGE": "strange"}
    with pytest.MonkeyPatch.context() as patch:
        for place in ("driver.pipeline.make", "driver.reopen.make", "inspect.policies.inspection"):
            patch.setattr(f"ncpc.{place}", work)
        code, message = complaint(capsys, *(here.get(word, word) for word in command.split()))
    assert code == 2
    assert said in message
    assert not list(Path().glob("**/*.tmp"))


def test_what_is_cheap_to_see_of_a_build_is_seen_before_any_work(
    tmp_path: Path, good: Path, interpreter: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = ["-t", "interpreter", "--quant", "float32", "-o", "build", "--steps", "20"]  # integers take torch
    assert run(["compile", str(good), *plain]) == 0
    capsys.readouterr()
    for command, said in OF_A_BUILD.items():
        require_early(command, said, good, capsys)


@pytest.mark.parametrize("command", OF_A_POLICY)
def test_what_is_cheap_to_see_of_a_request_is_seen_before_any_work(
    command: str, tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strange" / "c").mkdir(parents=True)
    (tmp_path / "strange" / "c" / "own.txt").write_text("mine")
    require_early(command, OF_A_POLICY[command], good, capsys)


def test_nothing_is_left_when_the_target_refuses(
    tmp_path: Path, good: Path, interpreter: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ncpc.errors import Unsupported

    def refuse(*_: object) -> Artifact:
        raise Unsupported("layer 'ltc': no")
    monkeypatch.setattr(registry, "load", lambda name: dataclasses.replace(interpreter_target(), prepare=refuse))
    out = tmp_path / "deep" / "er" / "out"
    assert complaint(capsys, "compile", good, "-t", "interpreter", "-o", out, "--quant", "float32", "--json")[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.safetensors"]


@pytest.mark.parametrize("arguments", [
    ["compile"], ["compile", "x", "--quant", "int3"], ["compile", "x", "--tolerance", "much"], ["frobnicate"],
    ["compile", "GOOD", "--tolerance", "-1"], ["compile", "GOOD", "--tolerance", "0%"],
    ["compile", "GOOD", "--target", ","], ["verify", "nowhere"],
    ["simulate", "nowhere"], ["compile", "GOOD", "-t", "interpreter", "--beads", "6"],
    ["inspect", "GOOD", "--wiring", "picture.bmp"], ["import", "no_such_module:make"],
])
def test_bad_usage(
    arguments: list[str], good: Path, interpreter: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint(capsys, *[str(good) if a == "GOOD" else a for a in arguments])[0] == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.safetensors"]


@pytest.mark.parametrize(("told", "meant"), [("0.5%", 0.005), ("0.005", 0.005), ("5e-3", 0.005), (" 12 % ", 0.12)])
def test_a_tolerance_is_a_share_or_a_percentage(
    told: str, meant: float, good: Path, interpreter: None, tmp_path: Path
) -> None:
    out = tmp_path / "build"
    run(["compile", str(good), "-t", "interpreter", "--quant", "float32", "--tolerance", told, "-o", str(out)])
    assert json.loads((out / "report.json").read_text())["verdict"]["tolerance"] == meant


def test_every_command_explains_itself_with_an_example(
    interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    for command in ("inspect", "compile", "verify", "simulate", "targets", "import"):
        assert f"  {command}" in listed
        assert run([command, "--help"]) == 0
        text = capsys.readouterr().out
        assert command == "targets" or f"ncpc {command} " in text
    assert run(["compile", "--help"]) == 0
    assert "--beads" in capsys.readouterr().out


def test_json_is_all_there_is_on_standard_output(
    good: Path, tmp_path: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["compile", str(good), "-t", "interpreter", "-o", str(tmp_path / "b"), "--quant", "float32", "--json"])
    printed = capsys.readouterr()
    assert code == 0
    assert json.loads(printed.out)["target"]["options"] == {"beads": "7"}
    assert printed.err == ""


def test_the_table_and_the_phases(
    good: Path, tmp_path: Path, interpreter: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compile", str(good), "-t", "interpreter", "-o", str(tmp_path / "b"), "--quant", "float32"]) == 0
    text = capsys.readouterr().out
    for phase in ("read", "lower", "emit", "build", "program = here", "search for the worst input", "report"):
        assert phase in text
    assert "≤ 1,056" in text
    assert re.search(r"program = here .* \d{3,} steps equal bit for bit", text)
    assert max(len(line) for line in text.splitlines()) <= 100


def test_inspect_counts_what_is_there(good: Path, interpreter: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(good), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    layer = random_ltc(4)
    assert found["neurons"] == 8
    assert found["layers"][0]["roles"] == {"inter": 6, "motor": 2}
    assert found["synapses"] == len(layer.recurrent)
    assert found["layers"][0]["synapse_evaluations"] == 6 * len(layer.recurrent) + len(layer.sensory)
    assert all(s["lo"] < s["hi"] for s in found["states"])
    assert run(["inspect", str(good)]) == 0
    assert "motor" in capsys.readouterr().out


def test_the_wiring_is_a_picture_with_every_synapse(good: Path, tmp_path: Path, interpreter: None) -> None:
    from xml.etree import ElementTree

    assert run(["inspect", str(good), "--wiring", str(tmp_path / "w.svg")]) == 0
    root = ElementTree.parse(tmp_path / "w.svg").getroot()
    layer, space = random_ltc(4), "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    cell, legend = root.findall(f"{space}svg")
    synapses, excited = len(layer.recurrent) + len(layer.sensory), np.concatenate([layer.recurrent.erev,
                                                                                   layer.sensory.erev]) > 0
    paths, kinds = cell.findall(f"{space}path"), [str(p.get("class")) for p in cell.findall(f"{space}path")]
    assert len(paths) == synapses
    assert (kinds.count("edge exc"), kinds.count("edge inh")) == (excited.sum(), (~excited).sum())
    circles = [str(circle.get("class")).split() for circle in cell.findall(f"{space}circle")]
    assert sorted(words[1] for words in circles if words[0] == "node") == sorted(layer.roles)
    assert sum(words[0] == "end" for words in circles) == synapses
    assert len(cell.findall(f"{space}rect")) == layer.inputs
    assert len(list(root.iter(f"{space}path"))) == synapses + len(legend.findall(f"{space}path")) == synapses + 2


def interruptible() -> None:
    """Whatever started the tests may ignore SIGINT (a shell's background does), and would hand that on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_with_130_and_leaves_nothing(tmp_path: Path, good: Path) -> None:
    """A real interrupt, while the search runs."""
    code = (
        "import sys, time; from ncpc.targets import registry; from tests.interpreter import interpreter_target; "
        "registry.load = lambda n: interpreter_target(); registry.names = lambda: ('interpreter',); "
        "import ncpc.driver.lowering, ncpc.driver.pipeline, ncpc.cli.commands; "
        "ncpc.driver.pipeline.lower_for = lambda *a: (print('here', flush=True), time.sleep(60)); "
        "ncpc.cli.commands.main()"
    )
    command = [sys.executable, "-c", code, "compile", str(good), "-o", str(tmp_path / "out"), "--json"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               preexec_fn=interruptible)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert message.strip() == "ncpc: interrupted; nothing was written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.safetensors"]


def test_ctrl_c_while_the_command_line_is_loaded(tmp_path: Path) -> None:
    """The first library that ncpc imports is interrupted, from within."""
    (tmp_path / "click.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(9)\n")
    done = subprocess.run([sys.executable, "-m", "ncpc", "targets"], capture_output=True, text=True, check=False,
                          preexec_fn=interruptible,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])})
    assert (done.stderr, done.stdout, done.returncode) == ("ncpc: interrupted; nothing was written\n", "", 130)


@pytest.mark.parametrize("command", ["compile", "inspect", "verify", "import"])
def test_a_name_too_long_for_a_file_is_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, f"{'n' * 300}.safetensors"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_ctrl_c_that_an_import_swallows_is_not_lost(tmp_path: Path, good: Path) -> None:
    """Extensions that load catch everything; some make an ImportError of it."""
    for ending in ("pass", "raise ImportError('no such symbol') from None"):
        (tmp_path / "swallow").mkdir(exist_ok=True)
        (tmp_path / "swallow/torch.py").write_text(
            "import os, signal, time\nprint('here', flush=True)\n"
            f"try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(9)\nexcept BaseException:\n    {ending}\n")
        command = [sys.executable, "-m", "ncpc", "compile", str(good), "-o", str(tmp_path / "out"), "--json"]
        paths = os.pathsep.join([str(tmp_path / "swallow"), str(ROOT)])
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, preexec_fn=interruptible,
                              env={**os.environ, "PYTHONPATH": paths})
        assert (done.stdout, done.returncode) == ("here\n", 130), done.stderr
        assert done.stderr.strip() == "ncpc: interrupted; nothing was written"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["good.safetensors", "swallow"]


@pytest.mark.parametrize("command", ["verify", "prove", "simulate", "certify"])
def test_what_is_not_the_folder_of_one_build_is_told_apart(
    command: str, tmp_path: Path, good: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = complaint(capsys, command, good)
    assert code == 2
    assert "is a file" in message or "no folder" in message
    for name in ("host", "c"):
        (tmp_path / "both" / name).mkdir(parents=True)
        (tmp_path / "both" / name / "report.json").write_text("{}")
    code, message = complaint(capsys, command, tmp_path / "both")
    assert code == 2
    assert "builds of several targets" in message
    assert str(tmp_path / "both" / "host") in message


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split() == ["ncpc", ncpc.__version__]
