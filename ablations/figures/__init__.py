"""Figures of a study, of its factors, of its measured mechanism and of its tuning."""
