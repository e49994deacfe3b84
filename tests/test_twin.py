"""The twin of a module for training: the compiler's grids, the user's forward, and weights that compiling keeps."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ncpc
from ncpc.driver.lowering import lower_for
from ncpc.errors import BadInput
from ncpc.frontend.container import Container, read_policy
from ncpc.ir.policy import Policy
from ncpc.ir.program import Program
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Fixed
from ncpc.passes.lower import lower
from ncpc.semantics.run import run
from ncpc.targets.base import CompileOptions

torch = pytest.importorskip("torch")
pytest.importorskip("brevitas")
pytest.importorskip("ncps")
from ncpc import quant  # noqa: E402  (needs torch)
from ncpc.frontend.ltc_module import ltc_module, with_weights_of  # noqa: E402
from ncpc.quant.held_weights import fractions_of, held_program, held_weights  # noqa: E402
from ncpc.quant.twin import require_twin  # noqa: E402
from tests.twin_models import FAMILIES, inputs, model, outputs, told, train  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*nobody said which timespans")
EXAMPLES = Path(__file__).parent.parent / "examples"
TOGETHER = ("w8a16", "w4a16")
SCHEMES = ("int8", "int16", *TOGETHER)


MANY = [pytest.param(family, marks=[] if family in ("dense", "lstm", "gru", "wired cfc", "ltc", "conv", "functional")
                     else [pytest.mark.slow]) for family in FAMILIES]


@cache
def once_trained(family: str, scheme: str) -> Any:
    module, x = model(family), inputs(family)
    prepared = quant.prepare(module, scheme, **told(family))
    train(prepared, x, 0.9 * outputs(module, x).detach() + 0.02, 5)
    return prepared


def trained(family: str, scheme: str) -> Any:
    """A prepared module after some updates towards other outputs than its own."""
    return copy.deepcopy(once_trained(family, scheme))


def saved(module: Any, family: str, folder: Path) -> Policy:
    return ncpc.save(module, folder / "p.safetensors", **told(family))


def compiled(policy: Policy, scheme: Any) -> Program:
    dt = "fixed" if policy.dt.fixed else "runtime"
    return lower_for(Container(policy), CompileOptions(quant=scheme, dt=dt)).lowered.program


@pytest.mark.parametrize(("family", "scheme"), [
    *(pytest.param(*many.values, scheme, marks=many.marks) for many in MANY for scheme in ("int8", "int16", "w8a16")),
    *(pytest.param(family, "w4a16", marks=[] if family in ("lstm", "ltc") else [pytest.mark.slow])
      for family in FAMILIES if family != "functional")])
def test_compiling_rounds_no_weight_that_was_trained(family: str, scheme: str, tmp_path: Path) -> None:
    """Every integer of the program is the twin's weight over its unit; before, none but a few were."""
    prepared = trained(family, scheme)
    policy = saved(prepared, family, tmp_path)
    left = {weight.where for weight in held_weights(policy, scheme)} & set(require_twin(prepared, family).left)
    assert not left or family in ("ct_gru",)
    program = compiled(policy, scheme)
    found = 0
    for weight in held_weights(policy, scheme):
        value, raw = next((value, data) for name, (value, data) in program.constants.items()
                          if data.shape == weight.raw.shape and np.array_equal(data, weight.raw))
        assert isinstance(value.type, Fixed)
        if weight.where not in left:
            exact = weight.data / weight.unit
            np.testing.assert_allclose(exact, raw, rtol=0, atol=2.0**-5, err_msg=weight.where)
            found += raw.size
    assert found
    plain = saved(model(family), family, tmp_path)
    assert max(weight.lost.max() for weight in held_weights(plain, scheme)) > 0.3


@pytest.mark.parametrize("family", MANY)
def test_the_policy_computes_what_the_twin_computes(family: str, tmp_path: Path) -> None:
    """Over the reals to single precision; the integers, up to the rounding of what is no weight."""
    prepared, x = trained(family, "int16"), inputs(family)
    with torch.no_grad():
        expected = outputs(quant.finish(prepared), x).double().numpy()
        mine = outputs(prepared, x).double().numpy()
    np.testing.assert_allclose(mine, expected, rtol=0, atol=2e-5 * max(1.0, np.abs(expected).max()))
    policy = saved(prepared, family, tmp_path)
    flat = x.reshape(x.shape[0], -1, policy.inputs).double().numpy()
    data = Sequences(flat, np.full(flat.shape[:2], policy.dt.nominal))
    over_reals, integers = run(lower(policy), data).y, run(compiled(policy, "int16"), data).y
    expected = expected.reshape(over_reals.shape)
    size = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(over_reals, expected, rtol=0, atol=2e-5 * size)
    np.testing.assert_allclose(integers, expected, rtol=0, atol=4e-3 * size)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_lstm_holds_the_programs_integers(scheme: str, tmp_path: Path) -> None:
    """Gate by gate, by the equations of torch.nn.LSTM, and nothing else of ncpc's own."""
    prepared = trained("lstm", scheme)
    policy = saved(prepared, "lstm", tmp_path)
    program, lstm = compiled(policy, scheme), prepared.layers[0]
    for name, weight in (("h", lstm.weight_hh_l0), ("sum", lstm.weight_ih_l0)):
        for gate, block in zip("ifgo", weight.detach().double().numpy().reshape(4, 6, -1), strict=True):
            value, raw = program.constants[f"{gate}_{name}_w"]
            assert isinstance(value.type, Fixed)
            found = block * 2.0**value.type.frac  # of few bits, each row times a power of two
            scale = np.abs(raw / np.where(found == 0, 1.0, found)).max(axis=1, keepdims=True)
            assert scheme in TOGETHER or not (scale != 1).any()
            np.testing.assert_array_equal(raw, found * scale)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_ltc_holds_the_programs_integers(scheme: str, tmp_path: Path) -> None:
    """Conductances, currents and slopes of every synapse, as the cell's forward reads them; of few bits,
    conductances and currents of a neuron times its gain.
    """
    prepared = trained("ltc", scheme)
    program, cell = compiled(saved(prepared, "ltc", tmp_path), scheme), prepared.rnn_cell
    assert isinstance(program.x.value.type, Fixed)
    gains: dict[int, float] = {}
    for prefix, tag in (("sensory_", "_s"), ("", "")):
        w, erev, sigma = (cell._params[prefix + name].detach().double() for name in ("w", "erev", "sigma"))
        if prefix:
            channel = np.exp2(program.x.value.type.frac - np.array(program.x.fracs, float))
            sigma = sigma * (cell.input_w.detach().double() * torch.as_tensor(channel))[:, None]
        post, pre = torch.nonzero(cell._parameters[f"{prefix}sparsity_mask"].T, as_tuple=True)
        for name, exact in (("w", w), ("we", w * erev), ("sigma", sigma)):
            value, raw = program.constants[name + tag]
            assert isinstance(value.type, Fixed)
            found = exact[pre, post].numpy() * 2.0**value.type.frac
            if name != "sigma" and scheme in TOGETHER:
                for k in np.argsort(-np.abs(found), kind="stable"):
                    gains.setdefault(int(post[k]), raw[k] / found[k])
                found = found * np.array([gains[int(k)] for k in post])
            np.testing.assert_allclose(raw, found, rtol=0, atol=4e-3, err_msg=name)
    assert all(0.5 - 1e-3 < gain < 2.0**7 for gain in gains.values())


@pytest.mark.parametrize("family", ["dense", "lstm", "cfc", "ltc", "conv"])
def test_training_moves_every_parameter_that_the_float_module_moves(family: str) -> None:
    """Gradients pass the rounding: they are near those of the float module."""
    module, x = model(family), inputs(family)
    prepared = quant.prepare(module, "int16", **told(family))
    for each in (module, prepared):
        (outputs(each, x) ** 2).mean().backward()
    mine = {name.replace("parametrizations.", "").removesuffix(".original"): p for name, p in
            prepared.named_parameters()}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            scale = float(parameter.grad.abs().max()) + 1e-6
            assert float((mine[name].grad - parameter.grad).abs().max()) < 0.05 * scale, name


def test_no_weight_becomes_the_lowest_number() -> None:
    """-8 units would be -8 of 4 bits to the twin and no weight of the program's, which would take a coarser grid."""
    prepared = quant.prepare(model("dense"), "w4a16", **told("dense"))
    name, on_grid = next((name, p) for name, p in prepared.named_parameters() if name.endswith("weight.original"))
    owner = prepared.get_submodule(name.split(".parametrizations")[0])
    unit = float(owner.parametrizations.weight[0].unit.max())
    with torch.no_grad():
        on_grid.fill_(-7.9 * unit)
    assert float(owner.weight.detach().min()) == pytest.approx(-7.0 * unit, rel=1e-6)


@pytest.mark.parametrize(("row", "raw", "finer"), [
    ([4.2, 0.2, -0.3, 0.1, 0.0, 0.4, 0.0, 0.2], [4, 0, 0, 0, 0, 1, 0, 0], 1), ([0.6, 0.55, 0.7], [1, 1, 1], 0),
    ([3.9, -1.4, 6.6, 0.2], [3, -1, 7, 0], 3), ([0.1, 0.2], [0, 0], 0),
])
def test_the_scale_of_a_row_is_told_by_its_integers(row: list[float], raw: list[int], finer: int) -> None:
    """Of few bits a row may be near on a coarser grid as well: few are not 0. Its largest ones tell."""
    kind, data = Fixed(4, 2), np.array([row]) * 2.0 ** -(2 + finer)
    found = fractions_of(data, np.array([raw]), kind, np.zeros((1, len(row)), np.int64), "a row")
    assert (found == kind.frac + finer).all()


def test_the_module_stays_as_it_is() -> None:
    module = model("cfc")
    before = copy.deepcopy(module.state_dict())
    prepared = quant.prepare(module, "int8", **told("cfc"))
    train(prepared, inputs("cfc"), torch.zeros(3, 12, 2), 2)
    assert list(module.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert type(quant.finish(prepared)) is type(module)


@pytest.mark.parametrize("family", ["lstm", "ltc", "cfc"])
def test_a_state_dict_carries_the_training(family: str) -> None:
    """Into another twin of the same module, grids included; and a deep copy is a twin of its own."""
    prepared, x = trained(family, "int8"), inputs(family)
    again = quant.prepare(model(family), "int8", **told(family))
    again.load_state_dict(prepared.state_dict())
    copied = copy.deepcopy(prepared)
    quant.refresh(again)
    quant.refresh(prepared)
    torch.testing.assert_close(outputs(again, x), outputs(prepared, x), rtol=0, atol=0)
    before = outputs(prepared, x).detach()
    train(copied, x, torch.zeros_like(before), 3)
    torch.testing.assert_close(outputs(prepared, x), before, rtol=0, atol=0)
    assert float((outputs(copied, x) - before).detach().abs().max()) > 0


def test_the_mode_and_what_is_frozen_stay() -> None:
    module = model("dense").train()
    module[0].weight.requires_grad_(False)
    finished = quant.finish(quant.prepare(module, "int8", **told("dense")))
    assert finished.training
    assert [p.requires_grad for p in finished.parameters()] == [False, True, True, True, True, True]


@pytest.mark.parametrize(("scheme", "problem"), [
    ("int7", "ncpc.quant.prepare: scheme is 'int7'; known are int16, w8a16, w4a16, int8"),
    ("float32", "scheme 'float32' has no integers to train for"),
    ("thresholds", "scheme 'thresholds' has no integers"),
])
def test_schemes_without_integers_are_refused(scheme: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        quant.prepare(model("dense"), scheme, **told("dense"))


def test_what_is_no_module_or_no_twin_is_refused() -> None:
    with pytest.raises(BadInput, match="a list, not a torch module"):
        quant.prepare([torch.nn.Linear(2, 2)], "int8", input_range=(-1, 1))
    prepared = quant.prepare(model("dense"), "int8", **told("dense"))
    with pytest.raises(BadInput, match="prepared already"):
        quant.prepare(prepared, "int8", **told("dense"))
    for function in (quant.finish, quant.refresh):
        with pytest.raises(BadInput, match="was not made by"):
            function(model("dense"))


@pytest.mark.parametrize(("given", "problem"), [
    ({}, "neither calibration nor input_range given"),
    ({"calibration": np.zeros((5, 7))}, "7 values per step, but the policy takes 3"),
    ({"calibration": np.full((50, 3), np.nan)}, "NaN|not finite|finite"),
])
def test_bad_data_is_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        quant.prepare(model("dense"), "int8", **given)


def test_importing_ncpc_or_its_quantization_loads_neither_torch_nor_brevitas() -> None:
    code = ("import sys, ncpc, ncpc.quant, ncpc.quant.policy; "
            "print([m for m in ('torch', 'brevitas') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("scheme", ["w4a16", "w8a16"])
@pytest.mark.parametrize("example", ["cartpole", "sine"])
def test_an_untrained_twin_of_a_shipped_ltc_ends_at_the_compilers_own_integers(example: str, scheme: str) -> None:
    """Where the largest weight of a tensor becomes smaller by being rounded, a finer fraction would hold it, in which
    what else was rounded lies on no grid.
    """
    policy = read_policy(EXAMPLES / example / "policy.safetensors")
    data = policy.calibration
    assert data is not None
    twin = quant.prepare(ltc_module(policy), scheme, calibration={"x": data.x}, input_range=policy.input_range,
                         dt=policy.dt.nominal)
    mine, twins = (held_program(p, scheme)[1] for p in (policy, with_weights_of(policy, quant.finish(twin))))
    assert {one.name for one in mine} == {one.name for one in twins}
    for one, other in zip(mine, twins, strict=True):
        np.testing.assert_array_equal(one.raw * one.unit, other.raw * other.unit, one.where)
