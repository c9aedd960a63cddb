"""A bundle that learns on: refreshed from the log, judged by the newest events, published, watched."""
