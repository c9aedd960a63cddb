"""What a user will do with an item that is shown: clicks, purchases, ratings, all at once."""
