"""What a model cannot hold is refused by name when it is compiled; a missing library is said in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput, MissingTool, Unsupported
from ncpc.ir.build import Builder
from ncpc.ir.check import check
from ncpc.ir.program import Port, Program
from ncpc.ir.types import Axis, Fixed, Index, Real, Type
from ncpc.phases import Phases
from ncpc.targets.onnx import emit, runtime
from ncpc.targets.onnx.translate import translate
from ncpc.verification.data import DataSet
from ncpc.verification.links import Setting
from ncpc.verification.links import check as check_links


def one_op(kind: str, axes: list[Axis], type_: Type, **attrs: int) -> Program:
    """y = kind(x)."""
    b = Builder(type_)
    x = b.value("x", axes)
    out = Fixed(16, 9) if isinstance(type_, Fixed) else type_
    y = b.op(kind, "squashed", x, axes=axes, type_=out, **attrs)
    ranges = np.array([[-1.0, 1.0]])
    program = Program("tiny", Port(x, ("a",), None, ranges), Port(y, ("b",), None, ranges), None, (), {}, b.body)
    check(program)
    return program


def test_an_op_without_an_operator_is_named() -> None:
    program = one_op("shl", [Axis("inputs", 1)], Fixed(16, 8), k=1)
    with pytest.raises(Unsupported, match=r"op 'shl' \(squashed\) cannot be exported; supported: add, "):
        translate(program, {})


def test_a_value_of_two_axes_is_named() -> None:
    program = one_op("tanh", [Axis("rows", 2), Axis("columns", 3)], Real())
    with pytest.raises(Unsupported, match=r"'x' has axes \['rows', 'columns'\]"):
        translate(program, {})


def test_an_output_that_nothing_decides_is_named() -> None:
    b = Builder(Real())
    x, out = b.value("x", [Axis("inputs", 1)]), [Axis("outputs", 1)]
    y = b.op("neg", "y", b.const("c", np.ones(1), out), axes=out)
    ranges = np.array([[-1.0, 1.0]])
    program = Program("still", Port(x, ("a",), None, ranges), Port(y, ("b",), None, ranges), None, (), b.constants,
                      b.body)
    check(program)
    with pytest.raises(Unsupported, match="output 'y' of 'still' depends on neither input nor state"):
        translate(program, {})


def test_a_form_that_cannot_hold_an_axis_is_refused() -> None:
    """Two synapses between the same two neurons have no place in a grid."""
    b, synapses = Builder(Real()), Axis("synapses", 2)
    x, out = b.value("x", [Axis("inputs", 1)]), Axis("neurons", 1)
    pre = b.const("pre", np.zeros(2, np.int64), [synapses], Index("inputs"))
    post = b.const("post", np.zeros(2, np.int64), [synapses], Index("neurons"))
    read = b.op("sigmoid", "s", b.op("gather", "u", x, pre))
    total = b.op("segment_sum", "y", read, post, axes=[out])
    ranges = np.array([[-1.0, 1.0]])
    program = Program("twice", Port(x, ("a",), None, ranges), Port(total, ("b",), None, ranges), None, (),
                      b.constants, b.body)
    check(program)
    assert emit.choose(program, "auto", emit.prices()) == {"synapses": "matrix"}
    with pytest.raises(BadInput, match="--form dense: synapses cannot be laid out as a grid; use --form matrix"):
        emit.choose(program, "dense", emit.prices())


def test_without_onnx_nothing_is_written(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("full8")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnx.checker", None)
    with pytest.raises(MissingTool, match=r"onnx is not installed .*: pip install 'ncpc\[onnx\]'") as caught:
        case.target.prepare(case.lowered, case.options)
    assert "\n" not in str(caught.value)


def test_without_onnxruntime_the_evaluator_still_runs(
        make: Any, sequences: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make("full8")
    for file, content in case.files.items():
        (tmp_path / file).write_bytes(content)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    data = DataSet("few", "a few steps", "generated", sequences(case.policy, 1, 5))
    setting = Setting(case.target, case.artifact, tmp_path, case.lowered, case.options, (data,))
    specs = case.artifact.links
    (chain,) = check_links(setting, specs, Phases())
    ran = {link.spec.runtime: link.holds for link in chain.links if link.result}
    assert ran == {runtime.REFERENCE: True}
    assert all("onnxruntime is not installed" in link.not_run for link in chain.links[1:])
    assert [spec.required for spec in specs] == [True, False, False, False]
    corners = case.artifact.build(tmp_path).extra["onnx"]["corners"]
    assert all("not run: onnxruntime" in said for said in corners["error_of_range"].values())


def test_from_the_corners_of_the_box(make: Any, tmp_path: Path) -> None:
    for quant, limit in (("float32", 1e-6), ("int16", 5e-4)):
        case = make("full8", quant=quant)
        for file, content in case.files.items():
            (tmp_path / file).write_bytes(content)
        found = case.artifact.build(tmp_path).extra["onnx"]["corners"]
        assert found["starts"] == 8
        assert all(0 < error <= limit for error in found["error_of_range"].values())
