"""What is read from ncps models besides numbers, what is refused, and the traps of the source library."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from ncpc.errors import BadInput, Unsupported
from ncpc.frontend import ncps_torch
from ncpc.frontend.state_dict import import_state_dict
from ncpc.ir.gated import MixedMemory
from ncpc.ir.policy import Activation, Dense, DtRange, Layer, Ltc, Policy
from ncpc.ir.sequences import Sequences
from ncpc.passes.lower import lower
from ncpc.semantics.run import run

torch = pytest.importorskip("torch")
LTC = pytest.importorskip("ncps.torch").LTC
LTCCell = pytest.importorskip("ncps.torch").LTCCell
CfC = pytest.importorskip("ncps.torch").CfC
wirings = pytest.importorskip("ncps.wirings")
cells = pytest.importorskip("ncpc.cells")
nn = torch.nn

OPTIONS = {"implicit_param_constraints": True, "unfolds": 6, "epsilon": 1e-8}


def import_ltc(model: Any) -> Ltc:
    (layer,) = ncps_torch.import_model(model).layers
    assert isinstance(layer, Ltc)
    return layer


def outputs(layers: tuple[Layer, ...], x: Any, dt: Any = None) -> np.ndarray:
    policy = Policy("net", layers, np.tile([-1.0, 1.0], (layers[0].inputs, 1)), DtRange(0.01, 10))
    x = np.asarray(x, np.float64)
    return run(lower(policy), Sequences(x, np.ones(x.shape[:2]) if dt is None else np.asarray(dt, np.float64))).y


@pytest.fixture
def ltc() -> Any:
    torch.manual_seed(3)
    return LTC(3, wirings.AutoNCP(8, 2, seed=5))


# --- names, roles, topology -------------------------------------------------------------------------------------------


def test_roles_and_names_follow_the_wiring(ltc: Any) -> None:
    layer = import_ltc(ltc)
    assert layer.roles == ("motor",) * 2 + ("command",) * 2 + ("inter",) * 4
    assert layer.names == ("motor_0", "motor_1", "command_0", "command_1", "inter_0", "inter_1", "inter_2", "inter_3")


def test_roles_of_other_words_mean_inter(ltc: Any) -> None:
    ltc._wiring.get_type_of_neuron = lambda i: "hidden"
    assert import_ltc(ltc).roles == ("motor",) * 2 + ("inter",) * 6


def test_synapses_are_those_of_the_mask_sorted_by_post(ltc: Any) -> None:
    layer, mask = import_ltc(ltc), ltc.rnn_cell.sparsity_mask.numpy()
    assert len(layer.recurrent) == int(mask.sum())
    assert all(mask[pre, post] for pre, post in zip(layer.recurrent.pre, layer.recurrent.post, strict=True))
    assert list(zip(layer.recurrent.post, layer.recurrent.pre, strict=True)) == sorted(
        zip(layer.recurrent.post, layer.recurrent.pre, strict=True))


def test_a_wiring_rebuilt_for_another_cell_does_not_change_the_first() -> None:
    wiring = wirings.Random(6, 2, sparsity_level=0.7)
    first = LTC(3, wiring)
    before = import_ltc(first)
    LTC(3, wiring)  # building again draws further synapses into the same wiring
    after = import_ltc(first)
    assert wiring.synapse_count >= len(before.recurrent)
    assert wiring.sensory_synapse_count > len(before.sensory)
    assert np.array_equal(before.sensory.pre, after.sensory.pre)


def test_reversal_potentials_are_the_trained_ones(ltc: Any) -> None:
    ltc.rnn_cell.erev.data *= 0.37
    layer = import_ltc(ltc)
    assert np.allclose(np.abs(layer.recurrent.erev), 0.37)


def test_a_mask_other_than_one_scales_the_conductance() -> None:
    wiring = wirings.FullyConnected(4, 1)
    cell = LTCCell(wiring, 2)
    cell.sparsity_mask.data *= 0.5
    x = np.random.default_rng(0).uniform(-1, 1, (1, 20, 2))
    expected = cells.Sequential([cell])(torch.tensor(x).float())[0].detach().numpy()
    assert np.abs(outputs((import_ltc(cell),), x) - expected).max() < 1e-5


def test_softplus_is_folded_in_as_the_module_computes_it(ltc: Any) -> None:
    layer = import_ltc(ltc)
    assert np.array_equal(layer.cm, nn.functional.softplus(ltc.rnn_cell.cm).detach().double().numpy())


def test_unfolds_and_epsilon_are_read() -> None:
    layer = import_ltc(LTC(2, 3, ode_unfolds=9, epsilon=1e-4))
    assert (layer.unfolds, layer.epsilon) == (9, 1e-4)


def test_provenance_names_the_constraint_mode_and_the_installed_versions(ltc: Any) -> None:
    from importlib import metadata

    provenance = ncps_torch.import_model([ltc, nn.Linear(2, 1)]).provenance
    (cell,) = provenance["cells"]  # type: ignore[misc]
    assert cell["class"] == "ncps.LTC"
    assert cell["constraints"] == "implicit"
    assert provenance["versions"]["ncps"] == metadata.version("ncps")  # type: ignore[index]
    assert import_provenance(LTCCell(wirings.FullyConnected(3), 2))["constraints"] == "explicit"


def import_provenance(model: Any) -> Any:
    return ncps_torch.import_model(model).provenance["cells"][0]  # type: ignore[index]


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_sequentials_and_ncpc_sequential_read_alike(ltc: Any) -> None:
    parts = [nn.Linear(4, 3), nn.Tanh(), ltc, nn.Linear(2, 1, bias=False)]
    forms: list[Any] = [parts, nn.Sequential(*parts), nn.ModuleList(parts), cells.Sequential(parts),
                        [nn.Sequential(*parts[:2]), *parts[2:]]]
    for form in forms:
        dense, tanh, cell, head = ncps_torch.import_model(form).layers
        assert isinstance(dense, Dense)
        assert isinstance(tanh, Activation)
        assert tanh.width == 3
        assert isinstance(cell, Ltc)
        assert isinstance(head, Dense)
        assert not head.bias.any()


def test_an_activation_in_front_is_as_wide_as_what_follows(ltc: Any) -> None:
    first = ncps_torch.import_model([nn.Identity(), nn.Sigmoid(), ltc]).layers[0]
    assert isinstance(first, Activation)
    assert (first.function, first.width) == ("sigmoid", 3)


def test_two_recurrent_cells_carry_their_own_states() -> None:
    torch.manual_seed(0)
    model = [LTC(2, 3), nn.ReLU(), LTC(3, wirings.FullyConnected(4, 1))]
    x = np.random.default_rng(0).uniform(-1, 1, (2, 30, 2))
    expected, states = cells.Sequential(model)(torch.tensor(x).float())
    assert [tuple(s.shape) for s in states] == [(2, 3), (2, 4)]
    assert np.abs(outputs(ncps_torch.import_model(model).layers, x) - expected.detach().numpy()).max() < 1e-5


# --- ncpc.cells.Sequential --------------------------------------------------------------------------------------------


def test_torch_sequential_cannot_run_a_cell_but_ours_can(ltc: Any) -> None:
    x = torch.rand(2, 5, 3)
    with pytest.raises(TypeError):
        nn.Sequential(ltc, nn.Linear(2, 1))(x)
    assert cells.Sequential([ltc, nn.Linear(2, 1)])(x)[0].shape == (2, 5, 1)


def test_sequential_equals_the_modules_own_forward(ltc: Any) -> None:
    x, timespans = torch.rand(1, 20, 3), torch.rand(1, 20) + 0.1
    for spans in (None, timespans):
        expected, h = ltc(x, timespans=spans)
        got, (state,) = cells.Sequential([ltc])(x, None, spans)
        assert torch.equal(got, expected)
        assert torch.equal(state, h)


def test_sequential_gives_each_sequence_its_own_timespans(ltc: Any) -> None:
    """ncps' forward mixes up batch and neurons when given (B, T) timespans: it fails, or is wrong if B == units."""
    x, timespans = torch.rand(8, 5, 3), torch.rand(8, 5) + 0.1
    got, _ = cells.Sequential([ltc])(x, None, timespans)
    one_by_one = torch.cat([ltc(x[b:b + 1], timespans=timespans[b:b + 1])[0] for b in range(8)])
    assert torch.allclose(got, one_by_one, atol=1e-6)
    assert not torch.allclose(ltc(x, timespans=timespans)[0], one_by_one, atol=1e-3)
    assert np.abs(outputs((import_ltc(ltc),), x, timespans) - one_by_one.detach().numpy()).max() < 1e-5
    with pytest.raises(RuntimeError):
        ltc(x[:3], timespans=timespans[:3])


def test_sequential_continues_from_a_state_and_takes_one_sequence(ltc: Any) -> None:
    model, x = cells.Sequential([ltc, nn.Linear(2, 1)]), torch.rand(10, 3)
    whole, _ = model(x)
    first, state = model(x[:4])
    second, _ = model(x[4:], state)
    assert whole.shape == (10, 1)
    assert torch.allclose(torch.cat([first, second]), whole)


def test_sequential_can_be_trained(ltc: Any) -> None:
    model = cells.Sequential([ltc, nn.Linear(2, 1)])
    model(torch.rand(2, 4, 3))[0].sum().backward()
    assert ltc.rnn_cell.w.grad.abs().sum() > 0


# --- refusals ---------------------------------------------------------------------------------------------------------


class Branching(nn.Module):
    def forward(self, x: Any) -> Any:
        return x


class LoudLinear(nn.Linear):
    def forward(self, x: Any) -> Any:
        return 2 * super().forward(x)


class OtherCell(LTCCell):  # type: ignore[misc, valid-type]
    def _sigmoid(self, v_pre: Any, mu: Any, sigma: Any) -> Any:
        return torch.tanh(v_pre[..., None] - mu)


@pytest.mark.parametrize(("make", "named"), [
    (Branching, "Branching"),
    (lambda: nn.RMSNorm(4), "torch.RMSNorm"),
    (lambda: LoudLinear(2, 2), "LoudLinear"),
    (lambda: nn.Transformer(2, 2), "torch.Transformer"),
    (lambda: OtherCell(wirings.FullyConnected(2), 2), "OtherCell"),
    (lambda: "weights", "builtins.str"),
])
def test_other_modules_are_refused_by_name_with_what_is_supported(make: Any, named: str) -> None:
    with pytest.raises(Unsupported, match=named) as caught:
        ncps_torch.import_model([make(), LTC(2, 3)])
    assert ncps_torch.SUPPORTED in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_swapped_cell_inside_an_ltc_is_refused(ltc: Any) -> None:
    ltc.rnn_cell.__class__ = OtherCell
    with pytest.raises(Unsupported, match="OtherCell overrides a method of LTCCell"):
        import_ltc(ltc)


def test_mixed_memory_is_read_around_its_cell() -> None:
    (layer,) = ncps_torch.import_model(LTC(2, 3, mixed_memory=True)).layers
    assert isinstance(layer, MixedMemory)
    assert isinstance(layer.cell, Ltc)
    assert (layer.into, layer.memory.neurons, layer.memory.inputs) == ("state", 3, 2)


@pytest.mark.parametrize("model", [[], [nn.ReLU()], [nn.Dropout(), nn.Tanh()]])
def test_a_list_that_says_no_width_is_refused(model: list[Any]) -> None:
    with pytest.raises(Unsupported, match="holds no layer of a known width"):
        ncps_torch.import_model(model)


def test_a_list_without_a_cell_is_read() -> None:
    first, *_ = ncps_torch.import_model([nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)]).layers
    assert (first.inputs, first.outputs) == (2, 3)


def test_a_wiring_without_output_dim_is_refused() -> None:
    cell = LTCCell(wirings.Wiring(3), 2, output_mapping=None)
    with pytest.raises(BadInput, match=r"no output_dim; call wiring.set_output_dim"):
        import_ltc(cell)


# --- parameters that the forward ignores ------------------------------------------------------------------------------


class Double(nn.Module):
    def forward(self, w: Any) -> Any:
        return 2 * w


def test_parametrize_is_refused_because_forward_ignores_it(ltc: Any) -> None:
    x = torch.rand(1, 3, 3)
    before = ltc(x)[0]
    nn.utils.parametrize.register_parametrization(ltc.rnn_cell, "w", Double())
    assert torch.equal(ltc(x)[0], before)
    with pytest.raises(BadInput, match="ignores the parameter 'w'"):
        import_ltc(ltc)


def test_load_state_dict_assign_is_refused_because_forward_ignores_it(ltc: Any) -> None:
    x = torch.rand(1, 3, 3)
    before = ltc(x)[0]
    ltc.load_state_dict({k: v + 0.1 for k, v in ltc.state_dict().items()}, assign=True)
    assert torch.equal(ltc(x)[0], before)
    with pytest.raises(BadInput, match=r"load_state_dict\(assign=True\)"):
        import_ltc(ltc)


def test_a_deep_copy_keeps_what_forward_reads(ltc: Any) -> None:
    clone = copy.deepcopy(ltc)
    clone.rnn_cell.vleak.data += 1
    assert np.allclose(import_ltc(clone).vleak, import_ltc(ltc).vleak + 1)


# --- negative parameters ----------------------------------------------------------------------------------------------


def test_negative_weights_off_the_mask_do_not_matter() -> None:
    cell = LTCCell(wirings.AutoNCP(8, 2), 2)
    cell.w.data[cell.sparsity_mask == 0] = -1.0
    assert import_ltc(cell).recurrent.w.min() >= 0


def test_parameters_clipped_to_exactly_zero_are_kept() -> None:
    cell = LTCCell(wirings.FullyConnected(3, 1), 2)
    cell.w.data[:] = 0
    cell.gleak.data[:] = 0
    layer = import_ltc(cell)
    assert len(layer.recurrent) == 9
    assert not layer.recurrent.w.any()


# --- state dicts ------------------------------------------------------------------------------------------------------


def from_state(state: Any, **options: Any) -> Ltc:
    (layer,) = import_state_dict(state, **options).layers
    assert isinstance(layer, Ltc)
    return layer


def assert_same_layer(a: Ltc, b: Ltc) -> None:
    x = np.random.default_rng(0).uniform(-1, 1, (2, 30, a.inputs))
    assert np.array_equal(outputs((a,), x), outputs((b,), x))


@pytest.mark.parametrize("mapping", [None, "linear", "affine"])
@pytest.mark.parametrize("implicit", [True, False])
def test_state_dict_with_its_options_equals_the_module(mapping: str | None, implicit: bool) -> None:
    model = LTC(3, wirings.AutoNCP(8, 2), input_mapping=mapping, output_mapping=mapping, ode_unfolds=4, epsilon=1e-5,
                implicit_param_constraints=implicit)
    layer = from_state(model.state_dict(), implicit_param_constraints=implicit, unfolds=4, epsilon=1e-5,
                              outputs=2 if mapping is None else None)
    assert_same_layer(layer, import_ltc(model))


def test_state_dict_without_options_names_all_that_is_missing() -> None:
    state = LTC(3, 4, output_mapping=None).state_dict()
    with pytest.raises(BadInput, match="does not say implicit_param_constraints, unfolds, epsilon, outputs; give them"):
        from_state(state)
    with pytest.raises(BadInput, match="does not say unfolds; give"):
        from_state(LTC(3, 4).state_dict(), implicit_param_constraints=True, epsilon=1e-8)


def test_state_dict_roles_are_taken_when_given() -> None:
    state = LTC(3, wirings.AutoNCP(6, 1)).state_dict()
    roles = ["motor", "command", "command", "inter", "inter", "inter"]
    assert from_state(state, roles=roles, **OPTIONS).roles == tuple(roles)
    assert from_state(state, **OPTIONS).roles == ("motor",) + ("inter",) * 5


def test_state_dict_provenance_names_the_constraint_mode(ltc: Any) -> None:
    for implicit, mode in ((True, "implicit"), (False, "explicit")):
        state = {k: v.abs() for k, v in ltc.state_dict().items()}
        found = import_state_dict(state, **(OPTIONS | {"implicit_param_constraints": implicit})).provenance
        assert found == {"source": "ncps.torch state_dict", "constraints": mode}


def test_state_dict_arrays_of_numpy_are_read(ltc: Any) -> None:
    state = {k: v.numpy() for k, v in ltc.state_dict().items()}
    assert_same_layer(from_state(state, **OPTIONS), import_ltc(ltc))


def test_state_dict_of_a_list_needs_a_prefix(ltc: Any) -> None:
    state = nn.ModuleList([nn.Linear(3, 3), ltc]).state_dict()
    with pytest.raises(BadInput, match=r"does not say layers; .* --layers 0,1 \(the only order that fits\)"):
        from_state(state, **OPTIONS)
    assert_same_layer(from_state(state, prefix="1.rnn_cell.", **OPTIONS), import_ltc(ltc))


def test_state_dict_of_two_cells_or_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"does not say layers; .*no order fits"):
        from_state(nn.ModuleList([LTC(2, 3), LTC(2, 3)]).state_dict(), **OPTIONS)
    with pytest.raises(BadInput, match="holds no cell"):
        from_state(nn.Linear(2, 2).state_dict(), **OPTIONS)
    with pytest.raises(BadInput, match="does not say mode, activation, layers"):
        from_state(CfC(2, 3).state_dict() | LTCCell(wirings.FullyConnected(3), 2).state_dict(), **OPTIONS)


def test_state_dict_with_a_missing_or_misshapen_tensor_is_refused(ltc: Any) -> None:
    state = dict(ltc.state_dict())
    short = state | {"rnn_cell.vleak": torch.zeros(7)}
    with pytest.raises(BadInput, match=r"'rnn_cell.vleak' has shape \(7,\), expected \(8,\)"):
        from_state(short, **OPTIONS)
    del state["rnn_cell.sparsity_mask"]
    with pytest.raises(BadInput, match=r"'rnn_cell.sparsity_mask' is missing"):
        from_state(state, **OPTIONS)
