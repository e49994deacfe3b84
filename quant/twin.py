"""The twin of a torch module for training: the user's module, its weights on the grids of the compiled program.

``prepare`` makes it, ``refresh`` asks the compiler for the grids again, ``finish`` gives the plain module back whose
weights compiling rounds no further. Importing this needs torch and brevitas (extra ``torch``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend.api import policy_of
from ncpc.frontend.data import told_data
from ncpc.frontend.models import Asked, ModelRead, Shape, read_model
from ncpc.frontend.ncps_torch import read_cell, unwrapped
from ncpc.frontend.validate import check_policy
from ncpc.ir.policy import F64, Ltc, Policy
from ncpc.ir.program import Program
from ncpc.ir.schemes import SCHEMES, canonical
from ncpc.quant.brevitas_library import brevitas_library
from ncpc.quant.held_weights import HeldWeight, held_program, held_weights, real_weights
from ncpc.quant.twin_ltc import LtcParameters
from ncpc.quant.twin_parameters import Once, ParameterGrid, WeightOnGrid, over, parameter_grids
from ncpc.quant.weight_origins import WeightOrigin, Weights, explains, origins_of
from ncpc.system.torch_library import copy_of, ncps_torch_module, torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

WHERE = "ncpc.quant.prepare"
DEFAULT = "w8a16"
ROUNDS = 8
"""How often grids and what they make of the weights are fitted to each other at most."""
EXACT = 2.0**-5
"""By how much of a unit a weight in single precision may miss its integer."""


@dataclass(eq=False)
class Twin:
    """What a prepared ``module`` is: ``plain`` is the module as it was, frozen; ``scheme``, ``asked`` and ``dt`` how it
    is compiled, ``source`` what messages call the calibration.

    ``on_grid`` are the parametrizations by the parameter's name (several where modules share it), ``cells`` the LTCs by
    their path; ``origins`` say what the program's weights are made of. ``left`` names weights that are made of
    parameters otherwise than by sums: they are trained as they are, and the compiler rounds them.
    """

    module: Any
    plain: Any
    scheme: str
    asked: Asked
    dt: float | tuple[float, float] | None
    source: str
    once: Once = field(default_factory=Once)
    on_grid: dict[str, list[WeightOnGrid]] = field(default_factory=dict)
    cells: dict[str, LtcParameters] = field(default_factory=dict)
    origins: dict[tuple[int, str], WeightOrigin] = field(default_factory=dict)
    grids: dict[str, ParameterGrid] = field(default_factory=dict)
    left: tuple[str, ...] = ()

    def finished(self) -> Any:
        """See ``finish``."""
        return finish(self.module)


def prepare(
    module: Any,
    scheme: str = DEFAULT,
    *,
    calibration: object | None = None,
    input_range: ArrayLike | None = None,
    dt: float | tuple[float, float] | None = None,
    input_shape: Shape = None,
    carry: str | Mapping[str, str | int] | None = None,
) -> Any:
    """A copy of a torch module with the same forward, every weight of it on the grid that compiling it in ``scheme``
    chooses; ``module`` stays as it is.

    The copy is trained like any module: parameters, optimizers and ``state_dict`` are torch's, gradients pass the
    rounding unchanged. Everything but weights (inputs, states, sums) stays in floating point. ``scheme`` is one of
    integers; ``calibration``, ``input_range``, ``dt``, ``input_shape`` and ``carry`` are those of ``ncpc.save``, and
    decide grids as they do there. Grids follow the weights when ``refresh`` is called; ``finish`` or ``ncpc.save`` end
    the training.

    Raises ``BadInput`` or ``Unsupported`` for what ``ncpc.save`` would refuse, for an unknown scheme and one without
    integers, and ``MissingTool`` without torch or brevitas.
    """
    if not isinstance(module, torch.nn.Module):
        raise BadInput(f"{WHERE}: the model is a {type(module).__name__}, not a torch module; put a list of modules "
                       "into ncpc.cells.Sequential")
    if twin_of(module) is not None:
        raise BadInput(f"{WHERE}: the module is prepared already; prepare what ncpc.quant.finish makes of it")
    scheme = canonical(scheme)
    _require_integers(scheme)
    brevitas_library()
    calibration, source = told_data(calibration, input_range, WHERE)
    asked = Asked(None, False, input_shape, calibration, input_range, (), carry)
    plain, copied = copy_of([unwrapped(module)])[0], copy_of([unwrapped(module)])[0]
    twin = Twin(copied, plain.eval().requires_grad_(False), scheme, asked, dt, source)
    found, policy = read_twin(twin, plain)
    for check in found.checks:
        check(policy, WHERE)
    _wrap(twin)
    refresh(copied)
    if SCHEMES[scheme].together:
        _start(twin)
    return copied


def twin_of(module: Any) -> Twin | None:
    """What ``prepare`` knows of a module that it made; None for any other."""
    return getattr(module, "ncpc_twin", None)


def refresh(module: Any) -> None:
    """Let the compiler choose the grids again, for the weights as they are now (before rounding).

    Once for each pass over the data is enough: between two calls weights that leave their grid's range are held at its
    end. Raises what compiling would.
    """
    twin = require_twin(module, "ncpc.quant.refresh")
    double = _copy(twin, on_grid=False).double()
    _, policy = read_twin(twin, double)
    weights = held_weights(policy, twin.scheme)
    values = {name: p.detach().numpy() for name, p in double.named_parameters()}
    if not all(weight.of_ltc or ((origin := twin.origins.get(weight.key)) is not None
                                 and explains(origin, weight.data, values)) for weight in weights):
        twin.origins = _origins(twin, double)
    twin.grids = {}
    _put(twin, policy, weights, double)
    raw = set(twin.on_grid)
    twin.left = tuple(weight.where for weight in weights if not weight.of_ltc
                      and not _is_carried(twin.origins[weight.key], raw))


def finish(module: Any) -> Any:
    """The plain module, its weights on the grid: a new one on the CPU, of the class and with the parameters' names of
    the one that ``prepare`` was given, without anything of ncpc or brevitas in it.

    Grids are chosen anew until compiling it with the same calibration rounds no weight any further. Raises
    ``Unsupported`` naming a weight where that does not come about.
    """
    return finished(module)[0]


def finished(module: Any) -> tuple[Any, Program]:
    """``finish``, and the integer program that compiling what it gives makes."""
    twin = require_twin(module, "ncpc.quant.finish")
    refresh(module)
    lossy: list[HeldWeight] = []
    for _ in range(ROUNDS):
        plain = _copy(twin, on_grid=True)
        double = copy_of([plain])[0].double()
        _, policy = read_twin(twin, double)
        program, weights = held_program(policy, twin.scheme)
        lossy = [weight for weight in weights if weight.where not in twin.left and (weight.lost > EXACT).any()]
        if not lossy:
            return _as_trained(twin, plain), program
        _put(twin, policy, [weight for weight in weights if weight.of_ltc or weight in lossy], double)
    raise Unsupported(f"ncpc.quant.finish: {lossy[0].where} finds no grid that it stays on; its scale depends on "
                      "rounding it; change the largest weight a little and try again")


def read_twin(twin: Twin, module: Any) -> tuple[ModelRead, Policy]:
    """A module's policy, as ``ncpc.save`` reads it."""
    found = read_model(module, twin.asked, WHERE)
    policy = policy_of(found, twin.asked, twin.dt, WHERE, "twin", twin.source)
    check_policy(policy, WHERE)
    return found, policy


def _require_integers(scheme: str) -> None:
    integers = [name for name, row in SCHEMES.items() if row.arithmetic == "integer"]
    if scheme not in SCHEMES:
        raise BadInput(f"{WHERE}: scheme is {scheme!r}; known are {', '.join(integers)}")
    if scheme not in integers:
        raise BadInput(f"{WHERE}: scheme '{scheme}' has no integers to train for; give {' or '.join(integers)}")


def require_twin(module: Any, where: str) -> Twin:
    """What ``prepare`` knows of a module. Raises BadInput for one that it did not make."""
    twin = twin_of(module)
    if twin is None:
        raise BadInput(f"{where}: the module was not made by ncpc.quant.prepare; give what that returns")
    return twin


def _wrap(twin: Twin) -> None:
    """Put parametrizations in, and LTC cells on their grids; nothing is rounded yet."""
    module = twin.module
    for path, cell in _ltc_cells(module):
        twin.cells[path] = LtcParameters(cell, twin.once)
    for names in _matrices(twin):
        made = []
        for name in names:
            owner, leaf = _owner(module, name)
            made.append(WeightOnGrid(getattr(owner, leaf), twin.once))
            torch.nn.utils.parametrize.register_parametrization(owner, leaf, made[-1])
        twin.on_grid[names[0]] = made
    twin.once.flat += [part for part in module.modules() if isinstance(part, torch.nn.RNNBase)]
    module.ncpc_twin, module.ncpc_plain = twin, twin.finished
    module.register_forward_pre_hook(twin.once.begin)
    module.register_forward_hook(twin.once.end, always_call=True)


@torch.no_grad()
def _start(twin: Twin) -> None:
    """Move parameters, no further than they must, until each weight is rounded to the integer that the compiler, which
    rounds them together, made of it. An LTC that is run at several places has integers for each, and begins at the
    nearest ones.
    """
    aims, raw = {name: grid.held for name, grid in twin.grids.items()}, _raw_parameters(twin)
    cells = {path: dict(cell.held) for path, cell in twin.cells.items()}
    for k in range(ROUNDS):
        moved = [part.start(raw[name], aim, k == 0) for name, aim in aims.items() for part in twin.on_grid[name]]
        moved += [twin.cells[path].start(held, k == 0) for path, held in cells.items()]
        if not any(moved):
            break
        refresh(twin.module)  # a row whose largest weight fell has a finer grid


def _as_trained(twin: Twin, plain: Any) -> Any:
    """The plain module in the mode of the trained one, the same parameters frozen."""
    raw = _raw_parameters(twin)
    for name, parameter in plain.named_parameters():
        parameter.requires_grad_(raw[name].requires_grad)
    return plain.train(twin.module.training)


def _matrices(twin: Twin) -> list[list[str]]:
    """Names of the parameters that weights are made of, those of one parameter together; not those of LTC cells."""
    inside = tuple(f"{path}." if path else "" for path in twin.cells)
    found: dict[int, list[str]] = {}
    for name, p in twin.module.named_parameters(remove_duplicate=False):
        if p.is_floating_point() and not (inside and name.startswith(inside)):
            found.setdefault(id(p), []).append(name)
    twin.origins = _origins(twin, copy_of([twin.plain])[0].double())
    carried = {term.parameter for origin in twin.origins.values() for term in origin.terms}
    return [names for names in found.values() if carried & set(names)]


def _origins(twin: Twin, double: Any) -> dict[tuple[int, str], WeightOrigin]:
    """What the weights of the program are made of, by place and name, found in a module in double precision."""
    def read() -> Weights:
        return real_weights(read_twin(twin, double)[1], twin.scheme)

    for name, parameter in double.named_parameters():
        parameter.requires_grad_(not name.endswith("sparsity_mask"))
    return {(place, name): origin for (place, name, _), origin in zip(read(), origins_of(double, read), strict=True)}


def _put(twin: Twin, policy: Policy, weights: Sequence[HeldWeight], double: Any) -> None:
    """Give parameters and cells the grids of ``weights``, which were read from ``double``; others keep theirs."""
    summed = [weight for weight in weights if not weight.of_ltc and (origin := twin.origins.get(weight.key)) is not None
              and origin.known.shape == weight.data.shape]
    raw = _raw_parameters(twin)
    found = parameter_grids(summed, [twin.origins[w.key] for w in summed], {n: raw[n].numel() for n in twin.on_grid})
    for name, grid in found.items():
        twin.grids[name] = over(grid, twin.grids.get(name))
        for on_grid in twin.on_grid[name]:
            on_grid.put(twin.grids[name], [raw[other.parameter] for other in twin.grids[name].others])
    for path, parameters in twin.cells.items():
        for k, (place, layer) in enumerate(_places(policy, read_cell(double.get_submodule(path)))):
            parameters.put(layer, {w.name: w for w in weights if w.place == place}, more=k > 0)


def _is_carried(origin: WeightOrigin, parameters: Collection[str]) -> bool:
    """Whether every element of a weight has a term that can bring it onto its grid; zeros need none."""
    carried = np.zeros(origin.known.shape, bool)
    for term in origin.terms:
        carried = carried | ((term.gain != 0) & (term.parameter in parameters))
    unmoved = ~np.any([term.gain != 0 for term in origin.terms], axis=0) if origin.terms else True
    return bool((origin.known & (carried | unmoved)).all())


def _places(policy: Policy, read: Sequence[Any] | None) -> Iterator[tuple[int, Ltc]]:
    """The layers of a policy that were read from one cell."""
    own = next(iter(read or ()), None)
    for place, layer in enumerate(policy.layers):
        if isinstance(layer, Ltc) and isinstance(own, Ltc) and layer.solver == "fused" and all(
                np.array_equal(a, b) for a, b in zip(_told(layer), _told(own), strict=True)):
            yield place, layer


def _told(layer: Ltc) -> list[F64]:
    return [layer.cm, layer.recurrent.w, layer.recurrent.mu, layer.sensory.w, layer.sensory.mu]


def _ltc_cells(module: Any) -> list[tuple[str, Any]]:
    return [(path, part) for path, part in module.named_modules() if isinstance(part, ncps_torch_module().LTCCell)]


def _owner(module: Any, name: str) -> tuple[Any, str]:
    path, _, leaf = name.rpartition(".")
    return module.get_submodule(path), leaf


def _raw_parameters(twin: Twin) -> dict[str, Any]:
    """The trained parameters, before rounding, by the names that they have in the plain module."""
    return {name.replace("parametrizations.", "").removesuffix(".original") if ".original" in name else name: p
            for name, p in twin.module.named_parameters(remove_duplicate=False)}


@torch.no_grad()
def _copy(twin: Twin, on_grid: bool) -> Any:
    """A plain module with the parameters as they are now, rounded or not, and the buffers."""
    (copied,) = copy_of([twin.plain])
    values = _raw_parameters(twin)
    if on_grid:
        for name in twin.on_grid:
            owner, leaf = _owner(twin.module, name)
            values[name] = getattr(owner, leaf)
    for path, cell in twin.cells.items():
        values |= {f"{path}.{name}" if path else name: value
                   for name, value in (cell.baked() if on_grid else cell.to_round()).items()}
    for name, parameter in copied.named_parameters():
        parameter.copy_(values[name])
    buffers = dict(twin.module.named_buffers())
    for name, buffer in copied.named_buffers():
        buffer.copy_(buffers[name])
    return copied
