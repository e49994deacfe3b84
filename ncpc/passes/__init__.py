"""Passes over policies and programs, one per file."""
