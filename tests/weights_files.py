"""Small files of weights in the form of Keras 2, architectures for them, and the authors' equations in NumPy.

The cells are those of github.com/makramchahine/drone_causality: ``tf_cfc.py`` (CfcCell, MixedCfcCell, LTCCell),
``node_cell.py`` (CTRNNCell, GRUODE), keras-ncp 2.0 (LTCCell, WiredCfcCell) and Keras itself (LSTM).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Arrays = dict[str, np.ndarray]
Held = Sequence[tuple[str, Arrays]]
FRAME, FEATURES, UNITS, OUTPUTS = (9, 11, 3), 5, 6, 2
WIRING = {"kind": "NCP", "inter_neurons": 6, "command_neurons": 4, "motor_neurons": 2, "sensory_fanout": 3,
          "inter_fanout": 2, "recurrent_command_synapses": 3, "motor_fanin": 2, "seed": 22224}


def write_weights(path: Path, layers: Held) -> None:
    """Groups in the order of ``layer_names``, arrays in that of ``weight_names``, binary32 as Keras stores them."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _ in layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for name, weights in layers:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{weight}:0".encode() for weight in weights]
            for weight, array in weights.items():
                group[f"{weight}:0"] = array


def toml(tables: Sequence[Mapping[str, Any]], shape: Sequence[int] | None) -> str:
    """An architecture of these layers."""
    text = "" if shape is None else f"input_shape = {list(shape)}\n"
    for table in tables:
        text += "[[layers]]\n" + "".join(f"{key} = {_value(value)}\n" for key, value in table.items())
    return text


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    return f'"{value}"' if isinstance(value, str) else str(value)


class Drawn:
    """Random weights that binary32 holds exactly."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *shape: int, lo: float = -0.7, hi: float = 0.7) -> np.ndarray:
        return self.rng.uniform(lo, hi, shape).astype(np.float32)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def lecun(x: np.ndarray) -> np.ndarray:
    return 1.7159 * np.tanh(0.666 * x)


def conv(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """(steps, rows, columns, channels), windows within the frame."""
    h, w = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), (1, 2))[:, ::stride, ::stride]
    return np.einsum("trcihw,hwif->trcf", windows, kernel.astype(np.float64)) + bias


def trunk(draw: Drawn) -> tuple[Held, list[dict[str, Any]], Callable[[np.ndarray], np.ndarray]]:
    """Rescaling, Normalization, two convolutions, Flatten, Dense, Dropout, as the drone's networks begin."""
    norm = {"t/mean": draw(3, lo=0.3, hi=0.5), "t/variance": draw(3, lo=0.04, hi=0.07), "t/count": np.int64(0)}
    convs = [{"t/kernel": draw(3, 3, 3, 4), "t/bias": draw(4)}, {"t/kernel": draw(2, 2, 4, 2), "t/bias": draw(2)}]
    dense = {"t/kernel": draw(2 * 4 * 2, FEATURES), "t/bias": draw(FEATURES)}
    held = [("input_1", {}), ("rescaling", {}), ("time_distributed", norm), ("time_distributed_1", {}),
            ("time_distributed_2", convs[0]), ("time_distributed_3", convs[1]), ("time_distributed_4", {}),
            ("time_distributed_5", dense), ("time_distributed_6", {})]
    step = {"padding": "valid", "activation": "relu"}
    tables = [{"kind": "Rescaling", "scale": 1 / 255}, {"kind": "Normalization"},
              {"kind": "Conv2D", "strides": 2, **step}, {"kind": "Conv2D", "strides": [2, 1], **step},
              {"kind": "Flatten"}, {"kind": "Dense", "activation": "linear"}, {"kind": "Dropout"}]

    def run(x: np.ndarray) -> np.ndarray:
        x = x / 255
        x = (x - norm["t/mean"].astype(np.float64)) / np.sqrt(norm["t/variance"].astype(np.float64))
        x = np.maximum(conv(x, *convs[0].values(), stride=2), 0)
        x = np.maximum(conv(x, *convs[1].values(), stride=1)[:, ::2], 0)
        return x.reshape(len(x), -1) @ dense["t/kernel"].astype(np.float64) + dense["t/bias"]

    return held, tables, run


Stepping = Callable[[np.ndarray], np.ndarray]
Cell = tuple[Arrays, dict[str, Any], Callable[[np.ndarray], np.ndarray]]


def doubles(weights: Arrays) -> list[np.ndarray]:
    return [array.astype(np.float64) for array in weights.values()]


def over(step: Callable[..., Any], x: np.ndarray, *states: np.ndarray) -> np.ndarray:
    """Outputs of ``y, *states = step(x_t, *states)``."""
    found = []
    for value in x:
        y, *states = step(value, *states)
        found.append(y)
    return np.array(found)


def dense_pairs(draw: Drawn, inputs: int, widths: Sequence[int], first: int = 0) -> Arrays:
    """Kernels and biases under the names that Keras numbers, those of a backbone at the top."""
    found: Arrays = {}
    for i, width in enumerate(widths):
        name = ("dense" if i + first == 0 else f"dense_{i + first}") if i < len(widths) - 4 else f"rnn/c/dense_{i + 1}"
        found |= {f"{name}/kernel": draw(inputs, width), f"{name}/bias": draw(width)}
        inputs = width if i < len(widths) - 4 else inputs
    return found


def closed_form(weights: Sequence[np.ndarray], x: np.ndarray, h: np.ndarray, t: float) -> np.ndarray:
    """``tf_cfc.py``: a backbone of silu layers, heads by LeCun's tanh."""
    *backbone, f1, b1, f2, b2, a, ba, b, bb = weights
    z = np.concatenate([x, h])
    for kernel, bias in zip(backbone[::2], backbone[1::2], strict=True):
        z = silu(z @ kernel + bias)
    gate = sigmoid(-(z @ a + ba) * t + (z @ b + bb))
    return lecun(z @ f1 + b1) * (1 - gate) + gate * lecun(z @ f2 + b2)


def cfc(draw: Drawn) -> Cell:
    weights = dense_pairs(draw, FEATURES + UNITS, [7, 8, *[UNITS] * 4])
    w = doubles(weights)

    def step(x: np.ndarray, h: np.ndarray) -> Any:
        after = closed_form(w, x, h, 1.0)
        return after, after

    table = {"kind": "CfcCell", "backbone_activation": "silu", "mode": "default"}
    return weights, table, lambda x: over(step, x, np.zeros(UNITS))


def mixed_cfc(draw: Drawn) -> Cell:
    memory = {"rnn/m/input_kernel": draw(FEATURES, 4 * UNITS), "rnn/m/recurrent_kernel": draw(UNITS, 4 * UNITS),
              "rnn/m/bias": draw(4 * UNITS)}
    weights = {**memory, **dense_pairs(draw, 2 * UNITS, [7, *[UNITS] * 4])}
    wx, wh, bias, *w = doubles(weights)

    def step(x: np.ndarray, c: np.ndarray, h: np.ndarray) -> Any:
        g, i, f, o = np.split(x @ wx + h @ wh + bias, 4)
        c = c * sigmoid(f + 3.25) + np.tanh(g) * sigmoid(i)
        after = closed_form(w, np.tanh(c) * sigmoid(o), h, 0.0)
        return after, c, after

    table = {"kind": "MixedCfcCell", "backbone_activation": "silu", "mode": "default", "forget_bias": 3.25,
             "timespan": "zero"}
    return weights, table, lambda x: over(step, x, np.zeros(UNITS), np.zeros(UNITS))


def wired_cfc(draw: Drawn) -> Cell:
    from ncps import wirings

    made = wirings.NCP(**{key: value for key, value in WIRING.items() if key != "kind"})
    made.build(FEATURES)
    weights, masks, before = {}, [], made.sensory_adjacency_matrix
    for i in range(3):
        neurons = made.get_neurons_of_layer(i)
        masks.append(np.concatenate([before[:, neurons], np.ones((len(neurons),) * 2)]))
        before, (rows, n) = made.adjacency_matrix[neurons], masks[-1].shape
        cell = f"rnn/wired_cfc_cell/cfc_cell{f'_{i}' if i else ''}"
        weights |= {f"{cell}/ff1_weight": draw(rows, n), f"{cell}/ff1_bias": draw(n),
                    f"{cell}/ff2_weight": draw(rows, n), f"{cell}/ff2_bias": draw(n),
                    f"{cell}/time_a/kernel": draw(rows, n), f"{cell}/time_a/bias": draw(n),
                    f"{cell}/time_b/kernel": draw(rows, n), f"{cell}/time_b/bias": draw(n)}
    w = doubles(weights)

    def step(x: np.ndarray, *hs: np.ndarray) -> Any:
        after = []
        for i, h in enumerate(hs):
            f1, b1, f2, b2, a, ba, b, bb = w[8 * i : 8 * i + 8]
            z = np.concatenate([x, h])
            gate = sigmoid(-(z @ a + ba) + (z @ b + bb))
            x = (z @ (f1 * masks[i]) + b1) * (1 - gate) + gate * (z @ (f2 * masks[i]) + b2)
            after.append(x)
        return x, *after

    table = {"kind": "WiredCfcCell", "mode": "default", "wiring": WIRING}
    return weights, table, lambda x: over(step, x, *(np.zeros(mask.shape[1]) for mask in masks))


def fused(w: Arrays, unfolds: int, elapsed: float, outputs: int, x: np.ndarray) -> np.ndarray:
    """The fused solver, every neuron by itself; erev of 0 means no synapse."""
    p = {name.rpartition("/")[2]: array.astype(np.float64) for name, array in w.items()}

    def currents(v: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
        g = p[f"{side}w"] * (p[f"{side}erev"] != 0) * sigmoid(p[f"{side}sigma"] * (v[:, None] - p[f"{side}mu"]))
        return (g * p[f"{side}erev"]).sum(0), g.sum(0)

    def step(x: np.ndarray, v: np.ndarray) -> Any:
        into, total = currents(x * p["input_w"] + p["input_b"], "sensory_")
        cm = p["cm"] / (elapsed / unfolds)
        for _ in range(unfolds):
            own, g = currents(v, "")
            v = (cm * v + p["gleak"] * p["vleak"] + own + into) / (cm + p["gleak"] + g + total + 1e-8)
        return v[:outputs] * p["output_w"] + p["output_b"], v

    return over(step, x, np.zeros(len(p["cm"])))


def ltc_weights(draw: Drawn, units: int, outputs: int, erev: np.ndarray, sensory_erev: np.ndarray) -> Arrays:
    size = {"": (units, units), "sensory_": (FEATURES, units)}
    found = {"gleak": draw(units, lo=0.01, hi=1), "vleak": draw(units), "cm": draw(units, lo=0.4, hi=0.6)}
    for side, shape in size.items():
        found |= {f"{side}sigma": draw(*shape, lo=3, hi=8), f"{side}mu": draw(*shape, lo=0.3, hi=0.8),
                  f"{side}w": draw(*shape, lo=0.01, hi=1), f"{side}erev": sensory_erev if side else erev}
    found |= {"input_w": draw(FEATURES, lo=0.02, hi=0.1), "input_b": draw(FEATURES), "output_w": draw(outputs),
              "output_b": draw(outputs)}
    return {f"rnn/ltc_cell/{name}": array for name, array in found.items()}


def ncp(draw: Drawn) -> Cell:
    from ncps import wirings

    made = wirings.NCP(**{key: value for key, value in WIRING.items() if key != "kind"})
    made.build(FEATURES)
    weights = ltc_weights(draw, 12, 2, made.adjacency_matrix.astype(np.float32),
                          made.sensory_adjacency_matrix.astype(np.float32))
    return weights, {"kind": "LTCCell", "unfolds": 6, "wiring": WIRING}, lambda x: fused(weights, 6, 1.0, 2, x)


def ltc(draw: Drawn) -> Cell:
    """That of tf_cfc.py: every neuron an output, a thousandth added to the timespan."""
    weights = ltc_weights(draw, UNITS, UNITS, draw(UNITS, UNITS), draw(FEATURES, UNITS))
    table = {"kind": "LTCCell", "unfolds": 3, "timespan_added": 0.001}
    return weights, table, lambda x: fused(weights, 3, 1.001, UNITS, x)


def ctrnn(draw: Drawn) -> Cell:
    weights = {"kernel": draw(FEATURES, UNITS), "recurrent_kernel": draw(UNITS, UNITS), "bias": draw(UNITS),
               "scale": draw(UNITS, lo=-1.5, hi=1.5)}
    weights["scale"][0] = 0.0
    wx, wh, bias, scale = doubles(weights)

    def slope(x: np.ndarray, h: np.ndarray) -> np.ndarray:
        return scale * np.tanh(x @ wx + h @ wh + bias) - h * 1.25

    def step(x: np.ndarray, h: np.ndarray) -> Any:
        for _ in range(4):
            k1 = slope(x, h)
            k2 = slope(x, h + k1 / 8)
            k3 = slope(x, h + k2 / 8)
            h = h + (k1 + 2 * k2 + 2 * k3 + slope(x, h + k3 / 4)) / 24
        return h, h

    table = {"kind": "CTRNNCell", "tau": 1.25, "solver": "rk4", "unfolds": 4}
    return {f"rnn/c/{n}": a for n, a in weights.items()}, table, lambda x: over(step, x, np.zeros(UNITS))


def gru_ode(draw: Drawn) -> Cell:
    weights = {f"rnn/gruode/dense{number}/{part}": draw(FEATURES + UNITS, UNITS) if part == "kernel" else draw(UNITS)
               for number in ("", "_1", "_2") for part in ("kernel", "bias")}
    reset, reset_bias, detect, detect_bias, update, update_bias = doubles(weights)

    def step(x: np.ndarray, h: np.ndarray) -> Any:
        for _ in range(4):
            both = np.concatenate([x, h])
            r, z = sigmoid(both @ reset + reset_bias), sigmoid(both @ update + update_bias)
            g = np.tanh(np.concatenate([x, r * h]) @ detect + detect_bias)
            h = h + (1 - z) * (g - h) / 4
        return h, h

    return weights, {"kind": "GRUODE", "unfolds": 4}, lambda x: over(step, x, np.zeros(UNITS))


def lstm(draw: Drawn) -> Cell:
    weights = {"lstm/kernel": draw(FEATURES, 4 * UNITS), "lstm/recurrent_kernel": draw(UNITS, 4 * UNITS),
               "lstm/bias": draw(4 * UNITS)}
    return weights, {"kind": "LSTM"}, lambda x: stepped_lstm(doubles(weights), x)


def stepped_lstm(weights: Sequence[np.ndarray], x: np.ndarray) -> np.ndarray:
    """Keras' LSTM: blocks in the order input, forget, cell, output."""
    wx, wh, bias = weights

    def step(x: np.ndarray, c: np.ndarray, h: np.ndarray) -> Any:
        i, f, g, o = np.split(x @ wx + h @ wh + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, c, h

    return over(step, x, np.zeros(len(wh)), np.zeros(len(wh)))


CELLS: dict[str, Callable[[Drawn], Cell]] = {
    "cfc": cfc, "mixed_cfc": mixed_cfc, "wired_cfc": wired_cfc, "ncp": ncp, "ltc": ltc, "ctrnn": ctrnn,
    "gru_ode": gru_ode, "lstm": lstm,
}


def network(name: str, seed: int = 1) -> tuple[Held, list[dict[str, Any]], Stepping]:
    """The trunk, a cell, and a dense layer where the cell's outputs are not the network's."""
    draw = Drawn(seed)
    held, tables, before = trunk(draw)
    weights, table, cell = CELLS[name](draw)
    width = cell(np.zeros((1, FEATURES))).shape[1]
    if name == "ncp":
        return [*held, ("rnn", weights)], [*tables, table], lambda x: cell(before(x))
    last = {"dense_9/kernel": draw(width, OUTPUTS), "dense_9/bias": draw(OUTPUTS)}
    kernel, bias = doubles(last)
    return ([*held, ("rnn", weights), ("dense_9", last)], [*tables, table, {"kind": "Dense", "activation": "linear"}],
            lambda x: cell(before(x)) @ kernel + bias)
