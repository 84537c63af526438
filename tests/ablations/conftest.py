"""Studies and runs made up for the tests of tables and figures: no training, no files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations.results import Arm, Study, StudyRun

STEPS_PER_EPOCH = 94


@pytest.fixture
def residual_study() -> Study:
    """Two arms, the baseline second, so that "baseline first" is a change of order."""
    return Study(
        name="residual",
        title="Residual connections",
        output="figure09_residual",
        source="Chollet 2016, section 4.6, figure 9",
        arms=(
            Arm("without", "without residual connections", {"residual": "false"}, "ends lower"),
            Arm("with", "with residual connections", {"residual": "true"}, "ends higher"),
        ),
        baseline="with",
        seeds=(0, 1, 2, 3, 4, 5),
        target=0.8,
        scale="Xception at width 0.125 on fashion_mnist_embedded (28x28, 10 classes), 6 epochs",
    )


@pytest.fixture
def activation_study() -> Study:
    """Three arms."""
    return Study(
        name="intermediate_activation",
        title="Intermediate activation",
        output="figure10_intermediate_activation",
        source="Chollet 2016, section 4.7, figure 10",
        arms=(
            Arm("none", "no intermediate activation", {"intermediate_activation": "none"}, "highest"),
            Arm("relu", "intermediate ReLU", {"intermediate_activation": "relu"}, "below none"),
            Arm("elu", "intermediate ELU", {"intermediate_activation": "elu"}, "below none"),
        ),
        baseline="none",
        seeds=(0, 1, 2, 3, 4, 5),
        target=0.8,
        scale="Xception at width 0.125 on fashion_mnist_embedded (28x28, 10 classes), 6 epochs",
    )


MakeRun = Callable[..., StudyRun]


@pytest.fixture
def make_run() -> MakeRun:
    """Builds one run: `make_run(arm, seed, curve, test_top1, status="completed", **record)`.

    `curve` is validation top-1 at the end of each epoch; its last value is the final one.
    """

    def make(
        arm: str,
        seed: int,
        curve: Sequence[float] = (),
        test_top1: float = 0.5,
        status: str = "completed",
        **changes: object,
    ) -> StudyRun:
        run_id = f"{arm}-{seed}"
        directory = Path("results/runs") / run_id
        if status not in ("completed", "diverged"):
            return StudyRun(arm, seed, run_id, directory, status, None, None)
        record: dict[str, object] = {
            "status": status,
            "seed": seed,
            "config": {"dataset": {"num_classes": 10}},
            "parameters": 340_000,
            "multiply_adds": 7_000_000,
            "device": {"name": "Some CPU", "type": "cpu", "threads": 1},
            "versions": {"python": "3.11.2", "torch": "2.9.0"},
            "git": {"commit": "0123456789abcdef", "dirty": False},
            "finished": "2026-01-02T03:04:05+00:00",
        }
        if status == "completed":
            record["metrics"] = {"val_top1": curve[-1], "test_top1": test_top1}
            record["steps_per_second"] = 6.0 + seed
        else:
            record["diverged_at_step"] = STEPS_PER_EPOCH * len(curve) + 7
        epochs = np.arange(1, len(curve) + 1)
        history = pd.DataFrame(
            {"epoch": epochs, "step": STEPS_PER_EPOCH * epochs, "val_top1": np.array(curve, float)}
        )
        return StudyRun(arm, seed, run_id, directory, status, record | changes, history)

    return make


@pytest.fixture
def make_runs(make_run: MakeRun) -> Callable[[Study], list[StudyRun]]:
    """Builds a completed run per arm and seed, with curves that look like training."""

    def make(study: Study) -> list[StudyRun]:
        generator = np.random.default_rng(1)
        runs = []
        for seed in study.seeds:
            luck = generator.normal(0, 0.006)  # what the arms of one seed share
            for place, arm in enumerate(study.arms):
                late = arm.name in ("without", "elu")
                end = 0.885 - 0.03 * place - 0.07 * (arm.name == "without") + luck
                start = (0.12 if late else 0.55) - 0.03 * place + generator.normal(0, 0.02)
                epochs = np.arange(6)
                curve = end - (end - start) * np.exp(-(0.6 if late else 0.9) * epochs)
                curve = curve + generator.normal(0, 0.012 if late else 0.006, 6)
                runs.append(make_run(arm.name, seed, curve, curve[-1] - 0.01))
        return runs

    return make
