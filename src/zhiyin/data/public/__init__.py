"""Public data sets: downloaded with a checksum, or read from local files, and turned into data folders."""
