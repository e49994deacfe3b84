"""Worked examples: a network is trained, saved, compiled and compared in its closed loop."""
