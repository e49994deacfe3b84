"""What can be said of policies, runs and targets without compiling anything."""
