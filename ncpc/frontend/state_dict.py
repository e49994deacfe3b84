"""Reads a bare ``state_dict``: it holds the tensors of modules, but neither how they are run nor in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.checkpoints import unpruned
from ncpc.frontend.imported import Imported
from ncpc.frontend.state_cells import Told, needed, options_of, read_part
from ncpc.frontend.state_chain import PartWidths, chained, guessed_order
from ncpc.frontend.state_parts import LINEAR, Part, parts_of
from ncpc.frontend.with_widths import with_widths
from ncpc.system.torch_library import torch_module

ASKED = {
    "implicit_param_constraints": "--constraints implicit or explicit (ncps: implicit for LTC, explicit for LTCCell)",
    "unfolds": "--unfolds N (ncps: 6)",
    "epsilon": "--epsilon E (ncps: 1e-8)",
    "outputs": "--outputs N, how many neurons, the first ones, are outputs",
    "mode": "--mode default or no_gate (ncps: default)",
    "activation": "--activation lecun_tanh, tanh, relu, silu or gelu, in the backbone (ncps: lecun_tanh)",
    "nonlinearity": "--nonlinearity tanh or relu (torch: tanh)",
}
"""By the name of an option: how it is given, and the default of the library."""
ASSUMED = Told(True, unfolds=6, epsilon=1e-8, mode="default", activation="lecun_tanh", nonlinearity="tanh")
"""What is put for an option that is missing to see which shapes modules have; nothing read so is kept."""


def import_state_dict(
    state: Mapping[str, Any], *, prefix: str | None = None, layers: str | Sequence[str] | None = None, **told: Any
) -> Imported:
    """The layers behind a bare ``state_dict`` (torch tensors or arrays), which does not say how they are to be run.

    It may hold cells of ncps.torch (LTC; CfC, wired or not; mixed memory), LSTM, GRU and RNN of torch, and Linear
    layers. ``told`` are fields of ``Told``, for all cells that they concern. ``layers``, a list or words with commas
    between, is the order of several modules with the functions between them: ``fc,tanh,rnn,head``; only cells without
    Linear layers beside them, whose widths allow one order, do without. ``prefix`` selects the keys of a part of a
    larger dict. Raises ``BadInput`` naming at once every option that is missing, with the defaults of the libraries;
    also for one that would have no effect.
    """
    parts = parts_of(_tensors(state, prefix))
    if all(part.kind is LINEAR for part in parts):
        raise BadInput("state_dict: holds no cell of LTC, CfC, LSTM, GRU or RNN; a policy needs one")
    given = Told(**told)
    words = [word.strip() for word in (layers.split(",") if isinstance(layers, str) else layers or ())]
    _refuse_useless(parts, given)
    order, only = guessed_order(_widths(parts, given))
    missing = [name for part in parts for name in needed(part) if getattr(given, name) is None]
    asked = {name: ASKED[name] for name in missing}
    alone = len(parts) == 1 or (only and not any(part.kind is LINEAR for part in parts))
    if not words and not alone:
        asked["layers"] = _question(parts, order, only)
    if asked:
        raise BadInput(f"state_dict: does not say {', '.join(asked)}; give them as options: "
                       f"{'; '.join(asked.values())}")
    read = {part.name: read_part(part, given) for part in parts}
    found = with_widths(chained(read, words or list(order or ())))
    return Imported(found, _provenance(parts, given, words))


def _tensors(state: Mapping[str, Any], prefix: str | None) -> dict[str, Any]:
    """The tensors whose names begin with ``prefix``, without it, and without what pruning keeps beside them."""
    torch, start = torch_module(), prefix or ""
    found = {key.removeprefix(start): torch.as_tensor(v) for key, v in state.items() if key.startswith(start)}
    for key, tensor in found.items():
        if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            raise BadInput(f"state_dict: '{start}{key}' is sparse, complex or quantized; give plain numbers")
    return unpruned({key: tensor if tensor.is_floating_point() else tensor.double() for key, tensor in found.items()})


def _refuse_useless(parts: Sequence[Part], given: Told) -> None:
    known = {name for part in parts for name in options_of(part)}
    useless = [name for name, value in asdict(given).items() if value is not None and name not in known]
    if useless:
        kinds = ", ".join(dict.fromkeys(part.kind.name for part in parts))
        raise BadInput(f"state_dict: holds {kinds}, of which {', '.join(useless)} says nothing; leave that out")


def _widths(parts: Sequence[Part], given: Told) -> dict[str, PartWidths]:
    """How many values each part takes and gives, whatever has not been told."""
    values = {name: value for name, value in asdict(given).items() if value is not None}
    return {part.name: _width(part, Told(**(asdict(ASSUMED) | values))) for part in parts}


def _width(part: Part, assumed: Told) -> PartWidths:
    unknown = assumed.outputs is None and "outputs" in needed(part)
    layers = read_part(part, replace(assumed, outputs=1) if unknown else assumed)
    return PartWidths(layers[0].inputs, None if unknown else layers[-1].outputs)


def _question(parts: Sequence[Part], order: Sequence[str] | None, only: bool) -> str:
    """How ``layers`` is asked for: with the order that the widths suggest, if they do."""
    names = ",".join(order or [part.name for part in parts])
    why = "the only order that fits" if only else "one order of several that fit" if order else "no order fits"
    return f"--layers {names} ({why}) with the functions between them, as in fc,tanh,rnn,head"


def _provenance(parts: Sequence[Part], given: Told, words: Sequence[str]) -> dict[str, object]:
    """Where the layers came from, with all that was told of them."""
    constraints = {True: "implicit", False: "explicit", None: None}[given.implicit_param_constraints]
    said = {"constraints": constraints, "mode": given.mode, "activation": given.activation,
            "nonlinearity": given.nonlinearity, "layers": ",".join(words) or None}
    library = "torch" if all(part.kind.name in ("rnn", "cell", "linear") for part in parts) else "ncps.torch"
    return {"source": f"{library} state_dict", **{name: value for name, value in said.items() if value is not None}}
