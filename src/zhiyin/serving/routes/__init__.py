"""What the service answers, route by route."""
