"""Verdicts of claims about tuned arms, next to those of the study as configured; nothing is planned."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ablations.cli import reading
from ablations.errors import UserError
from ablations.evidence.claims import Claim, Comparison
from ablations.studies.results import Study, StudyRun, Tuning
from experiments import study_file

EFFECTS = {"with": 0.30, "without": 0.20, "with_configured": 0.28, "without_configured": 0.1}
NOISE = (0.0, 0.004, -0.003, 0.002, -0.004, 0.001)
PLAIN = Claim(
    "final",
    "It is.",
    "Me",
    "residual",
    (Comparison({"with": 1, "without": -1}, "test_top1", "higher", 0.01),),
)
CHANGE = {"with": 1, "without": -1, "with_configured": -1, "without_configured": 1}
TUNED = Claim(
    "tuned", "It is.", "Me", "residual", (Comparison(CHANGE, "test_top1", "lower", 0.01),), tuning="rate"
)


@pytest.fixture
def asked(
    residual_study: Study, tuned_study: Study, make_run, monkeypatch: pytest.MonkeyPatch
) -> list[Sequence[str]]:
    """The words with which studies are loaded; of what is tuned the arms also ran as configured."""
    words: list[Sequence[str]] = []
    configured = tuple(replace(arm, name=f"{arm.name}_configured") for arm in tuned_study.arms)
    tuned = replace(tuned_study, arms=(*tuned_study.arms, *configured))

    def runs(study: Study) -> list[StudyRun]:
        return [
            make_run(arm.name, seed, [0.5, 0.6], 0.5 + EFFECTS[arm.name] + noise * len(arm.name) / 4)
            for arm in study.arms
            for seed, noise in enumerate(NOISE)
        ]

    def load(
        names: Sequence[str], overrides: Sequence[str], **_: bool
    ) -> list[tuple[Study, list[StudyRun], Path]]:
        words.append(overrides)
        study = tuned if any(word.startswith("tuning=") for word in overrides) else residual_study
        return [(study, runs(study), Path("results"))]

    monkeypatch.setattr(reading, "load_studies", load)
    monkeypatch.setattr(study_file, "project_claims", lambda: [PLAIN, TUNED])
    return words


def test_a_claim_about_tuned_arms_is_judged_on_the_tuned_study(asked: list[Sequence[str]]) -> None:
    judged = reading.judge(["residual"], ["seed=0,1"])
    assert asked == [["seed=0,1"], ["tuning=rate", "tuning.arms=[with,without]"]]
    plain, tuned = judged.verdicts
    assert (plain.claim, plain.verdict, plain.comparisons[0].level) == (PLAIN, "holds", 0.05)
    assert (tuned.claim, tuned.verdict, tuned.comparisons[0].n) == (TUNED, "holds", 6)
    assert tuned.comparisons[0].estimate == pytest.approx(0.3 - 0.2 - 0.28 + 0.1, abs=0.01)
    # Where the tuning is named, all claims are about the tuned study, and the verdict is the same.
    named = reading.judge(["residual"], ["tuning=rate", "tuning.arms=[with,without]"])
    assert len(asked) == 3
    assert named.verdicts[1] == tuned


def test_the_tuned_study_takes_no_place_of_the_configured_one(asked: list[Sequence[str]]) -> None:
    _, ((study, runs),) = reading.judged_studies(["residual"], [])
    assert (study.tuning, len(runs)) == (None, 12)
    _, ((study, runs),) = reading.judged_studies(["residual"], ["tuning=rate"])
    assert isinstance(study.tuning, Tuning)
    assert len(runs) == 24


def test_what_was_not_tuned_is_not_testable_and_says_why(
    asked: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = reading.load_studies

    def unfinished(names: Sequence[str], overrides: Sequence[str], **how: bool):
        if "tuning=rate" in overrides:
            raise UserError("tuning=rate: 0 of 8 trials are finished")
        return load(names, overrides, **how)

    monkeypatch.setattr(reading, "load_studies", unfinished)
    plain, tuned = reading.judge(["residual"], []).verdicts
    assert (plain.verdict, tuned.verdict) == ("holds", "not testable")
    assert tuned.reason == "tuning=rate: 0 of 8 trials are finished"
