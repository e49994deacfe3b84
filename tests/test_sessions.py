"""What every open build promises, whatever runs behind it: each target in each of the runtimes its links name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncpc.cores import core_names, load_core
from ncpc.driver import builds
from ncpc.driver.job import Job, Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.driver.reopen import opened
from ncpc.driver.session import OpenBuild
from ncpc.errors import BadInput
from ncpc.frontend.container import Container
from ncpc.ir.cells import Lif
from ncpc.ir.policy import Dense, DtRange, Policy
from ncpc.ir.sequences import Sequences, Trace
from ncpc.semantics.ops import FLAGS
from ncpc.targets.base import Artifact, Lowered
from ncpc.targets.tflite import runtimes
from tests.nets import random_policy

DT = DtRange(0.5, 2.0, 0.75)
"""Its middle, 1.25, is not its nominal value."""
STEPS = 6
Tool = Callable[..., Any]


def spiking() -> Policy:
    """Leaky integrate-and-fire neurons and a dense layer: nodes that NIR and every simulator have."""
    rng = np.random.default_rng(3)
    cell = Lif(rng.normal(size=(5, 3)), np.zeros((5, 5)), rng.normal(0, 0.2, 5), np.full(5, 3.0), np.ones(5),
               np.zeros(5), np.full(5, 0.3), np.zeros(5))
    last = Dense(rng.normal(size=(2, 5)), rng.normal(size=2))
    return Policy("net", (cell, last), np.tile([-1.0, 1.0], (3, 1)), DT)


def network() -> Policy:
    return random_policy(0, DT)


@dataclasses.dataclass(frozen=True)
class Case:
    """One build: a target with its options."""

    target: str
    quant: str
    dt: str
    extra: tuple[tuple[str, str], ...] = ()
    policy: Callable[[], Policy] = network

    @property
    def name(self) -> str:
        return " ".join([self.target, self.quant, self.dt, *(value for _, value in self.extra)])


QUICK = (
    Case("host", "int16", "runtime"), Case("c", "float32", "runtime"), Case("cortex-m4", "int16", "runtime"),
    Case("onnx", "float32", "runtime"), Case("tflite", "float32", "runtime"), Case("tflite", "int16", "fixed"),
    Case("nir-graded", "int16", "runtime"), Case("nir-graded", "int16", "fixed"),
)
LONG = (
    Case("c", "int8", "fixed"), Case("rv32imc-ibex", "float32", "runtime"), Case("onnx", "int16", "fixed"),
    Case("tflite", "int8", "fixed", (("state", "variable"),)),
    Case("nir-graded", "int16", "fixed", (("chip", "spinnaker2"),)),
    Case("host", "float32", "fixed"), Case("c", "int16", "runtime"), Case("cortex-m4", "int8", "fixed"),
    Case("rv32imc-ibex", "int16", "fixed"), Case("onnx", "int16", "runtime"), Case("onnx", "int8", "fixed"),
    Case("nir", "thresholds", "fixed", (("units", "200"),)),
    Case("nir-graded", "float32", "fixed", policy=spiking),
    Case("nir-graded", "int16", "fixed", (("chip", "loihi2"),)),
    *(Case(name, "float32" if load_core(name).hard_float else "int16", "runtime") for name in core_names()
      if name not in ("cortex-m4", "rv32imc-ibex")),
)
CASES = [*QUICK, *(pytest.param(case, marks=pytest.mark.slow) for case in LONG)]


@dataclasses.dataclass(frozen=True)
class Made:
    """The files of a case in a folder."""

    job: Job
    lowered: Lowered
    artifact: Artifact
    folder: Path

    def open(self, runtime: str) -> OpenBuild:
        return opened(self.job, self.artifact, self.folder, runtime)

    def run(self, runtime: str, x: np.ndarray, dt: np.ndarray | None = None) -> Trace:
        data = Sequences(x[None], None if dt is None else dt[None])
        return self.artifact.run(self.folder, data, runtime).trace


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, require_tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Made:
    case: Case = request.param
    asked = Request(case.target, case.quant, case.dt, extra=dict(case.extra))  # type: ignore[arg-type]
    job = job_for(case.policy(), asked)
    for need in job.target.requirements:
        require_tool(need.module)
    lowered, folder = lower_for(Container(job.policy), job.options).lowered, tmp_path_factory.mktemp("build")
    artifact = job.target.prepare(lowered, job.options)
    builds.write_files(folder, artifact.files)
    assert not artifact.build(folder).missing
    return Made(job, lowered, artifact, folder)


def sessions(made: Made) -> Iterator[tuple[str, Callable[[], OpenBuild]]]:
    """Every runtime that the links name, and what opens it there. One has no steps, and says so."""
    for link in made.artifact.links:
        if link.runtime == runtimes.OLD:
            with pytest.raises(BadInput, match="runs whole sequences only"):
                made.open(link.runtime)
            continue
        yield link.runtime, lambda runtime=link.runtime: made.open(runtime)  # type: ignore[misc]


def inputs(made: Made) -> np.ndarray:
    """(STEPS, inputs): within the range, beyond it, and one that is no number, where the files guard against that."""
    x = np.random.default_rng(1).uniform(-1, 1, (STEPS, 3))
    x[2] *= 3
    if made.job.options.quant != "float32" or made.job.target.name not in ("tflite", "nir-graded"):
        x[3, 1] = np.nan
    return x


def stepped(session: OpenBuild, x: np.ndarray, *dt: float) -> tuple[np.ndarray, list[int]]:
    """Outputs and status of every step."""
    found = [(session.step(row, *dt), session.status) for row in x]
    return np.array([y for y, _ in found]), [status for _, status in found]


def test_a_step_is_a_row_of_a_run_with_the_nominal_timespan(made: Made) -> None:
    x, policy = inputs(made), made.job.policy
    timed = made.job.options.dt == "runtime"
    for runtime, start in sessions(made):
        expected = made.run(runtime, x)
        session = start()
        assert session.status == 0
        plain, status = stepped(session, x)
        np.testing.assert_array_equal(plain, expected.y[0], err_msg=runtime)
        assert status == expected.flags[0].tolist(), runtime
        session.reset()
        assert session.status == 0
        again, _ = stepped(session, x, *([policy.dt.nominal] if timed else []))
        np.testing.assert_array_equal(again, plain, err_msg=runtime)
        assert np.ptp(plain, axis=0).max() > 0
        session.close()


def test_a_timespan_is_taken_limited_or_refused(made: Made) -> None:
    """Irregular ones are those of a run; beyond the range it is as at its end, and flagged; compiled in, it is refused.
    """
    x, policy = np.clip(np.nan_to_num(inputs(made)), -1, 1), made.job.policy
    for runtime, start in sessions(made):
        session = start()
        if made.job.options.dt == "fixed":
            for dt in (policy.dt.nominal, 1.0, np.nan):
                with pytest.raises(BadInput, match=r"^dt: this build of net has its timespan compiled in, 0.75; "):
                    session.step(x[0], dt)
            session.close()
            continue
        spans = np.random.default_rng(2).uniform(DT.lo, DT.hi, STEPS)
        expected = made.run(runtime, x, spans)
        found = [(session.step(row, float(dt)), session.status) for row, dt in zip(x, spans, strict=True)]
        np.testing.assert_array_equal([y for y, _ in found], expected.y[0], err_msg=runtime)
        assert [s for _, s in found] == expected.flags[0].tolist()
        assert not np.array_equal(expected.y, made.run(runtime, x).y)
        for beyond, end in ((DT.lo / 2, DT.lo), (0.0, DT.lo), (-1.0, DT.lo), (7.0, DT.hi), (1e30, DT.hi)):
            session.reset()
            at_end, status = stepped(session, x, end)
            assert not any(status), runtime
            session.reset()
            limited, status = stepped(session, x, beyond)
            np.testing.assert_array_equal(limited, at_end, err_msg=runtime)
            assert status == [1 << FLAGS.index("dt_out_of_range")] * STEPS, runtime
        for wrong in (np.nan, np.inf, -np.inf, "fast", [0.5, 0.5], np.full(3, 0.5)):
            with pytest.raises(BadInput, match=r"^dt is .*: a step of net takes one finite number, 0.5 to 2$"):
                session.step(x[0], wrong)  # type: ignore[arg-type]
        session.close()


def test_what_is_no_input_is_refused_and_leaves_the_state_alone(made: Made) -> None:
    x = inputs(made)
    for runtime, start in sessions(made):
        session, expected = start(), made.run(runtime, x).y[0]
        for row, due in zip(x, expected, strict=True):
            for wrong in (np.zeros(2), np.zeros(4), np.zeros((1, 3)), 0.0, np.zeros(0)):
                with pytest.raises(BadInput, match=r"^x has shape \(.*\): a step of net takes \(3,\)$"):
                    session.step(wrong)
            for wrong in ("left", None, [1j, 0, 0], [[1], [2, 3], []]):
                with pytest.raises(BadInput, match=r"^x (is not an array of real numbers|has shape)"):
                    session.step(wrong)  # type: ignore[arg-type]
            np.testing.assert_array_equal(session.step(row.tolist()), due, err_msg=runtime)
        session.close()


def test_two_sessions_side_by_side_know_nothing_of_each_other(made: Made) -> None:
    x = inputs(made)
    other = x[::-1]
    for runtime, start in sessions(made):
        one, two = start(), start()
        expected = [made.run(runtime, data).y[0] for data in (x, other)]
        found = [(one.step(a), two.step(b)) for a, b in zip(x, other, strict=True)]
        for k in range(2):
            np.testing.assert_array_equal([pair[k] for pair in found], expected[k], err_msg=runtime)
        one.reset()
        np.testing.assert_array_equal(one.step(x[0]), expected[0][0], err_msg=runtime)
        one.close()
        two.reset()
        np.testing.assert_array_equal(stepped(two, other)[0], expected[1], err_msg=runtime)
        two.close()


def test_a_closed_session_says_so(made: Made) -> None:
    for _, start in sessions(made):
        session = start()
        session.step(np.zeros(3))
        session.close()
        session.close()
        for use in (session.reset, lambda: session.step(np.zeros(3))):  # noqa: B023
            with pytest.raises(BadInput, match=r"^net was closed: open the build again$"):
                use()


def test_every_target_has_a_case() -> None:
    from ncpc.targets.registry import BUILTIN

    assert {case.target for case in (*QUICK, *LONG)} == set(BUILTIN)
