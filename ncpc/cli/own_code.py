"""A policy for ``ncpc compile`` straight from the user's own code: imported first, then compiled."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import click

from ncpc.errors import BadInput, NcpcError
from ncpc.ir.policy import Policy
from ncpc.system.files import is_file


def policy_of(source: Path, weights: Path | None, calibrate: Path | None) -> tuple[Path | Policy, Path | None]:
    """What to compile, and the calibration that it does not hold yet: a file as it is; ``package.module:Class`` (or a
    factory) with its weights imported and checked, on the calibration. Raises BadInput.
    """
    if is_file(source) or ":" not in str(source):
        if weights is not None:
            raise BadInput(f"--checkpoint: {source} is no code of yours; write package.module:Class, or import the "
                           "checkpoint with 'ncpc import' first")
        return source, calibrate
    from ncpc.frontend.api import save
    from ncpc.frontend.source import Unsaid, read_source

    found = read_source(str(source), weights=weights, trust_pickle=False, unsaid=Unsaid())
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as told:
        path = Path(folder) / f"{str(source).rpartition(':')[2].rpartition('.')[2]}.safetensors"
        try:
            policy = save(found.model, path, like=found.like, calibration=calibrate)
        except NcpcError as error:
            raise type(error)(str(error).replace(str(path), str(source))) from None
    for warning in told:
        click.echo(f"warning: {str(warning.message).replace(str(path), str(source))}", err=True)
    return policy, None
