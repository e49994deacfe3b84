"""A module's own conversions to single precision, while it runs in double: they would only round what is compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ncpc.frontend.forward import double_by_default
from ncpc.system.torch_library import functions_seen, torch_module

NARROW = ("float", "half", "bfloat16")
"""Methods that convert to less than double precision, and dtypes of those names beside ``float32`` and ``float16``."""


@cache
def _coarse() -> tuple[Any, frozenset[Any]]:
    """The library and its dtypes below double precision, looked up once: every function of a run asks for them."""
    torch = torch_module()
    return torch, frozenset((torch.float32, torch.float16, torch.bfloat16))


def doubled(func: Any, args: Any, kwargs: Any) -> tuple[Any, Any, Any]:
    """A call of a torch function in double precision wherever it asks for less."""
    torch, narrow = _coarse()
    if getattr(func, "__name__", "") in NARROW and len(args) == 1 and torch.is_tensor(args[0]):
        func = torch.Tensor.double

    def wide(value: Any) -> Any:
        return torch.float64 if isinstance(value, torch.dtype) and value in narrow else value

    return func, tuple(map(wide, args)), {key: wide(value) for key, value in (kwargs or {}).items()}


@contextmanager
def in_double() -> Iterator[None]:
    """While inside, tensors are made in double precision, and none becomes narrower."""
    def call(func: Any, args: Any, kwargs: Any) -> Any:
        func, args, kwargs = doubled(func, args, kwargs)
        return func(*args, **kwargs)

    with double_by_default(), functions_seen(call):
        yield
