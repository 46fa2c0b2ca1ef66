"""Which rotation does this server, file or object really run? By log-probabilities, or by calling it."""
