"""What a ledger is made of: names within their caps, cells, sets of labels, and what each scraper has been shown."""
