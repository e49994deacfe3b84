"""Windows that slide over a frame: what convolutions and pooling share, and where each window's elements lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from ncpc.ir.program import Attr

LAYOUTS = ("hwc", "chw")
"""Row, column, channel (Keras) or channel, row, column (torch): how a frame's numbers follow each other."""


@dataclass(frozen=True)
class Windows:
    """``rows`` x ``cols`` windows of ``kernel_h`` x ``kernel_w`` over a frame of ``height`` x ``width`` x ``channels``.

    Window (r, c) begins at row ``r*stride_h - top``, column ``c*stride_w - left``; what lies outside counts as 0.
    """

    height: int
    width: int
    channels: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    top: int
    left: int
    rows: int
    cols: int
    layout: str

    @property
    def inputs(self) -> int:
        return self.height * self.width * self.channels

    @property
    def places(self) -> int:
        return self.rows * self.cols

    @property
    def inside(self) -> bool:
        """Whether every window lies in the frame."""
        bottom = (self.rows - 1) * self.stride_h - self.top + self.kernel_h
        right = (self.cols - 1) * self.stride_w - self.left + self.kernel_w
        return self.top == self.left == 0 and bottom <= self.height and right <= self.width

    def attrs(self) -> dict[str, Attr]:
        """As attributes of an op."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(Windows))


def windows_of(attrs: Mapping[str, Attr]) -> Windows:
    """The windows of an op's attributes."""
    numbers = {name: int(attrs[name] or 0) for name in NAMES if name != "layout"}
    return Windows(**numbers, layout=str(attrs["layout"]))
