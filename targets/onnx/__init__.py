"""ONNX: graphs written with onnx.helper, run in ONNX Runtime and onnx's reference evaluator."""

from ncpc.targets.onnx.target import target

__all__ = ["target"]
