"""Tables of a study, of its tuning and of verdicts, as files and in the terminal."""
