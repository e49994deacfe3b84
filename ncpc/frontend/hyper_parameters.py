"""The arguments that a training framework keeps beside the weights, and the module that its own class makes of them.

Lightning writes what ``save_hyperparameters()`` saw under ``hyper_parameters`` and, where one argument of the
constructor takes them all, that argument's name under ``hparams_name`` (``lightning.pytorch.core.saving``). Reading
them runs no code.
"""

from __future__ import annotations

import argparse
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from ncpc.errors import BadInput
from ncpc.system.user_code import folder_on_path, one_line

KEYS = ("hyper_parameters", "hparams", "module_arguments")
"""Where Lightning keeps the arguments; the last two until its version 1.0."""
ARGUMENT = "hparams_name"
SAVED_AS = tuple(f"{place}.AttributeDict" for place in (
    "lightning.fabric.utilities.data", "lightning_fabric.utilities.data", "lightning.pytorch.utilities.parsing",
    "pytorch_lightning.utilities.parsing"))
"""Lightning's dictionary with attributes, by the names of its versions."""
PATHS = (("PosixPath", PurePosixPath), ("WindowsPath", PureWindowsPath), ("PurePosixPath", PurePosixPath))


class Attributes(dict[str, Any]):
    """A dictionary whose values are attributes too, as constructors expect of Lightning's; so are those within it."""

    def __getitem__(self, name: str) -> Any:
        return _with_attributes(super().__getitem__(name))

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"the checkpoint's hyper-parameters have no '{name}'")
        return self[name]


def _with_attributes(value: Any) -> Any:
    """Ordered dictionaries stand for Lightning's, too: torch fills no other mapping."""
    return Attributes(value) if type(value) is OrderedDict else value


@dataclass(frozen=True, eq=False)
class HyperParameters:
    """The saved arguments by name; ``argument`` is the one of the constructor that takes them all, if one does."""

    values: Mapping[str, Any]
    argument: str | None = None


NONE = HyperParameters({})


def harmless_globals() -> list[Any]:
    """What torch may make of mappings and paths in a pickle: values that hold what is given to them and run nothing."""
    return [
        argparse.Namespace,
        *((OrderedDict, name) for name in SAVED_AS),
        *((kind, f"{place}.{name}") for place in ("pathlib", "pathlib._local") for name, kind in PATHS),
    ]


def hyper_parameters_of(content: Any, where: str) -> HyperParameters:
    """What a checkpoint says of its module's making; nothing, where it is a state_dict alone. Raises ``BadInput``."""
    if not isinstance(content, Mapping):
        return NONE
    key = next((key for key in KEYS if key in content), None)
    if key is None or content[key] is None:
        return NONE
    found = content[key]
    values = vars(found) if isinstance(found, argparse.Namespace) else found
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise BadInput(f"{where}: its {key} are a {type(found).__name__}, not arguments by name; "
                       "name a function that makes the module instead of its class")
    argument = content.get(ARGUMENT)
    values = {name: _with_attributes(value) for name, value in values.items()}
    return HyperParameters(values, argument if isinstance(argument, str) else None)


def made_by_class(kind: type[Any], given: HyperParameters, spec: str, where: str | None) -> Any:
    """The module that class ``spec`` makes of the arguments in checkpoint ``where``; runs its constructor.

    Arguments that it does not take are left out with a warning. Raises ``BadInput`` naming those that are missing.
    """
    arguments = _arguments(kind, given, spec, where)
    try:
        with folder_on_path():
            return kind(**arguments)
    except Exception as error:
        raise BadInput(f"'{spec}': its constructor raised {one_line(error)}") from error


def _arguments(kind: type[Any], given: HyperParameters, spec: str, where: str | None) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if given.argument in named:
        values: dict[str, Any] = {given.argument: Attributes(given.values)}
    else:
        values = {name: value for name, value in given.values.items() if takes_all or name in named}
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [name for name in required if name not in values]
    if missing:
        raise BadInput(_missing(kind, missing, given, spec, where))
    left = [] if given.argument in named else [name for name in given.values if name not in values]
    if left:
        warnings.warn(f"{where}: hyper-parameters that {kind.__name__} does not take are left out: {', '.join(left)}",
                      stacklevel=2)
    return values


def _missing(kind: type[Any], missing: list[str], given: HyperParameters, spec: str, where: str | None) -> str:
    if where is None:
        source = "no checkpoint is given (--weights FILE) whose hyper_parameters would say"
    elif given is NONE:
        source = f"{where} holds no hyper_parameters that say"
    else:
        source = f"the hyper_parameters of {where} do not say"
    call = f"{kind.__name__}({', '.join(f'{name}=...' for name in missing)})"
    return (f"'{spec}': {source} {', '.join(missing)}, which its constructor needs; write a function that returns "
            f"{call} and name that: {spec.partition(':')[0]}:make")
