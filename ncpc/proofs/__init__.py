"""Guarantees: invariant ranges, overflow freedom, and their independent checks."""
