"""Readers of trained models; the only modules that know other libraries' formats."""
