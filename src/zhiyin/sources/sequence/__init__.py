"""A sequence transformer: what comes next, read from the whole history."""
