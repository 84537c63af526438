"""What a user sees in the terminal: one vocabulary for runs, outcomes and errors."""
