"""A chain of graded nodes -> one integer Program again, and its run, which counts what is sent to synapses.

Values are named ``NODE.name``, since two nodes may use one name. The message between two nodes needs no op: what one
writes is, part by part, what the next one reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ncpc.errors import BadInput, ProofFailed, Unsupported
from ncpc.ir.ops import OPS
from ncpc.ir.program import Attr, Carry, Op, Port, Program, Repeat, State, Stmt, Value
from ncpc.ir.sequences import Sequences
from ncpc.ir.types import Axis, Fixed
from ncpc.semantics import fixed
from ncpc.semantics.ops import Compute, implementation
from ncpc.semantics.run import Executor, Step, run
from ncpc.targets.nir_graded.layers import GradedLayer
from ncpc.targets.nir_graded.record import MANTISSA_BITS
from ncpc.targets.nir_graded.traffic import GradedRun, Source, with_traffic

I64 = NDArray[np.int64]
Json = Mapping[str, Any]
WIDE = 64
"""Bits of a value that a file gives none: constants, states, messages."""
DT_BITS = 32


@dataclass(frozen=True, eq=False)
class Joined:
    """``program``, and by the name of an op's value all that its node says of the op, as JSON."""

    program: Program
    said: Mapping[str, Json]
    theta: int


@dataclass
class NodeNames:
    """Names within a node -> names in the Program. What is not read from the node before is the node's own."""

    node: str
    read: Mapping[str, str]

    def __call__(self, name: str) -> str:
        return self.read.get(name, f"{self.node}.{name}")


def joined(layers: Sequence[GradedLayer]) -> Joined:
    """The Program of a chain. Raises Unsupported for an op that is none, BadInput for nodes that do not fit together,
    KeyError for a field that is missing.
    """
    face, body, said = layers[0].face, list[Stmt](), dict[str, Json]()
    constants: dict[str, tuple[Value, I64]] = {}
    states: list[tuple[int, State]] = []
    sent = ["x", *(["dt"] if face.dt_frac >= 0 else [])]
    message: list[Value] = []
    for layer in layers:
        step = layer.step
        names = NodeNames(layer.name, _read(layer, sent, message))
        fracs = _weights(step["ops"])
        body += [_stmt(layer.name, op, names, fracs, said) for op in step["ops"]]
        for name, data in layer.constants.items():
            constants[names(name)] = (_value(names(name), data.shape, Fixed(WIDE, fracs.get(name, 0))), data)
        states += [(state["order"], _state(state, names)) for state in step["states"]]
        message = [_value(names(port["name"]), port["shape"], Fixed(WIDE, 0)) for port in step["writes"]]
        sent = [value.name for value in message]
    dt = None if face.dt_frac < 0 else Value("dt", (), Fixed(DT_BITS, face.dt_frac, signed=False))
    x, y = _value("x", face.x_frac.shape, Fixed(face.x_bits, 0)), message[0]
    program = Program(
        "chain", _port(x, face.x_frac), _port(y, face.y_frac),
        None if dt is None else _port(dt, np.array([face.dt_frac]), face.dt_nominal),
        tuple(state for _, state in sorted(states, key=lambda pair: int(pair[0]))), constants, tuple(body),
    )
    return Joined(program, said, layers[0].theta)


def _read(layer: GradedLayer, sent: Sequence[str], message: Sequence[Value]) -> dict[str, str]:
    """What the node reads by what was sent to it."""
    ports = layer.step["reads"]
    shapes = [tuple(port["shape"]) for port in ports]
    if len(ports) != len(sent) or (message and shapes != [value.shape for value in message]):
        raise BadInput(f"graded node {layer.name}: it reads {shapes}, which is not what the node before it writes")
    return {port["name"]: name for port, name in zip(ports, sent, strict=True)}


def _weights(ops: Sequence[Json]) -> dict[str, int]:
    """Fractions that ``mix`` gives of its third argument."""
    found: dict[str, int] = {}
    for op in ops:
        found |= _weights(op["ops"]) if op["op"] == "repeat" else {}
        found |= {op["args"][2]: op["k"]} if op["op"] == "mix" else {}
    return found


def _stmt(node: str, op: Json, names: NodeNames, fracs: Mapping[str, int], said: dict[str, Json]) -> Stmt:
    if op["op"] == "repeat":
        carried = tuple(_carry(c, op["ops"], names) for c in op["carried"])
        return Repeat(int(op["count"]), carried, tuple(_stmt(node, o, names, fracs, said) for o in op["ops"]))
    if op["op"] not in OPS or OPS[op["op"]].domain == "float":
        raise Unsupported(f"graded node {node}: unknown op '{op['op']}'")
    kind = Fixed(abs(op["bits"]), fracs.get(op["out"], op["frac"]), op["bits"] > 0)
    out = _value(names(op["out"]), op["shape"], kind)
    said[out.name] = op
    return Op(op["op"], out, tuple(map(names, op["args"])), dict(_attrs(op, names)))


def _attrs(op: Json, names: NodeNames) -> Iterator[tuple[str, Attr]]:
    """All that the op has: None where the file says nothing; a clamp's ends may name constants."""
    for name in OPS[op["op"]].attrs:
        value = op.get(name)
        yield name, names(value) if op["op"] == "clamp" and name in ("lo", "hi") and isinstance(value, str) else value


def _carry(carry: Json, ops: Sequence[Json], names: NodeNames) -> Carry:
    result = next(op for op in ops if op.get("out") == carry["result"])
    kind = Fixed(abs(result["bits"]), result["frac"], result["bits"] > 0)
    inner, out = (_value(names(carry[end]), result["shape"], kind) for end in ("inner", "out"))
    return Carry(names(carry["init"]), inner, names(carry["result"]), out)


def _state(state: Json, names: NodeNames) -> State:
    value = _value(names(state["name"]), state["shape"], Fixed(WIDE, state["frac"]))
    return State(value, names(state["out"]), np.array(state["init"], np.int64).reshape(value.shape))


def _value(name: str, shape: Sequence[int], kind: Fixed) -> Value:
    return Value(name, tuple(Axis(f"{name}:{i}", int(size)) for i, size in enumerate(shape)), kind)


def _port(value: Value, fracs: I64, nominal: float = 1.0) -> Port:
    return Port(value, (), tuple(map(int, fracs)), np.zeros((len(fracs), 2)), nominal)


@dataclass
class GradedExecutor:
    """A chain at work on a batch: an Executor whose synapses go on with what was last sent to them."""

    chain: Joined
    sources: list[Source] = field(default_factory=list)
    executor: Executor = field(init=False)

    def __post_init__(self) -> None:
        self.executor = Executor(self.chain.program, self._meaning, watches=lambda *op: [])

    def reset(self, batch: int, rows: NDArray[np.bool_] | None = None) -> None:
        """States, all or those of ``rows`` (B,), at their first value; what follows from them is sent anew there."""
        self.executor.reset(batch, rows)
        if rows is not None:
            for source in (source for source in self.sources if source.follows_state):
                source.forget(rows)

    def load(self, states: Mapping[str, NDArray[Any]]) -> None:
        """See ``Executor.load``."""
        self.executor.load(states)

    def step(self, x: NDArray[Any], dt: NDArray[Any] | None = None) -> Step:
        """See ``Executor.step``; raises ProofFailed for a value that leaves its bits."""
        try:
            return self.executor.step(x, dt)
        except OverflowError as error:
            raise ProofFailed(f"graded node: {error}") from None

    def _meaning(self, op: Op, args: Sequence[Value], constants: Mapping[str, NDArray[Any]]) -> Compute:
        said = self.chain.said[op.out.name]
        compute = _coarse_inverse(op, said["mantissa"]) if "mantissa" in said else implementation(op, args, constants)
        if "send" not in said:
            return compute
        at = 0 if op.kind == "gather" else 1
        other = constants[op.args[1 - at]]
        fan_out = (np.bincount(other, minlength=args[at].shape[-1]) if op.kind == "gather"
                   else np.count_nonzero(other, axis=0))
        source = Source(fan_out, said["send"] == "theta", self.chain.theta)
        self.sources.append(source)

        def sent(a: Sequence[Any], env: dict[str, Any]) -> Any:
            return compute([source.send(part) if i == at else part for i, part in enumerate(a)], env)

        return sent


def _coarse_inverse(op: Op, bits: int) -> Compute:
    """``inverse`` with the mantissa of its reciprocal rounded to ``bits`` bits."""
    k, spare = int(op.attrs["k"] or 0), MANTISSA_BITS - bits

    def compute(a: Sequence[Any], env: dict[str, Any]) -> Any:
        e = fixed.norm(a[0])
        return (fixed.shr(fixed.recip(a[0], e), spare) << spare) << (e + k)

    return compute


def execute(layers: Sequence[GradedLayer], data: Sequences) -> GradedRun:
    """Every sequence from the reset states, or from those it restores, which nothing limits here."""
    chain = joined(layers)
    machine = GradedExecutor(chain)
    return with_traffic(run(chain.program, data, machine), machine.sources, data.steps)
