"""States of zeros for the cells of a module whose forward must be given a state."""

from __future__ import annotations

from typing import Any

from ncpc.frontend.traced.cells import cells_in
from ncpc.system.torch_library import torch_module


def first_state(module: Any, rows: int, dtype: Any) -> Any:
    """The state before the first step for ``rows`` sequences: that of the module's only cell, or a tuple of all of
    them in the order of its parts. None where a cell's is not known.
    """
    states = [_zeros(cell, rows, dtype) for cell in cells_in(module).values()]
    if not states or any(state is None for state in states):
        return None
    return states[0] if len(states) == 1 else tuple(states)


def _zeros(cell: Any, rows: int, dtype: Any) -> Any:
    torch = torch_module()
    nn = torch.nn
    if isinstance(cell, (nn.LSTM, nn.GRU, nn.RNN)):
        shape: tuple[int, ...] = (cell.num_layers, rows, cell.hidden_size)
    elif isinstance(cell, (nn.LSTMCell, nn.GRUCell, nn.RNNCell)):
        shape = (rows, cell.hidden_size)
    elif isinstance(size := getattr(cell, "state_size", None), int):
        shape = (rows, size)
    else:
        return None
    pair = isinstance(cell, (nn.LSTM, nn.LSTMCell)) or getattr(cell, "use_mixed", False)
    return tuple(torch.zeros(shape, dtype=dtype) for _ in range(2)) if pair else torch.zeros(shape, dtype=dtype)
