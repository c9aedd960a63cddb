"""Live state."""
