"""Which constants of a step are weights: what is multiplied and summed, and to which sums; the scale of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ncpc.ir.policy import F64, I64
from ncpc.ir.program import Op, Program, statements
from ncpc.ir.rewrite import reads

SPREAD = 12
"""How many bits finer than the coarsest row's the scale of a row may be: sums are brought to one fraction in 32."""
FINEST = 31
"""The largest fraction of a weight."""


@dataclass(frozen=True, eq=False)
class RowWeights:
    """A constant of a step that is multiplied by the value ``source``, and summed.

    ``posts`` is None for a matrix (rows, n); for a list of synapses (n,), whose source has an element for each of them,
    it says to which sum each belongs. ``ops`` names the results of the ops that multiply and sum, one or two.
    """

    ops: tuple[str, ...]
    name: str
    source: str
    data: F64
    posts: I64 | None = None

    @property
    def rows(self) -> I64:
        """The sum that each weight belongs to, in the shape of ``data``."""
        if self.posts is not None:
            return self.posts
        return np.broadcast_to(np.arange(len(self.data))[:, None], self.data.shape)


def row_weights(real: Program) -> list[RowWeights]:
    """Matrices and lists of synapses; of convolutions those with one place, whose window is all of the input."""
    return [found for op in statements(real.body) for found in _weights_of(real, op)]


def _weights_of(real: Program, op: Op) -> list[RowWeights]:
    if op.kind == "matmul" or (op.kind == "conv2d" and op.attrs["rows"] == op.attrs["cols"] == 1):
        return [RowWeights((op.out.name,), op.args[0], op.args[1], _data(real, op.args[0]))]
    if op.kind != "mul" or op.out.name in {state.out for state in real.states}:
        return []  # what is kept as a state is no weighted term: a trace that decays
    readers = [other for other in statements(real.body) if op.out.name in reads(other)]
    if [(reader.kind, reader.args[0]) for reader in readers] != [("segment_sum", op.out.name)]:
        return []
    posts = real.constants[readers[0].args[1]][1].astype(np.int64)
    listed = [k for k in (0, 1) if op.args[k] in real.constants and _data(real, op.args[k]).shape == posts.shape]
    return [RowWeights((op.out.name, readers[0].out.name), op.args[k], op.args[1 - k], _data(real, op.args[k]), posts)
            for k in listed[:1]]


def _data(real: Program, name: str) -> F64:
    return real.constants[name][1].astype(np.float64)


def row_fractions(weights: F64, rows: I64, bits: int) -> I64:
    """Per weight, the largest fraction at which all weights of its row round into ``bits`` bits, signed and narrow.

    ``rows``, in the shape of ``weights``, says which row each is of.
    """
    limit = float((1 << (bits - 1)) - 1) + 0.5
    most = np.zeros(int(rows.max(initial=-1)) + 1)
    np.maximum.at(most, rows.ravel(), np.abs(weights).ravel())
    most = np.maximum(most, 2.0**-FINEST)
    fracs = np.floor(np.log2(limit / most)).astype(np.int64)
    fracs -= most * np.exp2(fracs.astype(np.float64)) >= limit
    fracs = np.minimum(fracs, FINEST)
    fracs = np.minimum(fracs, fracs.min(initial=FINEST) + SPREAD)
    found: I64 = fracs[rows]
    return found
