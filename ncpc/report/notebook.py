"""A policy as a notebook shows it: what it takes and gives, how large it is, and its picture where it has one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ncpc.ir.policy import COMPARED, ChannelGroup, Policy
from ncpc.report.anatomy import anatomy, parameters
from ncpc.report.wiring import wiring_svg

MOST_NAMES = 12


def policy_html(policy: Policy) -> str:
    """An HTML fragment: a table, then layers and wired cells drawn as ``ncpc inspect --wiring`` draws them."""
    counted = [anatomy(layer) for layer in policy.layers]
    rows = {
        "inputs": _channels(policy.inputs, policy.input_groups, policy.input_names),
        "outputs": _channels(policy.outputs, policy.output_groups, policy.output_names),
        "layers": ", ".join(layer.kind for layer in policy.layers),
        "neurons": f"{sum(part.neurons for part in counted):,}",
        "parameters": f"{sum(map(parameters, policy.layers)):,}",
        "products of a step": f"{sum(part.products for part in counted):,}",
        "timespan": policy.dt.words, "compared with": COMPARED.get(policy.compared or "", "not recorded"),
    }
    lines = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<h4>{escape(policy.name)}</h4><table>{lines}</table>{wiring_svg(policy) or ''}"


def _channels(width: int, groups: Sequence[ChannelGroup], names: Sequence[str]) -> str:
    """How many, and their names: those of groups with their shapes, or a few of their own."""
    told = [f"{group.name} {group.shape}" for group in groups] or list(names)
    listed = told if len(told) <= MOST_NAMES else [*told[: MOST_NAMES - 1], "..."]
    return f"{width}: {', '.join(listed)}" if listed else str(width)
