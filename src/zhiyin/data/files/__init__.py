"""From files and databases to raw tables: nothing is judged here but whether it can be read at all."""
