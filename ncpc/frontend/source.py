"""What ``ncpc import`` is given: a file of Keras or ONNX, a checkpoint, or a function of the user's that makes the
model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ncpc.errors import BadInput
from ncpc.frontend.checkpoints import WHOLE, CheckpointPart
from ncpc.frontend.foreign import ONNX, kind_of
from ncpc.frontend.imported import Trained
from ncpc.system.files import is_file


@dataclass(frozen=True)
class Unsaid:
    """What a file of weights alone does not say; None where it was not given.

    Of an LTC: ``constraints``, ``implicit`` (softplus, the default of ncps' ``LTC``) or ``explicit`` (that of
    ``LTCCell``), ``unfolds``, ``epsilon`` and ``outputs``; of a CfC its ``mode`` and its backbone's ``activation``; of
    an RNN of torch its ``nonlinearity``; of several modules their order, ``layers``. Of a whole network of Keras the
    TOML file that has it, ``architecture``, and for solvers in it that are adaptive a fixed method and its steps,
    ``solver``.
    """

    unfolds: int | None = None
    constraints: str | None = None
    epsilon: float | None = None
    outputs: int | None = None
    mode: str | None = None
    activation: str | None = None
    nonlinearity: str | None = None
    layers: str | None = None
    architecture: Path | None = None
    solver: tuple[str, int] | None = None


OF_TORCH = ("constraints", "mode", "activation", "nonlinearity", "layers")
"""What Keras' weights say by themselves, or are not read without."""


def read_source(
    source: str, *, weights: Path | None, trust_pickle: bool, unsaid: Unsaid, part: CheckpointPart = WHOLE
) -> Trained:
    """What ``ncpc.save`` takes. Raises ``BadInput``, also for an option that has no effect on this kind of source."""
    from ncpc.frontend.keras import read

    if is_onnx_file(source):
        _refuse_all(source, weights is not None or trust_pickle or part != WHOLE, unsaid)
        return Trained(Path(source))
    if not read.is_keras_file(source):
        from ncpc.frontend.factory import read_model

        options = asdict(unsaid)
        for name in ("architecture", "solver"):
            if options.pop(name) is not None:
                raise BadInput(f"{source}: --{name} is for weights of Keras (.h5, .hdf5); leave it out")
        constraints = options.pop("constraints")
        implicit = None if constraints is None else constraints == "implicit"
        return read_model(source, weights=weights, trust_pickle=trust_pickle, part=part,
                          implicit_param_constraints=implicit, **options)
    if weights is not None or trust_pickle:
        raise BadInput(f"{source}: a Keras file takes no {'--weights' if weights else '--trust-pickle'}; leave it out")
    if part != WHOLE:
        raise BadInput(f"{source}: a Keras file takes no --{'prefix' if part.key is None else 'key'}; leave it out")
    for name in OF_TORCH:
        if getattr(unsaid, name) is not None:
            raise BadInput(f"{source}: --{name} is for a checkpoint of torch; leave it out")
    return Trained(_keras(source, unsaid))


def is_onnx_file(source: str | Path) -> bool:
    """Whether a file begins as an ONNX model, or has the name of one."""
    return Path(source).suffix == ".onnx" or kind_of(Path(source)) is ONNX


def _refuse_all(source: str, given: bool, unsaid: Unsaid) -> None:
    """An ONNX file says everything by itself."""
    options = [f"--{name}" for name, value in asdict(unsaid).items() if value is not None]
    if given or options:
        what = options[0] if options else "checkpoint, nor options of one"
        raise BadInput(f"{source}: an ONNX file takes no {what}; leave it out")


def _keras(source: str, unsaid: Unsaid) -> Any:
    """A whole model, the weights of an LTC alone, or those of a network whose architecture is told."""
    from ncpc.frontend.keras import draft, network, read
    from ncpc.frontend.keras.weights import holds_model, import_weights, is_one_ltc

    given = [name for name in ("unfolds", "epsilon", "outputs") if getattr(unsaid, name) is not None]
    if unsaid.architecture is not None:
        if given or source.endswith(".keras"):
            why = "a whole model takes no --architecture" if not given else f"the architecture says --{given[0]} too"
            raise BadInput(f"{source}: {why}; leave it out")
        return network.import_network(source, unsaid.architecture, unsaid.solver)
    if unsaid.solver is not None:
        raise BadInput(f"{source}: --solver is for adaptive solvers that --architecture names; leave it out")
    if source.endswith(".keras") or not is_file(source) or holds_model(source):
        if given:
            raise BadInput(f"{source}: a whole model says by itself how it is run; leave out --{given[0]}")
        return read.import_file(source)
    if not is_one_ltc(source):
        raise draft.question(source)
    epsilon = 1e-8 if unsaid.epsilon is None else unsaid.epsilon
    return import_weights(source, unfolds=unsaid.unfolds, epsilon=epsilon, outputs=unsaid.outputs)
