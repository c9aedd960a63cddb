"""How well labels were predicted (click, purchase, rating), how sure that is, and the page that tells it."""
