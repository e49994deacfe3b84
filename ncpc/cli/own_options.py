"""The options of ``compile`` and ``tune`` that single targets declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.core import ParameterSource

from ncpc.cores.boards import board_text, load_board
from ncpc.errors import BadInput
from ncpc.targets import registry
from ncpc.targets.base import TargetOption


class OwnOptionsCommand(click.Command):
    """A command with the options that single targets declare; those targets are imported only when it is used."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *own_options()]


def own_options() -> tuple[click.Option, ...]:
    """One option for each name that targets declare, with the targets that know it in its help."""
    known: dict[str, tuple[TargetOption, list[str]]] = {}
    for target in registry.names():
        for option in registry.load(target).options:
            known.setdefault(option.name, (option, []))[1].append(target)
    return tuple(_own_option(option, names) for option, names in known.values())


def _own_option(option: TargetOption, targets: list[str]) -> click.Option:
    text = f"{option.help}  [{_some(targets)}; default: {option.default or 'none'}]"
    kind = click.Choice(option.choices) if option.choices else click.STRING
    return click.Option([f"--{option.name}", f"own_{option.name.replace('-', '_')}"], type=kind, help=text,
                        multiple=option.several)


def given_options(own: Mapping[str, str | tuple[str, ...] | None], names: Sequence[str]) -> dict[str, str]:
    """Those of ``own_options`` that were given, by the names that targets have for them.

    Raises BadInput for one that none of the targets ``names`` has: it would do nothing.
    """
    given = {o.opts[0].removeprefix("--"): text for o in own_options() if (text := _text(own[str(o.name)])) is not None}
    for option in given:
        having = [target for target in registry.names() if option in {o.name for o in registry.load(target).options}]
        if not set(having) & set(names):
            raise BadInput(f"--{option}: an option of {_some(having)}, not of {', '.join(names)}; leave it out")
    return given


def _some(targets: Sequence[str]) -> str:
    """The names of targets, of many the first few."""
    return ", ".join(targets) if len(targets) <= 4 else f"{', '.join(targets[:3])} and {len(targets) - 3} more"


def on_board(
    targets: str, own: Mapping[str, str | tuple[str, ...] | None], file: Path | None
) -> tuple[str, dict[str, str | tuple[str, ...] | None]]:
    """The targets, and the options with a board from its file: where a board is given and no target, its core is that.

    Raises BadInput for an unknown board, and for two.
    """
    named = own.get("own_board")
    if file is not None and named is not None:
        raise BadInput(f"--board {named} and --board-file {file}: give one of them")
    board = named if file is None else board_text(file)
    if not isinstance(board, str):
        return targets, dict(own)
    default = click.get_current_context().get_parameter_source("targets") is ParameterSource.DEFAULT
    return load_board(board).core.name if default else targets, {**own, "own_board": board}


def _text(given: str | tuple[str, ...] | None) -> str | None:
    """What was given, with commas where it was several times; None where it was not."""
    return (",".join(given) or None) if isinstance(given, tuple) else given
