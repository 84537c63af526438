"""Whether what `benchmarks.against_timm` compares is the same network twice, and fairly in turns."""

import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import against_timm
from experiments.sizes.training_step import time_step


@pytest.mark.parametrize("model", against_timm.TIMMS)
def test_ours_and_timms_have_equally_many_parameters(model):
    with torch.device("meta"):
        ours, theirs = against_timm.ours(model, 299), against_timm.timms(model)
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[0] == counts[1] > 20_000_000


def test_who_goes_first_alternates(monkeypatch):
    order = []
    monkeypatch.setattr(against_timm, "time_apart", lambda of, **_: order.append(of) or of)
    assert against_timm.compare("ours", "timms", pairs=3, threads=1) == [("ours", "timms")] * 3
    assert order == ["ours", "timms", "timms", "ours", "ours", "timms"]


def test_the_command_prints_a_ratio(capsys, monkeypatch):
    words = ["--models", "xception", "--pairs", "1", "--batch-size", "2", "--image-size", "33"]
    monkeypatch.setattr(sys, "argv", ["against_timm", *words, "--orders", "channels-last"])
    monkeypatch.setattr(against_timm, "SECONDS", 0.01)
    # In this process, which may have needed more memory before; starting another has a test of its own.
    monkeypatch.setattr(
        against_timm, "time_apart", lambda *of, **how: replace(time_step(*of, **how), peak_memory=2**30)
    )
    against_timm.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch 2, 33x33, 1 threads, torch ")
    assert [line.partition(" ratio ")[0].split(":")[0] for line in lines[1:]] == [
        "xception, channels-last"
    ] * 2
    assert all("median ratio" in line for line in lines[1:])
