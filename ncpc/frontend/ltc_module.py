"""A policy's LTC as the ncps module that it could have been read from, to be trained further. Needs torch and ncps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.frontend.ncps_torch import import_model
from ncpc.ir.policy import Ltc, Policy
from ncpc.ir.wires import only_layer
from ncpc.system.torch_library import ncps_torch_module, torch_module


def ltc_module(policy: Policy) -> Any:
    """An ``ncps.torch.LTC`` with explicit constraints whose forward is the policy's, in single precision.

    Raises Unsupported for a policy that is not one LTC with the fused solver, or starts from a state other than 0.
    """
    layer = only_layer(policy)
    if not isinstance(layer, Ltc) or layer.solver != "fused" or policy.initial:
        kinds = ", ".join(part.kind for part in policy.layers)
        raise Unsupported(f"--fine-tune: {policy.name} ({kinds}) is no single LTC with the fused solver that starts "
                          "from 0; fine-tune the module that it was made of: ncpc.quant.prepare")
    from ncps.wirings import Wiring

    wiring = Wiring(layer.neurons)
    wiring.set_output_dim(layer.outputs)
    wiring.build(layer.inputs)
    for adjacency, synapses in ((wiring.sensory_adjacency_matrix, layer.sensory),
                                (wiring.adjacency_matrix, layer.recurrent)):
        adjacency[synapses.pre, synapses.post] = 1
    module = ncps_torch_module().LTC(layer.inputs, wiring, ode_unfolds=layer.unfolds, epsilon=layer.epsilon,
                                     implicit_param_constraints=False)
    _fill(module.rnn_cell._parameters, layer)
    return module


def _fill(parameters: Any, layer: Ltc) -> None:
    torch = torch_module()
    with torch.no_grad():
        for name in ("cm", "gleak", "vleak", "input_w", "input_b", "output_w", "output_b"):
            parameters[name].copy_(torch.as_tensor(getattr(layer, name)))
        for prefix, synapses in (("sensory_", layer.sensory), ("", layer.recurrent)):
            for name in ("w", "erev", "sigma", "mu"):
                dense = np.zeros(tuple(parameters[prefix + name].shape))
                dense[synapses.pre, synapses.post] = getattr(synapses, name)
                parameters[prefix + name].copy_(torch.as_tensor(dense))


def with_weights_of(policy: Policy, module: Any) -> Policy:
    """The policy with the weights of a module that ``ltc_module`` made of it."""
    own = only_layer(policy)
    (layer,) = import_model(module).layers
    assert isinstance(own, Ltc)
    assert isinstance(layer, Ltc)
    return replace(policy, layers=(replace(layer, roles=own.roles, names=own.names),))
