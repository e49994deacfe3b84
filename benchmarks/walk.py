"""The way of a policy through one compilation: every file in which a function is handed it, in order.

    python -m benchmarks.walk     # compile cart-pole for this machine in int16, print the way, write walk.json

What the record and its neighbours in ``ncpc/ir`` are asked (``policy.inputs``, ``taps_of(policy)``) is no visit.
``files`` is how many files that are, ``returns`` how often the way comes back to one it had left. The fewer of both,
the less a reader has to hop who follows the policy from the command to the verdict.
"""

from __future__ import annotations

import json
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import numpy as np

from ncpc.driver.job import Request
from ncpc.driver.pipeline import compile_policy
from ncpc.frontend.container import read_policy
from ncpc.ir.policy import Policy
from ncpc.targets.base import PROGRAM
from ncpc.verification.verdict import SEARCH

ROOT = Path(__file__).parent.parent
RESULT = Path(__file__).with_suffix(".json")
POLICY = ROOT / "examples" / "cartpole" / "policy.safetensors"
PARTS = ("ncpc", "targets", "quant")
OWN = ROOT / "ncpc" / "ir"


def way(policy: Policy, folder: Path) -> list[str]:
    """The files, each as often as the policy enters it."""
    entered: list[str] = []

    def watch(frame: FrameType, event: str, _: object) -> None:
        code, given = frame.f_code, frame.f_locals
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if event == "call" and any(type(given.get(name)) is Policy for name in names):
            path = Path(code.co_filename).resolve()
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PARTS and not path.is_relative_to(OWN):
                entered.append(path.relative_to(ROOT).as_posix())

    with patch.dict(SEARCH, {PROGRAM: {"screens": 1, "generations": 1, "length": 12}}):
        sys.setprofile(watch)
        try:
            compile_policy(policy, folder, Request("host", "int16", steps=20))
        finally:
            sys.setprofile(None)
    return [name for name, _ in groupby(entered)]


def counts(names: list[str]) -> dict[str, int]:
    """Files on the way, and returns to one of them."""
    first = np.unique(names, return_index=True)[1]
    return {"files": len(first), "returns": len(names) - len(first)}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        names = way(read_policy(POLICY), Path(scratch) / "build")
    for name in names:
        print(name)
    RESULT.write_text(json.dumps({**counts(names), "way": names}, indent=1) + "\n")
    print(counts(names))


if __name__ == "__main__":
    main()
