"""A policy's C and a kind of project -> the files of its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import ceil
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from ncpc.ir.program import Port
from ncpc.targets.c.header import is_uniform
from ncpc.targets.c.interface import Interface
from ncpc.targets.c.layout import comment
from ncpc.targets.c.names import KEYWORDS, Names
from ncpc.targets.c.numbers import float_literal
from ncpc.targets.c.projects.kinds import KINDS

VERSION = "1.0.0"
"""Of every project: a policy has none of its own."""
NO_SPACE = KEYWORDS | {"std", "main", "setup", "loop", "act"}
"""Names that no namespace can have beside a main."""
RATE_HZ = Fraction(50)
"""Of the examples' steps where none is asked for: for the user to change."""
MOST_LETTERS = 50
"""Of a library's name: the shortest of the limits of the ecosystems."""


def project_files(
    kinds: Sequence[str], face: Interface, dt: float, sources: Mapping[str, bytes], rate_hz: Fraction = RATE_HZ
) -> dict[str, bytes]:
    """Path in the build -> content, for each of ``kinds``. ``sources`` are NAME.c and NAME.h; ``dt`` is the nominal
    timespan. Mains step ``rate_hz`` times per second, or a little less often: their periods are whole milliseconds.
    """
    facts = facts_of(face, dt, rate_hz)
    wrapper = rendered("wrapper.hpp", facts)
    files: dict[str, bytes] = {}
    for name in kinds:
        kind = KINDS[name]
        at, headers = (f"{name}/{place.format(**facts)}" for place in kind.sources)
        files |= {f"{at if path.endswith('.c') else headers}/{path}": text for path, text in sources.items()}
        files[f"{headers}/{face.name}.hpp"] = wrapper
        own = {"README.md": "readme.md", **kind.files}
        files |= {f"{name}/{path.format(**facts)}": rendered(template, {**facts, "kind": kind})
                  for path, template in own.items()}
    return files


def facts_of(face: Interface, dt: float, rate_hz: Fraction = RATE_HZ) -> dict[str, Any]:
    """What templates say of a policy: names, channels and their ranges, the timespan, milliseconds between steps."""
    return {
        "name": face.name,
        "macro": face.macro,
        "space": f"{face.name}_" if face.name in NO_SPACE else face.name,
        "library": _library(face.name),
        "version": VERSION,
        "period_ms": ceil(1000 / rate_hz),
        "inputs": _channels(face.program.x),
        "outputs": _channels(face.program.y),
        "takes_dt": face.dt is not None,
        "dt": float_literal(dt),
        "nominal": f"{dt:g}",
    }


def _library(name: str) -> str:
    """The name as libraries are called: it begins with a letter or digit, has a letter, and is not Arduino's own."""
    short = name.strip("_")[:MOST_LETTERS].strip("_")
    plain = any(c.isalpha() for c in short) and not short.lower().startswith("arduino")
    return short if plain else f"policy_{short}"[:MOST_LETTERS].strip("_")


def _channels(port: Port) -> dict[str, Any]:
    """``frame``: so many alike that they are one array; else ``each`` has a member's name, its range as words, and a
    number within that.
    """
    names = Names(taken=())
    each = [{"member": names.fresh(channel.lower()), "name": comment(channel), "range": _range(lo, hi),
             "rest": float_literal(0.0 if not lo > 0 and not hi < 0 else (lo + hi) / 2)}
            for channel, (lo, hi) in zip(port.names, port.range, strict=True)]
    return {"count": len(each), "frame": is_uniform(port), "each": each}


def _range(lo: float, hi: float) -> str:
    return f"{lo:g} .. {hi:g}" if np.isfinite([lo, hi]).all() else ""


def rendered(template: str, facts: Mapping[str, Any]) -> bytes:
    """The text of one file."""
    return _environment().get_template(f"{template}.j2").render(facts).encode()


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("ncpc.targets.c.projects", "."), undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
