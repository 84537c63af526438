"""Figures of a study, of its factors and of its tuning."""
