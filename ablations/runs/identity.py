"""Which runs are the same run: what of a configuration can change its outcome, and the hash of it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOT_IDENTITY = (
    "results_dir",
    "logger",
    "trainer",
    "study",
    "seeds",
    "seed_budget",
    "diagnostics",
    "tuning",
    "dataset.root",
    "dataset.download",
    "dataset.files",
    "dataset.num_workers",
    "dataset.max_undecodable_share",
)
"""Keys that cannot change a run's outcome: places, logging, the device (it is in the record), diagnostics,
and how many runs a study has.

Of `dataset.files` the checksums are part of it; how many images may be undecodable decides whether a run
ends, not what it ends with.

Several processes change it where each has BN statistics or dropout draws of its own, or where the dataset
says that they change the order of its images: then their number is part of the identity.
"""


def digest(text: str) -> str:
    """Twelve hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def canonical_text(identity: Mapping[str, Any]) -> str:
    """One text for equal identities."""
    return json.dumps(_canonical(identity), sort_keys=True, separators=(",", ":"))


def _canonical(value: Any) -> Any:
    """`1.0` and `1` are one value, whichever way it was typed."""
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def is_outside_identity(key: str) -> bool:
    """Whether a key, or the group or node it lies in, is left out of the identity."""
    key = key.lstrip("+~")
    return any(key == outside or key.startswith(f"{outside}.") for outside in (*NOT_IDENTITY, "hydra"))
