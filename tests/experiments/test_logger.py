"""Whether and where a run is logged: the command line first, then W&B's variables, then the defaults."""

import csv
import sqlite3
from pathlib import Path

import pytest

from ablations.errors import UserError
from experiments.check import check_run, check_values
from experiments.logger import is_logged, make_loggers
from lightning_modules.loggers import LoggingFailed

VARIABLES = {
    "WANDB_MODE": "online",
    "WANDB_ENTITY": "a-team",
    "WANDB_PROJECT": "2026_01",  # a text here, whatever it looks like
    "WANDB_DIR": "logs",
}
KEYS = ("mode", "entity", "project", "dir")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def test_defaults_then_variables_then_the_command_line(
    configure, results_dir, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = configure()
    options = default.resolved["logger"]
    assert [options[key] for key in KEYS] == ["offline", None, "xception-ablations", str(results_dir)]
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    options = configure().resolved["logger"]
    assert [options[key] for key in KEYS] == list(VARIABLES.values())
    check_values(configure())
    assert configure().run_id == default.run_id
    typed = configure("logger.mode=offline", "logger.entity=me", "logger.project=mine", "logger.dir=here")
    assert [typed.resolved["logger"][key] for key in KEYS] == ["offline", "me", "mine", "here"]


@pytest.mark.parametrize(
    ("variable", "value", "logged"),
    [
        ("WANDB_MODE", "disabled", False),
        ("WANDB_DISABLED", "true", False),
        ("WANDB_DISABLED", "false", True),
    ],
)
def test_what_switches_the_log_off(
    configure, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, logged: bool
) -> None:
    assert is_logged(configure().resolved["logger"])
    assert not is_logged(configure("logger=none").resolved["logger"])
    assert not is_logged(configure("logger.mode=disabled").resolved["logger"])
    monkeypatch.setenv(variable, value)
    check_values(configure())
    assert is_logged(configure().resolved["logger"]) == logged


def test_a_wrong_variable_is_named(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "dryrun")
    with pytest.raises(UserError, match=r"^WANDB_MODE=dryrun: must be one of offline, online, disabled$"):
        check_values(configure())


@pytest.mark.parametrize("key", ["project", "job_type"])
def test_a_name_that_is_a_number_is_refused_with_how_to_quote_it(configure, key: str) -> None:
    with pytest.raises(UserError, match=rf"^logger\.{key}=202601: must be text; .*logger\.{key}='"):
        check_values(configure(f"logger.{key}=2026_01"))
    check_values(configure(f"logger.{key}='2026_01'"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mlflow's, of its database
def test_several_loggers_at_once_get_the_same_keys(configure, results_dir: Path) -> None:
    pytest.importorskip("tensorboard")
    pytest.importorskip("mlflow")
    configuration = configure("logger=[csv,tensorboard,mlflow]", "residual=false")
    assert configuration.run_id == configure("residual=false").run_id
    assert configuration.choices["logger"] == "csv,tensorboard,mlflow"
    check_run(configuration)
    assert not results_dir.exists()
    results_dir.mkdir()
    loggers = make_loggers(configuration, {"wandb_run_id": None})
    for logger in loggers:
        logger.log_metrics({"train/loss": 2.0, "learning_rate": 0.1}, step=0)
        logger.log_metrics({"val_top1": 0.5, "train_loss": 1.0, "epoch": 0}, step=1)
        logger.finish(succeeded=True)
    (table,) = (results_dir / "csv" / configuration.run_id).rglob("metrics.csv")
    header, *rows = csv.reader(table.read_text().splitlines())
    keys = {"train/loss", "train/learning_rate", "val/top1", "train/loss_epoch"}
    assert keys <= set(header)
    assert [row[header.index("step")] for row in rows] == ["0", "1"]
    (events,) = (results_dir / "tensorboard").rglob("events*")
    assert "residual=false seed=0" in str(events)
    database = sqlite3.connect(results_dir / "mlflow.db")
    assert keys <= {key for (key,) in database.execute("select key from metrics")}
    assert database.execute("select name, status from runs").fetchall() == [
        ("residual=false seed=0", "FINISHED")
    ]
    assert ("choices/residual", "false") in database.execute("select key, value from params").fetchall()
    database.close()


def test_a_logger_that_cannot_be_made_is_a_line(configure) -> None:
    with pytest.raises(UserError, match=r"^logger\.csv: "):
        check_run(configure("logger=csv", "+logger.csv.nothing=1"))
    with pytest.raises(UserError, match=r"^logger\.mine: must have a _target_"):
        check_values(configure("logger=[csv,tensorboard]", "+logger.mine={a: 1}"))


def test_training_goes_on_where_a_logger_fails(configure, results_dir: Path) -> None:
    results_dir.mkdir()
    (results_dir / "csv").write_text("a file")
    with pytest.warns(LoggingFailed, match="csv is switched off"):
        (logger,) = make_loggers(configure("logger=csv"), {"wandb_run_id": None})
    logger.log_metrics({"train_loss": 1.0}, step=0)
    logger.finish(succeeded=True)


def test_a_run_is_told_by_few_tags_and_all_choices(configure, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, object] = {}
    monkeypatch.setattr(
        "lightning_modules.wandb_logging.TolerantWandbLogger", lambda **given: told.update(given)
    )
    make_loggers(configure("residual=false", "seed=3"), {"wandb_run_id": "abc"})
    assert told["tags"] == ["xception_small", "fashion_mnist_embedded", "residual=false"]
    assert told["name"] == "residual=false seed=3"
    assert told["config"]["choices"]["residual"] == "false"
    assert told["config"]["seed"] == 3
