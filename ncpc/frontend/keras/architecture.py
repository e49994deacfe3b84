"""The small TOML file that tells of a network what its weights do not say: its layers in order, and how each is run."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, reason
from ncpc.frontend.keras.told import ADAPTIVE, KINDS, NEEDED, ToldKind

MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class LayerTable:
    """One ``[[layers]]`` table: a kind and its options, those left out at their defaults; ``name`` in the file, or
    None where the table does not say. ``where`` names it in messages.
    """

    kind: str
    options: Mapping[str, Any]
    name: str | None
    where: str

    @property
    def told(self) -> ToldKind:
        """What the kind holds and needs."""
        return KINDS[self.kind]


@dataclass(frozen=True)
class InputBranch:
    """Layers over one of several inputs: its name, the shape of its step, and what it runs through."""

    name: str
    shape: tuple[int, ...]
    layers: tuple[LayerTable, ...]


@dataclass(frozen=True)
class Architecture:
    """The layers in order, and the shape of one step's input; None where that is a plain vector.

    With ``branches`` the layers read what those give, one branch's values after another's.
    """

    layers: tuple[LayerTable, ...]
    shape: tuple[int, ...] | None
    branches: tuple[InputBranch, ...] = ()

    @property
    def tables(self) -> tuple[LayerTable, ...]:
        """Of all layers, those of the branches first."""
        return (*(table for branch in self.branches for table in branch.layers), *self.layers)


def read_architecture(path: str | Path) -> Architecture:
    """The architecture in a TOML file. Raises ``BadInput`` naming the table and the option that cannot be used."""
    table = _table(Path(path))
    _require_known(table, ("input_shape", "layers", "branches"), str(path))
    if table.get("layers") in (None, []):
        raise BadInput(f"{path}: names no layers; write a [[layers]] table for each, in the order in which they run")
    shape = _shape(table.get("input_shape"), str(path))
    tables = _list(table, "branches", path)
    branches = tuple(_branch(one, f"{path}: branches table {i}") for i, one in enumerate(tables, 1))
    if branches and shape is not None:
        raise BadInput(f"{path}: has branches and an input_shape; give each branch its own")
    return Architecture(_layers(table, str(path)), shape, branches)


def with_steps(told: Architecture, steps: tuple[str, int] | None, where: str) -> Architecture:
    """The architecture with ``steps``, a fixed method and how many of its steps, for every solver that is adaptive.

    Raises ``BadInput`` where one is needed and not given, or given and not needed.
    """
    asked = [table for table in told.tables if table.options.get("solver") == ADAPTIVE]
    if asked and steps is None:
        raise BadInput(f"{asked[0].where}: {ADAPTIVE} chooses its steps as it runs, which a deployed step cannot; give "
                       "a fixed method and its steps with --solver, as --solver rk4:8")
    if steps is not None and not asked:
        raise BadInput(f"{where}: no layer has an adaptive solver; leave out --solver")

    def fixed(table: LayerTable) -> LayerTable:
        if steps is not None and table in asked:
            return replace(table, options={**table.options, "solver": steps[0], "unfolds": steps[1]})
        if table.options.get("unfolds", 1) is None:
            raise BadInput(f"{table.where}: lacks unfolds; give {KINDS[table.kind].options['unfolds'].words}")
        return table

    branches = tuple(replace(branch, layers=tuple(map(fixed, branch.layers))) for branch in told.branches)
    return replace(told, layers=tuple(map(fixed, told.layers)), branches=branches)


def _branch(table: Mapping[str, Any], where: str) -> InputBranch:
    _require_known(table, ("name", "input_shape", "layers"), where)
    name, shape = table.get("name"), _shape(table.get("input_shape"), where)
    if not isinstance(name, str) or shape is None:
        lacking = "name" if shape is not None else "input_shape"
        raise BadInput(f"{where}: lacks {lacking}; give each branch a name and the shape of its input")
    return InputBranch(name, shape, _layers(table, where))


def _layers(table: Mapping[str, Any], where: str) -> tuple[LayerTable, ...]:
    layers = _list(table, "layers", where)
    return tuple(_layer(layer, f"{where}: layers table {i}") for i, layer in enumerate(layers, 1))


def _list(table: Mapping[str, Any], key: str, where: str | Path) -> list[dict[str, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadInput(f"{where}: {key} is {found!r}; write [[{key}]] tables")
    return found


def _table(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({reason(error)}); give the TOML file of the architecture") from None
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: has more than {MOST_BYTES >> 20} MB; it is no architecture")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not TOML ({error}); correct it") from None


def _layer(table: Mapping[str, Any], where: str) -> LayerTable:
    kind, name = table.get("kind"), table.get("name")
    if not isinstance(kind, str) or kind not in KINDS:
        raise BadInput(f"{where}: kind is {kind!r}; known are {', '.join(KINDS)}")
    if name is not None and not isinstance(name, str):
        raise BadInput(f"{where} ({kind}): name is {name!r}; give the layer's name in the file as a text")
    where, options = f"{where} ({kind})", KINDS[kind].options
    _require_known(table, ("kind", "name", *options), where)
    return LayerTable(kind, {key: _option(table, kind, key, where) for key in options}, name, where)


def _option(table: Mapping[str, Any], kind: str, key: str, where: str) -> Any:
    option = KINDS[kind].options[key]
    if key not in table:
        if option.default is NEEDED:
            raise BadInput(f"{where}: lacks {key}; give {option.words}")
        return option.default
    if not option.valid(table[key]):
        raise BadInput(f"{where}: {key} is {table[key]!r}; give {option.words}")
    return table[key]


def _shape(given: Any, where: str) -> tuple[int, ...] | None:
    if given is None:
        return None
    whole = isinstance(given, list) and all(type(n) is int and n >= 1 for n in given)
    if not whole or not 1 <= len(given) <= 3:
        raise BadInput(f"{where}: input_shape is {given!r}; give that of one step: [rows, columns, channels] or "
                       "[inputs]")
    return tuple(given)


def _require_known(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in known:
            raise BadInput(f"{where}: '{key}' is not known; known are {', '.join(known)}")
