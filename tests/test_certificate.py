"""The certificate of integer C, and the checker that believes nothing of it: what it accepts, what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.driver.certification import certify_build, range_certificate
from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.errors import BadInput
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.proofs import certify
from ncpc.proofs.certificate import CERTIFICATE, CHECKER
from ncpc.proofs.prove import prove
from ncpc.report.terminal import explanations
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.c_programs import deep_policy, fixed_program, small_policy, tiny_policy

Boxes = dict[str, list[list[int]]]


def write(folder: Path, program: Program) -> dict[str, Any]:
    """The program's C, its certificate and the checker; the certificate."""
    files = emit_c(interface_of(program))
    found = range_certificate(program, files)
    assert found.holds, found.note
    for name, data in {**files, **found.files}.items():
        (folder / name).write_bytes(data)
    record: dict[str, Any] = json.loads(found.files[CERTIFICATE])
    return record


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write(folder, fixed_program(tiny_policy()))
    return folder


@pytest.fixture
def tiny(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The certificate with something changed, and the hashes of the files as they are."""
    record = json.loads((folder / CERTIFICATE).read_text())
    change(record)
    for name in record["sha256"]:
        record["sha256"][name] = certify.digest((folder / name).read_text())
    (folder / CERTIFICATE).write_text(json.dumps(record))


def alter(folder: Path, name: str, old: str, new: str) -> None:
    """A file with one text replaced by another; its hash in the certificate follows."""
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    rewrite(folder, lambda record: None)


def refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert certify.main([str(folder)]) == 1
    text = capsys.readouterr().out
    assert text.startswith("not certified: ")
    return text


@pytest.mark.parametrize(("policy", "scheme", "dt"), [
    (tiny_policy(), "int16", "fixed"), (tiny_policy(), "int8", "fixed"), (small_policy(3), "int16", "runtime"),
    (small_policy(3), "int8", "runtime"), (deep_policy(3), "int16", "runtime"), (deep_policy(3), "int8", "fixed"),
], ids=lambda value: value.name if isinstance(value, Policy) else str(value))
def test_what_ncpc_makes_is_certified(
    policy: Policy, scheme: str, dt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write(tmp_path, fixed_program(policy, scheme, dt))
    assert certify.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith(f"certified: {policy.name} cannot overflow")
    neurons = len(record["boxes"]["v"])
    assert {(row["state"], row["side"]) for row in record["inequalities"]} == {
        (f"v[{i}]", side) for i in range(neurons) for side in ("upper", "lower")}
    assert all(row["sum"] <= row["most"] for row in record["inequalities"])


def test_the_checker_needs_python_alone(tiny: Path) -> None:
    code, text = certify_build(tiny)
    assert (code, text.splitlines()[0]) == (0, "certified: tiny cannot overflow, for every input and for all time")
    done = subprocess.run([sys.executable, "-I", "-S", CHECKER], cwd=tiny, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, text)


def test_the_copy_in_the_build_has_to_be_the_checker(tiny: Path) -> None:
    (tiny / CHECKER).write_text("print('certified: all is well')\n")
    code, text = certify_build(tiny)
    assert code == 1
    assert "is not the checker of this ncpc" in text


def test_a_folder_without_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no certificate\.json"):
        certify_build(tmp_path)
    assert certify.main([str(tmp_path)]) == 2


def test_the_self_test_is_computed_as_the_c_computes_it(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(tiny, "tiny.c", "{4294}", "{4295}")
    assert "self test" in refusal(tiny, capsys)


def test_prover_and_checker_find_the_same_ranges() -> None:
    """Two computations that share nothing: one of the program's ops, one of the C's statements."""
    program = fixed_program(tiny_policy())
    files, intervals = emit_c(interface_of(program)), prove(program).intervals
    record = certify.certificate("tiny", files["tiny.c"].decode(), files["tiny.h"].decode(), {
        "v": np.asarray(program.states[0].box).tolist()})
    found = {row["value"].removeprefix("tiny_step: "): row for row in record["values"]}
    written = {"x": "x_value", "s": "s_value"}
    for name in ("x", "u", "biased_s", "s_s", "biased", "s", "motor_w", "y"):
        proved, checked = intervals[name], found[written.get(name, name)]
        same = {(min(checked["lo"]), max(checked["hi"])), (int(proved.lo.min()), int(proved.hi.max()))}
        assert len(same) == 1, f"{name}: {same}"


def test_a_table_is_bounded_exactly() -> None:
    """By trying every argument, before the table, in it and beyond it."""
    files = emit_c(interface_of(fixed_program(tiny_policy())))
    program = certify.CProgram(files["tiny.c"].decode(), files["tiny.h"].decode())
    table = program.tables["sigmoid_table_at"]
    value = {t: table.run(t, t)[0] for t in (*range(-300, 300), *range(32500, 32900), *range(65300, 65900))}
    spans = [(-300, -7), (-300, 0), (-5, 250), (3, 3), (32500, 32899), (32501, 32640), (65300, 65899), (65600, 65700),
             (65530, 65540), (0, 299)]
    for lo, hi in spans:
        found = [value[t] for t in range(lo, hi + 1)]
        assert table.bounds(lo, hi) == (min(found), max(found)), (lo, hi)


# What must be refused, the hashes in the certificate made right each time.


def test_a_box_one_unit_short_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(tiny, lambda record: record["boxes"]["v"][0].__setitem__(1, record["boxes"]["v"][0][1] - 1))
    assert "restore: v[0] may reach" in refusal(tiny, capsys)


@pytest.mark.parametrize("side", [0, 1])
def test_a_box_one_unit_under_the_least_that_holds_is_refused(side: int) -> None:
    """The C limits restored states to the same box: only the inequality is left to refuse it."""
    program = fixed_program(tiny_policy())
    files, box = emit_c(interface_of(program)), np.asarray(program.states[0].box).tolist()
    c, h, told, sign = files["tiny.c"].decode(), files["tiny.h"].decode(), box[0][side], (-1, 1)[side]

    def attempt(end: int) -> str:
        rows = [[*box[0]], box[1]]
        rows[0][side] = end
        try:
            certify.analyse(c.replace(f"{told}", f"{end}"), h, {"v": rows})
        except certify.Refused as error:
            return str(error)
        return ""

    holds, fails = told, 0
    while abs(holds - fails) > 1:
        middle = (holds + fails) // 2
        holds, fails = (holds, middle) if attempt(middle) else (middle, fails)
    assert "is not invariant" in attempt(holds - sign)
    assert abs(holds) <= abs(told)


def test_a_range_one_unit_short_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part, key in (("values", "lo"), ("values", "hi"), ("intermediates", "lo"), ("intermediates", "hi")):
        kept = (tiny / CERTIFICATE).read_text()

        def shorten(record: dict[str, Any], part: str = part, key: str = key) -> None:
            row, step = record[part][7], 1 if key == "lo" else -1
            row[key] = [row[key][0] + step, *row[key][1:]] if part == "values" else row[key] + step

        rewrite(tiny, shorten)
        assert f"{part}: " in refusal(tiny, capsys)
        (tiny / CERTIFICATE).write_text(kept)


def test_an_inequality_with_another_number_is_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(tiny, lambda record: record["inequalities"][1].__setitem__("sum", 0))
    assert "inequalities: v[0] lower" in refusal(tiny, capsys)


@pytest.mark.parametrize("part", ["values", "intermediates", "inequalities"])
def test_what_the_certificate_leaves_out_or_adds_is_refused(
    part: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (tiny / CERTIFICATE).read_text()
    rewrite(tiny, lambda record: record[part].pop())
    assert "it ends there" in refusal(tiny, capsys)
    (tiny / CERTIFICATE).write_text(kept)
    rewrite(tiny, lambda record: record[part].append(record[part][0]))
    assert "the C does not form" in refusal(tiny, capsys)


def test_swapped_weights_are_refused(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (tiny / "tiny.c").read_text()
    rows = re.findall(r"PAIR\(\d+, \d+\), PAIR\(-?\d+, \d\)\}, /\* \w+ -> \w+ \*/", text)
    first, second = rows[2].split(")")[0], rows[3].split(")")[0]
    swapped = text.replace(first, "FIRST").replace(second, first).replace("FIRST", second)
    assert swapped != text
    (tiny / "tiny.c").write_text(swapped)
    assert "SHA-256" in refusal(tiny, capsys)
    rewrite(tiny, lambda record: None)
    refusal(tiny, capsys)


@pytest.mark.parametrize(("old", "new", "words"), [
    (", divisor_inverse, 28)", ", divisor_inverse, 26)", "is not invariant"),
    ("s->state.v[neuron], 30)", "s->state.v[neuron], 31)", "is not invariant"),
    ("(HI16(synapse->sigma_w) * s_value) >> 3", "(HI16(synapse->sigma_w) * s_value) >> 0", ""),
    ("biased >> 15", "biased >> 32", "is shifted by 32 .. 32"),
    ("mulshr(den, s->state.v[neuron], 30)", "mulshr(den, s->state.v[neuron], 0)", "int64_t is shifted by -1 .. -1"),
    ("neurons[neuron].cm_t + den), 12)", "den - neurons[neuron].cm_t), 12)", "outside uint32_t"),
    ("(uint32_t)(neurons[neuron].cm_t + den), 12)", "(uint32_t)(den - den), 12)", "outside uint32_t"),
    ("PAIR(32767, 0), PAIR(32767, 0),\n};", "PAIR(32767, 0), PAIR(32767, 1),\n};", "outside int16_t"),
    ("PAIR(6144, 8192), PAIR(-8192, 0)", "PAIR(6144, 8192), PAIR(-8192, 2)", "index 2 .. 2 of an array of 2"),
    ("uint32_t status = 0;", "return 7u;\n    uint32_t status = 0;", "return stands before the end"),
    ("    /* inputs limited", "    for (int i = 0; i < 1; i++) {\n        return 7u;\n    }\n    /* inputs limited",
     "return stands before the end"),
    ("    /* y = v[motor]", "    s->state.v[1] = 2000000000;\n    /* y = v[motor]", "step: v[1] may reach"),
    ("    /* y = v[motor]", "    int32_t more = s->state.v[0] + 2000000000;\n    /* y = v[motor]", "outside int32_t"),
    ("    /* y = v[motor]", "    int32_t more;\n    u[0] = (int16_t)more;\n    /* y", "is read before"),
    ("hi < a ? hi : a", "hi < a ? a : hi", "restore: v[0] may reach"),
    ("enum {", "#define int32_t int16_t\nenum {", "'#define int32_t int16_t' is not known"),
    ("uint32_t status = 0;", "uint32_t status = 0; // /*\n    y[9] = 1; /* */", "beside code"),
    ("uint32_t status = 0;", "uint32_t status = 0; // more", "line comments"),
    ("uint32_t status = 0;", "uint32_t status = 010u;", "is no number"),
    ("uint32_t status = 0;", "static uint32_t status = 0;", "from call to call"),
    ("int16_t u[2];", "int16_t u[2];\n    const int8_t *half = u;", "a pointer to int8_t is expected"),
    ("#define LO16(word) ((int32_t)(int16_t)(word))", "#define LO16(word) ((int32_t)(int16_t)(word)) /*\n*/ + 1",
     "stands beside code"),
    ("uint32_t tiny_step(tiny_t *s, const int16_t x[2]", "uint32_t tiny_step(tiny_t *s, const int16_t x[4]",
     "tiny_step is not declared so"),
    ("s->state.v[neuron] + delta;", "s->state.v[1 - neuron] + delta;", "outside"),
    ("y[output] = (int16_t)(motor_w", "y[output] = (int8_t)(motor_w", "outside int8_t"),
    ("s->state.v[i] = 0;", "s->state.v[i] = 2000000000;", "init: v[0] may reach"),
], ids=range(26))
def test_altered_c_is_refused(
    old: str, new: str, words: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(tiny, "tiny.c", old, new)
    assert words in refusal(tiny, capsys)


def test_a_pipe_in_place_of_the_c_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / CERTIFICATE).write_text(json.dumps({"format": 1, "name": "net"}))
    for name in ("net.c", "net.h"):
        os.mkfifo(tmp_path / name)
    command = [sys.executable, certify.__file__, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, f"certify: {tmp_path / 'net.c'}: cannot be read (no regular file)\n")



@pytest.mark.parametrize(("old", "new", "words"), [
    ("(((int64_t)a * b + ", "((a * b + ", "a * b may reach"), ("1 << (k - 1))) >> k)", "1 << k)) >> k)", "outside"),
    ("1 << (k - 1))) >> k)", "1 << (k - 1))) >> (k - 1))", ""),
    ("a < lo ? lo : (hi < a ? hi : a)", "a < lo ? hi : (hi < a ? lo : a)", "intermediates: "),
    ("a < lo ? lo : (hi < a ? hi : a)", "a < lo ? lo : (hi < lo ? hi : a)", "restore: v[0] may reach"),
    ("t > 65535 ? 65535 : t", "t > 65535 ? 65536 : t", "index 512 .. 512 of an array of 512"),
    ("t > 65535 ? 65535 : t", "t > 65536 ? 65536 : t", "index 512 .. 512 of an array of 512"),
    ("t < 0 ? 0 :", "t < 60000 ? t - 99999 :", "of an array of 512"),
    ("+ 64) >> 7));", "+ 64) >> 0));", "outside int16_t"),
    ("[inside >> 7]", "[inside >> 6]", "of an array of 512"),
    ("const int32_t s_value =", "const int8_t s_value =", "outside int8_t"),
    ("const int32_t biased =", "const uint32_t biased =", "values: tiny_step: biased"),
    ("int32_t num = neuron_values", "uint32_t num = neuron_values", "a negative number"),
    ("enum {", "static int clamp_i(int a)\n{\n    return a;\n}\nenum {", "clamp_i is defined twice"),
    ("enum {", "static int inverse(int a)\n{\n    return a;\n}\nenum {", "inverse is defined twice"),
    ("enum {", "#define LO16(word) 0\nenum {", "'#define LO16(word) 0' is not known"),
    ("static int32_t clamp_i", "#undef LO16\nstatic int32_t clamp_i", "'#undef LO16' is not known"),
    ("static int32_t clamp_i", "#if 0\nstatic int32_t clamp_i", "'#if 0' is not known"),
    ("SYNAPSES = 3,", "SYNAPSES = 3,\n    NEURONS = 1,", "NEURONS is defined twice"),
    ("NEURONS; neuron++) {\n            u[", "3; neuron++) {\n            u[", "index 2 .. 2 of an array of 2"),
    (", 1}, /* memory */", ", 2}, /* memory */", "pointed into, or beyond its end"),
    ("(HI16(synapse->sigma_w) * s_value) >> 3", "(HI16(synapse->sigma_w) * s_value) >> 33", "by 33 .. 33"),
    ("int32_t num_s_sum =", "outputs[0].output_b = 1;\n        int32_t num_s_sum =", "a constant is written"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    const int more = 0 < 1 ? -1 : 1u;", "a negative number meets"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    int32_t more = 5, other = 6;", "';' is expected"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    int more = tiny_self_test();", "within an expression"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    const int NEURONS = 3;", "NEURONS is defined twice"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    const int sigmoid_table_at = 3;", "defined twice"),
    ("int32_t lo, int32_t hi)\n{", "int32_t lo, int32_t OUTPUTS)\n{", "OUTPUTS is defined twice"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    const tiny_state_t kept = s->state;", "no constant is copied"),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    while (1) {\n    }", ""),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    s->state.v[0]--;", ""),
    ("uint32_t status = 0;", "uint32_t status = 0;\n    *s->state.v = 2147483647;", ""),
    ("    return status;", "    goto out;\nout:\n    return status;", ""),
    ("    return status;", "    (void)tiny_restore(s, s);\n    return status;", "a pointer to tiny_state_t"),
    ("const uint32_t m = (a << zeros) >> 16;", "const uint32_t m = (a << zeros) >> 15;", "is not known"),
], ids=range(36))
def test_c_that_tries_to_fool_the_reader_is_refused(
    old: str, new: str, words: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alter(tiny, "tiny.c", old, new)
    assert words in refusal(tiny, capsys)


@pytest.mark.parametrize(("old", "new"), [
    ("#include <stdint.h>", "#include <stdint.h>\n#define int32_t int16_t"),
    ("#include <stdint.h>", "#include \"other.h\""),
    ("#define TINY_INPUTS 2", "#define TINY_INPUTS 2\n#define TINY_step(a, b, c) 0"),
    ("int32_t v[2];", "int16_t v[2];"), ("int32_t v[2];", "int32_t v[1];"),
    ("void tiny_init", "static int32_t tiny_more = 1;\nvoid tiny_init"),
    ("#ifdef TINY_WITH_FLOAT", "#ifndef TINY_WITH_FLOAT"),
    ("    tiny_state_t state;", "    tiny_state_t state;\n    int32_t state_2;\n"),
    ("    tiny_state_t state;", "    tiny_state_t state;\n    union {\n        int16_t v[2];\n    } arena;\n"),
], ids=range(9))
def test_an_altered_header_is_refused(old: str, new: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alter(tiny, "tiny.h", old, new)
    refusal(tiny, capsys)


def test_the_certificate_of_another_network_is_refused(
    tiny: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("other")
    write(other, fixed_program(tiny_policy(), "int8"))
    (tiny / CERTIFICATE).write_bytes((other / CERTIFICATE).read_bytes())
    assert "SHA-256" in refusal(tiny, capsys)
    rewrite(tiny, lambda record: None)
    refusal(tiny, capsys)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "name": "../tiny"}', "[" * 5000,
                                  '{"format": 1, "name": "tiny", "sha256": 3, "boxes": {"v": 7}}'])
def test_what_is_no_certificate_gives_one_line(text: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tiny / CERTIFICATE).write_text(text)
    assert certify.main([str(tiny)]) in (1, 2)
    said = capsys.readouterr()
    assert (said.out + said.err).count("\n") == 1


@pytest.mark.slow
def test_compile_says_what_is_not_certified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: Callable[[str], Any]
) -> None:
    require_tool("ziglang")
    monkeypatch.setattr(certify, "MOST_OPERATIONS", 50)
    out = tmp_path / "build"
    report = compile_policy(tiny_policy(), out, Request(quant="int16", steps=20)).report
    assert report["extra"]["certificate"]["certified"] is False
    assert any("more than 50 operations in a step" in line for line in explanations(report))
    code, text = certify_build(out)
    assert (code, text) == (1, f"{report['extra']['certificate']['note']}\n")
    assert re.fullmatch(r"not certified: line \d+: more than 50 operations in a step: .*\n", text)
    plain = compile_policy(tiny_policy(), out, Request(quant="int16", steps=20, certify="none"))
    assert "certificate" not in plain.report["extra"]
    with pytest.raises(BadInput, match=r"holds no certificate\.json"):
        certify_build(out)
