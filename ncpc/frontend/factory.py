"""Trained models from the user's own code and checkpoints, without unpickling unless that is asked for."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.foreign import TORCH, refusal
from ncpc.frontend.pickles import readable
from ncpc.frontend.state_dict import import_state_dict
from ncpc.system.files import is_file
from ncpc.system.torch_library import torch_module

# Where training scripts commonly keep the state_dict inside a larger checkpoint.
_NESTED = ("state_dict", "model_state_dict", "model")


def import_from_factory(spec: str, *, weights: str | Path | None = None, trust_pickle: bool = False) -> Any:
    """Run the user's factory ``package.module:function`` (it gets no arguments) and load ``weights`` into its result.

    The factory returns a module, an ordered list of modules, or a pair (module, list): then the weights are the
    module's and the list says which of its parts run in which order. Returns what ``ncpc.save`` takes. Note that this
    *runs* the named code; the weights file is read as tensors only unless ``trust_pickle``. Raises ``BadInput``.
    """
    made = _call(_find(spec), spec)
    owner, model = made if _is_pair(made) else (made, made)
    if weights is not None:
        _load(owner, read_weights(weights, trust_pickle=trust_pickle), str(weights))
    return model


def read_model(
    source: str | Path, *, weights: str | Path | None = None, trust_pickle: bool = False, **options: Any
) -> Any:
    """What ``ncpc.save`` takes, from the words of a command line.

    ``source``: a factory ``package.module:function``, with ``weights`` to load into its model; or the file of a bare
    ncps state_dict, with the ``options`` of ``import_state_dict``; or that of a pickled module, if it is trusted.
    Raises ``BadInput``, also for an option that would have no effect on this kind of source.
    """
    given = sorted(name for name, value in options.items() if value is not None)
    if not is_file(source) and ":" in str(source):
        _refuse_options(given, source, "a factory says by itself how its model is run")
        return import_from_factory(str(source), weights=weights, trust_pickle=trust_pickle)
    if weights is not None:
        raise BadInput(f"{source}: a file of weights takes no further weights; give one of the two")
    content = read_checkpoint(source, trust_pickle=trust_pickle)
    if isinstance(content, torch_module().nn.Module):
        _refuse_options(given, source, "a pickled module says by itself how it is run")
        return content
    return import_state_dict(content, **options)


def _refuse_options(given: list[str], source: str | Path, why: str) -> None:
    if given:
        raise BadInput(f"{source}: {why}; leave out {', '.join(given)}")


def _is_pair(made: object) -> bool:
    return isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], (list, tuple))


def _find(spec: str) -> Callable[[], Any]:
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise BadInput(f"'{spec}': not a factory; write package.module:function")
    try:
        with _folder_on_path():
            found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise BadInput(f"'{spec}': importing {module_name} failed ({_one_line(error)})") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise BadInput(f"'{spec}': {module_name} has no '{name}'")
        found = getattr(found, part)
    if not callable(found):
        raise BadInput(f"'{spec}': '{name}' is not a function")
    factory: Callable[[], Any] = found
    return factory


@contextmanager
def _folder_on_path() -> Iterator[None]:
    """A console script does not see the folder it was started in; the user's own code is usually there."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _call(factory: Callable[[], Any], spec: str) -> Any:
    try:
        with _folder_on_path():
            return factory()
    except Exception as error:
        raise BadInput(f"'{spec}': the factory raised {_one_line(error)}") from error


def read_weights(path: str | Path, *, trust_pickle: bool = False) -> Mapping[str, Any]:
    """The ``state_dict`` in a .safetensors file or a torch checkpoint, as tensors on the CPU.

    A checkpoint that holds it under ``state_dict``, ``model_state_dict`` or ``model`` is opened. Raises ``BadInput``
    for anything else, and for pickled Python objects unless ``trust_pickle``.
    """
    content = read_checkpoint(path, trust_pickle=trust_pickle)
    if isinstance(content, torch_module().nn.Module):
        content = content.state_dict()
    return dict(content)


def read_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> Any:
    """What a weights file holds: a state_dict, or, only with ``trust_pickle``, a whole pickled module."""
    file = Path(path)
    if other := refusal(file, TORCH):
        raise BadInput(other)
    if not is_file(file):
        raise BadInput(f"{file}: no such file; give a .safetensors file or a torch checkpoint")
    content = _safetensors(file) if file.suffix == ".safetensors" else _torch_load(file, trust_pickle)
    if isinstance(content, torch_module().nn.Module):
        return content
    for key in _NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(map(torch_module().is_tensor, content.values())):
        raise BadInput(f"{file}: holds no state_dict; write it with torch.save(model.state_dict(), path)")
    return dict(content)


def _safetensors(path: Path) -> Any:
    from safetensors.torch import load_file  # needs torch

    try:
        return load_file(path)
    except Exception as error:
        raise BadInput(f"{path}: not a readable safetensors file ({_one_line(error)})") from None


def _torch_load(path: Path, trust_pickle: bool) -> Any:
    torch = torch_module()
    broken = f"{path}: not a readable torch checkpoint; it is truncated or of another kind"
    if not readable(path):
        raise BadInput(broken)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
            raise BadInput(broken) from None
        if not trust_pickle:
            raise BadInput(f"{path}: holds pickled Python objects, and loading those runs code; save "
                           "model.state_dict() instead, or trust the file with trust_pickle=True (--trust-pickle)"
                           ) from None
    except Exception as error:
        raise BadInput(f"{path}: not a readable torch checkpoint ({_one_line(error)})") from None
    try:
        with _folder_on_path():
            return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise BadInput(f"{path}: unpickling failed ({_one_line(error)})") from error


def _load(owner: Any, state: Mapping[str, Any], where: str) -> None:
    nn = torch_module().nn
    module = nn.ModuleList(owner) if isinstance(owner, (list, tuple)) else owner
    if not isinstance(module, nn.Module):
        raise BadInput(f"{where}: the factory returned a {type(owner).__name__}, which cannot hold weights; "
                       "return a torch module or a list of them")
    try:
        module.load_state_dict(state, strict=True)
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"{where}: does not fit the factory's model ({_one_line(error)})") from None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
