"""The command line, above the engine and the analysis: `python -m ablations COMMAND`."""
