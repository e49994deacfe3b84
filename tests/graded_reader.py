"""Graded nodes by docs/targets/nir-graded-nodes.md alone: h5py, json and Python's integers, nothing of ncpc."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

Ints = list[int]


def shr(a: int, k: int) -> int:
    return (a + (1 << k >> 1)) >> k


def lut(a: int, table: Ints, k: int) -> int:
    a = min(max(a, 0), ((len(table) - 1) << k) - 1)
    i = a >> k
    return table[i] + shr((table[i + 1] - table[i]) * (a - (i << k)), k)


def norm(a: int) -> int:
    return 31 - a.bit_length()


def recip(a: int) -> int:
    m = (a << norm(a)) >> 15
    i = (m >> 8) - 128
    s = ((1 << 32) // ((1 << 15) + 256 * i + 128) + 1) >> 1
    return s + ((s * (((1 << 31) - m * s) >> 8) + (1 << 22)) >> 23)


def inverse(a: int, k: int, bits: int = 0) -> int:
    r = recip(a)
    r = shr(r, 16 - bits) << (16 - bits) if bits else r
    return r << (norm(a) + k)


@dataclass
class Sent:
    """What a source last sent, and how often it did."""

    last: dict[int, int] = field(default_factory=dict)
    messages: int = 0

    def send(self, values: Ints, theta: int) -> Ints:
        for i, value in enumerate(values):
            if i not in self.last or abs(value - self.last[i]) > theta:
                self.last[i] = value
                self.messages += 1
        return [self.last[i] for i in range(len(values))]


def read(path: Path) -> list[dict[str, Any]]:
    """The nodes of the chain, first to last, fields as Python values."""
    with h5py.File(path) as file:
        after = {a.decode(): b.decode() for a, b in file["node/edges"][()]}
        nodes, name = [], after["input"]
        while name != "output":
            nodes.append({key: _plain(value[()]) for key, value in file[f"node/nodes/{name}"].items()})
            name = after[name]
    return nodes


def _plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value.tolist()


def raw(x: float, frac: int) -> int:
    """Physical to raw."""
    return int((x * 2.0**frac + 0.5) // 1) if x == x else 0


EACH = {
    "add": lambda op, a, b: a + b, "sub": lambda op, a, b: a - b, "mul": lambda op, a, b: a * b,
    "neg": lambda op, a: -a, "min": lambda op, a, b: min(a, b), "max": lambda op, a, b: max(a, b),
    "relu": lambda op, a: max(a, 0), "cast": lambda op, a: a, "gt": lambda op, a, b: (a > b) << op["frac"],
    "shr": lambda op, a: shr(a, op["k"]), "asr": lambda op, a: a >> op["k"], "shl": lambda op, a: a << op["k"],
    "mulshr": lambda op, a, b: shr(a * b, op["k"]), "inverse": lambda op, a: inverse(a, op["k"], op.get("mantissa", 0)),
    "mix": lambda op, a, b, c: a + shr((b - a) * c, op["k"]),
}


class Layer:
    """A GradedLayer at work: values are flat lists, their shapes stand beside them."""

    def __init__(self, node: dict[str, Any]) -> None:
        self.step_, self.theta, self.sources = json.loads(node["step"]), node["theta"], {}
        self.values: dict[str, Ints] = {}
        self.constants = {k.removeprefix("constant_"): v for k, v in node.items() if k.startswith("constant_")}
        self.reset()

    def reset(self) -> None:
        self.values |= {s["name"]: _flat(s["init"]) for s in self.step_["states"]}
        for send, source in self.sources.values():
            source.last = {} if send == "theta" else source.last

    def step(self, message: Ints) -> Ints:
        for port in self.step_["reads"]:
            size = _size(port["shape"])
            self.values[port["name"]], message = message[:size], message[size:]
        self._run(self.step_["ops"])
        self.values |= {s["name"]: self.values[s["out"]] for s in self.step_["states"]}
        return [value for port in self.step_["writes"] for value in self.values[port["name"]]]

    def _run(self, ops: list[dict[str, Any]]) -> None:
        for op in ops:
            if op["op"] == "repeat":
                self.values |= {c["inner"]: self.values[c["init"]] for c in op["carried"]}
                for _ in range(op["count"]):
                    self._run(op["ops"])
                    self.values |= {c["inner"]: self.values[c["result"]] for c in op["carried"]}
                self.values |= {c["out"]: self.values[c["inner"]] for c in op["carried"]}
            else:
                self.values[op["out"]] = self._value(op)

    def _get(self, name: str) -> Any:
        return self.constants[name] if name in self.constants else self.values[name]

    def _value(self, op: dict[str, Any]) -> Ints:
        args = [self._get(name) for name in op["args"]]
        if "send" in op:
            at = 0 if op["op"] == "gather" else 1
            _, source = self.sources.setdefault((op["send"], op["out"]), (op["send"], Sent()))
            args[at] = source.send(args[at], self.theta if op["send"] == "theta" else 0)
        if op["op"] in EACH:
            size = max(_size(op["shape"]), 1)
            spread = [_flat(a) * (size if len(_flat(a)) == 1 else 1) for a in args]
            return [EACH[op["op"]](op, *parts) for parts in zip(*spread, strict=True)]
        return getattr(self, f"_{op['op']}")(op, *args)

    def _lut(self, op: dict[str, Any], a: Ints, table: Ints) -> Ints:
        return [lut(v, table, op["k"]) for v in a]

    def _clamp(self, op: dict[str, Any], a: Ints) -> Ints:
        ends = [_flat(self._get(e) if isinstance(e, str) else e) for e in (op["lo"], op["hi"])]
        lo, hi = (e * (len(a) if len(e) == 1 else 1) for e in ends)
        return [min(max(v, low), high) for v, low, high in zip(a, lo, hi, strict=True)]

    def _gather(self, op: dict[str, Any], a: Ints, index: Ints) -> Ints:
        return [a[i] for i in index]

    def _segment_sum(self, op: dict[str, Any], a: Ints, post: Ints, base: Any = 0) -> Ints:
        total = _base(base, _size(op["shape"]))
        for value, i in zip(a, post, strict=True):
            total[i] += value
        return total

    def _matmul(self, op: dict[str, Any], weight: list[Ints], x: Ints, base: Any = 0) -> Ints:
        sums = (sum(w * v for w, v in zip(row, x, strict=True)) for row in weight)
        return [b + s for b, s in zip(_base(base, len(weight)), sums, strict=True)]

    def _matmulshr(self, op: dict[str, Any], weight: list[Ints], x: Ints, base: Any = 0) -> Ints:
        total, block = _base(base, len(weight)), op["block"]
        for at in range(0, len(x), block):
            for i, row in enumerate(weight):
                total[i] += shr(sum(w * v for w, v in zip(row[at : at + block], x[at : at + block], strict=True)),
                                op["k"])
        return total

    def _slice(self, op: dict[str, Any], a: Ints) -> Ints:
        return a[op["start"] : op["start"] + _size(op["shape"])]

    def _concat(self, op: dict[str, Any], *args: Any) -> Ints:
        return [value for a in args for value in _flat(a)]

    def _conv2d(self, op: dict[str, Any], weight: list[Ints], x: Ints, bias: Ints, shift: Ints) -> Ints:
        taps, parts = len(weight[0]), op["channels"] * op["kernel_h"] * op["kernel_w"] // len(weight[0])
        some = op["channels"] // parts
        found: dict[tuple[int, int, int], int] = {}
        for f, row in enumerate(weight):
            first = f // (len(weight) // parts) * some
            for r in range(op["rows"]):
                for c in range(op["cols"]):
                    window = _window(op, x, r, c, range(first, first + some))
                    assert len(window) == taps
                    y = (bias[f] + sum(w * (v or 0) for w, v in zip(row, window, strict=True))) >> shift[f]
                    y = max(y, 0) if op["relu"] else y
                    found[r, c, f] = y if op.get("lo") is None else min(max(y, op["lo"]), op["hi"])
        return _ordered(op, found, len(weight))

    def _pool(self, op: dict[str, Any], x: Ints) -> Ints:
        found: dict[tuple[int, int, int], int] = {}
        for r in range(op["rows"]):
            for c in range(op["cols"]):
                for f in range(op["channels"]):
                    window = _window(op, x, r, c, range(f, f + 1))
                    inside = [v for v in window if v is not None]
                    n = len(window) if op["function"] == "avg" else len(inside)
                    found[r, c, f] = (max(inside) if op["function"] == "max"
                                      else shr(sum(inside) * (((1 << 25) // n + 1) >> 1), 24))
        return _ordered(op, found, op["channels"])


def _window(op: dict[str, Any], x: Ints, r: int, c: int, channels: range) -> list[int | None]:
    """A window's elements in the order of taps, None outside of the frame."""
    height, width, every = op["height"], op["width"], op["channels"]

    def at(i: int, j: int, f: int) -> int | None:
        row = r * op["stride_h"] - op["top"] + i * op["dilation_h"]
        col = c * op["stride_w"] - op["left"] + j * op["dilation_w"]
        if not (0 <= row < height and 0 <= col < width):
            return None
        return x[(row * width + col) * every + f if op["layout"] == "hwc" else (f * height + row) * width + col]

    places = [(i, j) for i in range(op["kernel_h"]) for j in range(op["kernel_w"])]
    if op["layout"] == "hwc":
        return [at(i, j, f) for i, j in places for f in channels]
    return [at(i, j, f) for f in channels for i, j in places]


def _ordered(op: dict[str, Any], found: dict[tuple[int, int, int], int], filters: int) -> Ints:
    places = [(r, c) for r in range(op["rows"]) for c in range(op["cols"])]
    if op["layout"] == "hwc":
        return [found[r, c, f] for r, c in places for f in range(filters)]
    return [found[r, c, f] for f in range(filters) for r, c in places]


def _size(shape: Ints) -> int:
    size = 1
    for n in shape:
        size *= n
    return size


def _flat(value: Any) -> Ints:
    if not isinstance(value, list):
        return [value]
    return [inner for part in value for inner in _flat(part)] if value and isinstance(value[0], list) else list(value)


def _base(base: Any, size: int) -> Ints:
    flat = _flat(base)
    return list(flat) if len(flat) == size else flat * size


@dataclass
class Run:
    """Raw outputs step by step, and how many messages were sent."""

    y: list[Ints]
    messages: int


def run(path: Path, x: Any, reset: Any, dt: Any = None) -> Run:
    """One sequence, physical x (T, inputs), reset (T,), dt (T,)."""
    nodes = read(path)
    face = nodes[0]
    chain = [Layer(node) for node in nodes]
    most = 1 << (face["x_bits"] - 1)
    y = []
    for t, values in enumerate(x):
        if t and reset[t]:
            for machine in chain:
                machine.reset()
        message = [min(max(raw(float(v), f), -most), most - 1) for v, f in zip(values, face["x_frac"], strict=True)]
        if face["dt_frac"] >= 0:
            given = face["dt_nominal"] if dt is None else float(dt[t])
            message.append(min(max(raw(given, face["dt_frac"]), 0), 2**32 - 1))
        for machine in chain:
            message = machine.step(message)
        y.append(message)
    sources = [source for machine in chain for _, source in machine.sources.values()]
    return Run(y, sum(source.messages for source in sources))
