"""What the runs mean: studies and their records become statistics, verdicts, tables, figures and the report.

It reads records and the definition of a study as data, and imports neither torch, Lightning nor Hydra. The
command line, `ablations.cli` and `ablations.__main__`, is above it and above the engine, `experiments`.
"""
