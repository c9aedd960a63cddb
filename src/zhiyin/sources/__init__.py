"""Sources propose candidates; each file or folder is one method."""
