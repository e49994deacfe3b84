"""The network of spikes as a NIR graph of standard primitives: Input, Affine, LIF, Linear, Output.

A LIF whose time constant is one tick forgets within it: under forward Euler with ``dt = TICK_S`` its membrane is the
drive itself, so it is a Heaviside unit. The drive ``n`` (an integer below 2^SUM_BITS) is written as
``1 + (n + 1/2) * 2^-SCALE_BITS`` against the threshold 1, so that every sum is exact in float32, and what float32
makes of ``tau`` (within 2^-23 of a tick, times a membrane below 2^(SUM_BITS + 1) halves) stays under the half that
separates n = -1 from n = 0. ``tau`` lies just above the tick because SpikingJelly refuses tau <= dt.

The cycle is LIF -> Linear (decode) -> Linear (encode) -> LIF: snnTorch takes a cycle of two nodes for a layer of its
own and wires its input elsewhere.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import MissingTool
from ncpc.targets.nir.spikes import Spikes

TICK_S = 1e-4
"""The time step of one tick in seconds: the default of most simulators, and fixed in snnTorch's importer."""
TAU_S = np.nextafter(np.float32(TICK_S), np.float32(1.0))
SCALE_BITS = 12
INPUT, SENSE, UNITS, DECODE, ENCODE, READOUT, OUTPUT = (
    "input", "sense", "units", "decode", "encode", "readout", "output",
)
EDGES = [
    (INPUT, SENSE), (SENSE, UNITS), (UNITS, DECODE), (DECODE, ENCODE), (ENCODE, UNITS), (UNITS, READOUT),
    (READOUT, OUTPUT),
]


def library() -> Any:
    """The ``nir`` package; raises MissingTool with the extra that brings it."""
    try:
        import nir
    except ImportError:
        raise MissingTool("package nir is not installed; pip install 'ncpc[nir]'") from None
    return nir


def graph(net: Spikes) -> Any:
    """``net`` as a ``nir.NIRGraph``, its types checked by nir itself."""
    nir = library()
    nodes = {
        INPUT: nir.Input(input_type={"input": np.array([net.weight.shape[1]])}),
        SENSE: nir.Affine(weight=_scaled(net.weight, net.interface.x_frac - SCALE_BITS), bias=_bias(net)),
        UNITS: lif(nir, net.units),
        DECODE: nir.Linear(weight=_scaled(net.decode, 0)),
        ENCODE: nir.Linear(weight=_scaled(net.encode, -SCALE_BITS)),
        READOUT: nir.Linear(weight=_scaled(net.readout, -net.interface.y_frac[:, None])),
        OUTPUT: nir.Output(output_type={"output": np.array([net.readout.shape[0]])}),
    }
    return nir.NIRGraph(nodes, list(EDGES))


def lif(nir: Any, units: int) -> Any:
    """``units`` Heaviside units: uniform parameters, as some importers ask."""
    ones, zeros = np.ones(units, np.float32), np.zeros(units, np.float32)
    return nir.LIF(tau=ones * TAU_S, r=ones, v_leak=zeros, v_reset=zeros, v_threshold=ones)


def _bias(net: Spikes) -> NDArray[np.float32]:
    return _single(1.0 + np.ldexp(net.bias + 0.5, -SCALE_BITS))


def _scaled(integers: NDArray[np.int64], exponent: NDArray[np.int64] | int) -> NDArray[np.float32]:
    """``integers * 2**exponent``."""
    return _single(np.ldexp(integers.astype(np.float64), exponent))


def _single(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """As float32; every weight fits exactly, or the lowering is wrong."""
    single = x.astype(np.float32)
    assert np.array_equal(single.astype(np.float64), x)
    return single


def to_bytes(graph: Any) -> bytes:
    """The .nir file (HDF5), the same bytes for the same graph."""
    buffer = io.BytesIO()
    library().write(buffer, graph)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Any:
    """Read a .nir file back, with nir's type checks."""
    return library().read(io.BytesIO(data))
