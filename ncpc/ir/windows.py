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

    Window (r, c) begins at row ``r*stride_h - top``, column ``c*stride_w - left``; its rows and columns are
    ``dilation_h`` and ``dilation_w`` apart. To a convolution or a sum, what lies outside of the frame is 0.
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
    dilation_h: int = 1
    dilation_w: int = 1

    @property
    def inputs(self) -> int:
        return self.height * self.width * self.channels

    @property
    def places(self) -> int:
        return self.rows * self.cols

    @property
    def span_h(self) -> int:
        """Rows of the frame from a window's first to its last, inclusive."""
        return (self.kernel_h - 1) * self.dilation_h + 1

    @property
    def span_w(self) -> int:
        """Columns of the frame from a window's first to its last, inclusive."""
        return (self.kernel_w - 1) * self.dilation_w + 1

    @property
    def bottom(self) -> int:
        """Rows by which the last window reaches below the frame; negative where rows are left over."""
        return (self.rows - 1) * self.stride_h - self.top + self.span_h - self.height

    @property
    def right(self) -> int:
        """Columns by which the last window reaches beyond the frame; negative where columns are left over."""
        return (self.cols - 1) * self.stride_w - self.left + self.span_w - self.width

    @property
    def inside(self) -> bool:
        """Whether every window lies in the frame."""
        return self.top == self.left == 0 and self.bottom <= 0 and self.right <= 0

    def attrs(self) -> dict[str, Attr]:
        """As attributes of an op."""
        return asdict(self)


NAMES = tuple(field.name for field in fields(Windows))


def windows_of(attrs: Mapping[str, Attr]) -> Windows:
    """The windows of an op's attributes."""
    numbers = {name: int(attrs[name] or 0) for name in NAMES if name != "layout"}
    return Windows(**numbers, layout=str(attrs["layout"]))
