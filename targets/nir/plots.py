"""Two pictures, for ``--plot yes``: the lowered graph and a raster of one run. Matplotlib is imported only here."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from ncpc.errors import MissingTool
from ncpc.targets.nir.files import stem
from ncpc.targets.nir.graph import EDGES
from ncpc.targets.nir.spikes import Spikes, predict

RASTER_STEPS = 12
PLACES = {"input": (0.0, 0.0), "sense": (1.0, 0.0), "units": (2.0, 0.0), "encode": (1.3, -1.0), "decode": (2.7, -1.0),
          "readout": (3.0, 0.0), "output": (4.0, 0.0)}
"""Where each node of the graph is drawn."""
INK, INPUT_INK, BELOW_INK = "#222222", "#1b7f79", "#b3541e"


def pictures(net: Spikes) -> dict[str, bytes]:
    """File name -> SVG. Raises MissingTool without matplotlib."""
    name = stem(net.interface.name)
    return {f"{name}_graph.svg": graph_picture(net), f"{name}_raster.svg": raster_picture(net)}


def graph_picture(net: Spikes) -> bytes:
    """The nodes of the .nir file with their shapes, and its edges."""
    figure, axes = _figure(8.0, 2.8)
    boxes = {}
    for name, (x, y) in PLACES.items():
        text = axes.text(x, y, f"{name}\n{_shape(net, name)}", ha="center", va="center", fontsize=8, color=INK,
                         bbox={"boxstyle": "round,pad=0.4", "fc": "white", "ec": INK})
        boxes[name] = text.get_bbox_patch()
    figure.canvas.draw()  # boxes have their size only then
    for a, b in EDGES:
        axes.annotate("", PLACES[b], PLACES[a], arrowprops={
            "arrowstyle": "-|>", "color": INK, "patchA": boxes[a], "patchB": boxes[b], "shrinkA": 1, "shrinkB": 1})
    axes.set(xlim=(-0.5, 4.5), ylim=(-1.5, 0.6))
    axes.axis("off")
    return _svg(figure)


def _shape(net: Spikes, name: str) -> str:
    units, channels = net.units, net.decode.shape[0]
    return {
        "input": f"Input ({net.weight.shape[1]})", "sense": f"Affine {units}x{net.weight.shape[1]}",
        "units": f"LIF ({units})", "decode": f"Linear {channels}x{units}", "encode": f"Linear {units}x{channels}",
        "readout": f"Linear {net.readout.shape[0]}x{units}", "output": f"Output ({net.readout.shape[0]})",
    }[name]


def raster_picture(net: Spikes) -> bytes:
    """Spikes of every unit over the ticks of one run: inputs, neurons above rest, neurons below rest, the ring."""
    face, rng = net.interface, np.random.default_rng(0)
    lo, hi = face.x_range.T
    x = lo + (hi - lo) * np.repeat(rng.random((1, RASTER_STEPS // 3, len(lo))), 3, axis=1)
    spikes = predict(net, face.quantized(x)[0], keep=True).spikes
    assert spikes is not None
    figure, axes = _figure(8.0, 6.0)
    tick, unit = np.nonzero(spikes[:, 0])
    axes.scatter(tick, unit, s=1.5, marker="|", c=_inks(net)[unit], linewidths=0.8, rasterized=True)
    for start in face.starts[1:]:
        axes.axhline(float(start) - 0.5, color="#dddddd", linewidth=0.5, zorder=0)
    axes.set_yticks((face.starts[:-1] + face.starts[1:]) / 2.0, face.labels, fontsize=7)
    axes.set(xlabel=f"tick ({face.unfolds} per step of the policy)", ylim=(-1, net.units), title=face.name)
    return _svg(figure)


def _inks(net: Spikes) -> Any:
    face = net.interface
    inks = np.full(net.units, INK, dtype=object)
    inks[: face.starts[face.sensed]] = INPUT_INK
    for k in range(face.sensed, len(face.below)):
        inks[face.starts[k] : face.starts[k] + face.below[k]] = BELOW_INK
    return inks


def _figure(width: float, height: float) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingTool("--plot yes: matplotlib is not installed; pip install 'ncpc[plot]'") from None
    figure = Figure((width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any) -> bytes:
    """The same bytes every time: no date, no random ids."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "ncpc"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, dpi=150)
    return buffer.getvalue()
