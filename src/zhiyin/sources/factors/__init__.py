"""Factor models: a vector for each item, learned from who took what, and users read from their histories."""
