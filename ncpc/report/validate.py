"""JSON of unknown origin against a JSON Schema: the part of draft 2020-12 that ncpc's own schemas use."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput

MOST_BYTES = 64 << 20
"""No report is longer; a file that is longer is not read."""
MOST_DIGITS = 19
"""Of a whole number, sign included: longer ones have no place in float64 or int64."""

Schema = Mapping[str, Any]
Fault = Iterator[str]


def read_json(path: Path, schema: Schema) -> dict[str, Any]:
    """The object in ``path``, valid under ``schema``. Raises BadInput with the first fault, FileNotFoundError."""
    value = parsed(_text(path), path)
    for fault in faults(value, schema, ""):
        raise BadInput(f"{path}: damaged, {fault}; compile again")
    assert isinstance(value, dict)
    return value


def _text(path: Path) -> str:
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise BadInput(f"{path}: no file, or one of more than {MOST_BYTES >> 20} MB; compile again")
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read ({error}); compile again") from None


def parsed(text: str, path: Path) -> object:
    """The JSON value of ``text``: finite numbers, every key once, of ordinary depth. Raises BadInput."""
    try:
        value: object = json.loads(text, object_pairs_hook=_once, parse_constant=_infinite, parse_int=_whole)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise BadInput(f"{path}: damaged, no JSON ({why}); compile again") from None
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in an object")
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:MOST_DIGITS]}... is no whole number of 64 bits")
    return int(text)


def _infinite(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def faults(value: object, schema: Schema, place: str) -> Fault:
    """One phrase for each thing in ``value`` that ``schema`` does not admit; ``place`` is its path so far."""
    for key, rule in schema.items():
        if key in RULES:
            yield from RULES[key](value, rule, place)
    if isinstance(value, dict):
        yield from _members(value, schema, place)
    if isinstance(value, list) and "items" in schema:
        for i, item in enumerate(value):
            yield from faults(item, schema["items"], f"{place}[{i}]")


def _members(value: Mapping[str, object], schema: Schema, place: str) -> Fault:
    known, other = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, member in value.items():
        inner = f"{place}.{name}" if place else name
        rule = known.get(name, other)
        if rule is False:
            yield f"'{inner}' is not known"
        elif rule is not True:
            yield from faults(member, rule, inner)


def _type(value: object, rule: str | list[str], place: str) -> Fault:
    allowed = [rule] if isinstance(rule, str) else rule
    if not any(TYPES[name](value) for name in allowed):
        yield f"{_named(place)} is {_shown(value)}, not {' or '.join(allowed)}"


def _required(value: object, rule: list[str], place: str) -> Fault:
    if isinstance(value, dict):
        yield from (f"no '{f'{place}.{name}' if place else name}'" for name in rule if name not in value)


def _one_of(value: object, rule: list[Any], place: str) -> Fault:
    if not any(_equal(value, one) for one in rule):
        yield f"{_named(place)} is {_shown(value)}, not one of {', '.join(map(str, rule))}"


def _pattern(value: object, rule: str, place: str) -> Fault:
    if isinstance(value, str) and re.search(rule, value) is None:
        yield f"{_named(place)} is {_shown(value)}, which does not match {rule}"


def _bound(ok: Callable[[Any, Any], bool], word: str) -> Callable[[object, Any, str], Fault]:
    def check(value: object, rule: Any, place: str) -> Fault:
        if TYPES["number"](value) and not ok(value, rule):
            yield f"{_named(place)} is {_shown(value)}, not {word} {rule}"
    return check


def _length(ok: Callable[[int, int], bool], word: str) -> Callable[[object, int, str], Fault]:
    def check(value: object, rule: int, place: str) -> Fault:
        if isinstance(value, list) and not ok(len(value), rule):
            yield f"{_named(place)} has {len(value)} items, not {word} {rule}"
    return check


def _equal(a: object, b: object) -> bool:
    """Equal as JSON has it: true is not 1."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _named(place: str) -> str:
    return f"'{place}'" if place else "the whole"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."


TYPES: Mapping[str, Callable[[object], bool]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "integer": lambda v: (isinstance(v, int) and not isinstance(v, bool)) or (isinstance(v, float) and v.is_integer()),
}
RULES: Mapping[str, Callable[[object, Any, str], Fault]] = {
    "type": _type,
    "required": _required,
    "enum": _one_of,
    "const": lambda value, rule, place: _one_of(value, [rule], place),
    "pattern": _pattern,
    "minimum": _bound(lambda v, limit: v >= limit, "at least"),
    "maximum": _bound(lambda v, limit: v <= limit, "at most"),
    "exclusiveMinimum": _bound(lambda v, limit: v > limit, "more than"),
    "minItems": _length(lambda n, limit: n >= limit, "at least"),
    "maxItems": _length(lambda n, limit: n <= limit, "at most"),
}
STRUCTURE = frozenset({"$schema", "title", "description", "properties", "additionalProperties", "items"})
"""Keywords beside RULES that ``faults`` follows, or that say nothing of a value."""
