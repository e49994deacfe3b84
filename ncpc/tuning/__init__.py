"""A budget in, a policy out: number schemes, steps and pruning tried, measured, and one of them chosen."""
