"""What each op means: one NumPy function per row of ``ncpc.ir.ops.OPS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.ir.program import Attr, Op, Value
from ncpc.ir.types import Fixed, Float32
from ncpc.semantics import fixed, float32, windows
from ncpc.semantics.ports import dtype

Arr = NDArray[Any]
Compute = Callable[[Sequence[Arr], dict[str, Arr]], Arr]


def implementation(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    """The function ``(argument arrays, environment) -> result`` of one op."""
    return _MAKERS[op.kind](op, args, constants)


def _plain(function: Callable[..., Arr]) -> Callable[[Op, Sequence[Value], Mapping[str, Arr]], Compute]:
    return lambda op, args, constants: lambda a, env: function(*a)


def _with_k(function: Callable[..., Arr]) -> Callable[[Op, Sequence[Value], Mapping[str, Arr]], Compute]:
    return lambda op, args, constants: lambda a, env: function(*a, int(op.attrs["k"] or 0))


def _by_type(real: Callable[[Arr], Arr], single: Callable[[Arr], Arr]) -> Callable[..., Compute]:
    def make(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
        function = single if isinstance(op.out.type, Float32) else real
        return lambda a, env: function(a[0])

    return make


def _limit(value: Attr, constants: Mapping[str, Arr]) -> Arr:
    """A bound of clamp: a number, or the name of a constant."""
    return constants[value] if isinstance(value, str) else np.asarray(value)


def _clamp(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    lo, hi, flag = _limit(op.attrs["lo"], constants), _limit(op.attrs["hi"], constants), op.attrs["flag"]

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        result = np.where(a[0] < lo, lo, np.where(hi < a[0], hi, a[0])).astype(a[0].dtype)
        if flag is not None:
            _raise_flag(env, str(flag), result != a[0])
        return result

    return compute


def _conv2d(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    both, flag = windows.conv2d(op), op.attrs["flag"]

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        free, limited = both(a)
        if flag is not None:
            _raise_flag(env, str(flag), free != limited)
        return limited

    return compute


def _guard(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        bad = ~np.isfinite(a[0])
        _raise_flag(env, str(op.attrs["flag"]), bad)
        return np.where(bad, np.zeros_like(a[0]), a[0])

    return compute


FLAGS = ("input_saturated", "input_nan", "dt_out_of_range", "state_clamped", "activation_limited")
"""The status bits: bit i is name i, the same for every program and target."""


def _raise_flag(env: dict[str, Arr], flag: str, where: Arr) -> None:
    rows = where.reshape(where.shape[0], -1).any(axis=1)
    env["flags"] = env["flags"] | (rows.astype(np.int64) << FLAGS.index(flag))


def _segment_sum(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    """In order of the elements, starting from the third argument: rank by rank, so binary32 rounds as a loop does."""
    post, size = constants[op.args[1]], op.out.axes[-1].size
    if not isinstance(op.out.type, Float32):
        return _segment_sum_exact(post, size)
    ranks = _ranks(post)

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        total = np.zeros((a[0].shape[0], size), a[0].dtype)
        if len(a) > 2:
            total = np.broadcast_to(a[2], total.shape).copy()
        for target, element in ranks:
            total[:, target] += a[0][:, element]
        return total

    return compute


def _segment_sum_exact(post: Arr, size: int) -> Compute:
    starts = np.flatnonzero(np.diff(post, prepend=-1))
    targets = post[starts]

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        total = np.zeros((a[0].shape[0], size), a[0].dtype)
        if starts.size:
            total[:, targets] = np.add.reduceat(a[0], starts, axis=1)
        return total + a[2] if len(a) > 2 else total

    return compute


def _ranks(post: Arr) -> list[tuple[Arr, Arr]]:
    """For r = 0, 1, ...: the segments with more than r elements, and the index of each one's r-th element."""
    starts = np.flatnonzero(np.diff(post, prepend=-1))
    counts = np.diff(np.append(starts, post.shape[0]))
    return [(post[starts[counts > r]], starts[counts > r] + r) for r in range(int(counts.max(initial=0)))]


def _matmul(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    if isinstance(op.out.type, Float32):
        return _matmul_in_order

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        product = a[1] @ a[0].T
        return product + a[2] if len(a) > 2 else product

    return compute


def _matmulshr(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    k, block = int(op.attrs["k"] or 0), int(op.attrs["block"] or 1)

    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        starts = range(0, a[0].shape[1], block)
        sums = (a[1][:, at : at + block] @ a[0][:, at : at + block].T for at in starts)
        total: Arr = sum((fixed.shr(s, k) for s in sums), np.zeros((1, a[0].shape[0]), np.int64))
        return total + a[2] if len(a) > 2 else total

    return compute


def _matmul_in_order(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
    weight, x = a[0], a[1]
    total = np.zeros((x.shape[0], weight.shape[0]), np.float32)
    if len(a) > 2:
        total = np.broadcast_to(a[2], total.shape).copy()
    for j in range(weight.shape[1]):
        total += weight[:, j] * x[:, j : j + 1]
    return total


def _gather(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    index = constants[op.args[1]]
    return lambda a, env: np.take(a[0], index, axis=-1)


def _slice(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    start = int(op.attrs["start"] or 0)
    stop = start + op.out.axes[-1].size
    return lambda a, env: a[0][..., start:stop]


def _concat(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    def compute(a: Sequence[Arr], env: dict[str, Arr]) -> Arr:
        batch = env["flags"].shape[0]
        whole = [np.broadcast_to(part, (batch, part.shape[-1])) for part in a]
        return np.concatenate(whole, axis=-1)

    return compute


def _cast(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    target = dtype(op.out.type)
    return lambda a, env: a[0].astype(target)


def _smaller(a: Arr, b: Arr) -> Arr:
    """Spelled out, so that -0 and NaN are the same on every machine."""
    return np.where(b < a, b, a)


def _larger(a: Arr, b: Arr) -> Arr:
    return np.where(a < b, b, a)


def _greater(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    one = 1 << op.out.type.frac if isinstance(op.out.type, Fixed) else 1
    kind = dtype(op.out.type)
    return lambda a, env: np.where(a[0] > a[1], kind(one), kind(0))


def _mix(op: Op, args: Sequence[Value], constants: Mapping[str, Arr]) -> Compute:
    kind = args[2].type
    if not isinstance(kind, Fixed):
        return lambda a, env: a[0] + a[2] * (a[1] - a[0])
    frac = kind.frac
    return lambda a, env: a[0] + fixed.shr((a[1] - a[0]) * a[2], frac)


def _real_sigmoid(a: Arr) -> Arr:
    return 1.0 / (1.0 + np.exp(-a))


_MAKERS: dict[str, Callable[[Op, Sequence[Value], Mapping[str, Arr]], Compute]] = {
    "add": _plain(np.add),
    "sub": _plain(np.subtract),
    "mul": _plain(np.multiply),
    "div": _plain(np.divide),
    "neg": _plain(np.negative),
    "min": _plain(_smaller),
    "max": _plain(_larger),
    "gt": _greater,
    "exp": _by_type(np.exp, float32.exp),
    "sigmoid": _by_type(_real_sigmoid, float32.sigmoid),
    "tanh": _by_type(np.tanh, float32.tanh),
    "sqrt": _plain(lambda a: np.sqrt(np.where(a > 0, a, a.dtype.type(0)))),
    "relu": _plain(lambda a: np.where(a > 0, a, a.dtype.type(0))),
    "guard": _guard,
    "clamp": _clamp,
    "gather": _gather,
    "segment_sum": _segment_sum,
    "matmul": _matmul,
    "matmulshr": _matmulshr,
    "concat": _concat,
    "slice": _slice,
    "mix": _mix,
    "cast": _cast,
    "shr": _with_k(fixed.shr),
    "shr_full": _with_k(fixed.shr),
    "asr": _with_k(lambda a, k: a >> k),
    "shl": _with_k(lambda a, k: a << k),
    "mulshr": _with_k(fixed.mulshr),
    "lut": _with_k(fixed.lut),
    "inverse": _with_k(fixed.inverse),
    "conv2d": _conv2d,
    "pool": windows.pool,
}
