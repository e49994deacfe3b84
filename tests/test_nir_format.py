"""docs/targets/nir-graded-nodes.md says enough: a reader written from it alone gives ncpc's integers."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.cells_table import policy_of
from ncpc.driver.lowering import lower_for
from ncpc.frontend.container import Container
from ncpc.frontend.heads import windows_over
from ncpc.ir.heads import Conv2d, Pool
from ncpc.ir.ops import OPS
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.nir_graded.layers import layer_fields
from ncpc.targets.nir_graded.split import layers_of
from tests import graded_reader
from tests.conftest import RequireTool
from tests.nets import random_ltc, random_policy
from tests.test_nir_graded import lowered

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/targets/nir-graded-nodes.md").read_text()
TARGET = "nir-graded"


def random_inputs(width: int, moving: bool = False, steps: int = 16) -> Sequences:
    """Beyond the declared ranges at times, not a number once, with resets."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.uniform(-1.2, 1.2, (2, steps // 4, width)), 4, axis=1)
    x[1, 2, 0] = np.nan
    dt = rng.uniform(0.3, 2.5, x.shape[:2]) if moving else None
    return Sequences(x, dt=dt, reset=rng.random(x.shape[:2]) < 0.1)


def require_equal(source: Lowered, options: CompileOptions, data: Sequences, folder: Path) -> None:
    """The file in the reader, and in ncpc."""
    target = registry.load(TARGET)
    artifact = target.prepare(source, options)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    found = artifact.run(folder, data, "ncpc.nir")
    assert data.reset is not None
    runs = [graded_reader.run(folder / "net.nir", data.x[row], data.reset[row],
                              None if data.dt is None else data.dt[row]) for row in range(len(data.x))]
    assert np.array_equal([run.y for run in runs], found.trace.raw_y)
    assert np.ptp(found.trace.raw_y) > 20
    assert round(sum(run.messages for run in runs) / data.steps, 2) == found.extra["messages_per_step"]


@pytest.mark.parametrize(("scheme", "extra"), [
    ("int16", {}), ("int8", {}), ("int16", {"theta": "40"}), ("int16", {"chip": "loihi2"}),
    ("int16", {"chip": "loihi2", "theta": "7"})])
def test_a_graded_ltc_by_the_document(scheme: str, extra: dict[str, str], tmp_path: Path,
                                      require_tool: RequireTool) -> None:
    require_tool("nir")
    source = lowered(1, scheme)
    require_equal(source, CompileOptions(quant=scheme, extra=extra), random_inputs(3), tmp_path)  # type: ignore[arg-type]


def test_a_finer_table_by_the_document(tmp_path: Path, require_tool: RequireTool) -> None:
    """Networks whose outputs move little have more entries, for the same 7 bits between two."""
    require_tool("nir")
    source = lower_for(Container(random_policy(4)), CompileOptions()).lowered
    require_equal(source, CompileOptions(), random_inputs(3), tmp_path)
    assert len(graded_reader.read(tmp_path / "net.nir")[0]["constant_sigmoid_table"]) == 1025


def dense(outputs: int, inputs: int) -> Dense:
    rng = np.random.default_rng(outputs * 10 + inputs)
    return Dense(rng.uniform(-0.7, 0.7, (outputs, inputs)), rng.uniform(-0.2, 0.2, outputs))


def over_frames() -> tuple[Layer, ...]:
    """A frame of 5 x 6 x 2: convolution, max and mean pooling, an LTC."""
    rng = np.random.default_rng(3)
    first = windows_over((5, 6, 2), (3, 2), (1, 2), (1, 0, 1, 0), "chw", "conv")
    conv = Conv2d(first, rng.normal(0, 0.4, (4, 3, 2, 2)), rng.normal(0, 0.1, 4), relu=True)
    second = windows_over((first.rows, first.cols, 4), (2, 1), (1, 1), (0, 0, 0, 0), "chw", "max")
    largest = Pool(second, "max")
    third = windows_over((second.rows, second.cols, 4), (2, 2), (2, 2), (0, 0, 0, 0), "chw", "avg")
    mean = Pool(third, "avg")
    return (conv, largest, mean, random_ltc(2, inputs=mean.outputs, neurons=5))


PIPELINES = {
    "around": (dense(3, 3), Activation("tanh", 3), random_ltc(1, neurons=6), dense(2, 2)),
    "frames": over_frames(),
}


@pytest.mark.parametrize(("name", "theta"), [("around", "0"), ("around", "9"), ("frames", "0")])
def test_layers_by_the_document(name: str, theta: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    layers = PIPELINES[name]
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)))
    source = lower_for(Container(policy), CompileOptions()).lowered
    require_equal(source, CompileOptions(extra={"theta": theta}), random_inputs(policy.inputs), tmp_path)


@pytest.mark.parametrize("cell", ["CfC", "GRU", pytest.param("CT-GRU", marks=pytest.mark.slow),
                                  pytest.param("LSTM", marks=pytest.mark.slow),
                                  pytest.param("wired CfC", marks=pytest.mark.slow),
                                  pytest.param("LIF", marks=pytest.mark.slow)])
def test_cells_by_the_document(cell: str, tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    policy = policy_of(cell)
    source = lower_for(Container(policy), CompileOptions()).lowered
    require_equal(source, CompileOptions(), random_inputs(policy.inputs), tmp_path)


def test_a_moving_timespan_by_the_document(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    policy, options = random_policy(4, dt=DtRange(0.5, 2.0, 1.0), neurons=5), CompileOptions(dt="runtime")
    require_equal(lower_for(Container(policy), options).lowered, options, random_inputs(3, moving=True), tmp_path)


def rows(heading: str) -> set[str]:
    """The names in the first column of the tables under a heading."""
    part = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for line in lines for name in re.findall(r"`(\w+)`", line)}


def test_every_field_is_in_the_document() -> None:
    for name in layer_fields(layers_of(lowered().program)[0]):
        assert name.startswith("constant_") or f"`{name}`" in TEXT.split("## GradedLayer")[1], name


def test_every_op_is_in_the_document() -> None:
    integer = {name for name, op in OPS.items() if op.domain != "float"}
    integer -= {"shr_full"}  # shr's number, formed in C without its sum: the file says shr
    assert rows("GradedLayer") == {*integer, "repeat"}


def test_the_reader_knows_nothing_of_ncpc() -> None:
    assert "import ncpc" not in Path(graded_reader.__file__).read_text()
    assert "from ncpc" not in Path(graded_reader.__file__).read_text()
