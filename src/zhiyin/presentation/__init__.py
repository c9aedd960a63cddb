"""Words for the slate."""
