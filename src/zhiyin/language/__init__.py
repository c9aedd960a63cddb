"""The catalogue as language."""
