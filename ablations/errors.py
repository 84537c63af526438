"""What ends a command without a traceback."""


class UserError(ValueError):
    """Something that a user chose cannot be: one line with the key, the value and what is allowed.

    The command ends with exit code 2 and has written nothing.
    """


class RunsFailed(RuntimeError):
    """Runs failed, or are missing for another reason that was told: the command exits with 1."""
