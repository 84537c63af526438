"""The claims and studies of the repository itself; no test is about those that a user adds to conf/."""

from typing import Any

from ablations.evidence.claims import BENCHMARK
from experiments.project import FRAMEWORK_CONF, load_yaml

CLAIM_FILES = [FRAMEWORK_CONF / "claims" / f"{name}.yaml" for name in ("paper", "controls", "scale")]


def _claims() -> list[dict[str, Any]]:
    return [claim for file in CLAIM_FILES for claim in load_yaml(file)["claims"]]


STUDIES = sorted({claim["study"] for claim in _claims() if "study" in claim} - {BENCHMARK})
"""Those with a claim: all."""


def file_of(study: str) -> dict[str, Any]:
    """The content of a study's file."""
    content: dict[str, Any] = load_yaml(FRAMEWORK_CONF / "study" / f"{study}.yaml")
    return content
