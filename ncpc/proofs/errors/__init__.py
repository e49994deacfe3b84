"""Error certificates: how far an integer LTC can ever be from the network that was trained."""
