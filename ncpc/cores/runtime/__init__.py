"""Sources that the toolchain adds to a program for a core; 0BSD, so that they may end up in anything."""
