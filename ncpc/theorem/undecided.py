"""What a proof that stops here says."""

from __future__ import annotations


class Undecided(Exception):
    """The proof goes no further: one line that says where, and at what. Nothing is shown to be wrong."""
