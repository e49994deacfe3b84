"""What a call of the step begins with is what the compiler says of its types."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncpc.cores import load_core
from ncpc.cores.elf import read_elf
from ncpc.cores.toolchain import build_elf
from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.ir.schemes import Scheme
from ncpc.targets.c.c_target import CArtifact
from ncpc.targets.c.device import calls
from tests.conftest import RequireTool
from tests.theorem.builds import ROOT

CORE = "cortex-m4"
QUESTION = """#include "{name}.h"
const struct {{ char before; {name}_t instance; }} behind = {{ 0 }};
const char size[sizeof({name}_t)] = {{ 0 }};
const char place[sizeof behind - sizeof({name}_t)] = {{ 0 }};
"""


@pytest.mark.parametrize(("policy", "quant"), [("cartpole", "int16"), ("cartpole", "int8"), ("activity", "int8")])
def test_the_instance_is_as_large_and_aligned_as_the_compiler_has_it(
    policy: str, quant: Scheme, require_tool: RequireTool
) -> None:
    """The activity classifier has working memory in its instance, which is aligned more than its states."""
    for module in ("ziglang", "elftools"):
        require_tool(module)
    job = job_for(Path(ROOT, "examples", policy, "policy.safetensors"), Request(CORE, quant))
    artifact = job.target.prepare(lower_for(job.container, job.options).lowered, job.options)
    assert isinstance(artifact, CArtifact)
    name, face = artifact.face.name, calls(artifact.face)
    sources = {f"{name}.h": artifact.files[f"{name}.h"], "ask.c": QUESTION.format(name=name).encode()}
    image = read_elf(build_elf(sources, load_core(CORE), None, ["size", "place"]).elf)
    sizes = {symbol.name: symbol.size for symbol in image.symbols}
    assert face.struct_bytes == sizes["size"]
    assert face.struct_alignment == sizes["place"]  # what one byte before it moves it by
    if (policy, quant) == ("activity", "int8"):
        assert face.struct_alignment == 4 > max(field.ctype.bytes for field in artifact.face.states)
