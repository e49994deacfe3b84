"""TFLite files, float32, int8 and int16x8, run in LiteRT and TFLite Micro."""

from ncpc.targets.tflite.target import target

__all__ = ["target"]
