"""Reads a bare ncps ``state_dict``: it holds the tensors of a cell but not how the cell is to be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.imported import Imported
from ncpc.frontend.ncps_torch import build_ltc, known_roles
from ncpc.system.torch_library import torch_module

_REQUIRED = ("gleak", "vleak", "cm", "sigma", "mu", "w", "erev", "sparsity_mask", "sensory_sigma", "sensory_mu",
             "sensory_w", "sensory_erev", "sensory_sparsity_mask")
_MAPPINGS = ("input_w", "input_b", "output_w", "output_b")


def import_state_dict(
    state: Mapping[str, Any],
    *,
    implicit_param_constraints: bool | None = None,
    unfolds: int | None = None,
    epsilon: float | None = None,
    outputs: int | None = None,
    roles: Sequence[str] | None = None,
    prefix: str | None = None,
) -> Imported:
    """The LTC behind a bare ncps ``state_dict`` (torch tensors or arrays), which does not say how it is to be run.

    ``implicit_param_constraints`` (ncps: True for ``LTC``, False for ``LTCCell``), ``unfolds`` and ``epsilon`` must be
    given; ``outputs`` too where the cell has no output mapping. ``roles`` names each neuron's role (motor for the
    first ``outputs`` and inter for the others when left out). ``prefix`` selects the cell's keys in a larger dict.
    Input and output mapping follow from the keys. Raises ``BadInput`` naming every option or key that is missing.
    """
    given = {"implicit_param_constraints": implicit_param_constraints, "unfolds": unfolds, "epsilon": epsilon}
    missing = [name for name, value in given.items() if value is None]
    params = _select(state, prefix)
    if outputs is None and "output_w" not in params:
        missing.append("outputs")
    if missing:
        raise BadInput(f"state_dict: does not say {', '.join(missing)}; give them as options "
                       "(ncps defaults: implicit_param_constraints=True for LTC and False for LTCCell, that is "
                       "--constraints implicit or explicit, unfolds=6, epsilon=1e-8)")
    torch = torch_module()
    count = int(params["output_w"].shape[0]) if outputs is None else outputs
    units = int(params["cm"].shape[0])
    named = known_roles(["inter"] * units if roles is None else list(roles), count if roles is None else 0)
    positive = torch.nn.Softplus() if implicit_param_constraints else torch.nn.Identity()
    assert unfolds is not None
    assert epsilon is not None
    layer = build_ltc(params, positive, named, count, unfolds, epsilon)
    mode = "implicit" if implicit_param_constraints else "explicit"
    return Imported((layer,), {"source": "ncps.torch state_dict", "constraints": mode})


def _select(state: Mapping[str, Any], prefix: str | None) -> dict[str, Any]:
    """The cell's tensors without their prefix, checked to be there and to fit together."""
    torch = torch_module()
    if prefix is None:
        prefix = _find_prefix(state)
    params = {k.removeprefix(prefix): torch.as_tensor(v) for k, v in state.items() if k.startswith(prefix)}
    for name in _REQUIRED:
        if name not in params:
            raise BadInput(f"state_dict: '{prefix}{name}' is missing; it is not the state_dict of an ncps LTC")
    unknown = sorted(set(params) - set(_REQUIRED) - set(_MAPPINGS))
    if unknown:
        raise BadInput(f"state_dict: '{prefix}{unknown[0]}' belongs to no LTC; import the whole model by its factory")
    _check_shapes(params, prefix)
    return params


def _find_prefix(state: Mapping[str, Any]) -> str:
    prefixes = sorted({key.removesuffix("gleak") for key in state if key.endswith("gleak")})
    if len(prefixes) != 1:
        raise BadInput(f"state_dict: holds {len(prefixes)} LTC cells; give the prefix of the one to read")
    others = sorted(key for key in state if not key.startswith(prefixes[0]))
    if others:
        raise BadInput(f"state_dict: '{others[0]}' is outside the LTC cell; give prefix='{prefixes[0]}' to "
                       "read that cell alone, or import the whole model by its factory")
    return prefixes[0]


def _check_shapes(params: Mapping[str, Any], prefix: str) -> None:
    units = tuple(params["cm"].shape)
    inputs = tuple(params["sensory_w"].shape[:1])
    for name in _REQUIRED:
        vector = name in ("gleak", "vleak", "cm")
        expected = units if vector else (*inputs, *units) if name.startswith("sensory") else (*units, *units)
        if tuple(params[name].shape) != expected:
            raise BadInput(f"state_dict: '{prefix}{name}' has shape {tuple(params[name].shape)}, expected {expected}")
