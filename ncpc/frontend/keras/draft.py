"""A first architecture for a file of weights: what its names and shapes tell, and a question mark for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ncpc.errors import BadInput
from ncpc.frontend.foreign import read_or_refused
from ncpc.frontend.keras.fitting import guessed_kind
from ncpc.frontend.keras.held import HeldLayer, held_layers
from ncpc.frontend.keras.told import KINDS, NEEDED, WIRING

HEAD = """# The architecture of {file}, to be filled in: each "?" is what weights do not say.
# A [[layers]] table for every layer that computes something, in the order in which they run: those with weights as the
# file has them, between them Flatten, Rescaling, MaxPooling2D, ... where the network has such.
"""
NCP_ARGUMENTS = ("inter_neurons", "command_neurons", "motor_neurons", "sensory_fanout", "inter_fanout",
                 "recurrent_command_synapses", "motor_fanin", "seed")
NCP = 'wiring = {{ kind = "NCP", {} }}\n'.format(", ".join(f'{name} = "?"' for name in NCP_ARGUMENTS))


def draft(path: str | Path) -> str:
    """The TOML text of an architecture to be completed. Raises ``BadInput`` for a file of another form."""
    with read_or_refused(Path(path), "Keras"):
        layers = held_layers(Path(path))
        return "".join(_parts(layers, Path(path).name))


def question(path: str | Path) -> BadInput:
    """What to say of a file of a whole network's weights where no architecture is given: its layers, and what next."""
    with read_or_refused(Path(path), "Keras"):
        layers = held_layers(Path(path))
        kinds = [f"{layer.words}: {guessed_kind(layer) or 'of no known kind'}" for layer in layers if layer.weights]
    return BadInput(f"{path}: weights of {len(kinds)} layers, which do not say how they are run: {', '.join(kinds)}. "
                    "Have a draft of the architecture written (--draft architecture.toml), complete it, and give it "
                    "(--architecture architecture.toml)")


def _parts(layers: Sequence[HeldLayer], file: str) -> Iterator[str]:
    kinds = {layer.name: guessed_kind(layer) for layer in layers if layer.weights}
    yield HEAD.format(file=file)
    if next((kind for kind in kinds.values() if kind != "Normalization"), None) == "Conv2D":
        yield 'input_shape = ["?", "?", "?"]  # of one step: rows, columns, channels\n'
    before: str | None = None
    for layer in layers:
        kind = kinds.get(layer.name)
        if layer.weights and kind != "Conv2D" and before == "Conv2D":
            yield '\n[[layers]]\nkind = "Flatten"\n'
        yield "".join(_table(layer, kind)) if layer.weights else f"\n# {layer.words}\n"
        before = kind if layer.weights else before


def _table(layer: HeldLayer, kind: str | None) -> Iterator[str]:
    yield f'\n# {layer.words}\n[[layers]]\nkind = "{kind or "?"}"\n'
    for name, option in () if kind is None else KINDS[kind].options.items():
        if option.words == WIRING.words:
            yield NCP if option.default is NEEDED else f"# {NCP}"
        elif option.default is NEEDED or option.likely != '"?"':
            yield f"{name} = {option.likely}  # {option.words}\n"
