"""A core and an interface as JSON values: what the simulator's client tells its worker of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ncpc.cores.core import Core, Region
from ncpc.sim.plan import CallInterface


def pack(value: Core | CallInterface) -> dict[str, Any]:
    """A record as JSON values."""
    return asdict(value)


def unpack_core(values: Mapping[str, Any]) -> Core:
    """The Core of ``pack``."""
    regions = {key: Region(**values[key]) for key in ("flash", "ram")}
    flags = {key: tuple(values[key]) for key in ("zig_flags", "gcc_flags", "chips")}
    return Core(**{**values, **regions, **flags})


def unpack_interface(values: Mapping[str, Any]) -> CallInterface:
    """The interface of ``pack``."""
    return CallInterface(**{**values, "state": tuple((int(o), int(n)) for o, n in values["state"])})
