"""The Program as terms: what of it code can be shown to be."""

from __future__ import annotations

import pytest

from ncpc.driver.job import Request, job_for
from ncpc.driver.lowering import lower_for
from ncpc.proofs.prove import prove
from ncpc.theorem.call import SAMPLES, given
from ncpc.theorem.equality import Budget, Equality
from ncpc.theorem.flash import Flash
from ncpc.theorem.reference import reference
from ncpc.theorem.terms import BitTerms
from tests.conftest import RequireTool
from tests.theorem.test_theorem import CARTPOLE


@pytest.mark.slow
def test_a_divisor_that_is_always_as_long_is_shifted_by_a_number(require_tool: RequireTool) -> None:
    """That of a neuron whose zeros a compiler's library counted to be 7 for every input: the code knows of no count."""
    require_tool("bitwuzla")
    job = job_for(CARTPOLE, Request("rv32imc-ibex", "w8a16"))
    program = lower_for(job.container, job.options).lowered.program
    terms = BitTerms(SAMPLES, Flash(()))
    reference(terms, program, prove(program).intervals, given(terms, program).grids)
    fixed = [t for t in terms.nodes if t.name == "normalized divisor" and (z := terms.clz(t.args[0])).lo == z.hi]
    equality = Equality(terms, Budget(60))
    assert len(fixed) > 3
    for normal in fixed:
        shifted = terms.shl(normal.args[0], terms.clz(normal.args[0]).lo)
        assert shifted.op == "lin"
        assert equality.equal(shifted, normal), normal
