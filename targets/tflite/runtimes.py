"""The runtimes that execute a .tflite file: one loaded model each, stepped with named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from ncpc.targets.tflite import libraries

Arrays = dict[str, NDArray[Any]]


class Model(Protocol):
    """A loaded file: raw arrays in by signature name, raw arrays out."""

    def invoke(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays: ...


class LiteRt:
    """LiteRT's interpreter; ``resolver`` is ``reference`` (the plain kernels) or ``xnnpack`` (the default delegate)."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        interpreter.allocate_tensors()
        self._inputs = {d["name"]: d["index"] for d in interpreter.get_input_details()}
        self._outputs = {d["name"]: d["index"] for d in interpreter.get_output_details()}

    def invoke(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, inputs[name])
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


def open_litert(content: bytes, resolver: str, keep_all: bool = False) -> Any:
    """LiteRT's own interpreter object; ``keep_all`` keeps every tensor readable after an invoke."""
    module = libraries.litert()
    kinds = {"reference": module.OpResolverType.BUILTIN_REF, "xnnpack": module.OpResolverType.AUTO}
    return module.Interpreter(model_content=content, num_threads=1, experimental_op_resolver_type=kinds[resolver],
                              experimental_preserve_all_tensors=keep_all)


class Micro:
    """TFLite Micro's interpreter. It may reuse the memory of inputs, so they are all set before every invoke."""

    def __init__(self, content: bytes, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        self._interpreter = libraries.micro().Interpreter.from_bytes(content, arena_size=ARENA_BYTES)
        self._inputs, self._outputs = inputs, outputs

    def invoke(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        for index, name in enumerate(self._inputs):
            self._interpreter.set_input(inputs[name], index)
        self._interpreter.invoke()
        return {name: self._interpreter.get_output(index) for index, name in enumerate(self._outputs)}


ARENA_BYTES = 8 << 20
"""Working memory given to TFLite Micro on the machine that verifies; the device's own arena is far smaller."""
