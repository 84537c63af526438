"""MAP@k against its definition, written down slowly, and over two processes."""

import multiprocessing
from datetime import timedelta

import numpy as np
import pytest
import torch
import torch.distributed

from lightning_modules.map_at_k import MeanAveragePrecisionAtK


def slow_map(scores, labels, weights, k):
    """The definition, image by image and rank by rank."""
    precisions = []
    for image in range(len(scores)):
        classes = sorted(range(len(weights)), key=lambda c: (-scores[image][c], c))
        collected, hits = 0.0, 0
        for rank, c in enumerate(classes[:k], start=1):
            if labels[image][c]:
                hits += 1
                collected += weights[c] * hits / rank
        attainable = sum(sorted((weights[c] for c in classes if labels[image][c]), reverse=True)[:k])
        if attainable > 0:
            precisions.append(collected / attainable)
    return np.mean(precisions) if precisions else np.nan


def fast_map(scores, labels, weights, k, batch_size=1000):
    metric = MeanAveragePrecisionAtK(scores.shape[1], k)
    metric.set_class_weights(torch.tensor(weights, dtype=torch.float32))
    for start in range(0, len(scores), batch_size):
        part = slice(start, start + batch_size)
        metric.update(torch.tensor(scores[part]), torch.tensor(labels[part], dtype=torch.float32))
    return metric.compute().item()


def draw(seed, images, classes, *, share, ties=False, zero_weights=False, empty=False):
    draws = np.random.default_rng(seed)
    scores = draws.normal(size=(images, classes)).astype(np.float32)
    if ties:
        scores = np.round(scores)  # also gives -0.0, which equals 0.0
    labels = draws.random((images, classes)) < share
    weights = draws.pareto(1, classes)
    if zero_weights:
        weights[draws.random(classes) < 0.5] = 0
    if empty:
        labels[::3] = False
    return scores, labels, weights


@pytest.mark.parametrize("k", [1, 5, 100])
@pytest.mark.parametrize(
    "case",
    [
        {"images": 40, "classes": 250, "share": 0.1},
        {"images": 40, "classes": 250, "share": 0.6},  # more labels than predictions that count
        {"images": 40, "classes": 250, "share": 0.1, "ties": True},
        {"images": 40, "classes": 12, "share": 0.2, "ties": True, "empty": True},
        {"images": 40, "classes": 12, "share": 0.2, "zero_weights": True},
        {"images": 40, "classes": 1, "share": 0.5},
    ],
    ids=["few labels", "many labels", "ties", "no labels", "zero weights", "one class"],
)
def test_value_is_the_definitions(case, k):
    for seed in range(3):
        scores, labels, weights = draw(seed, **case)
        expected = slow_map(scores, labels, weights, k)
        assert fast_map(scores, labels, weights, k) == pytest.approx(expected, rel=1e-5)
        assert fast_map(scores, labels, weights, k, batch_size=7) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("scores", "labels", "weights", "expected"),
    [
        ([3, 2, 1, 0], [1, 0, 1, 0], [1, 1, 1, 1], (1 + 2 / 3) / 2),
        ([3, 2, 1, 0], [1, 0, 1, 0], [1, 9, 3, 9], (1 * 1 + 3 * 2 / 3) / 4),
        ([0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], 1 / 2),  # ties: the lower class first
        ([3, 2, 1, 0], [0, 0, 0, 1], [1, 1, 1, 1], 0),  # at rank 4, of which 3 count
        ([0, 1, 2, 3], [1, 1, 1, 1], [1, 2, 3, 4], 1),  # the heaviest first, all that can be had
        ([3, 2, 1, 0], [1, 1, 1, 1], [1, 2, 3, 4], 6 / 9),  # all right, but not the heaviest
        ([3, 2, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1], 1),  # weighs nothing, yet is right
        ([float("inf"), -1, -2, float("-inf")], [0, 1, 1, 0], [1, 1, 1, 1], (1 / 2 + 2 / 3) / 2),
    ],
)
def test_value_by_hand(scores, labels, weights, expected):
    value = fast_map(np.array([scores], np.float32), np.array([labels]), weights, k=3)
    assert value == pytest.approx(expected, rel=1e-6)


def test_with_equal_weights_it_is_the_usual_map():
    scores, labels, _ = draw(0, images=30, classes=50, share=0.1)
    metric = MeanAveragePrecisionAtK(50, 100)
    metric.update(torch.tensor(scores), torch.tensor(labels))
    assert metric.compute().item() == pytest.approx(slow_map(scores, labels, np.ones(50), 100), rel=1e-5)
    assert fast_map(scores, labels, np.full(50, 7.0), 100) == pytest.approx(metric.compute().item())


def test_half_precision_and_both_kinds_of_labels_give_the_same():
    scores, labels, weights = draw(3, images=20, classes=30, share=0.2, ties=True)
    expected = fast_map(scores, labels, weights, 10)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        metric = MeanAveragePrecisionAtK(30, 10)
        metric.set_class_weights(torch.tensor(weights, dtype=torch.float32))
        metric.update(torch.tensor(scores, dtype=dtype), torch.tensor(labels, dtype=torch.int64))
        assert metric.compute().item() == pytest.approx(expected)


def test_no_image_with_labels_is_no_number():
    scores, labels, weights = draw(0, images=5, classes=8, share=0)
    assert np.isnan(fast_map(scores, labels, weights, 3))


def test_reset_forgets_the_images_and_keeps_the_weights():
    scores, labels, weights = draw(1, images=20, classes=30, share=0.2)
    metric = MeanAveragePrecisionAtK(30, 10)
    metric.set_class_weights(torch.tensor(weights, dtype=torch.float32))
    metric.update(torch.tensor(-scores), torch.tensor(labels))
    metric.reset()
    metric.update(torch.tensor(scores), torch.tensor(labels))
    assert metric.compute().item() == pytest.approx(fast_map(scores, labels, weights, 10))
    assert metric.state_dict() == {}  # nothing for a checkpoint: the data has the weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0, 1.0], r"class_weights of shape \(2,\): must be one for each of 3 classes"),
        ([1.0, -1.0, 1.0], "class_weights: must be finite and at least 0, not all 0"),
        ([1.0, float("nan"), 1.0], "class_weights: must be finite"),
        ([0.0, 0.0, 0.0], "class_weights: must be finite and at least 0, not all 0"),
    ],
)
def test_weights_that_are_none_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        MeanAveragePrecisionAtK(3, 100).set_class_weights(torch.tensor(weights))


@pytest.mark.parametrize(("num_classes", "k", "key"), [(0, 1, "num_classes=0"), (3, 0, "k=0")])
def test_sizes_that_are_none_are_refused(num_classes, k, key):
    with pytest.raises(ValueError, match=f"^{key}: must be a whole number of at least 1"):
        MeanAveragePrecisionAtK(num_classes, k)


def value_of_process(rank, folder):
    """Rank 0 sees the first five images, rank 1 the rest: a mean of their values would be another one."""
    data = torch.load(folder / "data.pt")
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    try:
        metric = MeanAveragePrecisionAtK(data["scores"].shape[1], 10)
        metric.set_class_weights(data["weights"])
        part = slice(0, 5) if rank == 0 else slice(5, None)
        metric.update(data["scores"][part], data["labels"][part])
        return metric.compute().item()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_value_of_one(tmp_path):
    scores, labels, weights = draw(5, images=40, classes=60, share=0.1, empty=True)
    data = {"scores": torch.tensor(scores), "labels": torch.tensor(labels).float()}
    data |= {"weights": torch.tensor(weights, dtype=torch.float32)}
    torch.save(data, tmp_path / "data.pt")
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    other = context.Process(target=lambda: found.put(value_of_process(1, tmp_path)))
    other.start()
    values = [value_of_process(0, tmp_path), found.get()]
    other.join()
    assert values == pytest.approx([fast_map(scores, labels, weights, 10)] * 2, rel=1e-6)
