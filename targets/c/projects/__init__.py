"""Folders that an IDE or a build system opens, laid out beside the artifact by ``--project``."""
