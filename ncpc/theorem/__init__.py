"""What runs on the device is the Program, for every input and every state: the linked code read as terms, and proved.

    ELF ─ decode, execute ─> terms of the code ┐
                                               ├─ equal? ─> state, output, status: proved, differs or undecided
    Program ─ reference ───> its terms ────────┘

``terms`` are 32-bit words as expressions, equal ones the same object; ``values`` what an expression is worth on sample
vectors, ``solver`` what it means to the solver, ``equality`` decides whether two are one. ``memory`` and ``machine``
are a processor on terms, ``ways`` what a branch says of words, ``riscv`` and ``thumb`` the instructions, ``reference``
the Program. ``theorem`` puts the two side by side. docs/theorem.md says what is proved, and what it rests on.
"""
