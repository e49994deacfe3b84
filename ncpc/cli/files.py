"""Files that a command line names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ncpc.system.files import require_writable


class NewFile(click.Path):
    """A file to be written when all is done: that it can be is looked at before anything is."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        require_writable(value)
        return Path(value)
