"""Experiments of the running service: what is compared, and which user is in which arm."""
