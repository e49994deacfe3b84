"""Targets: one folder each, listed in the registry."""
