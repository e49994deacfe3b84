"""``python -m ncpc``: the command line."""

from ncpc.cli import main

main()
