"""The width that gives a wanted number of parameters: nearest, within 1 %, or refused in a line."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from ablations.errors import UserError
from experiments.plan import plan_sweep
from experiments.planning import compose_runs, plan_study
from experiments.sizes import width as width_module
from experiments.sizes.network_cost import count_network, count_parameters, trainable_parameters
from experiments.sizes.width import solve_width, solve_width_by_multiply_adds

pytestmark = pytest.mark.slow  # builds many networks

XCEPTION = 356_353
"""Of Xception at the embedded scale."""


class Ladder(nn.Linear):
    """100 * width inputs, one output each: as many parameters."""

    def __init__(self, width: float) -> None:
        super().__init__(round(100 * width), 1, bias=False)


class Convolutions(nn.Sequential):
    """A pointwise convolution to 10 * width channels, and one from these to as many."""

    def __init__(self, width: float) -> None:
        channels = round(10 * width)
        super().__init__(nn.Conv2d(3, channels, 1), nn.Conv2d(channels, channels, 1))


class Square(nn.Module):
    """Two layers that share their steps with none: (round(7 w) + 1)^2 + round(11 w) parameters."""

    def __init__(self, width: float) -> None:
        super().__init__()
        channels = round(7 * width) + 1
        self.first = nn.Linear(channels, channels, bias=False)
        self.second = nn.Linear(max(1, round(11 * width)), 1, bias=False)


@pytest.fixture(autouse=True)
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    for network in (Ladder, Square, Convolutions):
        monkeypatch.setattr(nn, network.__name__, network, raising=False)


def ladder(width: float) -> dict[str, object]:
    return {"_target_": "torch.nn.Ladder", "width": width}


@pytest.mark.parametrize(("wanted", "start"), [(100, 1000), (273, 0.5), (99_999, 20)])
def test_an_exact_number_is_found_from_anywhere(wanted: int, start: float) -> None:
    solved = solve_width(ladder(start), wanted)
    assert count_parameters(ladder(solved)) == wanted
    assert solved == pytest.approx(wanted / 100, abs=0.0051)


def test_a_width_that_gives_the_number_already_stays() -> None:
    assert solve_width(ladder(2.7312), 273) == 2.7312
    assert solve_width(ladder(2.73), 273) == 2.73


def counts_of_square() -> set[int]:
    """All that there are, of widths to 20."""
    widths = [n / 1000 for n in range(1, 20_000)]
    return {(round(7 * width) + 1) ** 2 + max(1, round(11 * width)) for width in widths}


@pytest.mark.parametrize("wanted", [430, 773])
def test_the_nearest_of_all_steps_is_found(wanted: int) -> None:
    square = {"_target_": "torch.nn.Square", "width": 1}
    nearest = min(abs(count - wanted) for count in counts_of_square())
    assert nearest <= 0.01 * wanted
    assert abs(count_parameters(square | {"width": solve_width(square, wanted)}) - wanted) == nearest


def test_what_no_width_gives_is_told_with_what_is_nearest() -> None:
    square = {"_target_": "torch.nn.Square", "width": 1}
    with pytest.raises(
        ValueError,
        match=r"^match_parameters=590: no width comes within 1 %; "
        r"torch\.nn\.Square has 564 at width [\d.]+ and 611 at width [\d.]+$",  # 23^2 + 35, 24^2 + 35
    ):
        solve_width(square, 590)
    with pytest.raises(ValueError, match=r"^match_parameters=1000000000: .* at width 1024 and "):
        solve_width(square, 10**9)


@pytest.mark.parametrize("wanted", [0, 1.5, "many"])
def test_what_is_no_number_of_parameters(wanted: object) -> None:
    with pytest.raises(
        ValueError, match=rf"^match_parameters={wanted}: must be a whole number of at least 1$"
    ):
        solve_width(ladder(1), wanted)


def test_a_network_without_width() -> None:
    with pytest.raises(ValueError, match=r"^match_parameters=5: torch\.nn\.Linear has no width"):
        solve_width({"_target_": "torch.nn.Linear", "in_features": 5, "out_features": 1}, 5)


def test_the_width_is_solved_for_multiply_adds() -> None:
    convolutions = {"_target_": "torch.nn.Convolutions", "width": 1}
    width = solve_width_by_multiply_adds(convolutions, 91_000, channels=3, image_size=4)
    # 16 pixels, from 3 to n and from n to n channels: 16 (3 n + n^2) is 88,768 of 73 and 91,168 of 74.
    assert round(10 * width) == 74
    assert Convolutions(width)(torch.zeros(1, 3, 4, 4)).shape == (1, 74, 4, 4)


@pytest.mark.parametrize("wanted", [0, "many"])
def test_a_number_of_multiply_adds_is_a_whole_number(wanted: object) -> None:
    with pytest.raises(
        ValueError, match=rf"^match_multiply_adds={wanted}: must be a whole number of at least 1$"
    ):
        solve_width_by_multiply_adds(ladder(1), wanted, channels=1, image_size=4)  # type: ignore[arg-type]


WIDTHS = {
    ("pointwise_first", "per_channel"): (0.12432, 0.12432),
    ("pointwise_first", "channels_2"): (0.11962, 0.11608),
    ("pointwise_first", "channels_4"): (0.11057, 0.10233),
    ("pointwise_first", "channels_8"): (0.0941, 0.08173),
    ("pointwise_first", "channels_16"): (0.07211, 0.05892),
    ("pointwise_first", "three"): (0.06387, 0.06525),
    ("pointwise_first", "one"): (0.04052, 0.04151),
    ("depthwise_first", "per_channel"): (0.125, 0.12695),
    ("depthwise_first", "channels_2"): (0.1202, 0.11882),
    ("depthwise_first", "channels_4"): (0.11195, 0.10646),
    ("depthwise_first", "channels_8"): (0.09684, 0.08723),
    ("depthwise_first", "channels_16"): (0.07618, 0.06641),
    ("depthwise_first", "three"): (0.06885, 0.07129),
    ("depthwise_first", "one"): (0.04459, 0.04601),
}
"""By equal parameters and by equal multiply-adds, as solved with the networks' own numbers alone: runs are
named by their width, so another solution would be another run."""


def model_of(configure, order: str, segments: str) -> dict[str, object]:
    return configure(f"operation_order={order}", f"segments={segments}").resolved["model"]


@pytest.mark.parametrize(("order", "segments"), list(WIDTHS)[1::3])
def test_the_widths_along_the_spectrum_are_those_of_the_recorded_runs(
    configure, order: str, segments: str
) -> None:
    assert solve_width(model_of(configure, order, segments), XCEPTION) == WIDTHS[order, segments][0]


@pytest.mark.parametrize(("order", "segments"), list(WIDTHS)[6::7])
def test_the_widths_of_equal_multiply_adds_are_those_of_the_recorded_runs(
    configure, order: str, segments: str
) -> None:
    model = model_of(configure, order, segments)
    width = solve_width_by_multiply_adds(model, 3_910_000, channels=1, image_size=28)
    assert width == WIDTHS[order, segments][1]


def test_the_width_of_the_arm_without_shortcuts_is_that_of_the_recorded_runs(configure) -> None:
    assert solve_width(configure("residual=false").resolved["model"], XCEPTION) == 0.12843


# As a user asks for it


@pytest.mark.parametrize(
    "overrides",
    [
        ("segments=three", "operation_order=pointwise_first"),
        ("model=inception_v3",),
        ("model=separable_vgg", "dataset=cifar10"),
    ],
)
def test_a_network_is_matched_within_one_per_cent(configure, overrides: tuple[str, ...]) -> None:
    run = configure(*overrides, f"match_parameters={XCEPTION}")
    assert count_parameters(run.resolved["model"]) == pytest.approx(XCEPTION, rel=0.01)
    # The true width is the run's, however it came about.
    assert configure(*overrides, f"model.width={run.resolved['model']['width']}").run_id == run.run_id
    assert "match_parameters" not in run.resolved


def test_a_network_of_that_size_is_the_run_that_it_is_without(configure) -> None:
    run = configure(f"match_parameters={XCEPTION}")
    assert run.resolved == configure().resolved
    assert run.run_id == configure().run_id


def test_a_width_beside_it_is_refused(configure) -> None:
    for override in ("model.width=0.1", "++model.width=0.1"):
        with pytest.raises(UserError, match=r"^model\.width: match_parameters=356353"):
            configure(override, f"match_parameters={XCEPTION}")
    configure("model.width=0.1", "match_parameters=null")


def test_multiply_adds_are_matched_within_one_per_cent(configure) -> None:
    run = configure("segments=channels_16", "match_multiply_adds=3945000")
    assert count_network(run.resolved).multiply_adds == pytest.approx(3_945_000, rel=0.01)
    assert not {"match_parameters", "match_multiply_adds"} & run.resolved.keys()
    assert configure("match_multiply_adds=3840375").run_id == configure().run_id


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["match_multiply_adds=9", "model=vgg16"], "match_multiply_adds=9: .*vgg16 has no width"),
        (
            ["match_multiply_adds=9", "match_parameters=5"],
            "match_parameters=5, match_multiply_adds=9: one width cannot match both; set one to null",
        ),
        (["match_multiply_adds=9", "model.width=1"], "model.width: match_multiply_adds=9"),
        (["match_parameters=many"], "match_parameters=many: must be a whole number of at least 1"),
        (["match_parameters=100"], "match_parameters=100: no width comes within 1 %"),
    ],
)
def test_what_cannot_be_matched_is_told_in_a_line(configure, overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}") as raised:
        configure(*overrides)
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("hydra")
def test_a_sweep_is_matched_and_solves_each_width_once(monkeypatch: pytest.MonkeyPatch, results_dir) -> None:
    built = []
    monkeypatch.setattr(
        width_module,
        "trainable_parameters",
        lambda network: built.append(0) or trainable_parameters(network),
    )
    others = ["seed=0,1,2", f"match_parameters={XCEPTION}", f"results_dir={results_dir}"]
    runs = plan_sweep(["segments=per_channel,one", *others])
    assert len({run.run_id for run in runs}) == 6
    for run in runs:
        assert count_parameters(run.configuration.resolved["model"]) == pytest.approx(XCEPTION, rel=0.01)
        (composed,) = compose_runs(run.overrides)  # as the process that trains it does
        assert composed.run_id == run.run_id
    assert len({run.configuration.resolved["model"]["width"] for run in runs}) == 2
    assert len(built) < 20


@pytest.mark.usefixtures("hydra")
def test_several_sizes_are_several_runs() -> None:
    runs = plan_sweep([f"match_parameters={XCEPTION},100000"])
    assert [run.arm for run in runs] == [f"match_parameters={XCEPTION}", "match_parameters=100000"]
    assert len({run.run_id for run in runs}) == 2


@pytest.mark.usefixtures("hydra")
def test_a_study_can_be_matched() -> None:
    study, runs = plan_study("operation_order", ["match_parameters=100000", "seed=0"])
    for run in runs:
        assert count_parameters(run.configuration.resolved["model"]) == pytest.approx(100_000, rel=0.01)
    assert study.output.endswith("__match_parameters=100000__seed=0")


def test_composing_without_a_size_to_match_imports_no_torch() -> None:
    code = (
        "import sys; from experiments.planning import compose_runs, hydra_configuration\n"
        "with hydra_configuration(): compose_runs([])\n"
        "print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
