"""Trained models from the user's own code and checkpoints, without unpickling unless that is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.checkpoints import (
    WHOLE,
    CheckpointPart,
    fitted,
    read_checkpoint,
    read_content,
    read_weights,
    weights_of,
)
from ncpc.frontend.hyper_parameters import NONE, hyper_parameters_of, made_by_class
from ncpc.frontend.imported import Trained
from ncpc.frontend.state_dict import import_state_dict
from ncpc.system.files import is_file
from ncpc.system.torch_library import torch_module
from ncpc.system.user_code import folder_on_path, one_line


def import_from_factory(
    spec: str, *, weights: str | Path | None = None, trust_pickle: bool = False, part: CheckpointPart = WHOLE
) -> Trained:
    """Run the user's factory ``package.module:function`` (it gets no arguments) and load ``weights`` into its result.

    The factory returns a module, an ordered list of modules, or a pair (module, list): then the weights are the
    module's, the list says which of its parts run in which order, and the module's own forward is what the policy is
    compared with. Where ``spec`` names a class of torch modules instead, it is made of the hyper-parameters that stand
    beside the weights, as Lightning writes them. Returns what ``ncpc.save`` takes. Note that this *runs* the named
    code; the weights file is read as tensors and plain values only unless ``trust_pickle``. ``part`` says which of its
    weights are meant. Raises ``BadInput``.
    """
    found = _find(spec)
    if isinstance(found, type) and issubclass(found, torch_module().nn.Module):
        return _import_class(found, spec, weights, trust_pickle, part)
    made = _call(found, spec)
    owner, model = made if _is_pair(made) else (made, made)
    like = owner if _is_pair(made) and isinstance(owner, torch_module().nn.Module) else None
    if weights is not None:
        _load(owner, read_weights(weights, trust_pickle=trust_pickle, part=part), str(weights))
    return Trained(model, like)


def _import_class(
    kind: type[Any], spec: str, weights: str | Path | None, trust_pickle: bool, part: CheckpointPart
) -> Trained:
    if weights is None:
        return Trained(made_by_class(kind, NONE, spec, None))
    content = read_content(weights, trust_pickle=trust_pickle)
    state, where = weights_of(content, weights, part), str(weights)
    module = made_by_class(kind, hyper_parameters_of(content, where), spec, where)
    _load(module, state, where)
    return Trained(module)


def read_model(
    source: str | Path, *, weights: str | Path | None = None, trust_pickle: bool = False,
    part: CheckpointPart = WHOLE, **options: Any,
) -> Trained:
    """What ``ncpc.save`` takes, from the words of a command line.

    ``source``: a factory ``package.module:function`` or a class of modules, with ``weights`` to load into its model; or
    the file of a bare ncps state_dict, with the ``options`` of ``import_state_dict``; or that of a pickled module, if
    it is trusted.
    Raises ``BadInput``, also for an option that would have no effect on this kind of source.
    """
    given = sorted(name for name, value in options.items() if value is not None)
    if not is_file(source) and ":" in str(source):
        _refuse_options(given, source, "a factory says by itself how its model is run")
        return import_from_factory(str(source), weights=weights, trust_pickle=trust_pickle, part=part)
    if weights is not None:
        raise BadInput(f"{source}: a file of weights takes no further weights; give one of the two")
    content = read_checkpoint(source, trust_pickle=trust_pickle, part=part)
    if isinstance(content, torch_module().nn.Module):
        _refuse_options(given, source, "a pickled module says by itself how it is run")
        return Trained(content)
    return Trained(import_state_dict(content, **options))


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
        with folder_on_path():
            found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise BadInput(f"'{spec}': importing {module_name} failed ({one_line(error)})") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise BadInput(f"'{spec}': {module_name} has no '{name}'")
        found = getattr(found, part)
    if not callable(found):
        raise BadInput(f"'{spec}': '{name}' is not a function")
    factory: Callable[[], Any] = found
    return factory


def _call(factory: Callable[[], Any], spec: str) -> Any:
    try:
        with folder_on_path():
            return factory()
    except Exception as error:
        raise BadInput(f"'{spec}': the factory raised {one_line(error)}") from error


def _load(owner: Any, state: Mapping[str, Any], where: str) -> None:
    from ncpc.frontend.ncps_torch import unwrapped  # needs torch

    nn = torch_module().nn
    module = nn.ModuleList(owner) if isinstance(owner, (list, tuple)) else unwrapped(owner)
    if not isinstance(module, nn.Module):
        raise BadInput(f"{where}: the factory returned a {type(owner).__name__}, which cannot hold weights; "
                       "return a torch module or a list of them")
    try:
        module.load_state_dict(fitted(state, module.state_dict().keys(), where), strict=True)
    except (RuntimeError, TypeError) as error:
        raise BadInput(f"{where}: does not fit the factory's model ({one_line(error)})") from None
