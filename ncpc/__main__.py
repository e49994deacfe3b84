"""``ncpc`` and ``python -m ncpc``: the command line, where Ctrl-C counts from the first import on."""

import os
import signal

from ncpc.errors import EXIT_INTERRUPTED
from ncpc.system import interruption, streams


def main() -> None:
    """Run the command line; an interruption while it is loaded ends as any other: one line, exit code 130."""
    streams.prepare()
    with interruption.watched():
        try:
            from ncpc.cli.commands import main as run
        except BaseException:
            if not interruption.seen():
                raise
        if interruption.seen():
            _end()
    run()


def _end() -> None:
    """Say it and leave at once: half-loaded libraries cannot be trusted to end in order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    streams.say("ncpc: interrupted; nothing was written")
    os._exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
