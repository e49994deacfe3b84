"""The policy container: one safetensors file whose single metadata key ``ncpc`` holds canonical JSON.

The JSON says everything that is not an array (schema, architecture, roles, names, unfolds, epsilon, dt and input
range, provenance, optional quantization formats); arrays are tensors named by their path in the policy. One metadata
key only, because safetensors writes several in varying order: the same policy gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ncpc.errors import BadInput
from ncpc.frontend.foreign import POLICY, refusal
from ncpc.frontend.ranges import looks_guessed
from ncpc.frontend.records import Array, decode, encode
from ncpc.frontend.validate import check_policy
from ncpc.ir.cells import KINDS
from ncpc.ir.policy import Policy
from ncpc.system.files import is_file, write_atomically

SCHEMA = 1
KEY = "ncpc"

LAYERS: dict[str, type] = {name: kind.record for name, kind in KINDS.items()}
"""How a layer is stored follows from the fields of its record."""


@dataclass(frozen=True)
class Container:
    """What a file holds: the policy and, if it was stored quantized, its formats as plain JSON."""

    policy: Policy
    formats: Mapping[str, object] | None = None


def policy_bytes(policy: Policy, formats: Mapping[str, object] | None = None) -> bytes:
    """The container's bytes: a pure function of the policy and the formats."""
    tensors: dict[str, Array] = {}
    record = cast(dict[str, object], encode(policy, "", tensors))
    record["input_range"] = tensors.pop("input_range").astype(np.float64).tolist()
    header = {"schema": SCHEMA, "policy": record, "formats": formats}
    return to_bytes(tensors, metadata={KEY: _canonical(header)})


def _canonical(header: Mapping[str, object]) -> str:
    try:
        return json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except (TypeError, ValueError) as error:
        raise BadInput(f"policy: cannot be written as JSON ({error}); provenance and formats must be JSON") from None


def write_policy(policy: Policy, path: str | Path, formats: Mapping[str, object] | None = None) -> None:
    """Check ``policy`` and write it to ``path``, all or nothing.

    ``formats`` is any JSON mapping; it comes back unchanged from ``read_container``. Raises ``BadInput`` when the
    policy is not valid or the path cannot be written.
    """
    check_policy(policy, str(path))
    write_atomically(path, policy_bytes(policy, formats))


def read_policy(path: str | Path) -> Policy:
    """The policy in the file at ``path``. Raises ``BadInput`` with one line for any file that is not a valid one."""
    return read_container(path).policy


def read_container(path: str | Path) -> Container:
    """The policy and the stored formats (None if there are none). Raises ``BadInput`` as ``read_policy`` does."""
    text, tensors = _read_file(Path(path))
    try:
        container = _decode_header(text, tensors)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    check_policy(container.policy, str(path))
    return replace(container, policy=_told(container.policy))


def _read_file(path: Path) -> tuple[str, dict[str, Array]]:
    if not is_file(path):
        raise BadInput(refusal(path, POLICY, f"{path}: no such file; give a container written by ncpc.save"))
    try:
        with safe_open(str(path), framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
            names = [] if text is None else file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        broken = (f"{path}: not a readable safetensors file ({_first_line(error)}); "
                  "it is truncated or of another kind, save the policy again")
        raise BadInput(refusal(path, POLICY, broken)) from None
    if text is None:
        raise BadInput(f"{path}: a safetensors file, but not an ncpc container (no '{KEY}' metadata); "
                       "write it with ncpc.save, or import raw weights with 'ncpc import'")
    return text, tensors


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _decode_header(text: str, tensors: dict[str, Array]) -> Container:
    header = _parse(text)
    record = header.get("policy")
    if isinstance(record, dict):
        tensors["input_range"] = _matrix("input_range", record.pop("input_range", None))
    policy = decode(Policy, "", record, tensors, LAYERS)
    if tensors:
        raise BadInput(f"tensor '{min(tensors)}' belongs to nothing in the policy; save the policy again")
    formats = header.get("formats")
    if formats is not None and not isinstance(formats, dict):
        raise BadInput("'formats' is not an object; save the policy again")
    return Container(policy, formats)


def _told(policy: Policy) -> Policy:
    """The policy; in a file that does not tell, a range is a guess where it is exactly what the data suggest."""
    unknown = policy.range_guessed is None and looks_guessed(policy)
    return replace(policy, range_guessed=True) if unknown else policy


def _parse(text: str) -> dict[str, Any]:
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        why = _first_line(error)
        raise BadInput(f"its '{KEY}' metadata is not valid JSON ({why}); save the policy again") from None
    if not isinstance(header, dict) or "schema" not in header:
        raise BadInput(f"its '{KEY}' metadata has no schema; save the policy again")
    if header["schema"] != SCHEMA:
        raise BadInput(f"schema {header['schema']!r}, this ncpc reads {SCHEMA}; use the ncpc that wrote it")
    return header


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _matrix(name: str, value: object) -> Array:
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"'{name}' is not a matrix of numbers; save the policy again") from None
