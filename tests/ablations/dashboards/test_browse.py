"""The folder of links that leet opens, and the command line that opens it."""

import os
import re
import sys

import pytest

from ablations.dashboards import browse, commands
from ablations.dashboards.browse import SHOWN, link_names, link_runs
from tests.ablations.dashboards.conftest import WRITTEN

LEETS_ID = re.compile(r"run-\d{8}_\d{6}-(.+)")
"""How leet finds the id in a folder's name; it opens run-ID.wandb there."""


def readable(folder) -> list[str]:
    """The part of the links that a person reads."""
    return sorted(name.partition(" offline-run-")[0].rstrip() for name in os.listdir(folder))


def test_links_name_arm_and_seed(place, studies, offline):
    folder = link_runs(place, studies[:1], with_others=False)
    arms = WRITTEN["residual"]
    expected = [f"run-{arm} seed={seed}" for arm in arms for seed in (0, 1, 2)]
    assert readable(folder) == sorted(expected)[:2] + sorted(expected)[3:]  # the last was not logged


def test_leet_finds_what_wandb_wrote(place, studies, offline):
    folder = link_runs(place, studies, with_others=True)
    assert len(list(folder.iterdir())) > len(offline)  # some are shared
    for path in folder.iterdir():
        assert path.name.startswith("run-")
        assert path.is_symlink()
        of_id = LEETS_ID.search(path.name)[1]
        assert (path / f"run-{of_id}.wandb").is_file()
        assert path.resolve() == offline[of_id].resolve()


def test_shared_runs_stand_under_each_study(place, studies, offline):
    names = list(link_names(place, studies, with_others=False))
    under = {
        study: sum(re.match(rf"run-{arm} s\d {study} ", name) is not None for name in names)
        for study, arm in (("residual", "residual"), ("intermediate_activation", "none"))
    }
    assert under == {"residual": 3, "intermediate_activation": 3}


def test_what_tells_runs_apart_shows_where_leet_cuts(place, studies, offline):
    for name in link_names(place, studies, with_others=True):
        shown = name[len("run-") :][:SHOWN]
        assert re.match(r"\w+ s\d+ ", shown), name
        assert "offline" not in name[: len("run-") + SHOWN], name


def test_runs_of_no_study_have_a_name(place, studies, offline, write_offline, configure, write_run):
    write_offline("summary-0123456789ab")
    write_offline("freehand")
    swept = configure("recipe.epochs=1", "seed=7")
    logger = swept.resolved["logger"] | {"group": "some/sweep", "job_type": "an arm"}
    write_run(swept, config={**swept.resolved, "logger": logger})
    write_offline(f"{swept.run_id}-89ab")
    names = readable(link_runs(place, studies, with_others=True))
    alone = configure("residual=false", "seed=8")
    write_run(alone)
    write_offline(f"{alone.run_id}-89ab")
    names = readable(link_runs(place, studies, with_others=True))
    assert {"run-summary-0123456789ab", "run-freehand", "run-an arm s7 some sweep"} <= set(names)
    assert "run-residual=false s8" in names  # asked for by no sweep


def test_stale_links_go_and_others_stay(place, studies, offline):
    folder = link_runs(place, studies, with_others=True)
    names = set(os.listdir(folder))
    (folder / "run-gone offline-run-20260102_030405-x").symlink_to("../nowhere")
    wrong = sorted(names)[0]
    (folder / wrong).unlink()
    (folder / wrong).symlink_to("../nowhere")
    (folder / "a note").write_text("of the user's")
    link_runs(place, studies, with_others=True)
    assert set(os.listdir(folder)) == names | {"a note"}
    assert (folder / wrong).is_dir()


def test_parts_of_an_interrupted_run_have_a_link_each(place, studies, offline, write_offline):
    of_id = studies[0][1][0].record["wandb_run_id"]
    write_offline(of_id, begun="20260103_030405")
    folder = link_runs(place, studies[:1], with_others=False)
    assert sum(name.endswith(of_id) for name in os.listdir(folder)) == 2


def test_without_a_run(place, studies):
    with pytest.raises(ValueError, match=r"no offline run of residual in .*run\.py"):
        link_runs(place, studies[:1], with_others=False)
    assert not place.folder.exists()


def test_without_a_terminal(call, capsys):
    assert call("browse") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch("error: browse draws in a terminal, and this is none; .*\n", shown.err)


def test_leet_is_opened_on_the_links(call, studies, offline, place, monkeypatch, capsys):
    opened = []

    def run(command, env, check):
        opened.append((command, env["WANDB_MODE"]))
        return type("Done", (), {"returncode": 3 if len(opened) > 1 else 0})

    loaded = [(study, runs, place.results_dir) for study, runs in studies[:1]]
    monkeypatch.setattr(commands, "load_studies", lambda names, overrides: loaded)
    monkeypatch.setattr(browse.subprocess, "run", run)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True, raising=False)
    assert call("browse", "residual") == 0
    (command, mode), folder = opened[0], place.own / "browse" / "residual"
    assert command == [sys.executable, "-m", "wandb", "leet", str(folder.absolute())]
    assert mode == "offline"
    assert folder.is_dir()
    assert call("browse", "residual") == 1
    assert "wandb leet exited with 3" in capsys.readouterr().err
