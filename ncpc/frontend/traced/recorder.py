"""Watches one step of a module: every torch function that touches what depends on the inputs, and every cell's call."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

from ncpc.errors import NcpcError, Unsupported
from ncpc.frontend.traced.channels import Tensor, Traced, TracedGraph, of_constant
from ncpc.frontend.traced.precision import doubled
from ncpc.system.torch_library import functions_seen, torch_module

PACKAGE = Path(__file__).parents[2]
UNTRACED = ("requires_grad", "is_leaf", "grad_fn", "shape", "dtype", "device", "ndim", "layout", "is_cuda", "grad",
            "names", "itemsize", "nbytes", "is_sparse", "is_quantized", "is_nested", "is_mps", "is_meta")
"""Properties of a tensor that say nothing of its numbers."""
ABOUT = ("size", "dim", "numel", "nelement", "is_contiguous", "stride", "is_floating_point", "is_complex", "__len__",
         "type", "get_device", "requires_grad_", "has_names", "element_size", "is_same_size", "__hash__", "__repr__",
         "storage_offset", "is_inference", "_is_view", "__format__", "__dir__", "is_shared", "register_hook",
         "new_zeros", "new_ones", "new_full", "new_empty", "zeros_like", "ones_like", "full_like", "empty_like")
"""Functions of the same sort, those that make constants of a tensor's shape among them."""
DECIDING = ("__bool__", "item", "__float__", "__int__", "__index__", "tolist", "numpy", "__array__", "__contains__",
            "__iter__", "equal", "allclose", "is_nonzero", "nonzero", "gt", "ge", "lt", "le", "eq", "ne", "greater",
            "less", "isnan", "isfinite", "isinf", "argmax", "argmin", "any", "all", "logical_not", "sign")
"""Functions by which numbers of a step would decide what happens next."""

INSTEAD = {
    "log_softmax": "give softmax, or the logits", "log": "give what it is taken of",
    "normalize": "it divides by a length: normalize where the outputs are used, or put an RMSNorm there",
    "norm": "use rms_norm or layer_norm", "std": "use layer_norm", "var": "use layer_norm",
    "sqrt": "use rms_norm, or a function that can be read", "sort": "use minimum and maximum",
    "sin": "give it as an input", "cos": "give it as an input", "diff": "give differences between steps as inputs",
    "cumsum": "sums over time belong into a cell", "normal": "give the mean", "bernoulli": "give the probabilities",
    "multinomial": "give the probabilities", "randn_like": "leave noise to training",
    "rand_like": "leave noise to training",
    "scaled_dot_product_attention": "attention over time cannot run step by step; use a cell",
    "multi_head_attention_forward": "attention over time cannot run step by step; use a cell",
    "pack_padded_sequence": "packed sequences are for training: in eval() mode, give the cell the tensor",
}
"""What could be done without a function that cannot be read."""

PLACED = re.compile(r"\S+:\d+[ :]")
"""How an error begins that says where it is."""

Call = tuple[str, str, str, int]
"""A call: the modules that are running, the user's line, the function, how many such calls there were before."""
Sizes = dict[Call, list[tuple[int, ...]]]
"""The shapes of what calls give."""
Handler = Callable[["Recorder", "TorchCall"], Any]


@dataclass(frozen=True, eq=False)
class TorchCall:
    """A call of a torch function: ``args`` hold ``Traced`` where a tensor depends on the inputs; ``result`` is torch's
    own, of this run.
    """

    name: str
    func: Any
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    result: Any

    def arg(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


@dataclass(frozen=True, eq=False)
class Unread:
    """A tensor that cannot be read, and why: said only where an output, or a cell, depends on it."""

    error: NcpcError


@dataclass
class Recorder:
    """What was seen so far. ``handlers`` say what a function does; ``cells`` what a module's call does.

    ``longer`` are the shapes that calls gave in a run over one step more: what grew there is time.
    """

    graph: TracedGraph
    handlers: Mapping[str, Handler]
    longer: Sizes = field(default_factory=dict)
    sizes: Sizes = field(default_factory=dict)
    calls: dict[tuple[str, str, str], int] = field(default_factory=dict)
    traced: dict[int, Traced | Unread] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    """Tensors that were seen, so that their ids stay theirs."""
    inside: int = 0
    """How many cells are running: what they do is not looked at."""
    path: list[str] = field(default_factory=list)
    """The modules that are running, the outermost first."""

    def mark(self, tensor: Tensor, traced: Traced | Unread) -> None:
        self.traced[id(tensor)] = traced
        self.kept.append(tensor)

    def seen(self, value: Any) -> Any:
        """``value`` with every tensor that depends on the inputs replaced by what it is made of."""
        if torch_module().is_tensor(value):
            return self.traced.get(id(value), value)
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return type(value)(self.seen(item) for item in value)
        if isinstance(value, dict):
            return {key: self.seen(item) for key, item in value.items()}
        return value

    def call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a function, and note what its result is made of."""
        func, args, kwargs = doubled(func, args, kwargs)
        name = getattr(func, "__name__", str(func))
        about = name == "__get__" and getattr(getattr(func, "__self__", None), "__name__", "") in UNTRACED
        if name == "__get__":
            name = getattr(getattr(func, "__self__", None), "__name__", name)
        given, named = self.seen(args), self.seen(kwargs)
        if self.inside or about or name in ABOUT:
            return func(*args, **kwargs)
        call = self._place(name)
        if not any(map(depends, (*given, *named.values()))):
            return self._sized(call, func(*args, **kwargs))
        with self.located(name):
            if name in DECIDING:
                raise Unsupported("what happens next depends on the numbers of a step, which no fixed program does; "
                                  "use clamp, relu, minimum, maximum or a gate instead of a branch")
            result = func(*args, **kwargs)
        found = self._made(TorchCall(name, func, given, named, result))
        self._note(result if result is not None else args[0], found, self.longer.get(call, []))
        return result

    def _place(self, name: str) -> Call:
        """Which call this is, in a run over any number of steps."""
        key = ".".join(self.path), user_line(), name
        self.calls[key] = self.calls.get(key, -1) + 1
        return *key, self.calls[key]

    def _sized(self, call: Call, result: Any) -> Any:
        """Keep the shapes of a result."""
        tensors = result if isinstance(result, (list, tuple)) else [result]
        self.sizes[call] = [tuple(t.shape) for t in tensors if torch_module().is_tensor(t)]
        return result

    def _made(self, call: TorchCall) -> Any:
        """What the call's result is made of; or why that cannot be read."""
        if (before := _unread((call.args, dict(call.kwargs)))) is not None:
            return before
        name = call.name.rstrip("_") if call.name.endswith("_") and not call.name.endswith("__") else call.name
        name = name.strip("_") if name.startswith("__") else name
        try:
            with self.located(call.name):
                if (handler := self.handlers.get(name)) is None:
                    instead = f"; {INSTEAD[name]}" if name in INSTEAD else ""
                    raise Unsupported(f"torch's '{name}' is not among the functions that can be read{instead}")
                return handler(self, call)
        except NcpcError as error:
            return Unread(error)

    def _note(self, result: Any, found: Any, longer: Sequence[tuple[int, ...]]) -> None:
        if torch_module().is_tensor(result) and isinstance(found, (Traced, Unread)):
            if isinstance(found, Traced):
                found = replace(found, time=_grown(tuple(result.shape), *longer) if len(longer) == 1 else None)
            self.mark(result, found)
        elif isinstance(found, Unread):
            for tensor in result if isinstance(result, (list, tuple)) else ():
                self._note(tensor, found, [])
        elif isinstance(result, (list, tuple)):
            each = [[shape] for shape in longer] if len(longer) == len(result) else [[] for _ in result]
            for tensor, part, shape in zip(result, found, each, strict=True):
                self._note(tensor, part, shape)

    @contextmanager
    def located(self, name: str) -> Iterator[None]:
        """Errors say in which module, and where in the user's file."""
        try:
            yield
        except NcpcError as error:
            module = f" in {'.'.join(filter(None, self.path))}" if any(self.path) else ""
            line = user_line()
            if PLACED.match(str(error)) or str(error).startswith(line):
                raise
            raise type(error)(f"{line}{module}: {error}") from None


def _grown(shape: tuple[int, ...], longer: tuple[int, ...]) -> int | None:
    """The one dimension that is larger by a step, if there is one."""
    found = [k for k, pair in enumerate(zip(shape, longer, strict=False)) if pair[1] == pair[0] + 1]
    return found[0] if len(shape) == len(longer) and len(found) == 1 else None


def depends(value: Any) -> bool:
    """Whether anything in ``value`` depends on the inputs."""
    if isinstance(value, (list, tuple)):
        return any(map(depends, value))
    return any(map(depends, value.values())) if isinstance(value, dict) else isinstance(value, (Traced, Unread))


def _unread(value: Any) -> Unread | None:
    """The first part of ``value`` that cannot be read."""
    if isinstance(value, Unread):
        return value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return next(filter(None, map(_unread, parts)), None)


def as_traced(value: Any) -> Traced:
    """A tensor or number as what it is made of; raises the reason where that cannot be read."""
    if isinstance(value, Unread):
        raise value.error
    return value if isinstance(value, Traced) else of_constant(value)


def user_line() -> str:
    """Where the user's own code stands: ``file.py:12 ('y = torch.sort(x)')``; or the ``place`` of what runs a file that
    is no code.
    """
    frame: FrameType | None = sys._getframe(1)
    torch = str(Path(torch_module().__file__ or "").parent)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(str(PACKAGE)) and (place := getattr(frame.f_locals.get("self"), "place", None)):
            return str(place)
        if not file.startswith((torch, str(PACKAGE))) and "contextlib" not in file:
            code = linecache.getline(file, frame.f_lineno).strip()
            return f"{Path(file).name}:{frame.f_lineno}" + (f" ('{code}')" if code else "")
        frame = frame.f_back
    return "the module"


@contextmanager
def watching(recorder: Recorder, module: Any, cells: Mapping[str, Any], called: Callable[..., None]) -> Iterator[None]:
    """While inside, functions and modules of ``module`` are seen; ``called(name, cell, args, kwargs, output)`` is told
    of each call of one of ``cells`` (by name), whose own functions are not.
    """
    torch = torch_module()

    with ExitStack() as stack:
        for name, part in module.named_modules():
            enter, leave = _hooks(recorder, name, called if name in cells else None)
            if name in cells:
                stack.callback(_wrap_forward(recorder, part, enter, leave))
            stack.callback(part.register_forward_pre_hook(enter, with_kwargs=True).remove)
            stack.callback(part.register_forward_hook(leave, with_kwargs=True).remove)
        stack.enter_context(functions_seen(recorder.call))
        stack.enter_context(torch.no_grad())
        yield


def _wrap_forward(recorder: Recorder, part: Any, enter: Any, leave: Any) -> Callable[[], None]:
    """See calls of a cell's ``forward`` itself, which no hook sees, until what is returned is called."""
    own, inner = vars(part).get("forward"), part.forward

    @wraps(inner)
    def forward(*args: Any, **kwargs: Any) -> Any:
        if recorder.inside:
            return inner(*args, **kwargs)
        enter(part, args, kwargs)
        output = inner(*args, **kwargs)
        leave(part, args, kwargs, output)
        return output

    part.forward = forward
    return lambda: setattr(part, "forward", own) if own is not None else delattr(part, "forward")


def _hooks(recorder: Recorder, name: str, called: Callable[..., None] | None) -> tuple[Any, Any]:
    """Before and after a module's forward."""
    def enter(_: Any, args: Any, kwargs: Any) -> None:
        recorder.path.append(name.rsplit(".", 1)[-1])
        recorder.inside += called is not None

    def leave(part: Any, args: Any, kwargs: Any, output: Any) -> None:
        if called is not None and recorder.inside == 1:  # what the reading itself does is not looked at either
            with recorder.located(name):
                called(name, part, args, kwargs, output)
        recorder.inside -= called is not None
        recorder.path.pop()

    return enter, leave
