"""Pure functions on arrays; they know no study, arm or record."""
