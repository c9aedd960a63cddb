"""How anything is trained."""
