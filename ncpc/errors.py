"""The errors a user meets: one clear line each, with the exit code of the command line."""

from __future__ import annotations

EXIT_HOLDS = 0
EXIT_DOES_NOT_HOLD = 1
EXIT_BAD_INPUT = 2
EXIT_MISSING_TOOL = 3
EXIT_UNDECIDED = 4
"""A proof that was asked for and came to no answer."""
EXIT_INTERNAL = 70
"""An error of ncpc's own: EX_SOFTWARE of sysexits.h."""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""Whoever read the output has gone: 128 + SIGPIPE, as other programs end then."""


class NcpcError(Exception):
    """Base of every error ncpc raises on purpose.

    The message is one line: where, what, why, what to do. ``exit_code`` is what the command line returns.
    """

    exit_code = EXIT_BAD_INPUT


class BadInput(NcpcError):
    """A file, an option or a network that cannot be used as given (exit code 2)."""


class Unsupported(BadInput):
    """A layer, format or option that a target cannot run; the message names the nearest alternative (exit code 2)."""


class ProofFailed(NcpcError):
    """A guarantee that does not close, or a policy that does not fit the core (exit code 1)."""

    exit_code = EXIT_DOES_NOT_HOLD


class MissingTool(NcpcError):
    """A compiler, emulator or runtime that is not installed (exit code 3)."""

    exit_code = EXIT_MISSING_TOOL


class Interrupted(NcpcError):
    """Ctrl-C in work that is kept: the message says how to go on (exit code 130)."""

    exit_code = EXIT_INTERRUPTED


def reason(error: OSError | ValueError) -> str:
    """Why a path cannot be used, in the system's words and without the path: "No space left on device"."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
