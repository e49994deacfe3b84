"""How a module's forward is called, step by step or over sequences, and what of its results is what."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.frontend.forward import each_row
from ncpc.frontend.traced.first_states import first_state
from ncpc.frontend.traced.precision import in_double
from ncpc.ir.policy import ChannelGroup
from ncpc.system.torch_library import copy_of, torch_module
from ncpc.system.user_code import one_line

F64 = NDArray[np.float64]
Path = tuple[str | int, ...]
"""Where in what forward returns something stands: keys of mappings, places in tuples, names of fields."""

Carry = Mapping[str, str | int]
"""By the arguments that hold the state: the key or the place, in what forward returns, of what they are next."""

TIMESPANS = ("timespans", "timespan", "elapsed_time", "ts", "dt", "delta_t")
STATES = ("hx", "h", "h0", "hc", "hidden", "hidden_state", "hiddens", "state", "states", "carry", "memory", "rnn_state",
          "hn", "h_n", "new_state", "next_state", "new_hidden", "next_hidden")
STATE_ENDS = ("_state", "_states", "_hidden", "hxs")
"""Names of arguments (and of results) that hold timespans, or a state from one call to the next; ends of such names."""


class CallFailed(BadInput):
    """The module's own forward raised, so that it may have to be called in another way."""


@dataclass(frozen=True)
class Arguments:
    """What ``forward`` takes: ``inputs``, and the names of the arguments for a state (one, or one for each of its
    parts) and for timespans, if any.

    ``required``: whether a state must be given even to the first call. ``becomes``: where in what forward returns the
    next call's state stands, part by part, where that was told.
    """

    inputs: tuple[str, ...]
    state: tuple[str, ...]
    timespans: str | None
    required: bool = False
    becomes: tuple[Path, ...] = ()

    def given_state(self, state: Any) -> dict[str, Any]:
        """The arguments that hold a state."""
        parts = [state] if len(self.state) == 1 else state or [None] * len(self.state)
        return dict(zip(self.state, parts, strict=True))


@dataclass(frozen=True)
class Results:
    """What of the returned is an output, by name, and what the state for the next call."""

    outputs: Mapping[str, Path]
    states: tuple[Path, ...]


@dataclass(frozen=True)
class Forward:
    """A way to call ``forward``: tensors of inputs are (B, T, ...) if ``over_time``, (T, B, ...) if also
    ``time_first``, else (B, ...) of one step. ``zeros``: the first call is given cells' states of zeros, not None.
    ``whole``: forward looks back over the steps of one call by itself, so that every call begins anew.
    """

    name: str
    groups: tuple[ChannelGroup, ...]
    takes: Arguments
    gives: Results
    over_time: bool
    time_first: bool
    zeros: bool = False
    whole: bool = False

    def run(self, module: Any, data: tuple[F64, F64], where: str, *, double: bool = True, cut: int = 0
            ) -> dict[str, F64]:
        """What a fresh copy of ``module`` gives for ``data`` (B, T, inputs) and (B, T): outputs by name, each
        (B, T, width), or (B, 1, width) where it gives the last step's alone.

        ``cut``: the step before which a second call goes on from the state that the first gave. Raises BadInput where
        forward fails.
        """
        (fresh,) = copy_of([module])
        fresh = fresh.eval().cpu()
        fresh = fresh.double() if double else fresh
        tensors = [torch_module().as_tensor(part) for part in data]

        def rows(x: Any, dt: Any) -> tuple[Any, ...]:
            return self._rows(fresh, x, dt, where, cut)

        found = each_row(rows, *tensors) if self.takes.timespans else rows(*tensors)
        return {name: part.numpy() for name, part in zip(self.gives.outputs, found, strict=True)}

    def cuts(self, module: Any, data: tuple[F64, F64], where: str) -> tuple[int, ...]:
        """Where runs are to be cut (0: nowhere) to see that a call goes on from the one before: where a state is given
        and taken, and where the module keeps one, so that the same call again gives something else.
        """
        if not self.over_time or self.whole:
            return (0,)
        half = data[0].shape[1] // 2
        if self.gives.states and self.takes.state:
            return 0, half
        (fresh,) = copy_of([module])
        fresh, rows = fresh.eval().cpu().double(), (slice(1), slice(half))
        first, second = (self.call(fresh, data[0][rows], data[1][rows], None, where) for _ in range(2))
        pairs = [(at(first, path), at(second, path)) for path in self.gives.outputs.values()]
        return (0,) if all(torch_module().equal(*pair) for pair in pairs) else (0, half)

    def _rows(self, fresh: Any, x: Any, dt: Any, where: str, cut: int) -> tuple[Any, ...]:
        """Outputs as tensors in double precision, each (B, T, width) or (B, 1, width)."""
        (module,) = copy_of([fresh])
        found, _ = self.over_calls(lambda x, dt, state: self.call(module, x, dt, state, where), x, dt, None, cut)
        return tuple(part.detach().double() for part in found)

    def over_calls(self, call: Callable[[Any, Any, Any], Any], x: Any, dt: Any, state: Any, cut: int = 0
                   ) -> tuple[tuple[Any, ...], Any]:
        """What ``call(x, dt, state)`` returns for as many steps as one call takes, again and again, the state carried:
        outputs, each (B, T, width) or (B, 1, width), and the last state. ``cut`` as in ``run``.
        """
        steps, pieces = x.shape[1], []
        ends = ([0, cut, steps] if cut else [0, steps]) if self.over_time else list(range(steps + 1))
        for lo, hi in pairwise(ends):
            results = call(x[:, lo:hi], dt[:, lo:hi], state)
            parts = [at(results, path) for path in self.gives.states]
            state = parts[0] if len(parts) == 1 else tuple(parts) or None
            pieces.append([self._over_time(at(results, path), len(x), hi - lo) for path in self.gives.outputs.values()])
        return tuple(torch_module().cat(part, 1) for part in zip(*pieces, strict=True)), state

    def call(self, module: Any, x: Any, dt: Any, state: Any, where: str) -> Any:
        """One call, on (B, T, inputs) and (B, T), arrays or tensors; without time, T is 1."""
        torch = torch_module()
        dtype = next((p.dtype for p in module.parameters()), torch.float32)
        given = self.given(module, torch.as_tensor(x, dtype=dtype), torch.as_tensor(dt, dtype=dtype), state)
        try:
            with torch.no_grad(), in_double() if dtype == torch.float64 else nullcontext():
                return module(**given)
        except Exception as error:
            raise CallFailed(f"{where}: {self.name} failed on inputs {tuple(x.shape)} ({one_line(error)})") from error

    def first(self, module: Any, rows: int, dtype: Any) -> Any:
        """The state that a first call is given where it must be given one."""
        return first_state(module, rows, dtype) if self.zeros else None

    def given(self, module: Any, x: Any, dt: Any, state: Any) -> dict[str, Any]:
        """All arguments of a call, the state's among them where forward takes one."""
        given = self.arguments(x, dt)
        if self.takes.state and (state is not None or self.takes.required):
            given.update(self.takes.given_state(self.first(module, len(x), x.dtype) if state is None else state))
        return given

    def arguments(self, x: Any, dt: Any) -> dict[str, Any]:
        """Arguments of a call: tensors of inputs by name, and timespans where forward takes some."""
        given, first = {}, 0
        for group in self.groups:
            part = x[..., first : first + group.width].reshape(*x.shape[:2], *group.shape)
            given[group.name] = self._placed(part)
            first += group.width
        if self.takes.timespans:
            given[self.takes.timespans] = self._placed(dt)
        return given

    def _placed(self, part: Any) -> Any:
        if not self.over_time:
            return part[:, 0].contiguous()
        return (part.transpose(0, 1) if self.time_first else part).contiguous()

    def _over_time(self, tensor: Any, rows: int, steps: int) -> Any:
        y = tensor.transpose(0, 1) if self.time_first and tensor.ndim > 2 else tensor
        whole = self.over_time and y.shape[:2] == (rows, steps)
        return y.reshape(rows, steps if whole else 1, -1)


def arguments_of(module: Any, told: Collection[str], where: str, carry: Carry | None = None) -> Arguments:
    """The arguments of ``forward`` by what they are for; those that were ``told`` the shape of are inputs. Raises
    BadInput where none takes an input, or where ``carry`` names one that is not there.
    """
    inputs: list[str] = []
    found: list[str] = []
    timespans, must = None, False
    parameters = inspect.signature(module.forward).parameters
    if unknown := [name for name in carry or () if name not in parameters]:
        raise BadInput(f"{where}: carry= names {unknown[0]!r}; forward of {type(module).__name__} takes "
                       f"{', '.join(parameters)}")
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in (carry or ()):
            must, found = must or required, [*found, name]
        elif name in told:
            inputs.append(name)
        elif name in TIMESPANS and inputs:
            timespans = name
        elif inputs and carry is None and (_is_state_name(name) or parameter.default is None):
            must, found = (must, found) if found else (required, [name])
        elif required:
            inputs.append(name)
    if not inputs:
        raise BadInput(f"{where}: forward of {type(module).__name__} takes no input by name")
    becomes = tuple((carry[name],) for name in found) if carry else ()
    return Arguments(tuple(inputs), tuple(found), timespans, must, becomes)


def _is_state_name(name: str) -> bool:
    return name in STATES or name.endswith(STATE_ENDS)


def input_groups(names: Sequence[str], shapes: Mapping[str, Sequence[int]], where: str) -> tuple[ChannelGroup, ...]:
    """A group for each argument that takes an input; raises BadInput naming those whose shape nobody told."""
    if missing := [name for name in names if name not in shapes]:
        example = ", ".join(f"'{name}': (...)" for name in missing)
        raise BadInput(f"{where}: the shape of one step's '{missing[0]}' is not known; give input_shape={{{example}}}, "
                       f"or a calibration with arrays {', '.join(names)}")
    return tuple(ChannelGroup(name, tuple(int(n) for n in shapes[name]) or (1,)) for name in names)


def leaves(given: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every tensor in what forward returned, and where it stands."""
    if torch_module().is_tensor(given):
        yield path, given
    for key, part in _parts(given):
        yield from leaves(part, (*path, key))


def _parts(given: Any) -> list[tuple[str | int, Any]]:
    if isinstance(given, Mapping):
        return list(given.items())
    if hasattr(given, "_asdict"):
        return list(given._asdict().items())
    if is_dataclass(given) and not isinstance(given, type):
        return list(vars(given).items())
    return list(enumerate(given)) if isinstance(given, (list, tuple)) else []


def at(given: Any, path: Path) -> Any:
    """What stands at ``path``."""
    for key in path:
        given = dict(_parts(given))[key]
    return given


def results_of(given: Any, states: Sequence[Path], constants: Sequence[Path], takes: Arguments) -> Results:
    """Outputs and state of what forward returned. ``states`` are the tensors that hold nothing but cells' states,
    ``constants`` those that do not depend on the inputs.

    The first part is an output in any case; a later one whose tensors are states, beside constants, is what the next
    call takes, unless it was told what that is. Raises BadInput where what was told is not there.
    """
    found = dict(leaves(given))
    if takes.becomes:
        tops = list(dict.fromkeys(path[0] for path in found if path))
        if unknown := [key for (key,) in takes.becomes if key not in tops]:
            raise BadInput(f"carry= says that the state becomes {unknown[0]!r} of what forward returns, which is "
                           f"{', '.join(map(repr, tops)) or 'one tensor'}")
        outputs = [path for path in found if (path[0],) not in takes.becomes]
        return Results(dict(zip(_output_names(outputs), outputs, strict=True)), takes.becomes)
    if list(found) == [()]:
        return Results({"y": ()}, ())
    tops = list(dict.fromkeys(path[0] for path in found))
    kept = [top for k, top in enumerate(tops) if k and (takes.state or top in STATES)
            and any(path in states for path in found if path[0] == top)
            and all(path in states or path in constants for path in found if path[0] == top)]
    outputs = [path for path in found if path[0] not in kept]
    return Results(dict(zip(_output_names(outputs), outputs, strict=True)), tuple((top,) for top in kept))


def _output_names(paths: Sequence[Path]) -> list[str]:
    """Keys and fields by their names, places in tuples as y0, y1; what all have in front is left out."""
    shared = 0
    while all(len(path) > shared + (len(paths) > 1) for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    if len(paths) == 1:
        key = paths[0][-1]
        return [word(key) if isinstance(key, str) else "y"]
    return [word("_".join(str(key) if isinstance(key, str) or k else f"y{key}" for k, key in enumerate(path[shared:])))
            for path in paths]


def word(text: str) -> str:
    """``text`` as a name: ``left/arm`` becomes ``left_arm``."""
    word = re.sub(r"\W", "_", text, flags=re.ASCII)
    return word if word[:1].isalpha() or word.startswith("_") else f"y_{word}"
