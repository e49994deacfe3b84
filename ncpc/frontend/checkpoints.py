"""The weights in a file: a state_dict, wherever in a checkpoint it stands, under whatever names training left on it.

Nothing is unpickled but tensors, plain values, mappings, paths and NumPy's numbers, unless that is asked for.
"""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ncpc.errors import BadInput
from ncpc.frontend.foreign import TORCH, refusal
from ncpc.frontend.hyper_parameters import harmless_globals
from ncpc.frontend.pickles import readable
from ncpc.system.files import is_file
from ncpc.system.torch_library import torch_module
from ncpc.system.user_code import folder_on_path, one_line

USUAL = ("state_dict", "model_state_dict", "model")
"""Where training scripts commonly keep the state_dict, which is taken where a checkpoint holds several."""
DEEPEST = 3
"""Dictionaries within each other that are looked into."""
COMPILED = "_orig_mod."
"""What ``torch.compile`` puts into the names of a module's weights."""
AVERAGED = "n_averaged"
"""The count that ``AveragedModel`` keeps beside the weights, whose names then begin with ``module.``."""
NUMBERS = "?bhilqBHILQefd"
"""NumPy's codes of the numbers that may stand beside weights."""


@dataclass(frozen=True)
class CheckpointPart:
    """Which weights of a checkpoint are meant: ``key`` names the dictionary, such as ``agent.actor``, ``prefix`` is how
    the names in it begin, such as ``model.``. What is None is found, where there is but one.
    """

    key: str | None = None
    prefix: str | None = None


WHOLE = CheckpointPart()


def read_weights(path: str | Path, *, trust_pickle: bool = False, part: CheckpointPart = WHOLE) -> dict[str, Any]:
    """The ``state_dict`` in a .safetensors file or a torch checkpoint, as tensors on the CPU.

    Raises ``BadInput`` for anything else, for several of them, and for pickled Python objects unless ``trust_pickle``.
    """
    return weights_of(read_content(path, trust_pickle=trust_pickle), path, part)


def weights_of(content: Any, path: str | Path, part: CheckpointPart = WHOLE) -> dict[str, Any]:
    """The ``state_dict`` in what ``read_content`` found in ``path``. Raises ``BadInput``."""
    if isinstance(content, torch_module().nn.Module):
        return dict(content.state_dict())
    file = Path(path)
    return _begun_by(_plain(_chosen(dict(_state_dicts(content)), part.key, file)), part.prefix, file)


def read_checkpoint(path: str | Path, *, trust_pickle: bool = False, part: CheckpointPart = WHOLE) -> Any:
    """What a weights file holds: a state_dict, or, only with ``trust_pickle``, a whole pickled module."""
    content = read_content(path, trust_pickle=trust_pickle)
    return content if isinstance(content, torch_module().nn.Module) else weights_of(content, path, part)


def read_content(path: str | Path, *, trust_pickle: bool = False) -> Any:
    """All that a .safetensors file or a torch checkpoint holds, tensors on the CPU, the rest as plain values.

    Raises ``BadInput`` for anything else, and for pickled Python objects unless ``trust_pickle``.
    """
    file = Path(path)
    if other := refusal(file, TORCH):
        raise BadInput(other)
    if not is_file(file):
        raise BadInput(f"{file}: no such file; give a .safetensors file or a torch checkpoint")
    return _safetensors(file) if file.suffix == ".safetensors" else _torch_load(file, trust_pickle)


def fitted(state: Mapping[str, Any], wanted: Collection[str], where: str) -> Mapping[str, Any]:
    """The weights by the names that a module wants, where training has put something before all of them.

    A checkpoint of a pruned module is taken as what that computes. What fits in no way is returned as it is.
    Raises BadInput where other weights stand beside those that fit.
    """
    plain = {name.replace(COMPILED, ""): name for name in wanted}
    state = state if any(name.endswith("_orig") for name in plain) else unpruned(state)
    first = next(iter(plain), "")
    begins = {name.removesuffix(first) for name in state if name.endswith(first)}
    fits = [begin for begin in begins if all(f"{begin}{name}" in state for name in plain)]
    if len(fits) != 1:
        return state
    others = sorted(name for name in state if name.removeprefix(fits[0]) not in plain or not name.startswith(fits[0]))
    if others and fits[0]:
        raise BadInput(f"{where}: the weights stand under '{fits[0]}', beside others ({', '.join(others[:3])}"
                       f"{', ...' if len(others) > 3 else ''}); give prefix='{fits[0]}' (--prefix {fits[0]}) to read "
                       "those alone")
    return state if others else {name: state[f"{fits[0]}{bare}"] for bare, name in plain.items()}


def _state_dicts(content: Any, at: str = "", deep: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every dictionary of tensors, by the keys that lead to it; those of an optimizer are none, nor is one that holds
    others: the tensors beside them are figures of training.
    """
    if not isinstance(content, Mapping) or "param_groups" in content or deep > DEEPEST:
        return
    inner = [found for key, value in content.items()
             for found in _state_dicts(value, f"{at}.{key}" if at else str(key), deep + 1)]
    tensors = {str(k): v for k, v in content.items() if torch_module().is_tensor(v)}
    yield from inner or ([(at, tensors)] if tensors else [])


def _chosen(found: dict[str, dict[str, Any]], key: str | None, file: Path) -> dict[str, Any]:
    if not found:
        raise BadInput(f"{file}: holds no state_dict; write it with torch.save(model.state_dict(), path)")
    usual = [name for name in found if name in USUAL]
    names = [name for name in found if key is None or name == key]
    if len(names) > 1 and len(usual) == 1:
        names = usual
    if len(names) != 1:
        there = ", ".join(map(repr, found))
        what = f"{len(found)} state_dicts: {there}" if key is None else f"no state_dict {key!r}; there is {there}"
        raise BadInput(f"{file}: holds {what}; say which: key=... (--key NAME)")
    return found[names[0]]


def _plain(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without what ``torch.compile`` and ``AveragedModel`` leave in a state_dict."""
    averaged = AVERAGED in state and all(name.startswith("module.") for name in state if name != AVERAGED)
    return {name.replace(COMPILED, ""): value for name, value in state.items() if not (averaged and name == AVERAGED)}


def _begun_by(state: dict[str, Any], prefix: str | None, file: Path) -> dict[str, Any]:
    if prefix is None:
        return state
    inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not inner:
        raise BadInput(f"{file}: no name begins with '{prefix}'; the first is '{next(iter(state))}'")
    return inner


def unpruned(state: Mapping[str, Any]) -> dict[str, Any]:
    """``weight`` for each ``weight_orig`` with a ``weight_mask`` (torch.nn.utils.prune)."""
    pruned = {name.removesuffix("_mask") for name in state
              if name.endswith("_mask") and f"{name.removesuffix('_mask')}_orig" in state}
    left = {name: value for name, value in state.items()
            if not (name.endswith(("_orig", "_mask")) and name[:-5] in pruned)}
    return {**left, **{name: state[f"{name}_orig"] * state[f"{name}_mask"] for name in pruned}}


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file  # needs torch

    try:
        return load_file(path)
    except Exception as error:
        raise BadInput(f"{path}: not a readable safetensors file ({one_line(error)})") from None


def _torch_load(path: Path, trust_pickle: bool) -> Any:
    torch = torch_module()
    broken = f"{path}: not a readable torch checkpoint; it is truncated or of another kind"
    if not readable(path):
        raise BadInput(broken)
    try:
        with torch.serialization.safe_globals([*_numbers(), *harmless_globals()]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
            raise BadInput(broken) from None
        if not trust_pickle:
            raise BadInput(f"{path}: holds pickled Python objects, and loading those runs code; save "
                           "model.state_dict() instead, or trust the file with trust_pickle=True (--trust-pickle)"
                           ) from None
    except Exception as error:
        raise BadInput(f"{path}: not a readable torch checkpoint ({one_line(error)})") from None
    try:
        with folder_on_path():
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise BadInput(f"{path}: unpickling failed ({one_line(error)})") from error


def _numbers() -> list[Any]:
    """What a single number of NumPy is pickled as, by NumPy 1 and 2: it holds bytes and a type of number."""
    scalar: Any = type(np.float64(0)).__reduce__(np.float64(0))[0]
    types = [type(np.dtype(code)) for code in NUMBERS]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *types]
