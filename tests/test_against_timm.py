"""Whether what `benchmarks.against_timm` compares is the same network twice, and fairly in turns."""

import sys
from functools import partial

import pytest
import torch

from benchmarks import against_timm


@pytest.mark.parametrize("model", against_timm.TIMMS)
def test_ours_and_timms_have_equally_many_parameters(model):
    with torch.device("meta"):
        ours, theirs = against_timm.ours(model, 299), against_timm.timms(model)
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[0] == counts[1] > 20_000_000


def test_who_goes_first_alternates():
    order = []
    steps = [partial(order.append, name) for name in ("ours", "timms")]
    times = against_timm.compare_times(*steps, pairs=3)
    assert order == ["ours", "timms", "ours", "timms", "timms", "ours", "ours", "timms"]
    assert len(times) == 3


@pytest.mark.slow
def test_the_command_prints_a_ratio(capsys, monkeypatch):
    words = ["--models", "xception", "--pairs", "1", "--batch-size", "2", "--image-size", "33", "--no-memory"]
    monkeypatch.setattr(sys, "argv", ["against_timm", *words])
    against_timm.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch 2, 33x33, 1 threads, torch ")
    assert [line.partition(":")[0] for line in lines[1:]] == [
        "xception, contiguous",
        "xception, channels-last",
    ]
    assert all("median ratio" in line for line in lines[1:])
