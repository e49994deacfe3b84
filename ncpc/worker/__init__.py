"""Whatever runs machine code that ncpc cannot answer for runs in a process of its own, whose end is a reason."""
