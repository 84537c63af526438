"""Studies: their planned runs, how those stand, and what each counts as."""
