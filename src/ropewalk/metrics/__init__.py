"""What to score for each metric, and the per-sample numbers out of it; pure."""
