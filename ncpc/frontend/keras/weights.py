"""Bare weights in HDF5, as keras-ncp and ncps.tf wrote them: the tensors of an LTC, not how it is to be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.foreign import read_or_refused
from ncpc.frontend.imported import Imported
from ncpc.frontend.keras.cells import read_cell
from ncpc.frontend.keras.hdf5 import read_hdf5
from ncpc.frontend.keras.held import last_name, listed
from ncpc.frontend.keras.model import F64, LTC, KerasLayer, Weights, Wiring
from ncpc.frontend.keras.names import variables
from ncpc.frontend.ncps_torch import known_roles


def import_weights(
    path: str | Path,
    *,
    unfolds: int | None = None,
    epsilon: float = 1e-8,
    outputs: int | None = None,
    roles: Sequence[str] | None = None,
    wiring: Any = None,
) -> Imported:
    """The LTC behind bare weights (``model.save_weights("x.h5")`` of keras-ncp, ncps.tf or ncps.keras).

    ``unfolds`` must be given (6 unless another number was trained with). ``wiring`` (an ncps wiring object) or
    ``roles`` tell what each neuron is; without them the first ``outputs`` (left out: as many as there are output
    weights) are motor neurons and the others inter neurons. Synapses are those with a reversal potential other than 0:
    a mask leaves those it hides at 0. Raises ``BadInput`` naming what is missing or does not belong to an LTC.
    """
    if unfolds is None:
        raise BadInput(f"{path}: weights alone do not say how many unfolds they were trained with; give unfolds "
                       "(--unfolds; 6 unless it was changed)")
    with read_or_refused(Path(path), "Keras"):
        weights = _ltc_weights(dict(read_hdf5(Path(path)).arrays()), str(path))
        given = told_wiring(weights, outputs, roles, wiring)
        layer = KerasLayer(LTC, "ltc", {"ode_unfolds": unfolds, "epsilon": epsilon}, weights, given)
        return Imported((read_cell(layer, str(path)),), {"source": "keras weights"})


def holds_model(path: str | Path) -> bool:
    """Whether an HDF5 file holds a model besides its weights."""
    return "model_config" in read_hdf5(Path(path)).attrs


def is_one_ltc(path: str | Path) -> bool:
    """Whether a file of weights is to be read as one LTC: it does not tell its layers, or has one with such weights."""
    file = read_hdf5(Path(path))
    if listed(file, "layer_names") is None:
        return True
    return sum(last_name(name) == "gleak" for name, _ in file.arrays()) == 1 and not any(
        last_name(name) in ("kernel", "recurrent_kernel") for name, _ in file.arrays())


def _ltc_weights(arrays: dict[str, F64], where: str) -> dict[str, F64]:
    """By name, wherever in the file they lie: under their own names, or numbered in the order of their making."""
    named = {path.rpartition("/")[2].partition(":")[0]: array for path, array in arrays.items()}
    if "gleak" not in named:
        named = _numbered(arrays, where)
    known = variables(LTC, {})
    missing = [name for name in variables(LTC, {"input_mapping": None, "output_mapping": None}) if name not in named]
    foreign = sorted(set(named) - set(known))
    if missing or foreign or len(named) < len(arrays):
        what = f"lacks '{missing[0]}'" if missing else f"holds '{foreign[0]}' too" if foreign else "holds several cells"
        raise BadInput(f"{where}: not the weights of one LTC alone ({what}); save the whole model as .keras or .h5")
    return named


def _numbered(arrays: dict[str, F64], where: str) -> dict[str, F64]:
    """Keras 3's numbered variables: with both mappings affine, or without any, their number tells which is which."""
    numbers = {path: path.rpartition("/")[2] for path in arrays}
    found = {int(numbers[path]): array for path, array in arrays.items() if numbers[path].isdigit()}
    mapping = {11: None, 15: "affine"}
    if len(found) not in mapping or len(found) < len(arrays):
        raise BadInput(f"{where}: not the weights of one LTC alone with affine mappings or without ({len(arrays)} "
                       "variables); save the whole model as .keras or .h5")
    names = variables(LTC, dict.fromkeys(("input_mapping", "output_mapping"), mapping[len(found)]))
    return {name: found[number] for name, number in zip(names, sorted(found), strict=True)}


def told_wiring(weights: Weights, outputs: int | None, roles: Sequence[str] | None, wiring: Any) -> Wiring | None:
    """Roles of an LTC's neurons and how many are outputs, from an ncps wiring, a list of roles, or a number."""
    units = len(weights["gleak"])
    if wiring is not None:
        roles = [str(wiring.get_type_of_neuron(i)) for i in range(int(wiring.units))]
        outputs = int(wiring.output_dim)
    if roles is not None:
        count = list(roles).count("motor") if outputs is None else outputs
        return Wiring(known_roles(list(roles), count), count)
    if outputs is None:
        return None
    return Wiring(known_roles(["inter"] * units, outputs), outputs)
