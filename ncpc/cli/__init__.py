"""The command line: its commands, what targets add to them, and what they show."""
