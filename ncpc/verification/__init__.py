"""Verification: links between artifacts, test sequences, the search for the worst input, the verdict."""
