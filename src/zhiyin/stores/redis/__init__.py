"""What processes share through Redis: a connection that never hangs, newest positions, rate limits."""
