"""Layers that NIR has nodes for: written as these, equal to the Program, and refused by name where it has none."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.container import Container
from ncpc.frontend.heads import windows_over
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.cells import LeakyIntegrator
from ncpc.ir.heads import Conv2d, Pool, Softmax
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Policy
from ncpc.ir.sequences import Sequences
from ncpc.ir.windows import Windows
from ncpc.semantics.run import run
from ncpc.targets import registry
from ncpc.targets.base import CompileOptions, Lowered
from ncpc.targets.nir.graph import from_bytes
from ncpc.targets.nir_graded.direct import direct_graph
from tests.conftest import RequireTool

TARGET = "nir-graded"
ASKED = CompileOptions(quant="float32")


def lowered(*layers: Layer) -> Lowered:
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)), DtRange(0.7, 0.7, 0.7))
    return lower_for(Container(policy), ASKED).lowered


def sequences(width: int, rows: int = 3, steps: int = 24) -> Sequences:
    rng = np.random.default_rng(0)
    return Sequences(rng.uniform(-1, 1, (rows, steps, width)), reset=rng.random((rows, steps)) < 0.05)


def dense(outputs: int, inputs: int) -> Dense:
    rng = np.random.default_rng(outputs)
    return Dense(rng.normal(size=(outputs, inputs)) / inputs**0.5, rng.normal(size=outputs))


def conv(windows: Windows, filters: int = 3) -> Conv2d:
    rng = np.random.default_rng(7)
    taps = (windows.kernel_h, windows.kernel_w, windows.channels)
    return Conv2d(windows, rng.normal(size=(filters, *taps)) / np.prod(taps) ** 0.5, rng.normal(size=filters))


def leaky(inputs: int = 4, **changes: Any) -> LeakyIntegrator:
    rng = np.random.default_rng(4)
    cell = LeakyIntegrator(rng.normal(size=(5, inputs)), 0.2 * rng.normal(size=(5, 5)), rng.normal(size=5),
                           rng.uniform(1, 9, 5), np.zeros(5), "identity")
    return dataclasses.replace(cell, **changes)


def around_leaky(**changes: Any) -> Lowered:
    return lowered(dense(4, 3), leaky(**changes), dense(2, 5))


def require_equal(source: Lowered, folder: Path) -> None:
    """The written file against the Program, as sequences and step by step."""
    target, data = registry.load(TARGET), sequences(source.policy.inputs)
    artifact = target.prepare(source, ASKED)
    for name, content in artifact.files.items():
        (folder / name).write_bytes(content)
    expected, found = run(source.program, data), artifact.run(folder, data, "ncpc.nir").trace
    assert np.ptp(expected.y) > 0.5
    assert np.abs(found.y - expected.y).max() <= 1e-6 * np.ptp(expected.y)
    session = artifact.open(folder, "ncpc.nir")
    once = run(source.program, Sequences(data.x[:1, :8]))
    for _ in range(2):
        session.reset()
        y = np.array([session.step(x, 1.0) for x in data.x[0, :8]])
        np.testing.assert_allclose(y, once.y[0], rtol=0, atol=1e-5)


def test_cells_are_nirs_own_nodes(tmp_path: Path, require_tool: RequireTool) -> None:
    nir = require_tool("nir")
    require_equal(around_leaky(), tmp_path)
    kinds = {type(node) for node in nir.read(tmp_path / "net.nir").nodes.values()}
    assert kinds == {nir.Input, nir.Affine, nir.LI, nir.Linear, nir.Output}


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [
    ((3, 3), (1, 1), (0, 0, 0, 0)), ((3, 3), (2, 1), (1, 1, 1, 1)), ((3, 3), (2, 2), (0, 1, 0, 1)),
    ((2, 2), (1, 1), (0, 1, 0, 1)), ((3, 1), (2, 2), (0, 0, 0, 0)), ((1, 3), (1, 1), (0, 0, 1, 1)),
])
def test_convolutions_are_nirs_own_nodes(
    layout: str, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int, int, int], tmp_path: Path,
    require_tool: RequireTool,
) -> None:
    nir = require_tool("nir")
    first = conv(windows_over((7, 9, 2), kernel, stride, padding, layout, "first"))
    shape = (first.windows.rows, first.windows.cols, 3)
    mean = Pool(windows_over(shape, (2, 2), (2, 1), (0, 0, 0, 0), layout, "mean"), "avg")
    require_equal(lowered(first, mean, leaky(mean.outputs), dense(2, 5)), tmp_path)
    nodes = nir.read(tmp_path / "net.nir").nodes
    kinds = (nir.Conv2d, nir.AvgPool2d, nir.Flatten, nir.Affine)
    assert [type(nodes[n]) for n in ("layer0", "layer1", "flatten", "layer2")] == list(kinds)
    assert list(nodes["input"].input_type["input"]) == [2, 7, 9]
    assert list(nodes["layer0"].output_type["output"]) == [3, *shape[:2]]


def test_torch_reads_the_nodes_alike(tmp_path: Path, require_tool: RequireTool) -> None:
    """What a node's stride, padding and axes mean is torch's to say: NIR defines them by it."""
    torch, _ = require_tool("torch"), require_tool("nir")
    first = conv(windows_over((7, 9, 2), (3, 1), (2, 2), (0, 1, 1, 0), "chw", "first"))
    shape = (first.windows.rows, first.windows.cols, 3)
    mean = Pool(windows_over(shape, (2, 3), (1, 2), (0, 0, 0, 0), "chw", "mean"), "avg")
    graph, data = direct_graph(lowered(first, mean).policy), sequences(126, steps=2)
    nodes, torch_nn = graph.nodes, torch.nn.functional
    frames = torch.tensor(data.x[:, 0].reshape(-1, 2, 7, 9), dtype=torch.float32)
    weight, bias = torch.tensor(nodes["layer0"].weight), torch.tensor(nodes["layer0"].bias)
    mid = torch_nn.conv2d(frames, weight, bias, nodes["layer0"].stride, nodes["layer0"].padding)
    y = torch_nn.avg_pool2d(mid, tuple(nodes["layer1"].kernel_size), tuple(nodes["layer1"].stride)).flatten(1)
    expected = run(lowered(first, mean).program, data).y[:, 0]
    np.testing.assert_allclose(y.numpy(), expected, rtol=0, atol=1e-6 * np.ptp(expected))


@pytest.mark.parametrize("layout", ["chw", "hwc"])
@pytest.mark.parametrize(("kernel", "padding"), [(3, (1, 1)), (2, (0, 1)), (4, (0, 0))])
def test_convolutions_along_a_row_are_conv1d(
    layout: str, kernel: int, padding: tuple[int, int], tmp_path: Path, require_tool: RequireTool,
) -> None:
    nir = require_tool("nir")
    first = conv(windows_over((1, 12, 2), (1, kernel), (1, 2), (0, 0, *padding), layout, "first"))
    mean = Pool(windows_over((1, first.windows.cols, 3), (1, 2), (1, 2), (0, 0, 0, 0), layout, "mean"), "avg")
    require_equal(lowered(first, mean, dense(2, mean.outputs)), tmp_path)
    nodes = nir.read(tmp_path / "net.nir").nodes
    assert [type(nodes[n]) for n in ("layer0", "layer1", "flatten")] == [nir.Conv1d, nir.Conv1d, nir.Flatten]


def test_a_frame_can_be_the_output(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("nir")
    require_equal(lowered(conv(frame("chw"))), tmp_path)


def frame(layout: str = "hwc", kernel: tuple[int, int] = (3, 3)) -> Windows:
    return windows_over((5, 6, 2), kernel, (1, 1), (0, 0, 0, 0), layout, "frame")


@pytest.mark.parametrize(("layers", "said"), [
    ((Pool(frame(), "max"), dense(2, 24)), "'layer0', max pooling: NIR has none; use average pooling"),
    ((dataclasses.replace(conv(frame()), relu=True), dense(2, 36)), "a convolution with relu: NIR has no relu"),
    ((conv(frame(kernel=(3, 2))), dense(2, 45)), "'layer0', a kernel of 3 x 2: nir takes a kernel's height for its"),
    ((conv(frame()),), "channels come last, NIR's come first; put a dense layer after it"),
    ((dense(60, 3), conv(frame())), "layer 'conv2d' is none of .* NIR cannot make a frame .* put it first"),
    ((dense(3, 3), Softmax(3)), "layer 'softmax' is none of .* take its arguments as the policy's outputs"),
    ((dense(3, 3), Activation("tanh", 3)), "layer 'activation' is none of .* leave it out and train again"),
])
def test_what_nir_has_no_node_for_is_refused_with_the_nearest(layers: tuple[Layer, ...], said: str) -> None:
    with pytest.raises(Unsupported, match=said):
        registry.load(TARGET).prepare(lowered(*layers), ASKED)


@pytest.mark.parametrize("changes", [{"function": "tanh"}, {"lookahead": np.full(5, 0.5)}])
def test_other_leaky_integrators_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=r"layer 'leaky_integrator' is none of .*; retrain with an identity readout"):
        registry.load(TARGET).prepare(around_leaky(**changes), ASKED)


def test_integers_are_graded_layers_instead() -> None:
    policy = around_leaky().policy
    source = lower_for(Container(policy), CompileOptions()).lowered
    held = from_bytes(registry.load(TARGET).prepare(source, CompileOptions()).files["net.nir"])
    kinds = {type(node).__name__ for node in held.nodes.values()}
    assert kinds == {"Input", "GradedLayer", "Output"}


def test_graded_options_are_refused() -> None:
    with pytest.raises(BadInput, match="graded nodes only"):
        registry.load(TARGET).prepare(around_leaky(), CompileOptions(quant="float32", extra={"theta": "3"}))


def test_models_of_spiking_neurons_are_refused_by_name(require_tool: RequireTool) -> None:
    torch, snntorch = require_tool("torch"), require_tool("snntorch")
    with pytest.raises(Unsupported, match=r"snntorch\.Leaky cannot be read; supported are ncps\.torch LTC"):
        import_model([torch.nn.Linear(2, 3), snntorch.Leaky(0.9)])
