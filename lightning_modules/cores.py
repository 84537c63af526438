"""The cores that a process may use."""


def usable_cores() -> int:
    """How many cores affinity and control groups (containers, batch systems) leave this process."""
    import joblib

    return joblib.cpu_count()
