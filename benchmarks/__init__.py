"""Measurements of the framework itself, run by `make benchmark`. Not tests: they assert nothing."""
