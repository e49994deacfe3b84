"""The options that name states and outputs of an ONNX file, or of a module."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ncpc.errors import BadInput

carry_option = click.option(
    "--carry", multiple=True, metavar="INPUT=OUTPUT",
    help="Of an ONNX file, or of a module of yours: a state, as the input that takes it and the output that gives it "
         "for the next step. It begins with zeros. Once for each state.")

head_option = click.option(
    "--head", "heads", multiple=True, metavar="NAME",
    help="Of an ONNX file, or of a module of yours: an output to deploy, of several that have names; once for each.  "
         "[default: all]")


def carried(pairs: Sequence[str]) -> dict[str, str] | None:
    """The pairs by input; None without any. Raises BadInput."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    if len(found) < len(pairs) or not all(map(all, found.items())):
        raise BadInput(f"--carry {' '.join(pairs)}: give each state once, as INPUT=OUTPUT")
    return found or None
