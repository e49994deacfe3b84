"""What ``ncpc import`` is given: a file of Keras, or a function of the user's that makes the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncpc.errors import BadInput


def read_source(source: str, *, weights: Path | None, trust_pickle: bool, unfolds: int | None) -> Any:
    """What ``ncpc.save`` takes. Raises ``BadInput``, also for an option that has no effect on this kind of source."""
    from ncpc.frontend.keras import read

    if not read.is_keras_file(source):
        if unfolds is not None:
            raise BadInput(f"{source}: --unfolds is for a .h5 file of weights alone; leave it out")
        from ncpc.frontend.factory import import_from_factory

        return import_from_factory(source, weights=weights, trust_pickle=trust_pickle)
    if weights is not None or trust_pickle:
        raise BadInput(f"{source}: a Keras file takes no {'--weights' if weights else '--trust-pickle'}; leave it out")
    return _keras(source, unfolds)


def _keras(source: str, unfolds: int | None) -> Any:
    """A whole model, or the weights of an LTC alone."""
    from ncpc.frontend.keras import read
    from ncpc.frontend.keras.weights import holds_model, import_weights

    if source.endswith(".keras") or not Path(source).is_file() or holds_model(source):
        if unfolds is not None:
            raise BadInput(f"{source}: a whole model says by itself how it is run; leave out --unfolds")
        return read.import_file(source)
    return import_weights(source, unfolds=unfolds)
