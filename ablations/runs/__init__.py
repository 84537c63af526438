"""One run: what it is, what is checked before it, and what it leaves: its record, history and checkpoint."""
