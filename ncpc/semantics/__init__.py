"""What each op means, in NumPy: the definition every target is tested against."""
