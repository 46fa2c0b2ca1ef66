"""Which rotation does this server, file or object really run? Asked by log-probabilities, or read back by calling it."""
