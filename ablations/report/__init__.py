"""The report page: verdicts, figures, curves, tables and runs in one file that opens from disk."""
