"""One file for each kind of thing that is checked and cleaned."""
