"""A policy for ``ncpc compile`` straight from the user's own code, or an ONNX file: imported first, then compiled."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from ncpc.errors import BadInput, NcpcError
from ncpc.ir.policy import Policy
from ncpc.system.files import is_file


def policy_of(source: Path, weights: Path | None, calibrate: Path | None, carry: Mapping[str, str] | None,
              heads: Sequence[str], as_json: bool) -> tuple[Path | Policy, Path | None]:
    """What to compile, and the calibration that it does not hold yet: a file as it is; ``package.module:Class`` (or a
    factory) with its weights, or an ONNX file with its states, imported and checked, on the calibration; of it the
    outputs named by ``heads``, all without. Raises BadInput.
    """
    from ncpc.cli.display import watch
    from ncpc.frontend.source import Unsaid, is_onnx_file, read_source

    own = ":" in str(source) and not is_file(source)
    if not own and not is_onnx_file(source):
        if carry is not None or heads:
            raise BadInput(f"--{'head' if carry is None else 'carry'}: {source} is no ONNX file, and no code of yours; "
                           "leave it out")
        if weights is not None:
            raise BadInput(f"--checkpoint: {source} is no code of yours; write package.module:Class, or import the "
                           "checkpoint with 'ncpc import' first")
        return source, calibrate
    from ncpc.frontend.api import save
    from ncpc.frontend.data import require_data

    require_data(calibrate, None, str(source))
    found = read_source(str(source), weights=weights, trust_pickle=False, unsaid=Unsaid())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        path = Path(folder) / f"{_name(source) if own else source.stem}.safetensors"
        try:
            policy = watch(as_json, lambda phases: save(
                found.model, path, like=found.like, calibration=calibrate, carry=carry, head=heads,
                phases=phases), least=1.0)
        except NcpcError as error:
            raise type(error)(str(error).replace(str(path), str(source))) from None
    for warning in told:
        click.echo(f"warning: {str(warning.message).replace(str(path), str(source))}", err=True)
    return policy, None


def _name(source: Path) -> str:
    """That of the class, or of the function."""
    return str(source).rpartition(":")[2].rpartition(".")[2]
