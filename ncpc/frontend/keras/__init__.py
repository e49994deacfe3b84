"""Reads Keras models: files by h5py alone, so that no code of theirs is ever run, and live ones by their attributes."""
