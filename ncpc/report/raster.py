"""Our own pictures as PNG, through matplotlib where it is installed: paths, circles, rectangles and words."""

from __future__ import annotations

import importlib
import io
import re
from typing import Any
from xml.etree import ElementTree

from ncpc.errors import MissingTool

COLOURS = {"exc": "#2a78c6", "inh": "#d1582f", "sensory": "#7a8794", "inter": "#3f9e8f", "command": "#8a63c9",
           "motor": "#c9962a"}
TEXT = "#48525c"
DOTS = 150.0
"""Dots per inch; a picture's unit is 1/72 inch."""


def png(svg: str) -> bytes:
    """The picture as PNG. Raises ``MissingTool`` without matplotlib."""
    try:
        figure_module = importlib.import_module("matplotlib.figure")
    except ImportError:
        raise MissingTool("a PNG of the wiring needs matplotlib: pip install matplotlib, or draw it as .svg") from None
    root = ElementTree.fromstring(svg)
    width, height = (float(n) for n in root.attrib["viewBox"].split()[2:])
    figure = figure_module.Figure(figsize=(width / 72, height / 72), dpi=DOTS, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    _draw(axes, root, 0.0)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _draw(axes: Any, parent: ElementTree.Element, down: float) -> None:
    for element in parent:
        kind = element.tag.rpartition("}")[2]
        if kind == "svg":
            _draw(axes, element, down + float(element.attrib.get("y", 0)))
        elif kind in _SHAPES:
            _SHAPES[kind](axes, element, down)


def _colour(element: ElementTree.Element) -> str:
    words = element.attrib.get("class", "").split()
    return next((COLOURS[word] for word in reversed(words) if word in COLOURS), TEXT)


def _path(axes: Any, element: ElementTree.Element, down: float) -> None:
    """``M x y C ...`` with absolute, ``c`` with relative points."""
    patches, paths = importlib.import_module("matplotlib.patches"), importlib.import_module("matplotlib.path")
    text = element.attrib["d"]
    numbers = [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", text)]
    points = [(numbers[i], numbers[i + 1] + down) for i in range(0, len(numbers), 2)]
    if "c" in text:
        (x, y), rest = points[0], points[1:]
        points = [(x, y), *((x + dx, y + dy - down) for dx, dy in rest)]
    path = paths.Path(points, [paths.Path.MOVETO, *[paths.Path.CURVE4] * (len(points) - 1)])
    axes.add_patch(patches.PathPatch(path, fill=False, edgecolor=_colour(element),
                                     linewidth=float(element.attrib["stroke-width"]),
                                     alpha=float(element.attrib["opacity"])))


def _circle(axes: Any, element: ElementTree.Element, down: float) -> None:
    patches = importlib.import_module("matplotlib.patches")
    x, y, r = (float(element.attrib[name]) for name in ("cx", "cy", "r"))
    if element.attrib["class"].startswith("end"):
        axes.add_patch(patches.Circle((x, y + down), r, facecolor=_colour(element), edgecolor="none",
                                      alpha=float(element.attrib["opacity"])))
        return
    axes.add_patch(patches.Circle((x, y + down), r, facecolor=_colour(element), edgecolor="white", zorder=3))


def _rect(axes: Any, element: ElementTree.Element, down: float) -> None:
    patches = importlib.import_module("matplotlib.patches")
    x, y, w, h = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
    axes.add_patch(patches.Rectangle((x, y + down), w, h, facecolor=_colour(element), edgecolor="white", zorder=3))


def _text(axes: Any, element: ElementTree.Element, down: float) -> None:
    column, effects = element.attrib.get("class") == "column", importlib.import_module("matplotlib.patheffects")
    anchor = {"end": "right", "middle": "center"}.get(element.attrib.get("text-anchor", "middle"), "left")
    axes.text(float(element.attrib["x"]), float(element.attrib["y"]) + down, element.text or "", fontsize=8, color=TEXT,
              horizontalalignment=anchor, fontweight="bold" if column else "normal", zorder=4,
              path_effects=[effects.withStroke(linewidth=3, foreground="white")])


_SHAPES = {"path": _path, "circle": _circle, "rect": _rect, "text": _text}
