"""What a configuration's settings for speed reach: torch's own switches and the optimizer."""

import pytest
import torch
from torch import nn

from lightning_modules.assembly import compiler_of, make_optimizer, make_task, set_float32

SGD = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}


@pytest.fixture
def float32():
    """Torch's switches, put back afterwards."""
    yield lambda: (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision())
    set_float32({})


def test_single_precision_is_rounded_to_tf32_where_the_recipe_says_so(float32):
    set_float32({"tf32": True})
    assert float32() == (True, "high")
    set_float32({"tf32": False})
    assert float32() == (False, "highest")
    torch.backends.cudnn.allow_tf32 = True  # as torch has it
    set_float32({})  # a recipe without the key
    assert float32() == (False, "highest")


@pytest.mark.parametrize(("asked", "fused"), [(False, None), (True, True)])
def test_the_optimizer_is_fused_where_the_recipe_says_so(asked, fused):
    optimizer = make_optimizer({"optimizer": SGD, "fused_optimizer": asked})([nn.Parameter(torch.ones(2))])
    assert optimizer.param_groups[0]["fused"] is fused


@pytest.mark.parametrize(
    ("asked", "backend"),
    [
        (False, None),
        (True, "inductor"),
        ("eager", "eager"),
    ],
)
def test_steps_are_compiled_by_the_backend_that_the_trainer_names(asked, backend):
    assert compiler_of({"trainer": {"compile": asked}}) == backend


def test_a_metric_of_another_kind_is_refused_with_its_file():
    """Such as a class with update, compute and reset that subclasses nothing."""
    config = {
        "dataset": {
            "task": {"_target_": "lightning_modules.tasks.SingleLabel", "_partial_": True},
            "num_classes": 4,
        },
        "metrics": {"mine": {"measured_by": {"_target_": "collections.Counter"}, "training": False}},
    }
    with pytest.raises(ValueError, match=r"metrics=mine: .*Counter.*conf/metric/mine\.yaml"):
        make_task(config)
