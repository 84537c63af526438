"""seeds=auto on made-up records: looks, decisions, what is launched, and that a repeat changes nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ablations.errors import RunsFailed, UserError
from ablations.evidence.claims import Claim, Comparison
from ablations.statistics.sequential import looks, t_levels
from ablations.studies.results import Arm, Study, StudyRun
from benchmarks.verdict_error_rates import simulate
from experiments import auto_seeds
from experiments import sweep as sweep_module
from experiments.auto_seeds import follow_study, judge_by_looks, sweep_auto_seeds
from experiments.overrides import output_suffix
from experiments.plan import plan_sweep
from experiments.planned_run import PlannedRun
from experiments.planning import compose_runs, hydra_configuration, plan_study
from hydra_plugins.run_sweeper import RunSweeper

NOISE = (0.01, -0.012, 0.008, -0.009, 0.011, -0.008)
"""Of a difference, by seed, over and over: mean 0 over six seeds."""

DECIDED = 0.3
LATER = 0.013
"""Effects that are seen at six seeds, and at more."""


# Judged look by look


def study_of(*arms: str) -> Study:
    labelled = tuple(Arm(name, name, {}, "") for name in arms)
    return Study("mine", "Mine", "mine", "Me", labelled, arms[0], (), ("top1",), 0.99, "small")


def claim(name: str, *treatments: str, margin: float = 0.001, direction: str = "higher") -> Claim:
    comparisons = [Comparison({arm: 1.0, "base": -1.0}, "test_top1", direction, margin) for arm in treatments]
    return Claim(name, "It is.", "Me", "mine", tuple(comparisons))


@pytest.fixture
def runs_of(make_run) -> Callable[..., list[StudyRun]]:
    """Runs of "base" and of arms with an effect each: `runs_of({"a": 0.3}, {"base": 8, "a": 8})`."""

    def make(effects: Mapping[str, float], seeds: Mapping[str, int]) -> list[StudyRun]:
        return [
            make_run(arm, seed, [0.5], 0.5 + effects.get(arm, 0.0) + (arm != "base") * NOISE[seed % 6])
            for arm, number in seeds.items()
            for seed in range(number)
        ]

    return make


def test_an_effect_is_seen_at_the_first_look(runs_of) -> None:
    study = study_of("base", "a", "b")
    runs = runs_of({"a": DECIDED, "b": -DECIDED}, {"base": 6, "a": 6, "b": 6})
    judged = judge_by_looks([claim("a", "a"), claim("b", "b")], study, runs, 20)
    assert judged.news == [["a holds", "b contradicted"]]
    assert judged.arms == ()
    assert [verdict.verdict for verdict in judged.verdicts] == ["holds", "contradicted"]
    levels = [verdict.comparisons[0].level for verdict in judged.verdicts]
    expected = [t_levels(looks(20), alpha)[0] for alpha in (0.025, 0.05)]
    assert sorted(levels) == pytest.approx(expected)


def test_only_the_arms_of_what_is_inconclusive_go_on(runs_of) -> None:
    study = study_of("base", "a", "b", "c")
    claims = [claim("a", "a"), claim("b", "b")]
    effects = {"a": DECIDED, "b": LATER}
    first = judge_by_looks(claims, study, runs_of(effects, dict.fromkeys(("base", "a", "b", "c"), 6)), 20)
    assert first.news == [["a holds"]]
    assert first.arms == ("b", "base")
    seeds = {"base": 20, "a": 6, "b": 20, "c": 6}
    all_of_it = judge_by_looks(claims, study, runs_of(effects, seeds), 20)
    at = [number for number, news in enumerate(all_of_it.news) if news]
    assert len(at) == 2  # a at the first look, b at a later one
    assert at[1] > 0
    pairs = looks(20)[at[1]]
    assert [v.comparisons[0].n for v in all_of_it.verdicts] == [6, pairs]
    # What a has decided is handed on: b has the whole level.
    assert all_of_it.verdicts[1].comparisons[0].level == pytest.approx(t_levels(looks(20), 0.05)[at[1]])
    assert "a 6, b 20" in all_of_it.notes[0]
    assert f"b, b - base in test_top1: at {pairs} " in all_of_it.notes[2]


def test_later_records_change_no_earlier_decision(runs_of) -> None:
    """The later seeds say the opposite, of what was decided and of what was not."""
    study, claims = study_of("base", "a"), [claim("a", "a")]
    early = runs_of({"a": DECIDED}, {"base": 6, "a": 6})
    late = [run for run in runs_of({"a": -DECIDED}, {"base": 20, "a": 20}) if run.seed >= 6]
    judged = judge_by_looks(claims, study, early, 20)
    again = judge_by_looks(claims, study, [*early, *late], 20)
    assert again.news == judged.news == [["a holds"]]
    assert again.verdicts[0].comparisons == judged.verdicts[0].comparisons


def test_the_looks_of_a_part_are_those_of_the_whole(runs_of) -> None:
    study, claims, effects = study_of("base", "a"), [claim("a", "a")], {"a": LATER}
    whole = judge_by_looks(claims, study, runs_of(effects, {"base": 20, "a": 20}), 20)
    assert len(whole.news) > 2
    for taken, pairs in enumerate(looks(20)[: len(whole.news)], start=1):
        part = judge_by_looks(claims, study, runs_of(effects, {"base": pairs, "a": pairs}), 20)
        assert part.news == whole.news[:taken]


def test_a_trend_needs_every_level(factorial_study: Study, trending: list[StudyRun]) -> None:
    slope = Comparison({}, "test_top1", "lower", 0.0105, {"none": 1, "relu": -1})  # seen: 0.0102
    claims = [Claim("trend", "It grows.", "Me", factorial_study.name, (slope,))]
    judged = judge_by_looks(claims, factorial_study, trending, 20)
    assert (judged.news, set(judged.arms)) == ([[]], {arm.name for arm in factorial_study.arms})
    assert judged.verdicts[0].seeds_needed is not None


def test_no_effect_spends_the_budget(runs_of) -> None:
    study = study_of("base", "a")
    judged = judge_by_looks([claim("a", "a")], study, runs_of({}, {"base": 12, "a": 12}), 12)
    assert judged.news == [[]] * 4
    (verdict,) = judged.verdicts
    assert (verdict.verdict, verdict.comparisons[0].n) == ("inconclusive", 12)
    assert verdict.seeds_needed is not None
    assert verdict.seeds_needed > 12
    assert "looks at 6, 8, 10, 12 seeds, of which the first 4 took place" in judged.notes[0]


def test_the_rest_of_a_contradicted_claim_gets_no_seeds_and_goes_on_counting(runs_of) -> None:
    study = study_of("base", "a", "b", "c")
    claims = [claim("two", "a", "b"), claim("other", "c")]
    effects = {"a": -DECIDED, "b": 0.0, "c": LATER}
    first = judge_by_looks(claims, study, runs_of(effects, dict.fromkeys(("base", "a", "b", "c"), 6)), 20)
    assert first.news == [["two contradicted"]]
    assert first.arms == ("c", "base")
    judged = judge_by_looks(claims, study, runs_of(effects, {"base": 20, "a": 6, "b": 6, "c": 20}), 20)
    assert [one.verdict for one in judged.verdicts[0].comparisons] == ["contradicted", "inconclusive"]
    assert [one.n for one in judged.verdicts[0].comparisons] == [6, 6]
    assert judged.verdicts[0].seeds_needed is None
    (compared,) = judged.verdicts[1].comparisons
    at = looks(20).index(compared.n)
    # Three comparisons, one decided: two are left, though one of them is not judged any more.
    assert compared.level == pytest.approx(t_levels(looks(20), 0.05 / 2)[at])


def test_a_claim_holds_when_its_last_comparison_does(runs_of) -> None:
    study = study_of("base", "a", "b")
    runs = runs_of({"a": DECIDED, "b": LATER}, {"base": 20, "a": 6, "b": 20})
    judged = judge_by_looks([claim("both", "a", "b")], study, runs, 20)
    assert judged.news[0] == []
    assert judged.news[-1] == ["both holds"]
    first, second = judged.verdicts[0].comparisons
    assert first.n == 6 < second.n


def test_a_look_waits_for_its_runs_and_not_for_failed_ones(runs_of) -> None:
    study, claims = study_of("base", "a"), [claim("a", "a")]
    runs = runs_of({"a": DECIDED}, {"base": 8, "a": 8})
    for status in ("missing", "running"):
        waiting = [replace(run, status=status, record=None) if run.seed == 5 else run for run in runs]
        judged = judge_by_looks(claims, study, waiting, 20)
        assert judged.news == []
        assert judged.verdicts[0].reason == "waiting for the runs of the first look"
        assert judged.verdicts[0].comparisons == ()
    failed = [replace(run, status="failed") if (run.arm, run.seed) == ("a", 5) else run for run in runs]
    judged = judge_by_looks(claims, study, failed, 20)
    assert judged.news == [[], ["a holds"]]  # five pairs are too few for a verdict
    assert judged.verdicts[0].comparisons[0].n == 7
    assert judged.verdicts[0].n_missing == 1


def test_a_diverged_run_ends_the_look_and_its_seed_failed_to_learn(runs_of, make_run) -> None:
    runs = runs_of({"a": DECIDED}, {"base": 8, "a": 8})
    runs = [run for run in runs if (run.arm, run.seed) != ("a", 5)]
    runs.append(make_run("a", 5, [], status="diverged"))
    judged = judge_by_looks([claim("a", "a")], study_of("base", "a"), runs, 20)
    assert judged.news == [[], ["a holds"]]  # five seeds that learned are too few for a verdict
    (one,) = judged.verdicts[0].comparisons
    assert (one.n, one.left_out) == (7, 1)
    assert judged.verdicts[0].n_failed_to_learn == 1


def test_what_a_decision_cost_is_that_of_the_seeds_it_was_taken_with(runs_of, make_run) -> None:
    """Another claim on the same arms takes more seeds; of these one diverged and one failed."""
    hour = 3600.0
    runs = [
        replace(run, record={**run.record, "wall_time_s": hour, "metrics": {**run.record["metrics"]}})
        for run in runs_of({"a": DECIDED}, {"base": 12, "a": 12})
    ]
    for run in runs:  # nothing to be seen in validation
        run.record["metrics"]["val_top1"] = 0.5 + (run.arm == "a") * NOISE[run.seed % 6]
    runs[-1] = make_run("a", 11, [], status="diverged", wall_time_s=hour)
    runs[-2] = make_run("a", 10, status="failed")
    on_validation = Comparison({"a": 1.0, "base": -1.0}, "val_top1", "higher", 0.001)
    claims = [claim("test", "a"), replace(claim("validation", "a"), comparisons=(on_validation,))]
    at_once, open_ = judge_by_looks(claims, study_of("base", "a"), runs, 12).verdicts
    assert (at_once.verdict, at_once.comparisons[0].n, at_once.core_hours) == ("holds", 6, 12)
    assert (at_once.n_missing, at_once.n_diverged) == (0, 0)
    assert (open_.verdict, open_.comparisons[0].n, open_.core_hours) == ("inconclusive", 10, 20)
    assert (open_.n_missing, open_.n_diverged) == (1, 1)


def test_studies_are_judged_as_those_whose_error_rates_are_simulated(make_run) -> None:
    """Several comparisons, looks and studies; effects and margin in hundredths."""
    generator = np.random.default_rng(8)
    names, effects, pairs = ("a", "b", "c", "d"), (0.0, 0.5, 1.0, 2.0), looks(12)
    claims = [claim(name, name, margin=0.005) for name in names]
    study = study_of("base", *names)
    seen = set()
    for _ in range(12):
        differences = generator.standard_normal((12, 4)) + effects
        runs = [make_run("base", seed, [0.5], 0.5) for seed in range(12)]
        runs += [
            make_run(name, seed, [0.5], 0.5 + 0.01 * differences[seed, place])
            for place, name in enumerate(names)
            for seed in range(12)
        ]
        verdicts = judge_by_looks(claims, study, runs, 12).verdicts
        found = [verdict.verdict for verdict in verdicts]
        simulated = simulate(differences[None], effects, pairs, partial(t_levels, pairs))
        shares = simulated.holds, simulated.contradicted, simulated.inconclusive
        assert tuple(found.count(v) / 4 for v in ("holds", "contradicted", "inconclusive")) == shares
        assert np.mean([verdict.comparisons[0].n for verdict in verdicts]) == simulated.seeds
        seen.update((verdict.verdict, verdict.comparisons[0].n) for verdict in verdicts)
    assert len({n for _, n in seen}) == len(pairs)
    assert {verdict for verdict, _ in seen} == {"holds", "contradicted", "inconclusive"}


def test_untestable_claims_and_those_of_other_studies(runs_of) -> None:
    never = Claim("never", "It is.", "Me", "mine", (), "it cannot be")
    other = replace(claim("other", "a"), study="another")
    runs = runs_of({"a": DECIDED}, {"base": 6, "a": 6})
    judged = judge_by_looks([never, other, claim("a", "a")], study_of("base", "a"), runs, 20)
    assert [verdict.verdict for verdict in judged.verdicts] == ["not testable", "holds"]
    assert judged.arms == ()


# What is asked for


@pytest.mark.usefixtures("hydra")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["study=residual", "seeds=6"], "seeds=6: must be auto or null"),
        (["study=residual", "seeds=auto", "seed=0,1"], "seed=0,1: seeds=auto chooses the seeds"),
        (["study=residual", "seed_budget=9"], "seed_budget=9: needs seeds=auto"),
        (
            ["study=residual", "seeds=auto", "seed_budget=5"],
            "seed_budget=5: must be a whole number from 6 to 1000",
        ),
        (
            ["study=residual", "seeds=auto", "tuning=learning_rate"],
            "tuning=learning_rate: has its own fresh seeds",
        ),
        (["residual=true,false", "seeds=auto"], "seeds=auto: needs a study: add study=NAME"),
        (["study=residual", "seeds=auto", "residual=true"], "residual: the arms of study=residual differ"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    words: list[str], line: str, results_dir: Path
) -> None:
    sweeper = RunSweeper()
    sweeper.launcher = SimpleNamespace(launch=None)  # not called
    with pytest.raises(UserError) as raised:
        sweeper.sweep([*words, f"results_dir={results_dir}"])
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
    assert not results_dir.exists()


@pytest.mark.usefixtures("hydra")
def test_a_study_without_a_claim_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_seeds, "project_claims", list)
    with pytest.raises(UserError, match="no claim compares arms of study=operation_order"):
        sweep_auto_seeds(["study=operation_order", "seeds=auto"], SimpleNamespace())


@pytest.mark.usefixtures("hydra")
def test_a_run_knows_no_seeds_of_a_study() -> None:
    (run,) = compose_runs(["seeds=null"])
    assert not {"seeds", "seed_budget"} & run.resolved.keys()
    assert run.run_id == compose_runs([])[0].run_id
    with pytest.raises(UserError, match="seeds=auto: needs a study"):
        compose_runs(["seeds=auto"])
    with pytest.raises(UserError, match="seed_budget=9: needs seeds=auto"):
        compose_runs(["seed_budget=9"])
    with pytest.raises(UserError, match="seeds=auto: needs a study"):
        plan_sweep(["residual=true,false", "seeds=auto"])


@pytest.mark.usefixtures("hydra")
def test_the_first_look_has_the_runs_of_the_study() -> None:
    own = plan_study("operation_order")[1]
    study, runs = plan_study("operation_order", ["seeds=auto", "seed_budget=12"], auto_seeds=range(6))
    assert [run.run_id for run in runs] == [run.run_id for run in own]
    assert [run.overrides for run in runs] == [run.overrides for run in own]
    assert study.output == "section1.2_operation_order__seeds=auto__seed_budget=12"
    assert output_suffix(["recipe.epochs=2", "seeds=auto"]) == "__recipe.epochs=2__seeds=auto"


# The sweep

BOTH = "pointwise_first, depthwise_first"

Effect = Callable[[str, int], float]
"""Arm and seed -> final top-1."""


@dataclass
class Recorder:
    """A launcher that writes a made-up record of every run.

    Attributes:
        write_run: The fixture.
        by_overrides: The runs there are, in this test's results directory.
        top1: Of an arm and a seed.
        batches: What was launched, arm and seed.
        stop_at: Seed at which the process is killed; None: never.
        fail: Arms and seeds that fail.
        lose: Arms and seeds whose process dies without a record.
    """

    write_run: Any
    by_overrides: Mapping[tuple[str, ...], PlannedRun]
    top1: Effect
    batches: list[list[tuple[str, int]]] = field(default_factory=list)
    stop_at: int | None = None
    fail: Sequence[tuple[str, int]] = ()
    lose: Sequence[tuple[str, int]] = ()

    def launch(self, job_overrides: list[list[str]], initial_job_idx: int) -> list[Any]:
        self.batches.append([])
        for overrides in job_overrides:
            run = self.by_overrides[tuple(overrides[:-3])]
            arm, seed = run.arm, run.seed
            if seed == self.stop_at:
                raise KeyboardInterrupt
            self.batches[-1].append((arm, seed))
            value = self.top1(arm, seed)
            metrics = {f"{part}_{name}": value for part in ("val", "test") for name in ("top1", "top5")}
            if (arm, seed) in self.lose:
                continue
            status = "failed" if (arm, seed) in self.fail else "completed"
            self.write_run(run.configuration, status, metrics=metrics if status == "completed" else None)
        return [SimpleNamespace(return_value=None) for _ in job_overrides]


def effect(size: float) -> Effect:
    return lambda arm, seed: 0.6 + (arm == "pointwise_first") * (size + NOISE[seed % 6])


@pytest.fixture(scope="module")
def every_seed() -> tuple[Study, list[PlannedRun]]:
    """The study of the order with all seeds of the budget: composed once, as that takes long."""
    with hydra_configuration():
        return plan_study("operation_order", ["seeds=auto"], auto_seeds=range(20))


@pytest.fixture
def one_claim(
    every_seed: tuple[Study, list[PlannedRun]], results_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That one arm of the study of the order ends higher, in test top-1; and nothing is checked."""
    comparison = Comparison({"pointwise_first": 1.0, "depthwise_first": -1.0}, "test_top1", "higher", 0.001)
    claims = [Claim("higher", "It is.", "Me", "operation_order", (comparison,))]
    monkeypatch.setattr(auto_seeds, "project_claims", lambda: claims)
    monkeypatch.setattr("experiments.study_file.project_claims", lambda: claims)
    monkeypatch.setattr(sweep_module, "_check", lambda runs: None)
    study, runs = every_seed

    def plan(name: str, overrides: Sequence[str], auto_seeds: Sequence[int]) -> Any:
        return study, [moved(run, results_dir) for run in runs if run.seed in auto_seeds]

    monkeypatch.setattr(auto_seeds, "plan_study", plan)


@pytest.fixture
def recorder(every_seed, results_dir: Path, write_run) -> Callable[..., Recorder]:
    """Makes a launcher: `recorder(top1, fail=[("depthwise_first", 2)])`."""
    by_overrides = {run.overrides: moved(run, results_dir) for run in every_seed[1]}
    return partial(Recorder, write_run, by_overrides)


def moved(run: PlannedRun, results_dir: Path) -> PlannedRun:
    """The same run in another results directory."""
    resolved = {**run.configuration.resolved, "results_dir": str(results_dir)}
    return replace(run, configuration=replace(run.configuration, resolved=resolved))


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if ": look " in line]


Sweep = Callable[..., list[str]]


@pytest.fixture
def sweep(hydra: None, one_claim: None, results_dir: Path, capsys: pytest.CaptureFixture[str]) -> Sweep:
    """Sweeps the study of the order with a launcher; returns the lines on its looks."""

    def run(launcher: Recorder, *words: str) -> list[str]:
        arguments = ["study=operation_order", "seeds=auto", *words, f"results_dir={results_dir}"]
        sweep_auto_seeds(arguments, launcher)
        return lines_of(capsys.readouterr().out)

    return run


def launched(launcher: Recorder) -> list[tuple[str, int]]:
    return [run for batch in launcher.batches for run in batch]


def test_decided_at_the_first_look(sweep: Sweep, recorder) -> None:
    launcher = recorder(effect(DECIDED))
    assert sweep(launcher) == ["operation_order: look 1 of 8, 6 seeds: higher holds; all is decided"]
    assert sorted(launched(launcher)) == sorted(
        (a, s) for a in ("pointwise_first", "depthwise_first") for s in range(6)
    )
    assert sweep(launcher) == ["operation_order: look 1 of 8, 6 seeds: higher holds; all is decided"]
    assert len(launched(launcher)) == 12  # nothing is trained twice


def test_decided_later(sweep: Sweep, recorder) -> None:
    launcher = recorder(effect(LATER))
    lines = sweep(launcher)
    assert lines[0] == (
        f"operation_order: look 1 of 8, 6 seeds: nothing decided; continues to 8 seeds of {BOTH}"
    )
    assert re.fullmatch(r"operation_order: look \d of 8, \d+ seeds: higher holds; all is decided", lines[-1])
    assert 2 <= len(lines) < 8
    assert [len(batch) for batch in launcher.batches] == [12] + [4] * (len(lines) - 1)
    assert launcher.batches[1] == [
        ("depthwise_first", 6),
        ("pointwise_first", 6),
        ("depthwise_first", 7),
        ("pointwise_first", 7),
    ]


def test_the_budget_is_spent(sweep: Sweep, recorder, results_dir: Path) -> None:
    launcher = recorder(effect(0.0))
    lines = sweep(launcher, "seed_budget=9")
    assert lines == [
        f"operation_order: look 1 of 3, 6 seeds: nothing decided; continues to 8 seeds of {BOTH}",
        f"operation_order: look 2 of 3, 8 seeds: nothing decided; continues to 9 seeds of {BOTH}",
        "operation_order: look 3 of 3, 9 seeds: nothing decided; the budget is spent",
    ]
    assert len(launched(launcher)) == 18


@pytest.mark.parametrize("stop_at", [3, 7])
def test_a_killed_sweep_goes_on_to_the_same_looks(
    sweep: Sweep, recorder, results_dir: Path, stop_at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = recorder(effect(LATER), stop_at=stop_at)
    with pytest.raises(KeyboardInterrupt):
        sweep(killed)
    told = lines_of(capsys.readouterr().out)
    resumed = recorder(effect(LATER))
    lines = sweep(resumed)
    assert lines[: len(told)] == told
    assert not set(launched(killed)) & set(launched(resumed))
    both = set(launched(killed)) | set(launched(resumed))
    seeds = int(re.search(r", (\d+) seeds", lines[-1])[1])
    assert both == {(arm, seed) for arm in ("pointwise_first", "depthwise_first") for seed in range(seeds)}
    assert sweep(recorder(effect(LATER))) == lines
    # Who reads the records sees the same.
    told = []
    follow_study("operation_order", ["seeds=auto", f"results_dir={results_dir}"], tell=told.append)
    assert told == lines


def test_a_failed_run_leaves_its_pair_out_and_is_named(
    sweep: Sweep, recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = recorder(effect(DECIDED), fail=[("depthwise_first", 2)])
    with pytest.raises(RunsFailed, match=r"1 of 12 runs failed:\n.*_first seed 2: OSError: disk full"):
        sweep(launcher)
    assert lines_of(capsys.readouterr().out) == [
        f"operation_order: look 1 of 8, 6 seeds: nothing decided; continues to 8 seeds of {BOTH}",
        "operation_order: look 2 of 8, 8 seeds: higher holds; all is decided",
    ]
    # The next command tries it again; then the first look has its sixth pair.
    again = recorder(effect(DECIDED))
    assert sweep(again) == ["operation_order: look 1 of 8, 6 seeds: higher holds; all is decided"]
    assert launched(again) == [("depthwise_first", 2)]


def test_a_lost_run_holds_the_look_up(
    sweep: Sweep, recorder, call, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = recorder(effect(DECIDED), lose=[("depthwise_first", 2)])
    with pytest.raises(RunsFailed, match="its process ended without an outcome"):
        sweep(launcher)
    waits = "operation_order: look 1 of 8, 6 seeds: waiting for 1 of 12 runs"
    assert lines_of(capsys.readouterr().out) == [waits]
    assert {seed for _, seed in launched(launcher)} == set(range(6))
    # Who reads the records hears of it too.
    for words in ((), ("verdicts",)):
        assert call(*words, "operation_order", "seeds=auto") == 0
        assert capsys.readouterr().err == f"{waits}; verdicts are without it\n"


def test_several_studies_are_judged_each_by_itself(
    one_claim: None, results_dir: Path, monkeypatch, capsys: pytest.CaptureFixture[str]
) -> None:
    followed = []
    monkeypatch.setattr(auto_seeds, "plan_study", lambda name, *_, **__: (None, []))
    monkeypatch.setattr(auto_seeds, "follow_study", lambda name, *_, **__: followed.append(name))
    claims = auto_seeds.project_claims()
    both = [claims[0], replace(claims[0], id="other", study="intermediate_activation")]
    monkeypatch.setattr(auto_seeds, "project_claims", lambda: both)
    sweep_auto_seeds(["study=operation_order,intermediate_activation", "seeds=auto"], SimpleNamespace())
    assert followed == ["operation_order", "intermediate_activation"]


# What is read from the records


def test_tables_and_verdicts_state_method_and_looks(
    sweep: Sweep, recorder, call, results_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = sweep(recorder(effect(LATER)))
    seeds = int(re.search(r", (\d+) seeds", lines[-1])[1])
    assert call("operation_order", "seeds=auto") == 0
    assert call("verdicts", "operation_order", "seeds=auto") == 0
    assert capsys.readouterr().err == ""
    tables = results_dir / "tables"
    for name in (
        "section1.2_operation_order__seeds=auto.md",
        "verdicts__study=operation_order__seeds=auto.md",
    ):
        page = (tables / name).read_text()
        assert "looks at 6, 8, 10, 12, 14, 16, 18, 20 seeds" in page
        assert f"the first {len(lines)} took place" in page
        assert f"Seeds run per arm: depthwise_first {seeds}, pointwise_first {seeds}." in page
        assert "Lan and DeMets 1983" in page
        level = t_levels(looks(20), 0.05)[len(lines) - 1]
        assert f"at {seeds} (level {level:.2g})" in page
    assert f"| {seeds} / {seeds}" in (tables / "section1.2_operation_order__seeds=auto.md").read_text()
    assert (results_dir / "figures" / "section1.2_operation_order__seeds=auto.png").exists()
    assert "| holds" in page
    before = {path: path.read_bytes() for path in tables.iterdir()}
    assert call("operation_order", "seeds=auto") == call("verdicts", "operation_order", "seeds=auto") == 0
    assert {path: path.read_bytes() for path in tables.iterdir()} == before
