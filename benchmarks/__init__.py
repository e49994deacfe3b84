"""What the compiler is measured on, and the measurements."""
