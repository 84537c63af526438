"""Whether and where a run is logged: the command line first, then W&B's variables, then the defaults."""

import pytest

from ablations.errors import UserError
from experiments.check import check_values
from experiments.logger import is_logged

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
        ("WANDB_DISABLED", "1", False),
        ("WANDB_DISABLED", "false", True),
        ("WANDB_DISABLED", "", True),
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


@pytest.mark.parametrize("key", ["project", "entity", "dir", "group", "job_type"])
def test_a_name_that_is_a_number_is_refused_with_how_to_quote_it(configure, key: str) -> None:
    with pytest.raises(UserError, match=rf"^logger\.{key}=202601: must be a text; .*logger\.{key}='"):
        check_values(configure(f"logger.{key}=2026_01"))
    check_values(configure(f"logger.{key}='2026_01'"))
