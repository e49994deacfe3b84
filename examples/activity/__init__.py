"""The first thing to learn with a liquid network: one sine from two others."""
