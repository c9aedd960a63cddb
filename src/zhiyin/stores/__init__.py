"""Where events, users and items live."""
