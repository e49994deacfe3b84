"""One compilation makes a policy's graph, or its loops, once, and whatever needs them is handed that."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.driver.reopen import open_build
from ncpc.targets import registry
from ncpc.verification.verdict import SEARCH
from tests.conftest import RequireTool
from tests.nets import random_policy
from tests.test_nir_simulated import GRAPHS
from tests.test_nir_simulated import policy as around

C = {"ncpc.targets.c.nest": ("nest_of",), "ncpc.targets.c.interface": ("interface_of",),
     "ncpc.targets.c.emit": ("emit_c",)}
ONNX = {"ncpc.targets.onnx.translate": ("translate",), "ncpc.targets.onnx.emit": ("step_graph",)}
TFLITE = {"ncpc.targets.tflite.emit": ("step_graph", "boxes", "limits"),
          "ncpc.targets.tflite.integer_program": ("integer_program",),
          "ncpc.targets.tflite.integer_graph": ("integer_graph",), "ncpc.targets.tflite.flatbuffer": ("write",)}
NIR = {"ncpc.targets.nir.sizing": ("sized",), "ncpc.targets.nir.files": ("written",)}
GRADED = {"ncpc.targets.nir_graded.split": ("layers_of",), "ncpc.targets.nir_graded.node": ("graph",)}
DIRECT = {"ncpc.targets.nir_graded.direct": ("direct_graph",)}
ASKED: dict[str, tuple[Request, dict[str, tuple[str, ...]]]] = {
    "host": (Request("host", "int16", certify="none"), C), "cortex-m4": (Request("cortex-m4", "int16"), C),
    "onnx": (Request("onnx", "int16"), ONNX), "tflite": (Request("tflite", "int16"), TFLITE),
    "nir": (Request("nir", tolerance=0.05, extra={"units": "120"}), NIR),
    "nir-graded": (Request("nir-graded", "int16"), GRADED),
    "spinnaker2": (Request("nir-graded", "int16", extra={"chip": "spinnaker2"}, certify="none"), {**GRADED, **C}),
    "loihi2": (Request("nir-graded", "int16", extra={"chip": "loihi2"}), GRADED),
    "standard nodes": (Request("nir-graded", "float32"), DIRECT),
}
"""What is compiled, and the functions that make what a target holds, by their modules."""


def counted(patch: pytest.MonkeyPatch, module: str, name: str, counts: Counter[str]) -> None:
    """Count the calls of a function under every name that a module of ncpc has for it."""
    right = getattr(sys.modules[module], name)

    def count(*args: Any, **kwargs: Any) -> Any:
        counts[f"{module}.{name}"] += 1
        return right(*args, **kwargs)

    for other in [m for key, m in sys.modules.items() if key.startswith("ncpc.")]:
        for own in [key for key, value in vars(other).items() if value is right]:
            patch.setattr(other, own, count)


@pytest.mark.parametrize("name", ASKED)
def test_everything_is_made_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require_tool: RequireTool
) -> None:
    request, makers = ASKED[name]
    target = registry.load(request.target)
    require_tool(target.requirements[0].module)
    policy = around(*GRAPHS["dense"]) if makers is DIRECT else random_policy(4, neurons=4, outputs=1)
    counts, once = Counter[str](), Counter[str]()
    for module, functions in makers.items():
        for function in functions:
            counted(monkeypatch, module, function, counts)
            once[f"{module}.{function}"] = 1
    for root in SEARCH:
        monkeypatch.setitem(SEARCH, root, {"screens": 1, "generations": 1, "length": 24})
    compile_policy(policy, tmp_path / "build", dataclasses.replace(request, steps=20))
    assert counts == once
    counts.clear()
    open_build(tmp_path / "build").close()
    assert counts == once
