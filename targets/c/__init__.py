"""Portable C99 for hosts and microcontrollers."""
