"""Random policies of every kind compile or are refused in one line, whatever their parameters are."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import pytest

from ncpc.driver.lowering import lower_for
from ncpc.errors import NcpcError, Unsupported
from ncpc.frontend.container import Container
from ncpc.frontend.validate import check_policy
from ncpc.ir.cells import LeakyIntegrator
from ncpc.ir.gated import MixedMemory, Rnn
from ncpc.ir.policy import Policy
from ncpc.targets.base import CompileOptions
from ncpc.targets.c.emit import emit_c
from ncpc.targets.c.interface import interface_of
from tests.conftest import RequireTool
from tests.extreme_nets import KINDS, Draw, cfc, extreme_policy, lstm, ltc

RANGE = np.array([[-1.0, 1.0]])


def compiled(policy: Policy, quant: Any) -> dict[str, bytes]:
    """The C."""
    dt: Any = "fixed" if policy.dt.fixed else "runtime"
    options = CompileOptions(quant=quant, dt=dt, cc="zig", tolerance=2e-3, extra={})
    check_policy(policy, "policy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return emit_c(interface_of(lower_for(Container(policy), options).lowered.program))


def outcome(policy: Policy, quant: Any) -> str:
    """What came of it, in words; any error that is not ncpc's passes through."""
    try:
        return f"{len(compiled(policy, quant))} files"
    except NcpcError as error:
        return str(error)


@pytest.mark.parametrize("quant", ["int16", "float32"])
@pytest.mark.parametrize("seed", [*range(len(KINDS)), 67, 129], ids=lambda seed: f"{KINDS[seed % len(KINDS)]}-{seed}")
def test_a_random_policy_compiles_or_is_refused_in_one_line(seed: int, quant: str, require_tool: RequireTool) -> None:
    require_tool("brevitas")
    assert "\n" not in outcome(extreme_policy(seed), quant)


@pytest.mark.parametrize("growth", [1.2, 2.0, 30.0])
def test_a_state_that_diverges_is_refused_by_name(growth: float, require_tool: RequireTool) -> None:
    require_tool("brevitas")
    ways = np.ones((2, 1)), growth * np.eye(2), np.zeros(2)
    cells = Rnn(*ways, "relu"), LeakyIntegrator(*ways, np.full(2, 0.5), np.zeros(2), "identity")
    for cell in cells:
        with pytest.raises(Unsupported, match=r"reaches .*, beyond what integers can be sized for; train with smaller"):
            compiled(Policy("net", (cell,), RANGE), "int16")


def test_a_state_that_overflows_float64_is_refused_by_name(require_tool: RequireTool) -> None:
    require_tool("brevitas")
    draw = Draw(0)
    cell = cfc(draw, 2, 1)
    while cell.head != "linear" or cell.mode != "no_gate" or cell.backbone:
        cell = cfc(draw, 2, 1)
    huge = dataclasses.replace(cell, ff1=dataclasses.replace(cell.ff1, weight=cell.ff1.weight * 1e280))
    with pytest.raises(Unsupported, match="net: h reaches inf, beyond what integers can be sized for"):
        compiled(Policy("net", (huge,), RANGE), "int16")


def test_a_value_between_that_overflows_float64_is_refused_by_name(require_tool: RequireTool) -> None:
    """A bounded result does not help what leads to it."""
    require_tool("brevitas")
    cell = cfc(Draw(10), 2, 1)
    assert (cell.head, len(cell.backbone)) == ("tanh", 2)
    huge = tuple(dataclasses.replace(dense, weight=dense.weight * 1e200) for dense in cell.backbone)
    with pytest.raises(Unsupported, match=r"backbone_0_h_w reaches 2e.199, beyond what integers can be sized for"):
        compiled(Policy("net", (dataclasses.replace(cell, backbone=huge),), RANGE), "int16")


def test_a_cell_in_a_memory_may_lack_synapses_of_a_kind(require_tool: RequireTool) -> None:
    require_tool("brevitas")
    draw = Draw(1)
    seen = set()
    while len(seen) < 2:
        cell = ltc(draw, 2, 1)
        missing = (len(cell.sensory) == 0, len(cell.recurrent) == 0)
        if not any(missing):
            continue
        sensory = dataclasses.replace(cell.sensory, w=0 * cell.sensory.w + 0.1, sigma=0 * cell.sensory.sigma + 3)
        recurrent = dataclasses.replace(cell.recurrent, w=0 * cell.recurrent.w + 0.1, erev=0 * cell.recurrent.erev + 1)
        calm = dataclasses.replace(
            cell, sensory=sensory, recurrent=recurrent, cm=0 * cell.cm + 0.5, gleak=0 * cell.gleak + 0.5,
            input_w=np.ones(1), output_w=np.ones(cell.outputs))
        assert outcome(Policy("net", (MixedMemory(lstm(draw, 2, 1), calm, "state"),), RANGE), "int16")
        seen.add(missing)
