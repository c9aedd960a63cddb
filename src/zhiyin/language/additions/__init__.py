"""What can be put into a language model so that a few new numbers learn instead of all the old ones."""
