"""Layers that are no cells: convolution and pooling over a frame, softmax, what joins, scales and delays channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ncpc.ir.extents import Extent
from ncpc.ir.kinds import Kind
from ncpc.ir.policy import F64, I64, Activation, Dense, Layer
from ncpc.ir.windows import Windows


@dataclass(frozen=True, eq=False)
class Conv2d:
    """A convolution without flipping: ``y[place, f] = bias[f] + sum weight[f] * window[place]``, then relu if asked.

    ``weight`` (filters, kernel_h, kernel_w, channels), ``bias`` (filters,). With the weights of 1/g of the channels
    filters and channels fall into g groups: the first filters read the first channels, and so on; as many groups as
    channels make it depthwise. Frames are flat, in the windows' layout, and so are results. A one-dimensional
    convolution has a frame of one row.
    """

    kind: ClassVar[str] = "conv2d"

    windows: Windows
    weight: F64
    bias: F64
    relu: bool = False

    @property
    def inputs(self) -> int:
        return self.windows.inputs

    @property
    def filters(self) -> int:
        return int(self.weight.shape[0])

    @property
    def groups(self) -> int:
        return self.windows.channels // int(self.weight.shape[3])

    @property
    def outputs(self) -> int:
        return self.windows.places * self.filters


@dataclass(frozen=True, eq=False)
class Pool:
    """The largest (``max``) or the mean (``avg``, ``avg_inside``) of each window, channel by channel.

    Of a window that leaves the frame ``max`` and ``avg_inside`` take the part inside; ``avg`` counts zeros outside.
    """

    kind: ClassVar[str] = "pool"

    windows: Windows
    function: str

    @property
    def inputs(self) -> int:
        return self.windows.inputs

    @property
    def outputs(self) -> int:
        return self.windows.places * self.windows.channels


@dataclass(frozen=True, eq=False)
class Softmax:
    """``exp(x) / sum exp(x)`` over all ``width`` values."""

    kind: ClassVar[str] = "softmax"

    width: int

    inputs = Extent("width")
    outputs = Extent("width")


@dataclass(frozen=True, eq=False)
class Scale:
    """``y = weight*x + bias``, element by element; ``weight`` and ``bias`` (width,)."""

    kind: ClassVar[str] = "scale"

    weight: F64
    bias: F64

    inputs = Extent("weight", 0)
    outputs = Extent("weight", 0)


@dataclass(frozen=True, eq=False)
class Combine:
    """``y = function(left, right)``, element by element: the first ``width`` values are the left ones, then the right.

    ``function`` is ``add``, ``sub`` (left - right), ``mul``, ``min`` or ``max``.
    """

    kind: ClassVar[str] = "combine"

    function: str
    width: int

    outputs = Extent("width")

    @property
    def inputs(self) -> int:
        return 2 * self.width


@dataclass(frozen=True, eq=False)
class Select:
    """``y = x[index]``: some of ``width`` values, in any order, also more than once; ``index`` (outputs,) int64."""

    kind: ClassVar[str] = "select"

    index: I64
    width: int

    inputs = Extent("width")
    outputs = Extent("index", 0)


@dataclass(frozen=True, eq=False)
class History:
    """What all ``width`` values were ``delays[0]`` steps ago, then ``delays[1]`` steps ago, and so on; 0 is now.

    ``delays`` (k,) int64, falling. Before the first step every value was 0. The state is what it was at each of the
    last ``delays[0]`` steps, the oldest first: a Dense that reads all of it is a causal convolution over time (van den
    Oord et al. 2016, section 2.1), the delays multiples of its dilation.
    """

    kind: ClassVar[str] = "history"

    delays: I64
    width: int

    inputs = Extent("width")

    @property
    def outputs(self) -> int:
        return self.width * len(self.delays)


@dataclass(frozen=True, eq=False)
class Norm:
    """``y = weight*n + bias`` with ``n = (x - mean) / sqrt(variance + epsilon)``, each of ``groups`` parts by itself.

    The vector is ``groups`` consecutive parts of equal size; mean and (biased) variance are those of a part. One part:
    LayerNorm (Ba et al. 2016, equations 3 and 4). Parts of a frame whose channels come first: GroupNorm (Wu and He
    2018). ``weight`` and ``bias`` (width,).
    """

    kind: ClassVar[str] = "norm"

    weight: F64
    bias: F64
    groups: int = 1
    epsilon: float = 1e-5

    inputs = Extent("weight", 0)
    outputs = Extent("weight", 0)


def products(layers: Sequence[Layer]) -> int:
    """Multiplications that the convolutions of one step take: what decides how many steps can be run."""
    return sum(layer.windows.places * int(layer.weight.size) for layer in layers if isinstance(layer, Conv2d))


BUDGET = 10**9
"""Products that running a policy to look at it may take."""


def affordable(layers: Sequence[Layer], steps: int, times: int = 1, fewest: int = 4, budget: int = BUDGET) -> int:
    """The number of ``steps``, each done ``times`` times, whose products fit ``budget``; ``fewest`` are done anyway."""
    each = times * products(layers)
    return steps if not each else min(steps, max(fewest, budget // each))


LAYERS = (
    Kind(Dense, "ncpc.passes.lower_heads:lower_dense", "ncpc.frontend.validate_heads:dense_problems"),
    Kind(Activation, "ncpc.passes.lower_heads:lower_activation", "ncpc.frontend.validate_heads:activation_problems"),
    Kind(Conv2d, "ncpc.passes.lower_heads:lower_conv2d", "ncpc.frontend.validate_heads:conv2d_problems"),
    Kind(Pool, "ncpc.passes.lower_heads:lower_pool", "ncpc.frontend.validate_heads:pool_problems"),
    Kind(Softmax, "ncpc.passes.lower_heads:lower_softmax", "ncpc.frontend.validate_heads:softmax_problems"),
    Kind(Scale, "ncpc.passes.lower_heads:lower_scale", "ncpc.frontend.validate_heads:scale_problems"),
    Kind(Combine, "ncpc.passes.lower_heads:lower_combine", "ncpc.frontend.validate_heads:combine_problems"),
    Kind(Select, "ncpc.passes.lower_heads:lower_select", "ncpc.frontend.validate_heads:select_problems"),
    Kind(History, "ncpc.passes.lower_heads:lower_history", "ncpc.frontend.validate_heads:history_problems"),
    Kind(Norm, "ncpc.passes.lower_norm:lower_norm", "ncpc.frontend.validate_heads:norm_problems"),
)
"""Every layer that is no cell; ``History`` alone has a state."""
