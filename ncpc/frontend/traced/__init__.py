"""Reads whole torch modules, each with a forward of its own, by watching what one step of it does."""
