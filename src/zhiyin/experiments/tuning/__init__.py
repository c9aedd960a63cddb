"""Searching for better settings, on validation events only."""
