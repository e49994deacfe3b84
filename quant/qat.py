"""Quantization-aware training: the LTC step as a torch module whose weights and activations go through brevitas.

``quantized_twin`` makes the module of a policy, ``fine_tune`` trains it, ``QuantLtc.to_layer`` gives back a layer whose
quantization has exactly the integers that were trained. Importing this needs torch and brevitas (extra ``torch``).

The twin computes what the integer step computes, over the reals: weights and slopes on their grid, inputs, the state
that synapses read and outputs on the grids of the compiled program. It does not model the sigmoid's table nor the
roundings of sums, which are a hundred times smaller than those of 8-bit weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ncpc.errors import Unsupported
from ncpc.ir.policy import F64, I64, Ltc, Policy, Synapses
from ncpc.ir.quantized import QuantizedLtc, QuantizedPolicy
from ncpc.ir.schemes import SCHEMES
from ncpc.ir.wires import only_layer
from ncpc.quant.brevitas_activations import calibrated
from ncpc.quant.brevitas_library import brevitas_library
from ncpc.quant.brevitas_weights import brevitas_scales, fraction
from ncpc.quant.calibrate import dead_band
from ncpc.quant.ltc import Incoming, synapse_vectors
from ncpc.quant.policy import Choices, quantize
from ncpc.quant.twin_ltc import FLAT
from ncpc.quant.twin_training import error_loss
from ncpc.system.torch_library import torch_module

if TYPE_CHECKING:
    import torch
else:
    torch = torch_module()

Contributions = Callable[[torch.Tensor], torch.Tensor]
HOLD = 2.0**-40
"""Share by which a largest weight that is a power of two is raised, so that its scale stays (see ``_held``)."""


@dataclass(frozen=True, eq=False)
class Grids:
    """What the compiled program decides: ``bits`` of weights, ``sigma_frac`` by set (None: as its largest allows).

    ``channel`` (inputs,) scales an input to what the sensory slopes are quantized for (1 unless channels have different
    fractions). ``x`` and ``y`` are the ends of inputs and outputs (2, channels), ``v`` of states (2, neurons).
    """

    bits: int
    y_bits: int
    sigma_frac: Mapping[str, int | None]
    channel: F64
    x: F64
    v: F64
    y: F64


class QuantSynapses(torch.nn.Module):
    """One synapse set: quantized ``w``, ``we`` (w*erev) and ``sigma``, and ``offset`` (-sigma*mu) in float64, (S,).

    As in the integer step the sigmoid's argument is ``sigma*u + offset``: rounding sigma does not move it at u = 0.
    """

    pre: torch.Tensor
    onto: torch.Tensor
    sigma: Any
    w: Any
    we: Any

    def __init__(self, s: Synapses, vectors: tuple[F64, F64, F64], offset: F64, neurons: int, bits: int,
                 sigma_frac: int | None) -> None:
        super().__init__()
        vector = brevitas_library().vector
        self.source, self.bits = s, bits
        self.sigma = vector(_tensor(vectors[0]), bits, sigma_frac)
        self.w, self.we = (vector(_tensor(v), bits, None) for v in vectors[1:])
        self.offset = torch.nn.Parameter(_tensor(offset))
        self.register_buffer("pre", torch.tensor(s.pre))
        self.register_buffer("onto", _tensor(np.eye(neurons)[s.post]))

    def contributions(self) -> Contributions:
        """What the synapses add for presynaptic values (..., pre): currents, then conductances (..., 2*neurons)."""
        sigma, w = _value(self.sigma), _value(self.w)
        # A synapse whose w rounds to 0 has no current either, as in the integer program.
        sums = torch.cat([(_value(self.we) * (w > 0))[:, None] * self.onto, w[:, None] * self.onto], dim=1)
        return lambda u: torch.sigmoid(sigma * u[..., self.pre] + self.offset) @ sums

    def integers(self) -> dict[str, tuple[I64, int]]:
        """Integers and fraction of ``w``, ``we`` and ``sigma`` as the compiled program holds them."""
        found = {name: _integers(getattr(self, name)) for name in ("w", "we", "sigma")}
        return found | {"we": (np.where(found["w"][0] == 0, 0, found["we"][0]), found["we"][1])}

    def clamp(self) -> None:
        """w >= 0, and no current where w rounds to 0."""
        self.w.weight.clamp_(min=0.0)
        self.we.weight.mul_(_value(self.w) > 0)

    def to_synapses(self, channel: F64) -> Synapses:
        """The synapses with their quantized parameters; ``channel`` (pre,) as in ``Grids``."""
        w, we, sigma = (_held(_numpy(_value(v)), v, self.bits) for v in (self.w, self.we, self.sigma))
        gain = channel[self.source.pre]
        sigma = np.where(sigma == 0, FLAT, sigma)
        erev = np.where(w > 0, we / np.where(w > 0, w, 1.0), self.source.erev)
        mu = -_numpy(self.offset) * gain / sigma
        return dataclasses.replace(self.source, w=w, sigma=sigma / gain, mu=mu, erev=erev)


class QuantLtc(torch.nn.Module):
    """The LTC step of ``layer`` on the grids of its integer program; float64 throughout. See ``quantized_twin``.

    The input map is folded into the sensory slopes and offsets. ``activations`` False leaves inputs, state and outputs
    unrounded. Parameters: the synapse vectors, ``cm``, ``gleak``, ``vleak`` (neurons,), ``output_w`` and
    ``output_b`` (outputs,).
    """

    cm: torch.nn.Parameter
    gleak: torch.nn.Parameter
    vleak: torch.nn.Parameter
    output_w: torch.nn.Parameter
    output_b: torch.nn.Parameter

    def __init__(self, layer: Ltc, vectors: Mapping[str, F64], grids: Grids) -> None:
        super().__init__()
        self.layer, self.grids, self.activations = layer, grids, True
        self.sensory = _synapses(layer, layer.sensory, vectors, "_s", layer.input_b, grids)
        self.recurrent = _synapses(layer, layer.recurrent, vectors, "", np.zeros(layer.neurons), grids)
        for name in ("cm", "gleak", "vleak", "output_w", "output_b"):
            self.register_parameter(name, torch.nn.Parameter(_tensor(getattr(layer, name))))
        self.quant_x = calibrated(grids.x, grids.bits)
        self.quant_v = calibrated(grids.v, 16, per_channel=False)
        self.quant_y = calibrated(grids.y, grids.y_bits)
        self.clamp_parameters()

    def forward(self, x: torch.Tensor, dt: torch.Tensor, state: torch.Tensor | None = None
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` (B, T, inputs), ``dt`` (B, T), ``state`` (B, neurons), zeros if None -> y (B, T, outputs), state."""
        u = self._rounded(self.quant_x, x) / _tensor(self.grids.channel)
        leak = torch.cat([self.gleak * self.vleak, self.gleak + self.layer.epsilon])
        base = self.sensory.contributions()(u) + leak
        cm_t = (self.cm * self.layer.unfolds) / dt[..., None]
        v = x.new_zeros(x.shape[0], self.layer.neurons) if state is None else state
        recurrent, view, motor = self.recurrent.contributions(), _rounding(self.quant_v), []
        for t in range(x.shape[1]):
            for _ in range(self.layer.unfolds):
                read = view(v) if self.activations else v
                num, den = (base[:, t] + recurrent(read)).chunk(2, dim=-1)
                v = v + (num - den * v) / (cm_t[:, t] + den)
            motor.append(v[:, : self.layer.outputs])
        return self._rounded(self.quant_y, torch.stack(motor, 1) * self.output_w + self.output_b), v

    def _rounded(self, quantizer: Any, values: torch.Tensor) -> torch.Tensor:
        flat: torch.Tensor = values.reshape(-1, values.shape[-1])
        return (quantizer(flat) if self.activations else flat).reshape(values.shape)

    def integers(self) -> dict[str, tuple[I64, int]]:
        """Integers and fraction of every weight vector, by the names of the program's constants (``w_s``, ...)."""
        return {name + tag: found for tag, part in (("_s", self.sensory), ("", self.recurrent))
                for name, found in part.integers().items()}

    @torch.no_grad()
    def clamp_parameters(self) -> None:
        """w, cm, gleak >= 0 again; call it after every optimizer step."""
        self.sensory.clamp()
        self.recurrent.clamp()
        for parameter in (self.cm, self.gleak):
            parameter.clamp_(min=0.0)

    @torch.no_grad()
    def to_layer(self) -> Ltc:
        """The layer over the reals: quantized weights, an identity input map. Its quantization gives ``integers()``."""
        self.clamp_parameters()
        sensory = self.sensory.to_synapses(self.grids.channel)
        recurrent = self.recurrent.to_synapses(np.ones(self.layer.neurons))
        return dataclasses.replace(
            self.layer, sensory=sensory, recurrent=recurrent, cm=_numpy(self.cm), gleak=_numpy(self.gleak),
            vleak=_numpy(self.vleak), output_w=_numpy(self.output_w), output_b=_numpy(self.output_b),
            input_w=np.ones(self.layer.inputs), input_b=np.zeros(self.layer.inputs),
        )


def quantized_twin(policy: Policy, scheme: str, tolerance: float) -> QuantLtc:
    """The module of a policy that is one LTC, on the grids that compiling it in ``scheme`` (int16, int8) chooses.

    ``tolerance`` is the fraction of the output range the state's dead band is derived from. Raises ``Unsupported`` for
    other policies, ``MissingTool`` without torch or brevitas.
    """
    layer = only_layer(policy)
    if not isinstance(layer, Ltc) or layer.solver != "fused":
        raise Unsupported("quantization-aware training: the policy is not a single LTC with the fused solver")
    stall = dead_band(policy, SCHEMES[scheme], tolerance)
    quantized = quantize(policy, scheme, policy.dt.mode, stall, Choices(brevitas_scales))
    incoming = Incoming(quantized.x, quantized.x_fracs, quantized.x_range)
    vectors = synapse_vectors(layer, incoming)
    return QuantLtc(layer, vectors, _grids(layer, vectors, quantized, SCHEMES[scheme].weight_bits))


def fine_tune(twin: QuantLtc, x: F64, target: F64, dt: F64, *, updates: int = 100, batch: int = 32, rate: float = 1e-3,
              seed: int = 0) -> list[float]:
    """Train ``twin`` in place to give ``target`` (B, T, outputs) for ``x`` (B, T, inputs) and ``dt`` (B, T) from reset.

    Adam with a cosine schedule down from ``rate``, ``batch`` sequences an update; the loss is the mean of squares plus
    that of fourth powers of the error in shares of each output's range, so that large errors count more. Deterministic
    in ``seed``. Returns the loss of every update. A loop of your own does as well; what it must not leave out is
    ``clamp_parameters()`` after each step.
    """
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.Adam([p for p in twin.parameters() if p.requires_grad], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    span = _tensor(np.maximum(np.ptp(target, axis=(0, 1)), 1e-6))
    losses = []
    for _ in range(updates):
        rows = rng.choice(len(x), min(batch, len(x)), replace=False)
        y, _ = twin(_tensor(x[rows]), _tensor(dt[rows]))
        loss = error_loss(y, _tensor(target[rows]), span)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        twin.clamp_parameters()
        losses.append(float(loss.detach()))
    return losses


def _synapses(layer: Ltc, s: Synapses, vectors: Mapping[str, F64], tag: str, shift: F64, grids: Grids) -> QuantSynapses:
    offset = s.sigma * (shift[s.pre] - s.mu)
    own = (vectors[f"sigma{tag}"], vectors[f"w{tag}"], vectors[f"we{tag}"])
    return QuantSynapses(s, own, offset, layer.neurons, grids.bits, grids.sigma_frac[tag])


def _grids(layer: Ltc, vectors: Mapping[str, F64], q: QuantizedPolicy, bits: int) -> Grids:
    """The ends of everything, and how much coarser than its vector allows sigma had to become."""
    own = q.layers[0]
    assert isinstance(own, QuantizedLtc)
    finest = brevitas_scales("0", {tag: vectors[f"sigma{tag}"] for tag in ("_s", "")}, bits)
    kept = {"_s": own.sensory.format.sigma, "": own.recurrent.format.sigma}
    v = own.box.T.astype(np.float64) * own.v.lsb
    ends = v[:, : layer.outputs] * layer.output_w + layer.output_b
    units = np.exp2(-np.array(q.x_fracs, np.float64))
    # An end that is the type's own lowest number asks for no coarser scale: it is where the quantizer saturates, too.
    x = np.maximum(q.x_range.T, -q.x.hi).astype(np.float64) * units
    coarser = {tag: kept[tag] if kept[tag] < finest[tag] else None for tag in kept}
    return Grids(bits, own.y.bits, coarser, 2.0**q.x.frac * units, x, v, ends)


def _tensor(array: F64) -> torch.Tensor:
    return torch.tensor(np.asarray(array, np.float64))


def _numpy(values: torch.Tensor) -> F64:
    array: F64 = values.detach().numpy().astype(np.float64)
    return array


def _value(vector: Any) -> torch.Tensor:
    """A vector's quantized values, differentiable; brevitas has no scale for an empty one."""
    value: torch.Tensor = vector.quant_weight().value if len(vector.weight) else vector.weight
    return value


@torch.no_grad()
def _integers(vector: Any) -> tuple[I64, int]:
    if not len(vector.weight):
        return np.zeros(0, np.int64), 0
    quantized = vector.quant_weight()
    return quantized.int(float_datatype=False).numpy().astype(np.int64), fraction(quantized)


def _rounding(quantizer: Any) -> Any:
    """A quantizer as a function of one tensor, its scale computed once: brevitas' proxies cost more than the step."""
    rescaling = quantizer.act_quant.fused_activation_quant_proxy.tensor_quant
    scale, bits = quantizer.act_quant.scale().detach(), rescaling.msb_clamp_bit_width_impl()
    zero = rescaling.zero_point_impl(scale, scale, bits)
    return lambda v: rescaling.int_quant(scale, zero, bits, v)


def _held(values: F64, vector: Any, bits: int) -> F64:
    """Quantized values whose scale comes out the same again.

    A largest integer of exactly half the range would fit a scale half as large, where it needs one code more than there
    is; so it is raised a little.
    """
    half = 2.0 ** (bits - 2 - _integers(vector)[1])
    return np.where(np.abs(values) == half, values * (1 + HOLD), values)
