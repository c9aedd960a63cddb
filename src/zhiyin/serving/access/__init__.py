"""Who may do what: keys, rate limits, pseudonyms, receipts, audit."""
