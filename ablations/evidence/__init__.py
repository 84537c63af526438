"""What records say: contrasts, verdicts on claims, what else differs, the measured mechanism, table 3."""
