"""The options of ``compile`` that single targets declare."""

from __future__ import annotations

import click

from ncpc.targets import registry
from ncpc.targets.base import TargetOption


class CompileCommand(click.Command):
    """``compile`` with the options that single targets declare; those targets are imported only when it is used."""

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
    text = f"{option.help}  [{', '.join(targets)}; default: {option.default or 'none'}]"
    kind = click.Choice(option.choices) if option.choices else click.STRING
    return click.Option([f"--{option.name}", f"own_{option.name.replace('-', '_')}"], type=kind, help=text)
