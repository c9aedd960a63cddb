"""Policy steps turn scores into a slate."""
