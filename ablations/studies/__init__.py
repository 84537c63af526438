"""Studies: their planned runs, the status of those, and what each counts as."""
