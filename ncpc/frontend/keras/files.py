"""Opens Keras's files: ``.keras`` archives, whole models and bare weights in HDF5. Nothing in them is executed."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.keras import chain
from ncpc.frontend.keras.hdf5 import read_hdf5
from ncpc.frontend.keras.held import last_name
from ncpc.frontend.keras.layers import layer_of, require_steps
from ncpc.frontend.keras.model import CFC, F64, MIXED, WIRED, KerasModel
from ncpc.frontend.keras.names import by_path, variables

SUFFIXES = (".keras", ".h5", ".hdf5")
MOST_TEXT = 64 << 20
"""Bytes of a config."""


def read_file(path: Path) -> KerasModel:
    """The model in a ``.keras`` or a whole-model ``.h5`` file. Raises ``BadInput`` or ``Unsupported``."""
    if not path.is_file():
        raise BadInput(f"{path}: no such file; give a .keras or .h5 file")
    return _archive(path) if path.suffix == ".keras" else _whole(path)


def _archive(path: Path) -> KerasModel:
    """A zip of ``config.json``, ``metadata.json`` and ``model.weights.h5``."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in ("config.json", "metadata.json"):
                if archive.getinfo(name).file_size > MOST_TEXT:
                    raise BadInput(f"{path}: its {name} has more than {MOST_TEXT >> 20} MB; save the model again")
            model, told, weights = (archive.read(name) for name in ("config.json", "metadata.json", "model.weights.h5"))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise BadInput(f"{path}: not a readable .keras file ({error}); save the model again") from None
    file = read_hdf5(path, weights)
    with _lacking(path):
        group = file["layers"] if "layers" in file else file["_layer_checkpoint_dependencies"]
        specs = _specs(model, path)
        return _model(path, specs, _numbered(group, specs), _json(told, path))


def _whole(path: Path) -> KerasModel:
    """``model.save("x.h5")`` of Keras 2 and 3: the config as an attribute, weights under their full names."""
    file = read_hdf5(path)
    with _lacking(path):
        if "model_config" not in file.attrs:
            raise BadInput(f"{path}: holds weights without a model; give unfolds and epsilon to "
                           "ncpc.frontend.keras.weights.import_weights, or save the whole model")
        specs = _specs(file.attrs["model_config"], path)
        groups = file["model_weights"]
        found = [_named(groups, spec) for spec in specs]
        return _model(path, specs, found, {"keras_version": str(file.attrs.get("keras_version", ""))})


@contextmanager
def _lacking(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise BadInput(f"{path}: lacks {error}; the file is damaged or of another version of Keras") from None


def _json(text: str | bytes, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{path}: its config is not JSON ({error}); save the model again") from None


def _specs(text: str | bytes, path: Path) -> list[chain.Spec]:
    """The layers of a config, every one of which runs step by step."""
    specs = chain.layers_of(_json(text, path), str(path))
    for spec in specs:
        require_steps(chain.class_of(spec), spec.get("config", {}), str(path))
    return specs


def _model(
    path: Path, specs: list[chain.Spec], weights: list[dict[str, F64]], told: Mapping[str, object]
) -> KerasModel:
    layers = [layer_of(spec, found, str(path)) for spec, found in zip(specs, weights, strict=True)]
    shape = next((_shape(spec) for spec in specs if _shape(spec)), None)
    source = {"source": f"keras {path.suffix}", "keras_version": str(told.get("keras_version", ""))}
    return KerasModel(tuple(layer for layer in layers if layer is not None), shape, source)


def _shape(spec: chain.Spec) -> tuple[int, ...] | None:
    """One step's input shape: what follows the batch and the time in an input layer's shape."""
    config = spec.get("config", {})
    shape = config.get("batch_shape") or config.get("batch_input_shape")
    return tuple(int(n) for n in shape[2:]) if shape and len(shape) > 2 and None not in shape[2:] else None


def _named(groups: Any, spec: chain.Spec) -> dict[str, F64]:
    """The weights of one layer of a whole-model file."""
    name = str(spec["config"].get("name"))
    if name not in groups:
        return {}
    group, (kind, memory, _) = groups[name], chain.cell_of(spec)
    kept = [name for name in group.attrs["weight_names"] if kind != "Normalization" or last_name(name) != "count"]
    return by_path([(name, group.array(name)) for name in kept], kind, memory)


def _numbered(groups: Any, specs: list[chain.Spec]) -> list[dict[str, F64]]:
    """The weights of each layer of an archive, whose groups are named by class and count within it."""
    counts: dict[str, int] = {}
    found = []
    for spec in specs:
        base = _snake(chain.class_of(spec))
        n = counts.get(base, 0)
        counts[base] = n + 1
        name = f"{base}_{n}" if n else base
        kind, memory, options = chain.cell_of(spec)
        found.append(_part(groups[name], kind, memory, options, str(spec["class_name"])) if name in groups else {})
    return found


def _snake(name: str) -> str:
    """``TimeDistributed`` as ``time_distributed``, ``CfC`` as ``cf_c``, as Keras spells class names."""
    words = [("_" if _breaks(name, i) else "") + letter for i, letter in enumerate(name)]
    return "".join(words).lower()


def _breaks(name: str, i: int) -> bool:
    """Whether a new word begins at ``i``: a capital after a small letter, or before one (``Conv1D`` is one word)."""
    if i == 0 or not name[i].isupper():
        return False
    return name[i - 1].islower() or (i + 1 < len(name) and name[i + 1].islower())


def _part(group: Any, kind: str, memory: bool, options: Mapping[str, Any], layer: str) -> dict[str, F64]:
    if layer == "TimeDistributed":
        group = group["layer"]
    group = group.get("cell", group)
    if memory:
        own = {f"memory/{name}": array for name, array in _own(group, MIXED, {}).items()}
        return {**own, **_part(group["rnn_cell"], kind, False, options, "")}
    if kind == WIRED:
        stages = _in_order(group["_cfc_layers"])
        return {f"stage{i}/{name}": array for i, stage in enumerate(stages)
                for name, array in _part(stage, CFC, False, options, "").items()}
    found = dict(_own(group, kind, options))
    parts = [(name, group[name]) for name in ("time_a", "time_b") if name in group]
    if "backbone_fn" in group:
        dense = [g for g in _in_order(group["backbone_fn"]["layers"]) if len(g.get("vars", ()))]
        parts += [(f"backbone{i}", part) for i, part in enumerate(dense)]
    return {**found, **{f"{part}/{name}": a for part, g in parts for name, a in _own(g, "Dense", {}).items()}}


def _in_order(group: Any) -> list[Any]:
    """Members of a group in the order of their number: ``dense``, ``dense_1``, ..., ``dense_10``."""
    def number(name: str) -> int:
        tail = name.rpartition("_")[2]
        return int(tail) if tail.isdigit() else 0

    return [group[name] for name in sorted(group, key=number)]


def _own(group: Any, kind: str, options: Mapping[str, Any]) -> dict[str, F64]:
    """The variables of one group, named in the order in which the class makes them."""
    held = group.get("vars", {})
    if not len(held):
        return {}
    names = variables(kind, options)
    if len(held) != len(names):
        raise Unsupported(f"keras: a layer of class {kind} holds {len(held)} variables, expected {len(names)} "
                          f"({', '.join(names)}); save the running model with ncpc.save")
    return {name: held.array(str(i)) for i, name in enumerate(names)}
