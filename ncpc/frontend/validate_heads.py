"""What every layer that is no cell must satisfy."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from ncpc.ir.heads import Combine, Conv2d, History, Norm, Pool, Scale, Select, Softmax
from ncpc.ir.policy import Activation, Dense
from ncpc.ir.problems import Problems, one_of, shape
from ncpc.ir.windows import LAYOUTS, Windows
from ncpc.semantics.windows import elements

FUNCTIONS = {"relu": 0, "tanh": 0, "sigmoid": 0, "silu": 0, "gelu": 0, "exp": 0, "abs": 0, "softplus": 0,
             "leaky_relu": 1, "elu": 2, "hardtanh": 2, "hard_sigmoid": 1, "hard_silu": 1}
"""Activations and how many parameters each has."""
POOLS = ("max", "avg", "avg_inside")
MOST_RUNS = 60
COMBINATIONS = ("add", "sub", "mul", "min", "max")


def dense_problems(layer: Dense) -> Problems:
    """One row of weights and a bias for each output."""
    if layer.weight.ndim != 2 or 0 in layer.weight.shape:
        yield f"weight has shape {layer.weight.shape}, expected (outputs, inputs)"
    yield from shape("bias", layer.bias, layer.outputs)


def activation_problems(layer: Activation) -> Problems:
    """A known function with as many parameters as it has."""
    if layer.function not in FUNCTIONS:
        yield f"unknown function {layer.function!r}; known are {', '.join(FUNCTIONS)}"
    elif len(layer.parameters) != FUNCTIONS[layer.function]:
        yield f"{layer.function} has {len(layer.parameters)} parameters, expected {FUNCTIONS[layer.function]}"
    elif not np.isfinite(layer.parameters).all() or (layer.function == "hardtanh" and np.diff(layer.parameters) < 0):
        yield f"{layer.function} has the parameters {layer.parameters}, expected finite ones, the lower limit first"
    if layer.width < 1:
        yield f"width is {layer.width}, expected at least 1"


def _windows(w: Windows) -> Problems:
    for field in fields(w):
        value = getattr(w, field.name)
        least = 0 if field.name in ("top", "left") else 1
        if field.name != "layout" and value < least:
            yield f"{field.name} is {value}, expected at least {least}"
    if w.layout not in LAYOUTS:
        yield f"unknown layout {w.layout!r}; known are {', '.join(LAYOUTS)}"
    if w.top >= w.span_h or w.left >= w.span_w:
        yield f"padding {w.top}, {w.left} is not smaller than the kernel {w.span_h} x {w.span_w}"
    elif (w.rows - 1) * w.stride_h - w.top >= w.height or (w.cols - 1) * w.stride_w - w.left >= w.width:
        yield f"its last window begins outside the frame of {w.height} x {w.width}"


def conv2d_problems(layer: Conv2d) -> Problems:
    """Filters that fall into groups, and windows that lie in the frame."""
    yield from _windows(layer.windows)
    w = layer.windows
    if layer.weight.ndim != 4:
        yield f"weight has shape {layer.weight.shape}, expected (filters, kernel_h, kernel_w, channels)"
    part = layer.weight.shape[3]
    if not part or w.channels % part or not layer.filters or layer.filters % (w.channels // part):
        yield (f"{layer.filters} filters over {part} of {w.channels} channels do not fall into groups; expected "
               "divisors of both")
    yield from shape("weight", layer.weight, layer.filters, w.kernel_h, w.kernel_w, part)
    yield from shape("bias", layer.bias, layer.filters)


def pool_problems(layer: Pool) -> Problems:
    """A known function of windows that hold something."""
    yield from _windows(layer.windows)
    if layer.function not in POOLS:
        yield f"unknown function {layer.function!r}; known are {', '.join(POOLS)}"
    elif not elements(layer.windows, "avg_inside").all():
        yield "one of its windows holds nothing of the frame"


def softmax_problems(layer: Softmax) -> Problems:
    """At least one value."""
    if layer.width < 1:
        yield f"width is {layer.width}, expected at least 1"


def scale_problems(layer: Scale) -> Problems:
    """A weight and a bias for each value."""
    if layer.weight.ndim != 1 or not layer.weight.size:
        yield f"weight has shape {layer.weight.shape}, expected (width,), width at least 1"
    yield from shape("bias", layer.bias, *layer.weight.shape)


def combine_problems(layer: Combine) -> Problems:
    """A known function of at least one pair."""
    yield from one_of("function", layer.function, COMBINATIONS)
    if layer.width < 1:
        yield f"width is {layer.width}, expected at least 1"


def select_problems(layer: Select) -> Problems:
    """Indices of values that are there, at least one."""
    if layer.index.ndim != 1 or not layer.index.size:
        yield f"index has shape {layer.index.shape}, expected (outputs,), outputs at least 1"
    for i in layer.index[(layer.index < 0) | (layer.index >= layer.width)][:1]:
        yield f"index names value {i}, but there are {layer.width}, counted from 0"


def history_problems(layer: History) -> Problems:
    """Delays that fall from at least 1, none below 0; at most as many runs of them as one op joins."""
    if layer.width < 1:
        yield f"width is {layer.width}, expected at least 1"
    if layer.delays.ndim != 1 or not layer.delays.size:
        yield f"delays has shape {layer.delays.shape}, expected (k,), k at least 1"
    elif (np.diff(layer.delays) >= 0).any() or layer.delays[-1] < 0 or layer.delays[0] < 1:
        yield "delays must fall from at least 1, none below 0: the oldest first"
    elif (runs := int((np.diff(layer.delays) != -1).sum())) > MOST_RUNS:
        yield f"delays fall into {runs} runs; {MOST_RUNS} at most can be joined"


def norm_problems(layer: Norm) -> Problems:
    """A weight and a bias for each value, parts of equal size, an epsilon that keeps a variance of 0 from dividing."""
    if layer.weight.ndim != 1 or not layer.weight.size:
        yield f"weight has shape {layer.weight.shape}, expected (width,), width at least 1"
    yield from shape("bias", layer.bias, *layer.weight.shape)
    if layer.groups < 1 or layer.inputs % layer.groups:
        yield f"{layer.inputs} values do not fall into {layer.groups} groups of equal size; give a divisor"
    elif layer.groups == layer.inputs:
        yield f"{layer.groups} groups hold one value each, of which the bias alone is left; give fewer groups"
    if layer.epsilon <= 0:
        yield f"epsilon is {layer.epsilon:g}, but it must be positive"
