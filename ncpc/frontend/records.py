"""Frozen dataclasses to and from JSON records and named arrays, driven by their field types.

An array field becomes a tensor named by its path (``layers.0.recurrent.w``), a nested dataclass a nested record with
its own prefix, scalars and tuples JSON. A dataclass with a ``kind`` is looked up in a registry, so that a new layer
needs no code here. Arrays are stored narrow (float32, int32) where that is exact and always read back wide.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput
from ncpc.ir.sequences import LATER

Array = NDArray[Any]
Kinds = Mapping[str, type]

NARROW: dict[type, type] = {np.float64: np.float32, np.int64: np.int32}
_SCALARS: dict[type, tuple[type, ...]] = {float: (float, int), int: (int,), str: (str,), bool: (bool,)}


def encode(value: object, prefix: str, tensors: dict[str, Array]) -> object:
    """The JSON form of ``value``; the arrays in it are put into ``tensors`` under names that start with ``prefix``."""
    if isinstance(value, np.ndarray):
        tensors[prefix] = narrow(value)
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return _encode_record(value, prefix, tensors)
    if isinstance(value, (list, tuple)):
        return [encode(item, f"{prefix}.{i}", tensors) for i, item in enumerate(value)]
    return value


def _encode_record(value: Any, prefix: str, tensors: dict[str, Array]) -> dict[str, object]:
    kind = getattr(value, "kind", None)
    record: dict[str, object] = {} if kind is None else {"kind": kind}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.metadata == LATER and not isinstance(item, np.ndarray) and item == field.default:
            continue
        encoded = encode(item, join(prefix, field.name), tensors)
        if not isinstance(item, np.ndarray):
            record[field.name] = encoded
    return record


def narrow(array: Array) -> Array:
    """``array`` in half the width where no value changes, else as it is; always contiguous."""
    smaller = NARROW.get(array.dtype.type)
    if smaller is not None:
        with np.errstate(all="ignore"):
            candidate: Array = array.astype(smaller)
        if np.array_equal(candidate.astype(array.dtype), array, equal_nan=array.dtype.kind == "f"):
            array = candidate
    return np.ascontiguousarray(array)


def decode(hint: Any, prefix: str, value: object, tensors: dict[str, Array], kinds: Kinds) -> Any:
    """The value of type ``hint`` behind the JSON ``value``; takes its arrays out of ``tensors``.

    Raises ``BadInput`` (without the file's name: the caller knows it) on anything missing or of another type.
    """
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _decode_optional(hint, prefix, value, tensors, kinds)
    if (wide := scalar_of(hint)) is not None:
        return _take(wide, prefix, tensors)
    if origin is tuple:
        return _decode_tuple(hint, prefix, value, tensors, kinds)
    if hint in _SCALARS:
        return _decode_scalar(hint, prefix, value)
    if is_dataclass(hint) or (origin is None and getattr(hint, "_is_protocol", False)):
        return _decode_record(hint, prefix, value, tensors, kinds)
    return _decode_object(prefix, value)


def _decode_optional(hint: Any, prefix: str, value: object, tensors: dict[str, Array], kinds: Kinds) -> Any:
    (inner,) = (option for option in get_args(hint) if option is not NoneType)
    absent = value is None if scalar_of(inner) is None else prefix not in tensors
    return None if absent else decode(inner, prefix, value, tensors, kinds)


def scalar_of(hint: Any) -> Any:
    """The scalar type of a hint ``NDArray[T]``, None for any other hint.

    Up to NumPy 2.4 the hint reads ``ndarray[shape, dtype[T]]``; from 2.5 on it stays an alias.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is np.ndarray:
        return get_args(arguments[1])[0]
    return arguments[0] if origin is NDArray else None


def _take(wide: Any, prefix: str, tensors: dict[str, Array]) -> Array:
    if prefix not in tensors:
        raise BadInput(f"tensor '{prefix}' is missing; the file is incomplete, save the policy again")
    array = tensors.pop(prefix)
    if array.dtype.type not in (wide, NARROW.get(wide)):
        raise BadInput(f"tensor '{prefix}' is {array.dtype}, expected {np.dtype(wide)}; save the policy again")
    return array.astype(wide)


def _decode_tuple(hint: Any, prefix: str, value: object, tensors: dict[str, Array], kinds: Kinds) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise BadInput(f"'{prefix}' is {_name(value)}, expected a list; save the policy again")
    inner = get_args(hint)[0]
    return tuple(decode(inner, join(prefix, str(i)), item, tensors, kinds) for i, item in enumerate(value))


def _decode_scalar(hint: type, prefix: str, value: object) -> object:
    wrong_bool = isinstance(value, bool) and hint is not bool
    too_large = hint is float and isinstance(value, int) and abs(value) > sys.float_info.max
    if wrong_bool or too_large or not isinstance(value, _SCALARS[hint]):
        raise BadInput(f"'{prefix}' is {_name(value)}, expected {hint.__name__}; save the policy again")
    return hint(value)


def _decode_record(hint: Any, prefix: str, value: object, tensors: dict[str, Array], kinds: Kinds) -> Any:
    record = dict(_decode_object(prefix, value))
    cls: Any = hint if is_dataclass(hint) else _lookup(prefix, record, kinds)
    if hasattr(cls, "kind"):
        record.pop("kind", None)
    hints = get_type_hints(cls)
    absent = {field.name for field in fields(cls) if field.metadata == LATER
              and field.name not in record and join(prefix, field.name) not in tensors}
    names = [field.name for field in fields(cls) if field.name not in absent]
    unknown = sorted(set(record) - set(names))
    if unknown:
        raise BadInput(f"'{join(prefix, unknown[0])}' is not known; the file was made by another version of ncpc")
    _require(prefix, record, names, hints)
    parts = {n: decode(hints[n], join(prefix, n), record.get(n), tensors, kinds) for n in names}
    return cls(**parts)


def _require(prefix: str, record: Mapping[str, object], names: Sequence[str], hints: Mapping[str, Any]) -> None:
    """Every field that is not an array (or perhaps one) must stand in the record, defaults or not."""
    for name in names:
        is_array = any(scalar_of(h) is not None for h in (hints[name], *get_args(hints[name])))
        if not is_array and name not in record:
            raise BadInput(f"'{join(prefix, name)}' is missing; the file is incomplete, save the policy again")


def _lookup(prefix: str, record: Mapping[str, object], kinds: Kinds) -> Any:
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise BadInput(f"'{prefix}' is of unknown kind {kind!r}; this version of ncpc knows {', '.join(sorted(kinds))}")
    return kinds[kind]


def _decode_object(prefix: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BadInput(f"'{prefix or 'policy'}' is {_name(value)}, expected an object; save the policy again")
    return value


def join(prefix: str, name: str) -> str:
    """``prefix.name``, or ``name`` at the top."""
    return f"{prefix}.{name}" if prefix else name


def _name(value: object) -> str:
    return "missing" if value is None else type(value).__name__
