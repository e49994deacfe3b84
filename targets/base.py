"""What a target is: a record of what it can do, and a function from a lowered policy to an artifact.

A target says in data what it can hold (``capabilities``) and what must be installed (``requirements``). ``prepare``
turns a lowered policy into an ``Artifact``, once: its files and the equalities to be checked (``links``). It lets the
outside tools turn the files into what runs (``build``), and executes *that* in its real runtimes (``run``).
To add one: a folder under ``targets/`` whose package has ``target(name) -> Target``, a line in ``registry.py``, tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ncpc.cores.boards.clock import Setup
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.ir.schemes import DEFAULT, SCHEMES, NumberScheme, Scheme
from ncpc.ir.sequences import Sequences, Trace

DtMode = Literal["fixed", "runtime"]
TimingClass = Literal["rtl-checked", "manual", "bounds", "count"]

PROGRAM = "program"
"""Link source: the typed Program as ``ncpc.semantics`` runs it."""
MODEL = "model"
"""Link source: the target's own arithmetic in NumPy (``Artifact.model``), where it is not that of the Program."""
POLICY = "policy"
"""Link source: the Policy in float64, the reference of every error."""


@dataclass(frozen=True)
class CompileOptions:
    """The options every target shares. ``extra`` holds the target's own, as declared in ``Target.options``.

    ``cc`` is ``zig`` or the path of a C compiler. ``dt`` ``fixed`` compiles the nominal timespan in, ``runtime`` makes
    it an input of every step. ``tolerance`` is what the build is to hold, a fraction of the output range: a target
    that can trade size for accuracy sizes itself by it.
    """

    quant: Scheme = DEFAULT
    dt: DtMode = "fixed"
    cc: str = "zig"
    tolerance: float = 2e-3
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetOption:
    """An option of one target, offered by the command line as ``--name``; an empty ``choices`` admits any text.

    ``check`` raises BadInput for a text that can be none, before anything is done. ``shape``: its choices change how
    the emitted code or graph is laid out, not what it takes and gives nor where it runs, so ``tune`` may try them.
    ``several``: it may be given more than once, which is the same as once with commas.
    """

    name: str
    default: str
    help: str
    choices: tuple[str, ...] = ()
    check: Callable[[str], object] | None = None
    shape: bool = False
    several: bool = False


@dataclass(frozen=True)
class Requirement:
    """Something that must be installed: ``module`` to look for, pip ``extra`` that brings it, what it is for."""

    module: str
    extra: str
    purpose: str


@dataclass(frozen=True)
class Capabilities:
    """What a target can hold, as data. ``None`` means no limit.

    ``layers`` are layer kinds (``Layer.kind``); ``flash_bytes`` and ``ram_bytes`` what the core has. ``instead`` says,
    for a scheme or a dt mode that is not there, or any ``layer``, what to do.
    """

    schemes: tuple[Scheme, ...]
    dt: tuple[DtMode, ...] = ("fixed", "runtime")
    layers: frozenset[str] | None = None
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    instead: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Lowered:
    """One policy at every level a target may start from.

    ``real`` is the step in real numbers, ``program`` the typed one (Float32, or Fixed with tables), equal to
    ``real`` up to its types; its states carry their box. ``formats`` maps a value's name to its format as text
    (``Q4.11``), empty for float32. ``proved`` says that the boxes are proved for all time, not assumed, and ``outputs``
    between which raw numbers every output is proved to lie, (outputs, 2); None where nothing is.
    """

    policy: Policy
    real: Program
    program: Program
    scheme: Scheme
    formats: Mapping[str, str] = field(default_factory=dict)
    proved: bool = False
    outputs: NDArray[np.int64] | None = None

    @property
    def numbers(self) -> NumberScheme:
        """The scheme's row."""
        return SCHEMES[self.scheme]


@dataclass(frozen=True)
class Memory:
    """Bytes of program memory (code and constants), of static state, and of stack at its deepest (None: not run).

    ``stack_bytes`` is the deepest of all functions that were called (restore, save and the self test too, where they
    were), ``step_stack_bytes`` that of init, reset and step as the program on the device calls them.
    ``flash_has`` and ``ram_has`` are what the chip offers, where options say so rather than the target's capabilities.
    """

    flash_bytes: int
    ram_bytes: int
    stack_bytes: int | None = None
    flash_has: int | None = None
    ram_has: int | None = None
    step_stack_bytes: int | None = None


@dataclass(frozen=True, eq=False)
class CycleCounts:
    """Cycles per step, (steps,) int64 each: ``lower`` <= true <= ``upper``; equal where the model is exact.

    ``per_function`` and ``per_neuron`` are mean cycles per step by upper bound; they add up to the mean total.
    """

    lower: NDArray[np.int64]
    upper: NDArray[np.int64]
    per_function: Mapping[str, float] = field(default_factory=dict)
    per_neuron: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """What the outside tools made of the emitted files.

    ``files`` are the names added to the folder; ``tools`` name -> version; ``trace`` is what trace.json records
    (neuron or synapse -> symbol, address, bits); ``extra`` goes to the report under the target's name.
    ``missing`` says in one line each which tool was not there and what was left out for it. Where the target computes
    otherwise than the Program, ``formats`` and ``proof`` say so in the Program's place: formats by value, and what
    report.json holds of a proof, its ``box`` (states, 2) in physical units.
    """

    files: tuple[str, ...] = ()
    memory: Memory | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    trace: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    formats: Mapping[str, str] | None = None
    proof: Mapping[str, Any] | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run of the emitted artifact. ``instructions`` is (steps,) int64, per step in order of the sequences."""

    trace: Trace
    runtime: str
    runtime_version: str
    options: str = ""
    instructions: NDArray[np.int64] | None = None
    cycles: CycleCounts | None = None
    memory: Memory | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkSpec:
    """One equality to check: ``source`` (PROGRAM, MODEL, POLICY or another runtime) against ``runtime``.

    ``bitwise`` compares outputs, states and flags as integers, ``tolerance`` outputs within ``tolerance`` as a
    fraction of the output range. ``steps`` is how many steps are asked for. A runtime that is missing is an error
    (exit code 3) when ``required``, otherwise it is listed under ``not_run``. ``restores``: the runtime takes states to
    restore, and is checked with such beyond their box.
    """

    source: str
    runtime: str
    kind: Literal["bitwise", "tolerance"]
    steps: int
    tolerance: float = 0.0
    required: bool = True
    restores: bool = False


class Session(Protocol):
    """An artifact held open for closed loops: one instance of the policy with carried state.

    ``ncpc.driver.session.OpenBuild`` stands in front of every one and looks at what a user gives.
    """

    @property
    def status(self) -> int:
        """The status bits of the last step."""
        ...

    def reset(self) -> None: ...

    def step(self, x: NDArray[np.float64], dt: float) -> NDArray[np.float64]:
        """One step: ``x`` (inputs,) in physical units -> (outputs,). ``dt`` lies in the declared range; where the
        build has its timespan compiled in it is the nominal one, and not looked at.
        """
        ...

    def close(self) -> None: ...


class Artifact(Protocol):
    """What a target makes of one policy: it holds its graph, or its loops, once, and everything else reads that."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """File name -> content: the same bytes for the same policy and options."""
        ...

    @property
    def links(self) -> tuple[LinkSpec, ...]:
        """What to check, in order; the last runtime that ran is the deployed one, whose error is the verdict's."""
        ...

    def model(self, inputs: Sequences) -> Trace:
        """The target's own arithmetic in NumPy; called only for links whose source is MODEL."""
        ...

    def build(self, folder: Path) -> Built:
        """Compile the files, which stand in ``folder`` (adding files to it); deterministic. Graphs return Built()."""
        ...

    def run(self, folder: Path, inputs: Sequences, runtime: str) -> RunResult:
        """Execute what stands in ``folder`` in ``runtime``, from reset, or from the states that ``inputs`` restore.

        Raises MissingTool when that runtime is not installed.
        """
        ...

    def open(self, folder: Path, runtime: str) -> Session:
        """A session on ``runtime`` (one named in ``links``)."""
        ...


@dataclass(frozen=True)
class Target:
    """What ``ncpc compile --target NAME`` goes by.

    ``summary`` is one line for ``ncpc targets``; ``core`` the processor core, None where the target is none;
    ``timing_class`` how far cycle counts can be believed, None where cycles are not counted. ``prepare`` makes the
    artifact, calling no outside tool; it raises Unsupported for what the target cannot hold. ``setup`` reads of the
    target's own options on what board and how often a step is to run; it raises BadInput where they contradict.
    """

    name: str
    summary: str
    capabilities: Capabilities
    prepare: Callable[[Lowered, CompileOptions], Artifact]
    requirements: tuple[Requirement, ...] = ()
    options: tuple[TargetOption, ...] = ()
    core: str | None = None
    timing_class: TimingClass | None = None
    setup: Callable[[Mapping[str, str]], Setup | None] | None = None
