"""The cycle-accurate simulator: it executes the linked ELF and charges cycles by a core's timing model."""
